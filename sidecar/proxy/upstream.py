"""A connection to an endpoint and the lease of it: one exchange's use of one stream.

The pool lends leases, not connections, so that a protocol with many streams per connection adds a lease and no branch:
HTTP/1 here, HTTP/2 in `mux_client.py`, raw TCP in `raw.py`. A lease turns stream failures into faults of the table; it
decides nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from sidecar.codec.contract import ClientCodec
from sidecar.codec.events import End, Event
from sidecar.errors import TLS_FAILED, UPSTREAM_CUT_OFF, UPSTREAM_RESET, ProxyError
from sidecar.model.clusters import Endpoint
from sidecar.model.messages import RequestHead
from sidecar.transport.epoll_stream import EpollStream, plain_stream
from sidecar.transport.stream import Stream, StreamBroken

Trailing = Iterable[tuple[bytes, bytes]]


class Lease(Protocol):
    """One exchange on an upstream connection. End it with `release`, `put_down`, `discard` or `abort`, once.

    Attributes:
        fresh: The connection was dialled for this exchange.
    """

    fresh: bool

    @property
    def endpoint(self) -> Endpoint:
        """Whom it leads to."""

    @property
    def principal(self) -> str:
        """The endpoint's verified SPIFFE ID; empty on a plain hop."""

    @property
    def half_closes(self) -> bool:
        """True if, in a tunnel, one direction can end while the other goes on."""

    @property
    def reads(self) -> Stream | None:
        """The stream whose bytes are all that `fill` waits for; None: it waits for something else."""

    def put_request(self, head: RequestHead, *, wants_trailers: bool) -> None:
        """Begin the request. Raises ProxyError when this connection cannot carry it; nothing was sent."""

    def put_chunk(self, data: bytes) -> None:
        """A piece of the request's body, or of the tunnel. Raises ValueError above the announced length."""

    def put_end(self, trailers: Trailing = ()) -> None:
        """The end of the request, or of our direction of a tunnel."""

    def push_now(self) -> bool:
        """Write what was put, without waiting. False: `push` has to go on with it. Raises ProxyError."""

    async def push(self) -> None:
        """Write what was put; waits while the endpoint is slow, the caller bounds how long. Raises ProxyError."""

    def pop(self) -> Event | None:
        """The next event already received, or None."""

    def give(self, data: bytes) -> None:
        """Bytes of the answer that somebody else has read. Raises as `fill`."""

    async def fill(self) -> None:
        """Wait for more of the answer; there need not be an event after it.

        Raises:
            ProxyError: UPSTREAM_RESET, UPSTREAM_CLOSED, UPSTREAM_REFUSED, UPSTREAM_CUT_OFF, UPSTREAM_PROTOCOL,
                TLS_FAILED.
        """

    def credit(self, size: int) -> None:
        """Let the upstream send `size` more body bytes. After forwarding, never before."""

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once if the endpoint is found gone while nobody reads."""

    def read_at_most(self, size: int) -> None:
        """How much of the answer may be read at once; see `Downstream.appetite`."""

    def release(self) -> None:
        """The exchange is over: give the connection back if it can carry another."""

    def put_down(self) -> None:
        """The answer is not wanted: keep the connection if all of it has come already, else give it up."""

    def discard(self) -> None:
        """Give the exchange up, and the connection with it unless others use it."""

    def abort(self) -> None:
        """`discard` so that the endpoint cannot take what it got for everything (a tunnel that was cut)."""

    def spliceable(self) -> EpollStream | None:
        """In a tunnel: the socket, when its bytes are the tunnel's bytes as they are."""


class User(Protocol):
    """Who uses a connection without a lease: the fast path."""

    def on_answer(self) -> None:
        """The endpoint sent something, or left."""

    def on_answer_crashed(self) -> None:
        """A bug ended a turn of the connection, which is closed now."""

    def on_unasked(self) -> None:
        """The endpoint has left, or spoken unasked, before the request was written: nothing was."""

    def on_half_asked(self) -> None:
        """The request was not written whole: the rest is queued, or the connection is broken."""


class UpstreamConnection:
    """A connected stream with its HTTP/1 codec; the stream's handler while no lease has it.

    Attributes:
        user: Who waits for an answer; None while it is kept: then whatever the endpoint does ends it.
        idle_s: How long it may be kept unused, by what the endpoint said last.
        promised_s: That, where the fast path read it (`Keep-Alive`), seconds; None: nothing.
        idle_until_s: When it is to be closed if nobody used it till then, monotonic seconds.
        used: Exchanges it has carried.
    """

    __slots__ = ("_home", "codec", "endpoint", "idle_s", "idle_until_s", "promised_s", "stream", "used", "user")

    def __init__(self, stream: Stream, codec: ClientCodec, endpoint: Endpoint, home: "ConnectionHome") -> None:
        self.stream = stream
        self.codec = codec
        self.endpoint = endpoint
        self.user: User | None = None
        self.idle_s = 0.0
        self.promised_s: float | None = None
        self.idle_until_s = 0.0
        self.used = 0
        self._home = home

    def usable(self) -> bool:
        """Ask once, without waiting, whether the peer is still there and silent (it may have closed meanwhile)."""
        try:
            return self.codec.reusable and self.stream.try_read() is None
        except StreamBroken:
            return False

    def on_readable(self) -> None:
        """An answer; or the endpoint closed, or sent what nobody asked for.

        Or nothing: the reactor may have seen readable what a task has read since.
        """
        if self.user is not None:
            self.user.on_answer()
        elif not self.usable():
            self._home.forget(self)

    def on_drained(self) -> None:
        """What was left queued has gone out."""

    def on_stale(self) -> None:
        """Nothing of the request was written."""
        if self.user is not None:
            self.user.on_unasked()

    def on_blocked(self) -> None:
        """Not all of the request was written."""
        if self.user is not None:
            self.user.on_half_asked()

    def on_crashed(self) -> None:
        """A bug ended a turn."""
        if self.user is not None:
            self.user.on_answer_crashed()
        else:
            self._home.forget(self)


class ConnectionHome:
    """Where connections are kept; the pool."""

    def forget(self, connection: UpstreamConnection) -> None:
        """Close a connection that is kept."""
        raise NotImplementedError


class Http1Lease:
    """A lease of a connection that carries one exchange at a time; see `Lease`.

    Attributes:
        got_bytes: At least one byte of an answer came.
    """

    __slots__ = (
        "_ending",
        "_events",
        "_out",
        "_over",
        "_pool",
        "_reused",
        "_tunnel",
        "connection",
        "fresh",
        "got_bytes",
    )

    def __init__(self, connection: UpstreamConnection, pool: "LeaseHome", *, fresh: bool) -> None:
        self.connection = connection
        self.fresh = fresh
        self.got_bytes = False
        self._pool = pool
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._over = False
        self._tunnel = False
        self._ending = False
        self._reused = False  # the request is to be written only if the endpoint has been silent since its last answer

    @property
    def endpoint(self) -> Endpoint:
        """See `Lease`."""
        return self.connection.endpoint

    @property
    def principal(self) -> str:
        """See `Lease`."""
        return self.connection.stream.peer.principal

    @property
    def half_closes(self) -> bool:
        """See `Lease`."""
        return self.connection.stream.half_closes

    @property
    def reads(self) -> Stream | None:
        """See `Lease`."""
        return self.connection.stream

    def put_request(self, head: RequestHead, *, wants_trailers: bool) -> None:
        """See `Lease`."""
        self._tunnel = head.opens_tunnel
        self._reused = not self.fresh
        self._out.append(self.connection.codec.encode_request(head, wants_trailers=wants_trailers))

    def put_chunk(self, data: bytes) -> None:
        """See `Lease`."""
        self._out.append(self.connection.codec.encode_chunk(data))

    def put_end(self, trailers: Trailing = ()) -> None:
        """See `Lease`."""
        self._out.append(self.connection.codec.encode_end(trailers))
        self._ending = self._tunnel

    def push_now(self) -> bool:
        """See `Lease`."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self._tunnel:  # as of `Http1Downstream`
            return self.connection.stream.write(data) and not self._ending
        silent, self._reused = self._reused, False
        return self.connection.stream.hand_in(data, silent=silent)

    async def push(self) -> None:
        """See `Lease`."""
        if self.push_now():
            return
        stream = self.connection.stream
        try:
            await stream.settle()
            if self._ending:
                await stream.flush()
                stream.send_eof()
        except StreamBroken as exc:
            raise self._lost(exc) from None

    def pop(self) -> Event | None:
        """See `Lease`."""
        return self._events.popleft() if self._events else None

    def give(self, data: bytes) -> None:
        """See `Lease`."""
        if data:
            self.got_bytes = True
        self._events.extend(self.connection.codec.feed(data))

    async def fill(self) -> None:
        """See `Lease`."""
        try:
            data = await self.connection.stream.receive()
        except StreamBroken as exc:
            raise self._lost(exc) from None
        self.give(data)

    def credit(self, size: int) -> None:
        """See `Lease`."""
        self.connection.codec.credit(size)

    def read_at_most(self, size: int) -> None:
        """See `Lease`."""
        self.connection.stream.read_bytes = size

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """See `Lease`."""
        self.connection.stream.watch_hangup(callback)

    def release(self) -> None:
        """See `Lease`."""
        if not self._over:
            self._over = True
            self._pool.take_back(self.connection)

    def put_down(self) -> None:
        """See `Lease`."""
        while (event := self.pop()) is not None:
            if isinstance(event, End):
                self.release()
                return
        self.discard()

    def discard(self) -> None:
        """See `Lease`."""
        if not self._over:
            self._over = True
            self.connection.stream.close()
            self._pool.take_back(self.connection)

    def abort(self) -> None:
        """See `Lease`."""
        if not self._over:
            self.connection.stream.abort()
        self.discard()

    def spliceable(self) -> EpollStream | None:
        """See `Lease`."""
        return plain_stream(self.connection.stream)

    def _lost(self, exc: StreamBroken) -> ProxyError:
        where = f"endpoint {self.endpoint.id} at {self.endpoint.address}"
        if self.connection.stream.closed:  # not by us: nothing was written to one that is not silent any more
            return ProxyError(UPSTREAM_CUT_OFF, f"{where} ended a kept connection before it was asked")
        if self.fresh and not self.got_bytes and "alert" in str(exc).lower():
            # In TLS 1.3 the server judges our certificate after our side is done: its refusal arrives as an answer.
            return ProxyError(TLS_FAILED, f"{where} refused our certificate: {exc}")
        return ProxyError(UPSTREAM_RESET, f"{where}: {exc}")


class LeaseHome:
    """Where leases go when they end; the pool."""

    def take_back(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next exchange, or see that it is closed."""
        raise NotImplementedError
