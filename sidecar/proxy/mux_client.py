"""A connection to an endpoint that carries many exchanges at once (HTTP/2), and the lease of one of its streams.

Made and kept by `shared.py`; read by a task of its own, see `mux.py`. A request that the endpoint provably did not take
(REFUSED_STREAM, above GOAWAY's last stream) says so, and may be sent again elsewhere whatever its method.
"""

import math
from collections.abc import Callable, Iterable

import trio

from sidecar.codec.contract import CANCEL, MuxClient
from sidecar.codec.events import Event, Reset
from sidecar.errors import (
    TLS_FAILED,
    UPSTREAM_CUT_OFF,
    UPSTREAM_PROTOCOL,
    UPSTREAM_REFUSED,
    UPSTREAM_RESET,
    ProxyError,
)
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import Endpoint
from sidecar.model.messages import RequestHead
from sidecar.proxy.mux import LinkEnd, MuxEnd, MuxLink
from sidecar.proxy.timer import Timer
from sidecar.telemetry.observer import Observer
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.stream import Stream


class MuxUpstream:
    """One connection.

    Attributes:
        rest_s: When its last exchange ended, monotonic seconds.
        promised: Streams that were lent and have not begun yet.
        tunnels: Streams that are lent as tunnels of bytes.
        used: Exchanges it has carried.
        heard: The endpoint has sent something, its SETTINGS first; or the connection is over.
    """

    __slots__ = ("_now", "_room_came", "codec", "endpoint", "heard", "link", "promised", "rest_s", "tunnels", "used")

    def __init__(
        self,
        stream: Stream,
        codec: MuxClient,
        endpoint: Endpoint,
        observer: Observer,
        now: Callable[[], float],
        limits: ProcessLimits,
        timer: Timer,
        room_came: Callable[[], None],
    ) -> None:
        """`room_came` is called when there may be more room than before."""
        self.endpoint = endpoint
        self.codec = codec
        self.link = MuxLink(stream, self.codec, observer, now, self._blame, limits, timer)
        self.rest_s = now()
        self.promised = 0
        self.tunnels = 0
        self.used = 0
        self._now = now
        self._room_came = room_came
        self.heard = trio.Event()

    @property
    def room(self) -> int:
        """Exchanges that it can take now."""
        return 0 if self.link.stream.closed or self.link.stream.broken else self.codec.room - self.promised

    async def run(self) -> None:
        """Read until the connection is over, then close it."""
        try:
            await self.link.read(self, self._idle_until)
        finally:
            self.heard.set()
            self.link.stream.close()

    def retire(self) -> None:
        """Take no more exchanges; end when those under way have."""
        self.codec.go_away()
        self.link.write()
        self.link.nudge()

    def on_event(self, event: Event) -> None:
        """See `MuxOwner`: late, of an exchange that is over."""

    def on_fed(self) -> None:
        """See `MuxOwner`: what came may have ended streams, or be another limit of them."""
        self.heard.set()
        self._room_came()

    def began(self, end: LinkEnd) -> None:
        """Somebody has begun a stream without a lease."""
        self.used += 1
        self.link.ends[end.number] = end

    def over(self, lease: LinkEnd) -> None:
        """The exchange of `lease` has ended."""
        self.link.forget(lease)
        self.codec.forget(lease.number)
        self.link.mark()
        if not self.link.ends:
            self.rest_s = self._now()
            if self.codec.draining:
                self.link.nudge()
        self._room_came()

    def unused(self) -> None:
        """A stream that was lent will not begin."""
        self.promised -= 1
        if self.codec.draining and not self.link.ends:
            self.link.nudge()
        self._room_came()

    def _idle_until(self) -> float:
        return -math.inf if self.codec.draining and not self.link.ends and not self.promised else math.inf

    def _blame(self, reset: Reset) -> ProxyError:
        where, sentence = f"endpoint {self.endpoint.id} at {self.endpoint.address}", reset.sentence
        if reset.untouched:
            return ProxyError(UPSTREAM_CUT_OFF if reset.cut_off else UPSTREAM_REFUSED, f"{where}: {sentence}")
        if not self.heard.is_set() and "alert" in sentence.lower():
            # In TLS 1.3 the server judges our certificate after our side is done: its refusal arrives as an answer.
            return ProxyError(TLS_FAILED, f"{where} refused our certificate: {sentence}")
        return ProxyError(UPSTREAM_RESET, f"{where}: {sentence}")


class MuxLease(MuxEnd):
    """One exchange on one stream of a connection; see `Lease`."""

    __slots__ = ("_connection", "_head", "_over", "_tunnel", "_wants_trailers", "fresh")

    def __init__(self, connection: MuxUpstream, *, fresh: bool, tunnel: bool = False) -> None:
        super().__init__(connection.link, 0)
        self.progress_s = math.inf  # whoever sends knows how long an endpoint may take: a try, an upload, a tunnel
        self.fresh = fresh
        self._connection = connection
        self._head: RequestHead | None = None
        self._wants_trailers = False
        self._over = False
        self._tunnel = tunnel
        connection.promised += 1
        connection.tunnels += tunnel

    @classmethod
    def resumed(
        cls, connection: MuxUpstream, number: int, events: Iterable[Event], lost: ProxyError | None
    ) -> "MuxLease":
        """A lease of a stream that somebody else has begun. `events`: what came of it and nobody has taken."""
        lease = cls(connection, fresh=False)
        connection.promised -= 1
        lease.number = number
        connection.link.ends[number] = lease
        for event in events:
            lease.take(event)
        if lost is not None:
            lease.lose(lost)
        return lease

    @property
    def endpoint(self) -> Endpoint:
        """See `Lease`."""
        return self._connection.endpoint

    @property
    def principal(self) -> str:
        """See `Lease`."""
        return self.link.stream.peer.principal

    def put_request(self, head: RequestHead, *, wants_trailers: bool) -> None:
        """See `Lease`."""
        self._head = head
        self._wants_trailers = wants_trailers

    def put_end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """See `Lease`."""
        trailing = list(trailers)
        if self._head is not None and not self._out and not trailing:
            self._start(end=True)
        else:
            super().put_end(trailing)

    def give(self, data: bytes) -> None:
        """A connection of many streams has one reader."""
        del data
        raise RuntimeError("bytes of a shared connection cannot be handed over")

    def read_at_most(self, size: int) -> None:
        """Nothing to do: the stream's window bounds it."""

    def release(self) -> None:
        """See `Lease`."""
        self.discard()

    def put_down(self) -> None:
        """See `Lease`."""
        self.discard()

    def discard(self) -> None:
        """See `Lease`: the stream is given up if it is still open; the connection goes on."""
        if self._over:
            return
        self._over = True
        connection = self._connection
        connection.tunnels -= self._tunnel
        if self.number:
            connection.over(self)
        else:
            connection.unused()

    def abort(self) -> None:
        """See `Lease`."""
        if not self._over and self.number:
            self._connection.codec.reset(self.number, CANCEL)
        self.discard()

    def spliceable(self) -> EpollStream | None:
        """See `Lease`; the tunnel's bytes are framed."""
        return None

    @property
    def reads(self) -> Stream | None:
        """See `Lease`: the connection has a task that reads it."""
        return None

    def push_now(self) -> bool:
        """See `Lease`. Whether an upgrade may be asked for, only the endpoint's SETTINGS tell: see `push`."""
        if self._head is not None and self._head.upgrade:
            return False
        try:
            return self._send()
        except ProxyError:
            if not self.events:  # what came before the end may be a whole answer
                raise
            return True

    async def push(self) -> None:
        """See `Lease`. Whether an upgrade may be asked for, only the endpoint's SETTINGS tell."""
        if self._head is not None and self._head.upgrade:
            await self._connection.heard.wait()
            gone = self.link.stream.closed or self.link.stream.broken
            if self.lost is None and not gone and not self._connection.codec.extended_connect:
                shown = self._head.upgrade.decode("latin-1")
                raise ProxyError(UPSTREAM_PROTOCOL, f"endpoint {self.endpoint.id} takes no {shown} over HTTP/2")
        try:
            await super().push()
        except ProxyError:
            if not self.events:  # what came before the end may be a whole answer
                raise

    def _begin(self) -> None:
        if self._head is not None:
            self._start(end=False)

    def _start(self, *, end: bool) -> None:
        """Send the head. Raises ProxyError UPSTREAM_CUT_OFF when the connection takes no more streams."""
        connection, head = self._connection, self._head
        assert head is not None
        self._head = None
        try:
            if connection.codec.room <= 0 or self.link.stream.closed or self.link.stream.broken:
                raise ProxyError(UPSTREAM_CUT_OFF, f"the connection to endpoint {self.endpoint.id} is about to end")
            self.number = connection.codec.send_request(head, end=end, wants_trailers=self._wants_trailers)
        except ValueError as exc:
            self._never_began()
            raise ProxyError(UPSTREAM_PROTOCOL, f"HTTP/2 cannot carry the request: {exc}") from None
        except ProxyError:
            self._never_began()
            raise
        connection.promised -= 1
        connection.used += 1
        connection.link.ends[self.number] = self

    def _never_began(self) -> None:
        self._over = True
        self._connection.tunnels -= self._tunnel
        self._connection.unused()
