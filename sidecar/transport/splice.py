"""Move the bytes between two plain sockets, and let the kernel do it for a bulk flow, without bringing them here.

Called by `proxy/tunnel.py`, until both directions have ended. A conversation is copied; a direction that moved a lot
goes from socket to socket through a pipe (splice(2)): half the processor time of copying. Synchronous handlers of the
two streams do the work; the calling task only waits.

Rules: a direction is read again only when all it read before was taken, so that a slow reader stops its sender and at
most PIPE_BYTES are under way; an end is forwarded as an end, a reset as a reset; a silence of both directions ends the
flow; pipes are closed on every way out. Where the kernel refuses (no descriptor or pipe memory left, a socket that does
not splice), the same handlers copy.

Refuses TLS: its bytes must be encrypted here.
"""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import trio

from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.stream import StreamBroken

# A pipe holds as many buffers as it has pages, and a network card's buffer carries about 1.4 KiB: 128 of them are
# 180 KiB. The kernel's own 64 KiB would be 16 buffers, a system call for each 22 KiB. Above 512 KiB nothing is gained,
# while one turn would keep other connections waiting.
PIPE_BYTES = 512 * 1024
# Half of the 64 MiB that an unprivileged user may hold in pipes (fs.pipe-user-pages-soft). Flows beyond it copy.
MAX_PIPES = 64


# What one direction moves by copy before the kernel takes over: setting up two pipe ends costs as much as copying some
# 100 KiB, and a conversation that never gets there gains nothing.
SPLICE_AFTER_BYTES = 256 * 1024


@dataclass(slots=True)
class Moved:
    """Bytes that went through so far: `bytes_in` from the client to the upstream, `bytes_out` back."""

    bytes_in: int
    bytes_out: int


class ClientBroken(StreamBroken):
    """It was the client's connection that broke."""


class UpstreamClosed(StreamBroken):
    """The upstream has ended, and then reset what it was sent: it had closed. The client was sent all that it said."""


async def relay_plain(
    client: EpollStream,
    upstream: EpollStream,
    idle_s: float,
    moved: Moved,
    *,
    copied: int = SPLICE_AFTER_BYTES,
    ended: tuple[bool, bool] = (False, False),
) -> None:
    """Move bytes both ways until both directions have ended; `moved` counts on while it runs.

    Owns both streams meanwhile; what is queued on them goes first. Afterwards they are the caller's again, to be
    closed; on every way out but the orderly one and UpstreamClosed they were aborted, so that nobody takes a part for
    the whole.

    Args:
        copied: Bytes of each direction before the kernel takes over.
        ended: Whether the client, the upstream have ended their direction, and the other side was told.

    Raises:
        StreamBroken: One side was reset; ClientBroken when it was the client, UpstreamClosed after the upstream's end.
        TimeoutError: Nothing moved for `idle_s` seconds.
    """
    flow = _Flow(client, upstream, moved, copied, ended)
    try:
        await flow.run(idle_s)
    except UpstreamClosed:
        raise
    except BaseException:
        client.abort()
        upstream.abort()
        raise
    finally:
        flow.close()


class _Pipe:
    """A pipe of PIPE_BYTES. Raises OSError when there is to be none."""

    __slots__ = ("read_end", "write_end")
    open_now: ClassVar[int] = 0  # in this process: the kernel's bound is the user's, not the worker's

    def __init__(self) -> None:
        if _Pipe.open_now >= MAX_PIPES:
            raise OSError("as many pipes as there may be")
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _Pipe.open_now += 1
        try:
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        _Pipe.open_now -= 1
        os.close(self.read_end)
        os.close(self.write_end)


class _Way:
    """One direction. Every method may raise StreamBroken."""

    __slots__ = ("_copies", "_from", "_held", "_pipe", "_tell", "_to", "_to_copy", "ended")

    def __init__(self, source: EpollStream, to: EpollStream, tell: Callable[[int], None], copied: int) -> None:
        self._from = source
        self._to = to
        self._tell = tell  # of bytes that the receiving side's kernel took
        self._pipe: _Pipe | None = None
        self._held = 0  # bytes in the pipe
        self._copies = False
        self._to_copy = copied  # before it is bulk
        self.ended = False

    def on_readable(self) -> None:
        """Read once, and pass it on."""
        if self.ended or self._held or self._to.queued_bytes:
            self._from.raise_if_reset()  # nobody asked for data, so a hang-up is what there is to see
        elif self._copies or self._to_copy > 0:
            self._copy()
        else:
            self._splice()

    def on_room(self) -> None:
        """The receiving side takes bytes again."""
        if self._held:
            self._pass_on()
        elif not self.ended:
            self._from.resume()

    def on_blocked(self) -> None:
        """The receiving side has not taken what was put."""
        self._raise_if_lost()
        self._from.pause()

    def close(self) -> None:
        """Give the pipe back, with whatever is in it."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _splice(self) -> None:
        try:
            self._pipe = self._pipe or _Pipe()
            size = self._from.splice_in(self._pipe.write_end, PIPE_BYTES)
        except OSError:
            self._copy_from_now_on()
            return
        if size == 0:
            self._end()
        elif size is not None:
            self._held = size
            self._pass_on()

    def _pass_on(self) -> None:
        assert self._pipe is not None
        try:
            taken = self._to.splice_out(self._pipe.read_end, self._held)
        except OSError:
            self._write(os.read(self._pipe.read_end, self._held))
            taken = self._held
            self._copy_from_now_on()
        self._held -= taken
        self._tell(taken)
        if self._held or self._to.queued_bytes:
            self._from.pause()
        else:
            self._from.resume()

    def _copy_from_now_on(self) -> None:
        self._copies = True
        self.close()

    def _copy(self) -> None:
        data = self._from.try_read()
        if data == b"":
            self._end()
        elif data:
            self._to_copy -= len(data)
            self._tell(len(data))
            self._to.put(data)

    def _write(self, data: bytes) -> bool:
        empty = self._to.write(data)
        self._raise_if_lost()
        return empty

    def _end(self) -> None:
        self.ended = True
        self._from.pause()
        self._tell(0)
        self._to.send_eof()
        self._raise_if_lost()

    def _raise_if_lost(self) -> None:
        """A stream tells of a failed write at the next read only, and that side may never be read again."""
        if self._to.broken:
            raise StreamBroken("the connection was lost")


class _End:
    """The handler of one stream: it is where one way begins and the other leads to."""

    __slots__ = ("_begins", "_flow", "_leads_here")

    def __init__(self, flow: "_Flow", begins: _Way, leads_here: _Way) -> None:
        self._flow = flow
        self._begins = begins
        self._leads_here = leads_here

    def on_readable(self) -> None:
        """See `Handler`."""
        self._flow.take_turn(self._begins.on_readable)

    def on_drained(self) -> None:
        """See `Handler`."""
        self._flow.take_turn(self._leads_here.on_room)

    def on_stale(self) -> None:
        """See `Handler`: nobody here cares whether a peer is silent."""

    def on_blocked(self) -> None:
        """See `Handler`."""
        self._flow.take_turn(self._leads_here.on_blocked)

    def on_crashed(self) -> None:
        """See `Handler`."""
        self._flow.lost()


class _Flow:
    """Both directions, and when they are over."""

    __slots__ = ("_client", "_done", "_failure", "_in", "_last_s", "_moved", "_now", "_out", "_upstream")

    def __init__(
        self, client: EpollStream, upstream: EpollStream, moved: Moved, copied: int, ended: tuple[bool, bool]
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._moved = moved
        self._in = _Way(client, upstream, self._moved_in, copied)
        self._out = _Way(upstream, client, self._moved_out, copied)
        self._in.ended, self._out.ended = ended
        self._done = trio.Event()
        self._failure: StreamBroken | None = None
        self._now = trio.lowlevel.current_clock().current_time  # read for every buffer
        self._last_s = self._now()

    async def run(self, idle_s: float) -> None:
        """Until both directions have ended. Raises StreamBroken, TimeoutError."""
        with trio.move_on_after(idle_s) as flushing:
            await self._flush(self._client)
            await self._flush(self._upstream)
        if flushing.cancelled_caught:
            raise TimeoutError
        self._last_s = trio.current_time()
        self._client.handle_with(_End(self, self._in, self._out))
        self._upstream.handle_with(_End(self, self._out, self._in))
        for way, source in ((self._in, self._client), (self._out, self._upstream)):
            if way.ended:
                source.pause()
        if self._in.ended and self._out.ended:
            return
        while not self._done.is_set():
            if trio.current_time() >= self._last_s + idle_s:
                raise TimeoutError
            with trio.move_on_at(self._last_s + idle_s):
                await self._done.wait()
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))  # itself it would keep us, and we it, in a cycle

    async def _flush(self, stream: EpollStream) -> None:
        try:
            await stream.flush()
        except StreamBroken as exc:
            raise self._blamed(exc) from None

    def take_turn(self, act: Callable[[], None]) -> None:
        """Let one way act, and see whether all is over then."""
        try:
            act()
        except StreamBroken as exc:
            self._failure = self._blamed(exc)
        if self._failure is not None or (self._in.ended and self._out.ended):
            self._leave()
            self._done.set()

    def lost(self) -> None:
        """A bug has closed one of the streams."""
        self._failure = StreamBroken("closed here")
        self._leave()
        self._done.set()

    def close(self) -> None:
        """Let go of the streams and of the pipes."""
        self._leave()
        self._in.close()
        self._out.close()

    def _leave(self) -> None:
        self._client.takeover()
        self._upstream.takeover()

    def _blamed(self, exc: StreamBroken) -> StreamBroken:
        if self._client.broken:
            return ClientBroken(str(exc))
        return UpstreamClosed(str(exc)) if self._out.ended else exc

    def _moved_in(self, size: int) -> None:
        self._moved.bytes_in += size
        self._last_s = self._now()

    def _moved_out(self, size: int) -> None:
        self._moved.bytes_out += size
        self._last_s = self._now()
