"""A flow that the kernel moves: every byte, each end by itself, resets, silence, slow readers, nothing left open."""

import errno
import fcntl
import hashlib
import math
import os
import select
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from sidecar.transport import splice
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.reactor import Reactor
from sidecar.transport.splice import PIPE_BYTES, ClientBroken, Moved, UpstreamClosed, relay_plain
from sidecar.transport.stream import Peer, StreamBroken

BLOCK = os.urandom(1 << 20)
RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Relay:
    """Both outer ends of a relayed flow, and how the relay ended."""

    client: trio.socket.SocketType
    server: trio.socket.SocketType
    inner: tuple[EpollStream, EpollStream]
    copied: int
    moved: Moved = field(default_factory=lambda: Moved(0, 0))
    over: trio.Event = field(default_factory=trio.Event)
    failure: BaseException | None = None

    async def serve(self, idle_s: float) -> None:
        try:
            await relay_plain(*self.inner, idle_s, self.moved, copied=self.copied)
        except (StreamBroken, TimeoutError) as exc:
            self.failure = exc
        finally:
            for stream in self.inner:
                stream.close()
            self.over.set()


def connected(buffer_bytes: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two ends of a loopback connection; with `buffer_bytes`, of little room and packets like those of a network."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as one:
        if buffer_bytes:
            for sock in (one, server):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_448)
        one.connect(server.getsockname())
        other, _ = server.accept()
        one.setblocking(False)
        other.setblocking(False)
        return one.dup(), other


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def relay(
    idle_s: float = 10,
    stream: type[EpollStream] = EpollStream,
    first: bytes = b"",
    buffer_bytes: int = 0,
    copied: int = 0,
) -> AsyncIterator[Relay]:
    """A running relay; checks afterwards that it ended, had no bug and left no descriptor."""
    before = open_files()
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    client, client_inner = connected(buffer_bytes)
    upstream_inner, server = connected(buffer_bytes)
    inner = (stream(client_inner, reactor, Peer("client")), stream(upstream_inner, reactor, Peer("server")))
    if first:
        inner[1].write(first)
    flow = Relay(trio.socket.from_stdlib_socket(client), trio.socket.from_stdlib_socket(server), inner, copied)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            nursery.start_soon(flow.serve, idle_s)
            yield flow
            flow.client.close()
            flow.server.close()
            await flow.over.wait()
            nursery.cancel_scope.cancel()
    assert bugs == []
    assert splice._Pipe.open_now == 0
    assert open_files() == before


async def send(sock: trio.socket.SocketType, size: int) -> str:
    """Send `size` random bytes and the end; their hash."""
    digest = hashlib.sha256()
    while size:
        piece = memoryview(BLOCK)[: min(size, len(BLOCK))]
        size -= len(piece)
        digest.update(piece)
        while piece:
            piece = piece[await sock.send(piece) :]
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


async def receive(sock: trio.socket.SocketType) -> str:
    """The hash of everything until the end."""
    digest = hashlib.sha256()
    while data := await sock.recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


async def both_ways(flow: Relay, size_in: int, size_out: int) -> None:
    hashes: dict[str, str] = {}

    async def note(name: str, made: object) -> None:
        hashes[name] = await made  # type: ignore[misc]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, "in", send(flow.client, size_in))
        nursery.start_soon(note, "out", send(flow.server, size_out))
        nursery.start_soon(note, "in, received", receive(flow.server))
        nursery.start_soon(note, "out, received", receive(flow.client))
    await flow.over.wait()
    assert hashes["in"] == hashes["in, received"]
    assert hashes["out"] == hashes["out, received"]
    assert flow.moved.counts == [size_in, size_out]
    assert flow.failure is None


@pytest.mark.slow
async def test_200_mb_each_way_arrive_whole() -> None:
    async with relay() as flow:
        await both_ways(flow, 200_000_000, 200_000_000)


@pytest.mark.parametrize(("size_in", "size_out"), [(0, 0), (1, 3_000_001), (3_000_001, 1), (5_000_000, 5_000_000)])
@pytest.mark.parametrize("buffer_bytes", [0, 16_384])
async def test_all_bytes_arrive_whatever_the_direction(size_in: int, size_out: int, buffer_bytes: int) -> None:
    async with relay(buffer_bytes=buffer_bytes) as flow:
        await both_ways(flow, size_in, size_out)


class CannotSpliceIn(EpollStream):
    def splice_in(self, *_: object) -> int | None:
        raise OSError(errno.EINVAL, "not here")


class CannotSpliceOut(EpollStream):
    def splice_out(self, *_: object) -> int:
        raise OSError(errno.EINVAL, "not here")


@pytest.mark.parametrize("stream", [CannotSpliceIn, CannotSpliceOut])
@pytest.mark.parametrize("buffer_bytes", [0, 16_384])
async def test_what_the_kernel_does_not_splice_is_copied(stream: type[EpollStream], buffer_bytes: int) -> None:
    async with relay(stream=stream, buffer_bytes=buffer_bytes) as flow:
        await both_ways(flow, 3_000_001, 2_000_001)


async def test_without_a_pipe_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "MAX_PIPES", 1)
    async with relay(idle_s=math.inf) as flow:
        await both_ways(flow, 3_000_001, 2_000_001)


async def test_without_memory_for_a_pipe_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "fs.pipe-user-pages-soft")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    async with relay() as flow:
        await both_ways(flow, 3_000_001, 2_000_001)


async def test_what_is_queued_goes_first() -> None:
    async with relay(first=b"first, ") as flow:
        await flow.client.send(b"then")
        got = b""
        while len(got) < 11:
            got += await flow.server.recv(100)

        assert got == b"first, then"
        assert flow.moved.counts == [4, 0]


@pytest.mark.parametrize("ending", ["client", "server"])
async def test_each_direction_ends_by_itself(ending: str) -> None:
    async with relay() as flow:
        one, other = (flow.client, flow.server) if ending == "client" else (flow.server, flow.client)
        one.shutdown(socket.SHUT_WR)

        assert await other.recv(100) == b""
        for word in (b"still", b"open"):
            await other.send(word)
            assert await one.recv(100) == word
        assert not flow.over.is_set()

        other.shutdown(socket.SHUT_WR)
        assert await one.recv(100) == b""
        await flow.over.wait()
        assert flow.failure is None


def reset(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@pytest.mark.parametrize("ending", ["client", "server"])
async def test_a_reset_is_forwarded_as_one(ending: str) -> None:
    async with relay() as flow:
        one, other = (flow.client, flow.server) if ending == "client" else (flow.server, flow.client)
        await one.send(b"a part")
        assert await other.recv(100) == b"a part"
        reset(one)

        with pytest.raises(ConnectionResetError):
            await other.recv(100)
        await flow.over.wait()
        assert isinstance(flow.failure, StreamBroken)
        assert isinstance(flow.failure, ClientBroken) == (ending == "client")


@pytest.mark.parametrize("ending", ["client", "server"])
async def test_a_reset_after_the_end_is_forwarded_too(ending: str) -> None:
    async with relay() as flow:
        one, other = (flow.client, flow.server) if ending == "client" else (flow.server, flow.client)
        one.shutdown(socket.SHUT_WR)
        assert await other.recv(100) == b""
        reset(one)
        await flow.over.wait()
        assert isinstance(flow.failure, ClientBroken if ending == "client" else UpstreamClosed)


@pytest.mark.parametrize("stream", [EpollStream, CannotSpliceIn])
async def test_a_reset_is_seen_while_the_other_side_does_not_read(stream: type[EpollStream]) -> None:
    async with relay(buffer_bytes=16_384, stream=stream) as flow:
        await fill(flow.client)
        with trio.fail_after(1):
            reset(flow.client)
            await flow.over.wait()
        assert isinstance(flow.failure, ClientBroken)


async def fill(sock: trio.socket.SocketType) -> int:
    """Send until nobody takes more; bytes sent."""
    sent = 0
    while True:
        with trio.move_on_after(0.2) as scope:
            sent += await sock.send(BLOCK)
        if scope.cancelled_caught:
            return sent


@pytest.mark.parametrize("stream", [EpollStream, CannotSpliceIn])
async def test_a_slow_reader_stops_its_sender_and_nothing_spins(stream: type[EpollStream]) -> None:
    async with relay(stream=stream, buffer_bytes=65_536) as flow:
        sent = await fill(flow.client)
        assert sent < 4 * 2 * 65_536 + PIPE_BYTES
        spent = os.times()
        await trio.lowlevel.wait_readable(flow.server)
        await trio.to_thread.run_sync(lambda: select.select([], [], [], 0.2))
        used = os.times()
        assert used.user + used.system - spent.user - spent.system < 0.1

        got = 0
        while got < sent:
            got += len(await flow.server.recv(1 << 16))
        await flow.client.send(b"on")
        assert await flow.server.recv(100) == b"on"


async def test_silence_of_both_directions_ends_it() -> None:
    async with relay(idle_s=0.3) as flow:
        for _ in range(4):  # one direction in use keeps the other
            await trio.to_thread.run_sync(lambda: select.select([], [], [], 0.1))
            await flow.client.send(b"x")
            assert not flow.over.is_set()
        began_s = trio.current_time()
        await flow.over.wait()

        assert 0.2 < trio.current_time() - began_s < 1
        assert isinstance(flow.failure, TimeoutError)
        assert await flow.server.recv(100) in (b"xxxx", b"x", b"xx", b"xxx")
        with pytest.raises(ConnectionResetError):
            await flow.server.recv(100)


async def test_cancelling_leaves_nothing() -> None:
    before = open_files()
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    (client, inner), (outer, server) = connected(), connected()
    streams = EpollStream(inner, reactor, Peer("client")), EpollStream(outer, reactor, Peer("server"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        client.send(BLOCK[:1000])
        with trio.move_on_after(0.1):
            await relay_plain(*streams, 10, Moved(0, 0), copied=0)
        nursery.cancel_scope.cancel()
    assert all(stream.closed for stream in streams)
    client.close()
    server.close()
    assert open_files() == before
