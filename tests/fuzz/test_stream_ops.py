"""Any order of calls on both ends of a stream: no byte is lost, doubled or moved, and the end comes last.

One script of calls is played on each implementation: writes of all sizes, reads by a task and by a handler, changes
between the two, pauses. `make prove` plays many more scripts than a test run does.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transport.epoll_stream import EpollStream, TlsStream
from sidecar.transport.stream import Stream, StreamBroken
from tests.net.test_stream_contract import IMPLEMENTATIONS

LIMIT_S = 10.0  # a lost wake-up shows as a wait without end
_SEND_BUFFER_BYTES = 16_384  # the kernel would take megabytes on loopback, and the queue would never be used

SIZES = st.one_of(st.integers(0, 64), st.sampled_from([16_383, 16_384, 65_535, 65_536, 65_537, 300_000]))
CALLS = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.sampled_from(["turn", "handle", "take over", "pause", "resume"]), st.just(0)),
)
# The calls in order, each at one of the ends; then how each end reads what is left: by a handler or by a task.
Script = tuple[Sequence[tuple[bool, tuple[str, int]]], tuple[bool, bool]]
SCRIPTS = st.tuples(st.lists(st.tuples(st.booleans(), CALLS), max_size=40), st.tuples(st.booleans(), st.booleans()))


@dataclass
class End:
    """One end, what it wrote and what it got. A handler that reads one buffer a turn."""

    stream: Stream
    seed: int
    wrote: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    ended: bool = False
    heard: trio.Event = field(default_factory=trio.Event)

    def on_readable(self) -> None:
        self.read()

    def on_drained(self) -> None:
        assert self.stream.queued_bytes == 0

    def on_stale(self) -> None: ...

    def on_blocked(self) -> None: ...

    def on_crashed(self) -> None:
        self.ended = True

    def read(self) -> None:
        data = self.stream.try_read()
        if data is not None:
            self.take(data)

    def take(self, data: bytes) -> None:
        self.got += data
        self.heard.set()
        if not data:
            self.ended = True
            self.stream.pause()

    def write(self, size: int) -> None:
        # No two places of the byte sequence look alike, so that a lost or doubled piece cannot hide.
        start = len(self.wrote)
        data = b"".join(
            number.to_bytes(4, "big") for number in range(self.seed + start // 4, self.seed + (start + size) // 4 + 1)
        )[:size]
        taken_whole = self.stream.write(data)
        assert taken_whole == (self.stream.queued_bytes == 0)
        self.wrote += data

    def do(self, name: str, size: int) -> None:
        match name:
            case "write":
                self.write(size)
            case "read":
                self.read()
            case "handle":
                self.stream.handle_with(self)
            case "take over":
                self.stream.takeover()
            case "pause":
                self.stream.pause()
            case "resume":
                self.stream.resume()

    async def finish(self, expected: int, *, by_handler: bool) -> None:
        """Read what the other end wrote and nobody read yet."""
        if by_handler:
            self.stream.handle_with(self)
        else:
            self.stream.takeover()
        while len(self.got) < expected:
            if by_handler:
                self.heard = trio.Event()
                await self.heard.wait()
            else:
                self.take(await self.stream.receive())


async def play(kind: str, script: Script) -> None:
    """Play `script` on both ends, read everything, close one end and see that the other hears of it."""
    calls, by_handler = script
    with trio.fail_after(LIMIT_S):
        async with IMPLEMENTATIONS[kind]() as (here, there, bugs):
            ends = (End(here, 0), End(there, 1 << 30))
            for stream in (here, there):
                if isinstance(stream, EpollStream):
                    stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            for first, (name, size) in calls:
                if name == "turn":
                    await trio.lowlevel.checkpoint()
                else:
                    ends[first].do(name, size)
            async with trio.open_nursery() as nursery:
                for index, mine in enumerate(ends):
                    nursery.start_soon(partial(mine.finish, len(ends[1 - index].wrote), by_handler=by_handler[index]))
                    nursery.start_soon(mine.stream.flush)
            for mine, other in (ends, ends[::-1]):
                assert mine.got == other.wrote
                assert not mine.ended
            there.takeover()
            if isinstance(here, TlsStream):
                # `close` says goodbye once and does not wait: in a full kernel buffer a close_notify finds no room.
                await trio.lowlevel.wait_writable(here.tls)
            here.close()
            assert await there.receive() == b""
            assert not bugs


@settings(max_examples=50)
@given(SCRIPTS)
def test_any_calls_on_sockets(script: Script) -> None:
    trio.run(play, "sockets", script)


@settings(max_examples=25)
@given(SCRIPTS)
def test_any_calls_over_tls(script: Script) -> None:
    trio.run(play, "TLS", script)


@settings(max_examples=100)
@given(SCRIPTS)
def test_any_calls_in_memory(script: Script) -> None:
    trio.run(play, "memory", script)


@given(st.integers(0, 20))
def test_after_a_failure_every_call_is_answered(calls: int) -> None:
    async def scenario() -> None:
        async with IMPLEMENTATIONS["memory"]() as (here, there, _):
            there.abort()
            for _ in range(calls):
                assert here.write(b"x") is False
            try:
                here.try_read()
            except StreamBroken:
                assert here.broken
            else:
                raise AssertionError("an abort read as data")

    trio.run(scenario)
