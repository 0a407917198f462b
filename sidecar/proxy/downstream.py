"""The client's end of one exchange, whatever protocol it speaks.

The exchange puts heads, chunks and ends, and pushes; it pops events, and fills when there are none. HTTP/1 has one end
for a connection (here), HTTP/2 one for each stream (`mux_server.py`), raw TCP one that writes no heads (`raw.py`).
Turns stream failures into CLIENT_GONE; decides nothing.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from sidecar.codec.contract import ServerCodec
from sidecar.codec.events import Event
from sidecar.errors import CLIENT_GONE, CLIENT_STUCK, ProxyError
from sidecar.model.messages import ResponseHead
from sidecar.transport.epoll_stream import EpollStream, plain_stream
from sidecar.transport.stream import HIGH_WATER_BYTES, READ_BYTES, Peer, Stream, StreamBroken

# After an answer that ends the connection: time and bytes for the client to notice, so that closing over unread data
# does not reset the connection under the answer.
LINGER_S = 2.0
LINGER_BYTES = 1 << 20
# How often a client that takes nothing is looked at within its time: what it took in the first moment, as every peer's
# kernel does, must not give it twice as long.
PROGRESS_LOOKS = 30

Trailing = Iterable[tuple[bytes, bytes]]


class Downstream(Protocol):
    """See the module's text. `cut`: the end can take nothing more, and its client knows that the answer is broken."""

    cut: bool

    @property
    def peer(self) -> Peer:
        """Who the client is."""

    @property
    def wants_trailers(self) -> bool:
        """True if the client takes trailers."""

    @property
    def half_closes(self) -> bool:
        """True if, in a tunnel, one direction can end while the other goes on."""

    @property
    def appetite(self) -> int:
        """Bytes of an answer that are worth reading at once: what is read waits here until the client takes it."""

    def pop(self) -> Event | None:
        """The next event already received, or None."""

    async def fill(self) -> None:
        """Wait for more of the client; there need not be an event after it. Raises ProxyError: CLIENT_GONE, DPE."""

    def credit(self, size: int) -> None:
        """Let the client send `size` more body bytes. After forwarding, never before."""

    def put_interim(self, head: ResponseHead) -> None:
        """A 1xx response."""

    def put_head(self, head: ResponseHead) -> None:
        """The final head."""

    def put_tunnel(self, head: ResponseHead) -> None:
        """In the place of the final head: agree to switch. What came ahead of the switch becomes events."""

    def put_chunk(self, data: bytes) -> None:
        """A piece of the body. Raises ValueError above the announced length."""

    def put_end(self, trailers: Trailing = ()) -> None:
        """The end of the response, or of our direction of a tunnel. Raises ValueError below the announced length."""

    def push_now(self) -> bool:
        """Write what was put, without waiting. False: `push` has to go on with it. Raises ProxyError."""

    async def push(self) -> None:
        """Write what was put; waits while the client is slow, as long as it makes progress. Raises CLIENT_GONE."""

    def close_after(self) -> None:
        """Let this exchange be the last of its connection, and say so where the protocol can."""

    def cut_short(self) -> None:
        """End it so that the client cannot take what it got for a whole answer."""

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once if the client is found gone while nobody reads."""

    def look(self) -> None:
        """Look, while nobody reads, if the client has ended inside its request. Raises ProxyError CLIENT_GONE."""

    def spliceable(self) -> EpollStream | None:
        """In a tunnel: the socket, when its bytes are the tunnel's bytes as they are."""


class Http1Downstream:
    """A connection that speaks HTTP/1; see `Downstream`."""

    __slots__ = ("_ending", "_out", "_progress_s", "_tunnel", "codec", "cut", "events", "stream")

    def __init__(self, stream: Stream, codec: ServerCodec, progress_s: float) -> None:
        """`progress_s`: as `ProcessLimits.write_progress_s`."""
        self._progress_s = progress_s
        self.stream = stream
        self.codec = codec
        self.events: deque[Event] = deque()
        self.cut = False
        self._out: list[bytes] = []
        self._tunnel = False
        self._ending = False  # our direction of the tunnel ends with the next push

    @property
    def peer(self) -> Peer:
        """See `Downstream`."""
        return self.stream.peer

    @property
    def wants_trailers(self) -> bool:
        """See `Downstream`."""
        return self.codec.wants_trailers

    @property
    def half_closes(self) -> bool:
        """See `Downstream`."""
        return self.stream.half_closes

    @property
    def appetite(self) -> int:
        """See `Downstream`."""
        return READ_BYTES

    def pop(self) -> Event | None:
        """See `Downstream`."""
        return self.events.popleft() if self.events else None

    async def fill(self) -> None:
        """See `Downstream`."""
        try:
            data = await self.stream.receive()
        except StreamBroken as exc:
            raise self.left(exc) from None
        self.events.extend(self.codec.feed(data))

    def left(self, exc: StreamBroken) -> ProxyError:
        """The client left."""
        return ProxyError(CLIENT_GONE, f"the client left: {exc}")

    def fill_now(self) -> bool:
        """Take what is there without waiting; False when nothing is. Raises as `fill`."""
        try:
            data = self.stream.try_read()
        except StreamBroken as exc:
            raise self.left(exc) from None
        if data is None:
            return False
        self.events.extend(self.codec.feed(data))
        return True

    def credit(self, size: int) -> None:
        """See `Downstream`."""
        self.codec.credit(size)

    def put_interim(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._out.append(self.codec.encode_interim(head))

    def put_head(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._out.append(self.codec.encode_head(head))

    def put_tunnel(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._out.append(self.codec.encode_tunnel(head))
        self._tunnel = True
        self._progress_s = math.inf  # a tunnel has its idle time, for both directions together
        self.events.extend(self.codec.tunnel_held())

    def put_chunk(self, data: bytes) -> None:
        """See `Downstream`."""
        self._out.append(self.codec.encode_chunk(data))

    def put_end(self, trailers: Trailing = ()) -> None:
        """See `Downstream`."""
        self._out.append(self.codec.encode_end(trailers))
        self._ending = self._tunnel

    def push_now(self) -> bool:
        """See `Downstream`."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self._tunnel:  # its bytes may be moved without coming here: nothing may lie in front of them
            return self.stream.write(data) and not self._ending
        return self.stream.hand_in(data)

    async def push(self) -> None:
        """See `Downstream`."""
        if self.push_now():
            return
        await self._until_queued(HIGH_WATER_BYTES)
        if self._ending:
            await self.flush()
            self.stream.send_eof()

    async def flush(self) -> None:
        """Wait until the client has taken everything, as long as it makes progress. Raises ProxyError CLIENT_GONE."""
        await self._until_queued(0)

    async def _until_queued(self, most: int) -> None:
        await until_queued(self.stream, most, self._progress_s)

    def close_after(self) -> None:
        """See `Downstream`."""
        self.codec.close_after()

    def cut_short(self) -> None:
        """See `Downstream`."""
        self.cut = True
        self.stream.abort()

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """See `Downstream`."""
        self.stream.watch_hangup(callback)

    def look(self) -> None:
        """See `Downstream`. An end behind unread bytes is none if they may be the rest: clients may half-close."""
        last_bytes = self.stream.last_bytes
        if last_bytes is not None and last_bytes < self.codec.owed_bytes:
            raise ProxyError(CLIENT_GONE, "the client closed the connection inside the request body")

    def spliceable(self) -> EpollStream | None:
        """See `Downstream`."""
        return plain_stream(self.stream)


async def until_queued(stream: Stream, most: int, progress_s: float) -> None:
    """Wait until at most `most` bytes are queued, as long as the client makes progress. Raises CLIENT_GONE."""
    try:
        stream.write(b"")
        left, pending = PROGRESS_LOOKS, stream.pending_bytes
        while stream.queued_bytes > most:
            with trio.move_on_after(progress_s / PROGRESS_LOOKS):
                await stream.flush()
            before, pending = pending, stream.pending_bytes
            left = PROGRESS_LOOKS if pending < before else left - 1
            if not left:
                raise ProxyError(CLIENT_STUCK, f"the client took nothing for {progress_s:g}s")
        await stream.settle()
    except StreamBroken as exc:
        raise ProxyError(CLIENT_GONE, f"the client left: {exc}") from None


async def linger(stream: Stream, progress_s: float) -> None:
    """Let the last bytes arrive before a connection is closed (RFC 9112 section 9.6); bounded. Cuts who takes none."""
    try:
        await until_queued(stream, 0, progress_s)
    except ProxyError:
        stream.abort()
        return
    stream.send_eof()
    with trio.move_on_after(LINGER_S):
        left = LINGER_BYTES
        try:
            while left > 0 and (data := await stream.receive()):
                left -= len(data)
        except StreamBroken:
            pass
