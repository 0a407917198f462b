"""A connection to an endpoint and the lease of it: one exchange's use of one stream.

The pool lends leases, not connections, so that a codec with many streams per connection adds a codec and no branch.
A lease turns stream failures into faults of the table; it decides nothing.
"""

from collections import deque

from sidecar.codec.contract import ClientCodec
from sidecar.codec.events import End, Event
from sidecar.errors import TLS_FAILED, UPSTREAM_RESET, ProxyError
from sidecar.model.clusters import Endpoint
from sidecar.transport.stream import Stream, StreamBroken


class UpstreamConnection:
    """A connected stream with its codec.

    Attributes:
        idle_since_s: When it was last given back, monotonic seconds.
        used: Exchanges it has carried.
    """

    __slots__ = ("codec", "endpoint", "idle_since_s", "stream", "used")

    def __init__(self, stream: Stream, codec: ClientCodec, endpoint: Endpoint) -> None:
        self.stream = stream
        self.codec = codec
        self.endpoint = endpoint
        self.idle_since_s = 0.0
        self.used = 0

    def usable(self) -> bool:
        """Ask once, without waiting, whether the peer is still there and silent (it may have closed meanwhile)."""
        try:
            return self.codec.reusable and self.stream.try_read() is None
        except StreamBroken:
            return False


class Lease:
    """One exchange on an upstream connection. End it with `release` or `discard`, once.

    Attributes:
        fresh: The connection was dialled for this exchange.
        got_bytes: At least one byte of an answer came.
    """

    __slots__ = ("_events", "_over", "_pool", "connection", "fresh", "got_bytes")

    def __init__(self, connection: UpstreamConnection, pool: "LeaseHome", *, fresh: bool) -> None:
        self.connection = connection
        self.fresh = fresh
        self.got_bytes = False
        self._pool = pool
        self._events: deque[Event] = deque()
        self._over = False

    @property
    def codec(self) -> ClientCodec:
        """The connection's codec."""
        return self.connection.codec

    @property
    def endpoint(self) -> Endpoint:
        """Whom it leads to."""
        return self.connection.endpoint

    @property
    def principal(self) -> str:
        """The endpoint's verified SPIFFE ID; empty on a plain hop."""
        return self.connection.stream.peer.principal

    async def send(self, data: bytes) -> None:
        """Write request bytes; waits while the endpoint is slow. Raises ProxyError UPSTREAM_RESET."""
        try:
            await self.connection.stream.send(data)
        except StreamBroken as exc:
            raise self._lost(exc) from None

    def pop(self) -> Event | None:
        """The next event already received, or None."""
        return self._events.popleft() if self._events else None

    def give(self, data: bytes) -> None:
        """Give the codec bytes of the answer. Raises ProxyError when they are not one, or the end came too early."""
        if data:
            self.got_bytes = True
        self._events.extend(self.connection.codec.feed(data))

    async def fill(self) -> None:
        """Wait for bytes of the answer. Raises ProxyError: UPSTREAM_RESET, UPSTREAM_CLOSED, UPSTREAM_PROTOCOL."""
        try:
            data = await self.connection.stream.receive()
        except StreamBroken as exc:
            raise self._lost(exc) from None
        self.give(data)

    def release(self) -> None:
        """The exchange is over: give the connection back if it can carry another."""
        if not self._over:
            self._over = True
            self._pool.take_back(self.connection)

    def put_down(self) -> None:
        """The answer is not wanted: keep the connection if all of it has come already, else close it."""
        while (event := self.pop()) is not None:
            if isinstance(event, End):
                self.release()
                return
        self.discard()

    def discard(self) -> None:
        """Nobody knows what state the connection is in: close it."""
        if not self._over:
            self._over = True
            self.connection.stream.close()
            self._pool.take_back(self.connection)

    def _lost(self, exc: StreamBroken) -> ProxyError:
        where = f"endpoint {self.endpoint.id} at {self.endpoint.address}"
        if self.fresh and not self.got_bytes and "alert" in str(exc).lower():
            # In TLS 1.3 the server judges our certificate after our side is done: its refusal arrives as an answer.
            return ProxyError(TLS_FAILED, f"{where} refused our certificate: {exc}")
        return ProxyError(UPSTREAM_RESET, f"{where}: {exc}")


class LeaseHome:
    """Where leases go when they end; the pool."""

    def take_back(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next exchange, or see that it is closed."""
        raise NotImplementedError
