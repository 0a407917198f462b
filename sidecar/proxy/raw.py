"""Raw TCP as an exchange: ends that write no heads.

A TCP connection is a CONNECT request that nobody wrote: the same exchange routes it, tries again when a dial fails, and
then runs a tunnel. `RawDownstream` is the client's end, `RawLease` the endpoint's on a plain hop; between sidecars the
request is a real CONNECT stream of HTTP/2.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable

from sidecar.codec.events import Chunk, End, Event, Tunnel
from sidecar.errors import CLIENT_GONE, UPSTREAM_RESET, ProxyError
from sidecar.model.clusters import Endpoint
from sidecar.model.messages import RequestHead, ResponseHead
from sidecar.proxy.downstream import until_queued
from sidecar.transport.epoll_stream import EpollStream, plain_stream
from sidecar.transport.stream import HIGH_WATER_BYTES, READ_BYTES, Peer, Stream, StreamBroken

Trailing = Iterable[tuple[bytes, bytes]]


def raw_head(authority: bytes = b"") -> RequestHead:
    """The request that a TCP connection stands for; whom it is for, its listener knows, and then its route."""
    return RequestHead(b"CONNECT", authority, authority, [], content_length=0)


class RawDownstream:
    """A client that speaks no HTTP; see `Downstream`. `first`: bytes that were read from it already.

    It may take its time: a database's client that reads a cursor row by row is no attacker, and its tunnel has an idle
    time of its own.
    """

    __slots__ = ("_ending", "_events", "_out", "_refused", "cut", "stream")

    wants_trailers = False

    def __init__(self, stream: Stream, first: bytes = b"") -> None:
        self.stream = stream
        self.cut = False
        self._events: deque[Event] = deque()
        if first:
            self._events.append(Chunk(first, len(first)))
        self._out: list[bytes] = []
        self._refused = False
        self._ending = False

    @property
    def peer(self) -> Peer:
        """See `Downstream`."""
        return self.stream.peer

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
        return self._events.popleft() if self._events else None

    async def fill(self) -> None:
        """See `Downstream`."""
        try:
            data = await self.stream.receive()
        except StreamBroken as exc:
            raise ProxyError(CLIENT_GONE, f"the client left: {exc}") from None
        self._events.append(Chunk(data, len(data)) if data else End())

    def credit(self, size: int) -> None:
        """Nothing to do: not reading is TCP's flow control."""

    def put_interim(self, head: ResponseHead) -> None:
        """Nobody reads heads here."""
        del head

    def put_head(self, head: ResponseHead) -> None:
        """An answer in the place of a tunnel refuses it; the client can only be cut."""
        del head
        self._refused = True

    def put_tunnel(self, head: ResponseHead) -> None:
        """The bytes begin."""
        del head

    def put_chunk(self, data: bytes) -> None:
        """See `Downstream`."""
        self._out.append(data)

    def put_end(self, trailers: Trailing = ()) -> None:
        """See `Downstream`."""
        del trailers
        self._ending = True

    def push_now(self) -> bool:
        """See `Downstream`. A connection is pushed to once or twice: not worth a way of its own."""
        return False

    async def push(self) -> None:
        """See `Downstream`."""
        if self._refused:
            self.cut_short()
            return
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if not self.stream.write(data):
            await until_queued(self.stream, HIGH_WATER_BYTES, math.inf)
        if self._ending:
            await until_queued(self.stream, 0, math.inf)
            self.stream.send_eof()

    def close_after(self) -> None:
        """It is the last one anyway."""

    def cut_short(self) -> None:
        """See `Downstream`."""
        self.cut = True
        self.stream.abort()

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """See `Downstream`."""
        self.stream.watch_hangup(callback)

    def look(self) -> None:
        """See `Downstream`; a tunnel has no request to be inside of."""

    def spliceable(self) -> EpollStream | None:
        """See `Downstream`."""
        return plain_stream(self.stream)


class RawLease:
    """A connection to an endpoint that takes bytes as they are; see `Lease`. Never kept for another exchange."""

    __slots__ = ("_ending", "_endpoint", "_events", "_free", "_out", "_over", "stream")

    fresh = True

    def __init__(self, stream: Stream, endpoint: Endpoint, free: Callable[[], None]) -> None:
        """`free` is called once, when the connection is not used any more."""
        self.stream = stream
        self._endpoint = endpoint
        self._free = free
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._over = False
        self._ending = False

    @property
    def endpoint(self) -> Endpoint:
        """See `Lease`."""
        return self._endpoint

    @property
    def principal(self) -> str:
        """See `Lease`."""
        return self.stream.peer.principal

    @property
    def half_closes(self) -> bool:
        """See `Lease`."""
        return self.stream.half_closes

    @property
    def reads(self) -> Stream | None:
        """See `Lease`."""
        return self.stream

    def put_request(self, head: RequestHead, *, wants_trailers: bool) -> None:
        """Connected is agreed."""
        del head, wants_trailers
        self._events.append(Tunnel(ResponseHead(200, [])))

    def put_chunk(self, data: bytes) -> None:
        """See `Lease`."""
        self._out.append(data)

    def put_end(self, trailers: Trailing = ()) -> None:
        """See `Lease`."""
        del trailers
        self._ending = True

    def push_now(self) -> bool:
        """See `Lease`."""
        return False

    async def push(self) -> None:
        """See `Lease`."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        try:
            await self.stream.send(data)
            if self._ending:
                await self.stream.flush()
                self.stream.send_eof()
        except StreamBroken as exc:
            raise self._lost(exc) from None

    def pop(self) -> Event | None:
        """See `Lease`."""
        return self._events.popleft() if self._events else None

    def give(self, data: bytes) -> None:
        """See `Lease`."""
        self._events.append(Chunk(data, len(data)) if data else End())

    async def fill(self) -> None:
        """See `Lease`."""
        try:
            data = await self.stream.receive()
        except StreamBroken as exc:
            raise self._lost(exc) from None
        self.give(data)

    def credit(self, size: int) -> None:
        """Nothing to do: not reading is TCP's flow control."""

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """See `Lease`."""
        self.stream.watch_hangup(callback)

    def read_at_most(self, size: int) -> None:
        """See `Lease`."""
        self.stream.read_bytes = size

    def release(self) -> None:
        """See `Lease`."""
        self.discard()

    def put_down(self) -> None:
        """See `Lease`."""
        self.discard()

    def discard(self) -> None:
        """See `Lease`."""
        if not self._over:
            self._over = True
            self.stream.close()
            self._free()

    def abort(self) -> None:
        """See `Lease`."""
        if not self._over:
            self.stream.abort()
        self.discard()

    def spliceable(self) -> EpollStream | None:
        """See `Lease`."""
        return plain_stream(self.stream)

    def _lost(self, exc: StreamBroken) -> ProxyError:
        return ProxyError(UPSTREAM_RESET, f"endpoint {self.endpoint.id} at {self.endpoint.address}: {exc}")
