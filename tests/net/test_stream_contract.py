"""The stream contract, one class of tests on every implementation: sockets, TLS on sockets, memory."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
import trio.testing

from sidecar.transport.epoll_stream import EpollStream, TlsStream
from sidecar.transport.memory import MemoryNetwork, MemoryStream
from sidecar.transport.reactor import Reactor
from sidecar.transport.stream import HIGH_WATER_BYTES, READ_BYTES, Peer, Stream, StreamBroken
from sidecar.transport.tls import Contexts
from tests.support import pki


class Ends(NamedTuple):
    """Both ends of a connection, and the bugs that the reactor was told of."""

    here: Stream
    there: Stream
    bugs: list[BaseException]


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a loopback TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


@asynccontextmanager
async def plain() -> AsyncIterator[Ends]:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    one, other = connected()
    here, there = EpollStream(one, reactor, Peer("a")), EpollStream(other, reactor, Peer("b"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        yield Ends(here, there, bugs)
        here.close()
        there.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def secure() -> AsyncIterator[Ends]:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    one, other = connected()
    mine, theirs = Contexts(pki.identity("orders")), Contexts(pki.identity("stock"))
    client = mine.client(("http/1.1",)).wrap_socket(
        one, do_handshake_on_connect=False, suppress_ragged_eofs=False, server_hostname="8080.stock.shop.mesh"
    )
    server = theirs.server(("http/1.1",)).wrap_socket(
        other, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    here, there = TlsStream(client, reactor, Peer("a")), TlsStream(server, reactor, Peer("b"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        async with trio.open_nursery() as shaking:
            shaking.start_soon(here.handshake)
            shaking.start_soon(there.handshake)
        yield Ends(here, there, bugs)
        here.close()
        there.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def memory() -> AsyncIterator[Ends]:
    network = MemoryNetwork()
    accepted: list[MemoryStream] = []
    network.listen("there:1", accepted.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        here = network.dial("there:1")
        yield Ends(here, accepted[0], [])
        here.close()
        accepted[0].close()
        nursery.cancel_scope.cancel()


IMPLEMENTATIONS = {"sockets": plain, "TLS": secure, "memory": memory}


class Collector:
    """A handler that reads what is there, one buffer a turn."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.got = b""
        self.ended = trio.Event()
        self.turns = 0
        self.drained = trio.Event()

    def on_readable(self) -> None:
        self.turns += 1
        data = self.stream.try_read()
        if data == b"":
            self.ended.set()
            self.stream.pause()
        elif data:
            self.got += data

    def on_drained(self) -> None:
        self.drained.set()

    def on_stale(self) -> None: ...

    def on_blocked(self) -> None: ...

    def on_crashed(self) -> None:
        self.ended.set()


async def read_all(stream: Stream) -> bytes:
    got = bytearray()
    while data := await stream.receive():
        got += data
    return bytes(got)


@pytest.mark.parametrize("kind", IMPLEMENTATIONS)
class TestStream:
    """What holds for every stream."""

    async def test_bytes_arrive_in_order_both_ways(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            await here.send(b"one")
            await here.send(b"two")
            got = b""
            while len(got) < 6:
                got += await there.receive()
            await there.send(b"back")

            assert got == b"onetwo"
            assert await here.receive() == b"back"

    async def test_nothing_there_is_none_and_not_an_end(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, _, _):
            assert here.try_read() is None

    async def test_an_orderly_close_reads_as_an_end(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            await here.send(b"last")
            here.close()

            assert await read_all(there) == b"last"

    async def test_an_abort_is_never_an_orderly_end(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            here.abort()
            with pytest.raises(StreamBroken):
                await read_all(there)
            assert there.broken

    async def test_a_peer_that_does_not_read_stops_the_writer(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            piece = b"x" * 1_000_000
            while here.write(piece):
                pass
            assert here.queued_bytes > 0
            queued = here.queued_bytes
            with trio.move_on_after(0.05) as scope:
                await here.flush()
            assert scope.cancelled_caught
            assert here.queued_bytes == queued or kind != "memory"
            there.close()

    async def test_what_was_queued_goes_out_when_the_peer_reads(self, kind: str) -> None:
        body = bytes(range(256)) * 16_384  # 4 MiB
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            for start in range(0, len(body), 300_000):
                here.write(body[start : start + 300_000])
            got = bytearray()

            async def read() -> None:
                while len(got) < len(body):
                    got.extend(await there.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await here.flush()
            assert here.queued_bytes == 0
            assert bytes(got) == body

    async def test_send_waits_above_the_high_water_mark_only(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            with trio.move_on_after(0.05) as scope:
                while True:
                    await here.send(b"y" * 65_536)
            assert scope.cancelled_caught
            assert HIGH_WATER_BYTES < here.queued_bytes <= HIGH_WATER_BYTES + 65_536
            there.close()

    async def test_both_directions_at_once(self, kind: str) -> None:
        body = b"0123456789abcdef" * 65_536
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            got: dict[str, bytes] = {}

            async def talk(stream: Stream) -> None:
                for start in range(0, len(body), 50_000):
                    await stream.send(body[start : start + 50_000])
                await stream.flush()

            async def hear(name: str, stream: Stream) -> None:
                collected = bytearray()
                while len(collected) < len(body):
                    collected += await stream.receive()
                got[name] = bytes(collected)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, here)
                nursery.start_soon(talk, there)
                nursery.start_soon(hear, "here", here)
                nursery.start_soon(hear, "there", there)
            assert got == {"here": body, "there": body}

    async def test_a_cancelled_receive_loses_nothing(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            with trio.move_on_after(0.01):
                await there.receive()
            await here.send(b"kept")
            assert await there.receive() == b"kept"

    async def test_a_handler_is_called_and_takeover_leaves_the_rest_to_a_task(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            handler = Collector(there)
            there.handle_with(handler)
            await here.send(b"for the handler")
            with trio.fail_after(5):
                while handler.got != b"for the handler":
                    await trio.testing.wait_all_tasks_blocked(0.001)
            there.takeover()
            await here.send(b"for the task")
            assert await there.receive() == b"for the task"
            assert handler.got == b"for the handler"

    async def test_a_paused_stream_is_not_read(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            handler = Collector(there)
            there.handle_with(handler)
            there.pause()
            await here.send(b"later")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert handler.turns == 0
            there.resume()
            with trio.fail_after(5):
                while not handler.got:
                    await trio.testing.wait_all_tasks_blocked(0.001)
            assert handler.got == b"later"

    async def test_a_handler_has_one_buffer_a_turn(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            handler = Collector(there)
            body = b"z" * (3 * READ_BYTES)
            there.handle_with(handler)
            here.write(body)
            with trio.fail_after(5):
                while len(handler.got) < len(body):
                    await trio.testing.wait_all_tasks_blocked(0.001)
            assert handler.turns >= 3

    async def test_a_handler_may_close_its_own_stream(self, kind: str) -> None:
        class Closer(Collector):
            def on_readable(self) -> None:
                self.stream.close()
                self.ended.set()

        async with IMPLEMENTATIONS[kind]() as (here, there, bugs):
            handler = Closer(there)
            there.handle_with(handler)
            await here.send(b"bye")
            with trio.fail_after(5):
                await handler.ended.wait()
            assert there.closed
            assert bugs == []

    async def test_a_handler_hears_that_its_queue_is_empty(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            handler = Collector(here)
            here.handle_with(handler)
            while here.write(b"q" * 500_000):
                pass
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:

                    async def swallow() -> None:
                        while True:
                            await there.receive()

                    nursery.start_soon(swallow)
                    await handler.drained.wait()
                    nursery.cancel_scope.cancel()
            assert here.queued_bytes == 0

    async def test_writing_to_a_closed_stream_says_no_and_never_raises(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, _, _):
            here.close()
            here.close()
            assert here.write(b"x") is False
            with pytest.raises(StreamBroken):
                await here.receive()
            with pytest.raises(StreamBroken):
                await here.send(b"x")

    async def test_closing_wakes_whoever_waits(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, _, _):

            async def wait() -> None:
                with pytest.raises(StreamBroken):
                    await here.receive()

            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
                    here.close()

    async def test_a_reset_is_noticed_while_nobody_reads(self, kind: str) -> None:
        async with IMPLEMENTATIONS[kind]() as (here, there, _):
            gone = trio.Event()
            there.watch_hangup(gone.set)
            here.abort()
            with trio.fail_after(5):
                await gone.wait()


@pytest.mark.parametrize("kind", IMPLEMENTATIONS)
async def test_what_came_before_a_failed_write_can_be_read_and_its_end_is_no_orderly_one(kind: str) -> None:
    """An app that refuses an upload answers and closes over what it did not read: its answer is there, then a reset."""
    async with IMPLEMENTATIONS[kind]() as (here, there, _):
        await here.send(b"unread")
        await there.send(b"refused")
        await trio.testing.wait_all_tasks_blocked(0.01)
        there.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(5):
            while not here.broken:
                here.write(b"more")
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert await here.receive() == b"refused"
        with pytest.raises(StreamBroken):
            await here.receive()


@pytest.mark.parametrize("kind", IMPLEMENTATIONS)
async def test_an_end_behind_bytes_that_nobody_read_is_known_with_their_number(kind: str) -> None:
    async with IMPLEMENTATIONS[kind]() as (here, there, _):
        await here.send(b"x" * 1000)
        left = there.last_bytes
        assert left is None
        here.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        left = there.last_bytes
        assert left is not None
        assert left >= 1000
        assert left == 1000 or kind == "TLS"
        assert await there.receive() == b"x" * 1000
        assert there.last_bytes is not None
        assert there.last_bytes <= (100 if kind == "TLS" else 0)  # what its framing takes


@pytest.mark.parametrize("kind", ["sockets", "memory"])
async def test_half_close_ends_one_direction_only(kind: str) -> None:
    async with IMPLEMENTATIONS[kind]() as (here, there, _):
        await here.send(b"question")
        here.send_eof()
        assert await read_all(there) == b"question"
        await there.send(b"answer")
        assert await here.receive() == b"answer"


async def test_tls_that_ends_without_close_notify_is_a_truncation() -> None:
    async with secure() as (here, there, _):
        assert isinstance(here, TlsStream)
        with socket.socket(fileno=os.dup(here.tls.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)
        with pytest.raises(StreamBroken):
            await read_all(there)


async def test_nothing_is_sent_in_plain_text_after_tls_has_ended() -> None:
    async with secure() as (here, there, _):
        assert isinstance(there, TlsStream)
        there.send_eof()
        assert await read_all(here) == b""
        here.send_eof()
        assert here.write(b"in the clear") is False
        assert here.broken
        with trio.fail_after(5):
            assert await read_all(there) == b""


async def test_close_notify_is_an_orderly_end_even_over_unread_data() -> None:
    async with secure() as (here, there, _):
        await there.send(b"on its way")
        await here.send(b"last")
        here.send_eof()
        assert await read_all(there) == b"last"


@pytest.mark.parametrize("kind", ["sockets", "TLS"])
async def test_a_failing_handler_loses_its_own_connection_only(kind: str) -> None:
    class Failing(Collector):
        def on_readable(self) -> None:
            raise RuntimeError("a bug")

    async with IMPLEMENTATIONS[kind]() as (here, there, bugs):
        there.handle_with(Failing(there))
        await here.send(b"x")
        with pytest.raises(StreamBroken):
            await read_all(here)
        assert [str(bug) for bug in bugs] == ["a bug"]
        assert there.closed


async def test_a_reused_descriptor_never_reaches_its_old_owner() -> None:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    a, a_peer = connected()
    b, b_peer = connected()
    fresh: list[socket.socket] = []

    class Replaces(Collector):
        """Closes the other stream in its turn and opens sockets that would take its number at once."""

        def on_readable(self) -> None:
            self.stream.try_read()
            victim.close()
            fresh.extend(connected())

    first = EpollStream(a, reactor, Peer("a"))
    victim = EpollStream(b, reactor, Peer("b"))
    number = b.fileno()
    old = Collector(victim)
    first.handle_with(Replaces(first))
    victim.handle_with(old)
    a_peer.send(b"1")
    b_peer.send(b"2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked(0.02)
        nursery.cancel_scope.cancel()
    assert bugs == []
    assert number not in [sock.fileno() for sock in fresh[:2]] or old.turns == 0
    first.close()
    for sock in (a_peer, b_peer, *fresh):
        sock.close()


class CountingReactor(Reactor):
    """Knows how often it woke up."""

    turns = 0

    def _turn(self, wait_s: float) -> None:
        self.turns += 1
        super()._turn(wait_s)


async def test_a_stream_that_nobody_reads_does_not_spin() -> None:
    reactor = CountingReactor(lambda _: None)
    one, other = connected()
    stream = EpollStream(one, reactor, Peer("a"))
    stream.watch_hangup(lambda: None)
    other.send(b"unread")
    other.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert reactor.turns <= 3
        assert await read_all(stream) == b"unread"
        nursery.cancel_scope.cancel()
    stream.close()
