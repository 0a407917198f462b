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
import math
import os
from collections.abc import Callable
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


class Moved:
    """Bytes that went through so far: `bytes_in` from the client to the upstream, `bytes_out` back."""

    __slots__ = ("counts",)

    def __init__(self, bytes_in: int, bytes_out: int) -> None:
        self.counts = [bytes_in, bytes_out]

    @property
    def bytes_in(self) -> int:
        """From the client to the upstream."""
        return self.counts[0]

    @property
    def bytes_out(self) -> int:
        """From the upstream to the client."""
        return self.counts[1]


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
    """One direction, and the handler of the stream that it reads.

    What a small buffer costs is what a conversation costs: it is read and put here, with no call in between. Everything
    else takes a turn of the flow, and may raise StreamBroken.
    """

    __slots__ = ("_counts", "_flow", "_from", "_held", "_number", "_pipe", "_to", "_to_copy", "ended")

    def __init__(self, flow: "_Flow", number: int, source: EpollStream, to: EpollStream, copied: float) -> None:
        self._flow: _Flow | None = flow
        self._from = source
        self._to = to
        self._counts = flow.counts  # of bytes that the receiving side's kernel took, for each direction
        self._number = number
        self._pipe: _Pipe | None = None
        self._held = 0  # bytes in the pipe
        self._to_copy = copied  # before it is bulk
        self.ended = False

    # As of `Handler`; the flow has let go of the streams before it lets go of us.

    def on_readable(self) -> None:
        """Read once, and pass it on."""
        to, flow = self._to, self._flow
        assert flow is not None
        if self._to_copy <= 0 or self.ended or to.queued_bytes:
            flow.take_turn(self._read_otherwise)
            return
        try:
            data = self._from.try_read()
        except StreamBroken as exc:
            flow.failed(exc)
            return
        if data:
            size = len(data)
            self._to_copy -= size
            self._counts[self._number] += size
            flow.last_s = flow.now()
            to.put(data)
        elif data is not None:
            flow.take_turn(self._end)

    def on_drained(self) -> None:
        """The other direction has room."""
        flow = self._flow
        assert flow is not None
        flow.take_turn(flow.ways[1 - self._number].on_room)

    def on_stale(self) -> None:
        """Nobody here cares whether a peer is silent."""

    def on_blocked(self) -> None:
        """What the other direction put here was not taken."""
        flow = self._flow
        assert flow is not None
        flow.take_turn(flow.ways[1 - self._number].hold)

    def on_crashed(self) -> None:
        """See `Handler`."""
        if self._flow is not None:
            self._flow.failed(StreamBroken("closed here"))

    def _read_otherwise(self) -> None:
        """Nobody asked for data, so a hang-up is what there is to see; or it is bulk."""
        if self.ended or self._held or self._to.queued_bytes:
            self._from.raise_if_reset()
        else:
            self._splice()

    def on_room(self) -> None:
        """The receiving side takes bytes again."""
        if self._held:
            self._pass_on()
        elif not self.ended:
            self._from.resume()

    def hold(self) -> None:
        """The receiving side has not taken what was put."""
        self._raise_if_lost()
        self._from.pause()

    def close(self) -> None:
        """Give the pipe back, with whatever is in it, and let go of the flow."""
        self._flow = None
        self._give_pipe_back()

    def _give_pipe_back(self) -> None:
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
        self._count(taken)
        if self._held or self._to.queued_bytes:
            self._from.pause()
        else:
            self._from.resume()

    def _copy_from_now_on(self) -> None:
        self._to_copy = math.inf
        self._give_pipe_back()

    def _count(self, size: int) -> None:
        flow = self._flow
        assert flow is not None
        self._counts[self._number] += size
        flow.last_s = flow.now()

    def _write(self, data: bytes) -> bool:
        empty = self._to.write(data)
        self._raise_if_lost()
        return empty

    def _end(self) -> None:
        self.ended = True
        self._from.pause()
        self._count(0)
        self._to.send_eof()
        self._raise_if_lost()

    def _raise_if_lost(self) -> None:
        """A stream tells of a failed write at the next read only, and that side may never be read again."""
        if self._to.broken:
            raise StreamBroken("the connection was lost")


class _Flow:
    """Both directions, and when they are over.

    Attributes:
        ways: From the client to the upstream, and back.
        counts: Of bytes, in the same order.
        now, last_s: The clock, and when something moved.
    """

    __slots__ = ("_client", "_done", "_failure", "_upstream", "counts", "last_s", "now", "ways")

    def __init__(
        self, client: EpollStream, upstream: EpollStream, moved: Moved, copied: int, ended: tuple[bool, bool]
    ) -> None:
        self._client = client
        self._upstream = upstream
        self.counts = moved.counts
        self.ways = (_Way(self, 0, client, upstream, copied), _Way(self, 1, upstream, client, copied))
        for way, is_over in zip(self.ways, ended, strict=True):
            way.ended = is_over
        self._done = trio.Event()
        self._failure: StreamBroken | None = None
        self.now = trio.lowlevel.current_clock().current_time  # read for every buffer
        self.last_s = self.now()

    async def run(self, idle_s: float) -> None:
        """Until both directions have ended. Raises StreamBroken, TimeoutError."""
        with trio.move_on_after(idle_s) as flushing:
            await self._flush(self._client)
            await self._flush(self._upstream)
        if flushing.cancelled_caught:
            raise TimeoutError
        self.last_s = trio.current_time()
        for way, source in zip(self.ways, (self._client, self._upstream), strict=True):
            source.handle_with(way)
            if way.ended:
                source.pause()
        if self._over():
            return
        while not self._done.is_set():
            if trio.current_time() >= self.last_s + idle_s:
                raise TimeoutError
            with trio.move_on_at(self.last_s + idle_s):
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
            self.failed(exc)
            return
        if self._over():
            self._leave()
            self._done.set()

    def failed(self, exc: StreamBroken) -> None:
        """One of the streams broke, or a bug has closed it."""
        self._failure = self._failure or self._blamed(exc)
        self._leave()
        self._done.set()

    def close(self) -> None:
        """Let go of the streams and of the pipes."""
        self._leave()
        for way in self.ways:
            way.close()

    def _over(self) -> bool:
        return self.ways[0].ended and self.ways[1].ended

    def _leave(self) -> None:
        self._client.takeover()
        self._upstream.takeover()

    def _blamed(self, exc: StreamBroken) -> StreamBroken:
        if self._client.broken:
            return ClientBroken(str(exc))
        return UpstreamClosed(str(exc)) if self.ways[1].ended else exc
