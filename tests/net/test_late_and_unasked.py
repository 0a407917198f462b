"""What comes a moment too early or too late: unasked answers, bounds between two waits, clients that read on."""

import os
import select
import socket
from collections.abc import Callable
from random import Random

import pytest
import trio

from sidecar.app.data_plane import DataPlane, bind_all
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import Protocol
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.patience import Patience
from sidecar.proxy.timer import Timer
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.reactor import MAX_EVENTS, Reactor
from sidecar.transport.stream import READS_PER_TURN, Interrupted, Peer, StreamBroken
from tests.support import planes
from tests.support.mesh import Told
from tests.support.tunnels import ORDERS, PORT, mesh, service, tcp_server

PATIENCE_S = 5.0
SIZE = 300_000
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + b"x" * SIZE


def get(path: bytes = b"/x") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: orders.shop\r\n\r\n" % path


def no_bug(exc: BaseException) -> None:
    raise exc


async def large(stream: trio.SocketStream) -> None:
    async for data in stream:
        if data.startswith(b"GET"):
            await stream.send_all(WHOLE)


async def test_an_unasked_answer_is_not_taken_for_the_next_one() -> None:
    """It comes in the same turn as the request, whose write waits for the turn's end."""
    seen: list[bytes] = []
    streams: list[trio.SocketStream] = []

    async def app(stream: trio.SocketStream) -> None:
        streams.append(stream)
        async for data in stream:
            path = bytes(data).split(b" ")[1]
            seen.append(path)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with tcp_server(app) as server, mesh("plain", server, protocol=Protocol.HTTP) as made:
        first, second = await made.dial(), await made.dial()
        for client, path in ((first, b"/0"), (second, b"/1")):
            await client.send_all(get(path))
            assert (await client.receive_some()).endswith(path)
        os.write(first.socket.fileno(), get(b"/2"))
        for stream in streams:
            os.write(stream.socket.fileno(), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nUNASKED")
        with trio.fail_after(PATIENCE_S):
            assert (await first.receive_some()).endswith(b"/2")
            await second.send_all(get(b"/3"))
            assert (await second.receive_some()).endswith(b"/3")
    assert seen == [b"/0", b"/1", b"/2", b"/3"]


async def test_what_comes_before_a_request_that_was_handed_in_is_no_answer() -> None:
    reactor = Reactor(no_bug)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        here, there = socket.socketpair()
        for sock in (here, there):
            sock.setblocking(False)
        stream = EpollStream(here, reactor, Peer("kept"))
        assert stream.try_read() is None
        there.send(b"HTTP/1.1 200 OK\r\n")
        stream.hand_in(b"GET /secret", silent=True)
        assert not stream.settled
        with pytest.raises(StreamBroken):
            await stream.receive()
        assert stream.closed  # and so nothing was written
        await trio.testing.wait_all_tasks_blocked()
        assert there.recv(100, socket.MSG_DONTWAIT) == b""
        there.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("how", ["half-closes", "drain"])
async def test_a_slow_client_gets_the_whole_of_its_last_answer(how: str, fast: bool) -> None:
    async with tcp_server(large) as server, mesh("plain", server, protocol=Protocol.HTTP, sends_bytes=16384) as made:
        worker = made.calling.plane.worker
        worker.fast_path = fast
        client = await made.dial(receives_bytes=65536)
        await client.send_all(get())
        if how == "half-closes":
            await client.send_eof()
        got = 0
        with trio.fail_after(2 * PATIENCE_S):
            while data := await client.receive_some(8192):
                got += len(data)
                await trio.sleep(0.01)
                if how == "drain" and got > SIZE - 120_000 and not worker.closing:
                    await trio.sleep(0.1)
                    worker.drain()
        assert got == len(WHOLE)


async def test_a_bound_that_ends_between_two_waits_is_not_lost() -> None:
    reactor = Reactor(no_bug)
    timer = Timer(trio.current_time, no_bug)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        nursery.start_soon(timer.run)
        here, there = socket.socketpair()
        here.setblocking(False)
        stream = EpollStream(here, reactor, Peer("x"))
        patience = Patience(timer)
        patience.until(trio.current_time() + PATIENCE_S)

        async def over_meanwhile() -> None:
            patience.on_due(trio.current_time())

        stream._reads = READS_PER_TURN - 1  # the next one lets the others run first
        nursery.start_soon(over_meanwhile)
        with trio.fail_after(PATIENCE_S), pytest.raises(Interrupted):
            await patience.receive(stream)
        stream.close()
        there.close()
        nursery.cancel_scope.cancel()


async def test_a_reply_goes_out_behind_an_answer_that_is_still_queued() -> None:
    """The upload has ended the request; that does not end its reply."""
    post = b"POST /x HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 100000\r\n\r\nhi"
    limits = ProcessLimits(body_idle_s=0.3, body_min_bytes_per_s=0)
    async with (
        tcp_server(large) as server,
        mesh("plain", server, protocol=Protocol.HTTP, sends_bytes=16384, limits=limits) as made,
    ):
        client = await made.dial(receives_bytes=65536)
        await client.send_all(get() + post)
        await trio.sleep(0.8)
        got = b""
        with trio.fail_after(PATIENCE_S):
            while data := await client.receive_some(8192):
                got += data
        assert got[: len(WHOLE)].endswith(b"x" * SIZE) or got.count(b"x") >= SIZE
        assert b"HTTP/1.1 408" in got[SIZE:]


class Busy:
    """A source that always has something to tell."""

    def __init__(self, act: Callable[[], None] | None) -> None:
        self.act = act

    def on_ready(self, events: int) -> None:  # noqa: ARG002 - a Source's
        act, self.act = self.act, None
        if act is not None:
            act()

    def on_crash(self) -> None:
        raise AssertionError("nothing fails here")


class Kept:
    """The handler of a connection that rests."""

    stale = False

    def on_readable(self) -> None:
        """It is looked at when it is to be used."""

    def on_stale(self) -> None:
        self.stale = True

    on_drained = on_blocked = on_crashed = on_readable


async def test_one_of_very_many_that_have_spoken_is_heard() -> None:
    reactor, kept, pairs = Reactor(no_bug), Kept(), [socket.socketpair() for _ in range(MAX_EVENTS + 50)]
    here, there = socket.socketpair()
    here.setblocking(False)
    stream = EpollStream(here, reactor, Peer("kept"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        for index, (one, other) in enumerate(pairs):
            other.send(b".")
            act = (lambda: stream.put(b"POST", silent=True)) if index == 0 else None
            reactor.register(one.fileno(), Busy(act), select.EPOLLIN)
        stream.handle_with(kept)
        there.shutdown(socket.SHUT_WR)
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert kept.stale
    with pytest.raises(BlockingIOError):
        there.recv(100, socket.MSG_DONTWAIT)
    for sock in (there, *(sock for pair in pairs for sock in pair)):
        sock.close()
    stream.close()


async def test_the_end_of_the_process_meets_clients_that_were_just_accepted() -> None:
    for _ in range(10):
        bootstrap = planes.outbound_bootstrap("frontend", {ORDERS: PORT})
        bugs: list[BaseException] = []
        plane = DataPlane(bootstrap, Told(), Random(1), None, bugs.append)
        plane.switch(Snapshot(complete=True).changed([service(ORDERS, Protocol.HTTP)], version=1))
        bound = bind_all(bootstrap)
        address = bound[0].sock.getsockname()
        clients: list[socket.socket] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plane.run, bound)
            await trio.sleep(0.01)
            clients += [socket.create_connection(address) for _ in range(3)]
            nursery.cancel_scope.cancel()
        assert (plane.worker.connections, bugs) == (0, [])
        for client in clients:
            client.close()
