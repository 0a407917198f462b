"""What the proxy tells about each request, and to whom: the seam between doing and reporting.

`proxy` builds one `RequestDone` per request, in its `finally`, and gives it to an `Observer`; rarer things (an
ejection, a refused peer, a dial) have a method each. Observers are called and never call back, never wait, and
nobody asks them for a decision. Metrics, access log and spans are observers; `Observers` tells several.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.messages import RequestHead
from sidecar.policy.grpc import SERVER_ERRORS
from sidecar.policy.outlier import Ejected
from sidecar.telemetry.trace import TraceContext

# What `grpc_status` says where `status` would say 5xx: the service failed, not the request.
GRPC_ERRORS = frozenset(map(str, SERVER_ERRORS))

SOURCE = "source"  # the side that routed the request
DESTINATION = "destination"  # the side that handed it to the app
TCP = "TCP"  # `RequestDone.protocol` of a connection that is carried without looking into it


@dataclass(slots=True, eq=False)
class AttemptSpan:
    """One try of a sampled request; becomes one CLIENT span. Times are monotonic seconds.

    Attributes:
        span_id: 16 hex digits, as sent upstream in `traceparent`.
        status: Status of the response head, 0 when none came.
        error: Flag of the failure (`UF`), or "" for a try that brought a whole answer.
        grpc_status: Of a gRPC call's try, "0" to "16"; "" when it is not known, or not gRPC.
        resend_count: 0 for the first try (OpenTelemetry's `http.request.resend_count`).
    """

    span_id: str
    started_s: float
    ended_s: float
    endpoint: Endpoint | None = None
    status: int = 0
    error: str = ""
    resend_count: int = 0
    grpc_status: str = ""


@dataclass(slots=True, eq=False)
class RequestDone:
    """Everything worth telling about one request. Made once, filled on the way, never changed after it is told.

    Not frozen and with defaults throughout, because it is built for every request: the proxy may give all values at
    once or set them one by one as it learns them. Bytes are what the peer sent; nothing here decodes or shortens
    them, the readers do. What is called service and what cluster: a caller asks for the *service* `orders.shop`, a
    route sends it to the *cluster* `orders-v1.shop:8080`.

    Attributes:
        reporter: SOURCE on the side that routed, DESTINATION on the side of the app.
        started_s, ended_s: Monotonic seconds: request head complete, and last byte of the response taken (or given up).
        protocol: As logged: `HTTP/1.1`, `HTTP/2`, or TCP: then this is a whole connection, and never a request.
        route: Name of the rule that matched (`shop/orders/canary`), "" when none did.
        service: The service asked for; None when no service is known by that host.
        cluster: Where the route led; None when there was no route.
        endpoint: The endpoint of the last try; None when none was picked.
        status: What the client saw; 0 when nobody was there to see it.
        flags: Flag of the fault (`UH`), several joined by commas, "-" for none (Envoy's response flags).
        details: One sentence on a fault, else "".
        grpc_status: Of a gRPC call, "0" to "16", always known (policy/grpc.py: final_status); "" for anything else.
        attempts: Tries made, 0 when the request was answered without one.
        tried: Endpoint ids in the order tried.
        retry_denied: Why no further try followed a failed one: a word from a fixed set, or "".
        bytes_received, bytes_sent: Body bytes from and to the client.
        downstream_peer: Address of the client, as text.
        principal: SPIFFE ID of the verified peer on the mesh hop (destination: the caller's, source: the endpoint's).
        tls: True when the mesh hop was mutual TLS.
        span_id: Id of the SERVER span, "" where none is to be made (source side, or not sampled).
        spans: One per try when the trace is sampled, else empty.
        config_version: Version of the snapshot that the request was served with.
        tcp_told: Of protocol TCP: bytes received and sent that `tcp_progress` told before; None when `tcp_opened`
            was not told.
    """

    reporter: str
    started_s: float
    ended_s: float = 0.0
    method: bytes = b""
    target: bytes = b""
    authority: bytes = b""
    protocol: str = "HTTP/1.1"
    route: str = ""
    service: ServiceKey | None = None
    cluster: ClusterKey | None = None
    endpoint: Endpoint | None = None
    status: int = 0
    flags: str = "-"
    details: str = ""
    grpc_status: str = ""
    attempts: int = 0
    tried: tuple[str, ...] = ()
    retry_denied: str = ""
    bytes_received: int = 0
    bytes_sent: int = 0
    downstream_peer: str = ""
    principal: str = ""
    tls: bool = False
    user_agent: bytes = b""
    request_id: bytes = b""
    trace: TraceContext | None = None
    span_id: str = ""
    spans: Sequence[AttemptSpan] = ()
    config_version: int = 0
    tcp_told: tuple[int, int] | None = None


def failed(done: RequestDone) -> bool:
    """True when the mesh or the service failed the request: a flag, a status from 500 on, or gRPC's word for one."""
    if done.protocol == TCP:
        return done.flags != "-"
    return done.flags != "-" or not 0 < done.status < 500 or done.grpc_status in GRPC_ERRORS


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused:
    """A connection that was closed before one application byte: the audit line of a failed mTLS handshake.

    Attributes:
        reporter: DESTINATION when the peer dialled us, SOURCE when we dialled it.
        reason: A word from a fixed set (`wrong-identity`, `no-certificate`, `handshake-timeout`).
        details: One sentence.
    """

    at_s: float
    reporter: str
    peer: str
    principal: str
    reason: str
    details: str


class Lines(Protocol):
    """Writes a line for each of the requests that differ in nothing but what `write` is given."""

    def write(
        self,
        head: RequestHead,
        request_id: bytes,
        trace_id: bytes,
        peer: bytes,
        started_s: float,
        took_ms: float,
        received_bytes: int,
        sent_bytes: int,
        config_version: int,
    ) -> None:
        """Write the line of one request. `peer`: the client's address; the others as in `RequestDone`."""


class Tally:
    """Counts requests that differ in nothing that is told but times and sizes. This one counts nothing.

    Attributes:
        gone: Nobody reads this one any more: ask for another.
        lines: Who writes a line for each such request besides.
    """

    __slots__ = ("gone", "lines")

    def __init__(self, lines: tuple[Lines, ...] = ()) -> None:
        self.gone = False
        self.lines = lines

    def observe(self, took_ms: float, received_bytes: int, sent_bytes: int, now_s: float) -> None:
        """Count one request."""


NO_TALLY = Tally()


class _Tallies(Tally):
    """Several at once."""

    __slots__ = ("_each",)

    def __init__(self, each: tuple[Tally, ...]) -> None:
        super().__init__(sum((tally.lines for tally in each), ()))
        self._each = each

    def observe(self, took_ms: float, received_bytes: int, sent_bytes: int, now_s: float) -> None:
        """See `Tally`."""
        for tally in self._each:
            tally.observe(took_ms, received_bytes, sent_bytes, now_s)
            self.gone |= tally.gone


class Observer:
    """Is told what happened. Every method returns at once and never raises; this class itself ignores everything."""

    def tally(self, done: RequestDone) -> Tally | None:
        """What counts requests like `done`, in the place of `request_done`; None: each is to be told in full.

        Asked once for many requests that differ in times, sizes, ids and what the client wrote only; none was
        tried twice, or belongs to a sampled trace. An observer that changes its mind has its owner forget tallies.
        """
        del done
        return NO_TALLY

    def path_taken(self, path: str, why: str, count: int = 1) -> None:
        """Requests were served on the `fast` or the `full` path; `why` they are not on the fast one, of a fixed set."""

    def request_done(self, done: RequestDone) -> None:
        """A request ended, in whatever way. Called exactly once for each; retries are told here too.

        So did a TCP connection (`protocol` TCP).
        """

    def tcp_opened(self, done: RequestDone) -> None:
        """A TCP connection has its endpoint; `done` is what its end would tell now, `ended_s` the time."""

    def tcp_progress(self, done: RequestDone, received_bytes: int, sent_bytes: int) -> None:
        """It moved so many bytes since it was last told. Every 15 s or so, also without a byte: its series stays."""

    def ejected(self, event: Ejected) -> None:
        """An endpoint was ejected, or would have been (`shadow`). Nothing is told when it passes again."""

    def peer_refused(self, event: PeerRefused) -> None:
        """A connection was closed because of who the peer is, or is not."""

    def downstream_opened(self, listener: str) -> None:
        """A client connected to the listener of this name (`inbound`, `outbound`, an upstream's name)."""

    def downstream_closed(self, listener: str) -> None:
        """The connection is gone; called once for each `downstream_opened`."""

    def upstream_dialled(self, cluster: ClusterKey, result: str) -> None:
        """A dial ended: `ok`, or the flag or word that says why not, from a fixed set."""

    def protocol_detected(self, listener: str, kind: str) -> None:
        """A client of a port without a declared protocol spoke so, or not in time: a word of proxy/detect.py."""

    def limit_reached(self, limit: str) -> None:
        """A limit of `ProcessLimits` ended a connection or made it wait; its setting's name, such as `firstRequest`."""

    def codec_noted(self, kind: str) -> None:
        """A codec refused or counted something that a peer did (`rapid-reset`); words from a fixed set."""

    def shadowed(self, policy: str, service: ServiceKey, decision: str) -> None:
        """A policy in mode shadow would have decided so: (`AuthorizationPolicy`, orders.shop, `deny`)."""


@dataclass(slots=True)
class Observers(Observer):
    """Tells each of several observers, in order."""

    each: tuple[Observer, ...] = field(default=())

    def request_done(self, done: RequestDone) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.request_done(done)

    def tally(self, done: RequestDone) -> Tally | None:
        """See `Observer`."""
        tallies: list[Tally] = []
        for observer in self.each:
            tally = observer.tally(done)
            if tally is None:
                return None
            if tally is not NO_TALLY:
                tallies.append(tally)
        return tallies[0] if len(tallies) == 1 else _Tallies(tuple(tallies)) if tallies else NO_TALLY

    def path_taken(self, path: str, why: str, count: int = 1) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.path_taken(path, why, count)

    def tcp_opened(self, done: RequestDone) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.tcp_opened(done)

    def tcp_progress(self, done: RequestDone, received_bytes: int, sent_bytes: int) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.tcp_progress(done, received_bytes, sent_bytes)

    def ejected(self, event: Ejected) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.ejected(event)

    def peer_refused(self, event: PeerRefused) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.peer_refused(event)

    def downstream_opened(self, listener: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.downstream_opened(listener)

    def downstream_closed(self, listener: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.downstream_closed(listener)

    def upstream_dialled(self, cluster: ClusterKey, result: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.upstream_dialled(cluster, result)

    def shadowed(self, policy: str, service: ServiceKey, decision: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.shadowed(policy, service, decision)

    def limit_reached(self, limit: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.limit_reached(limit)

    def codec_noted(self, kind: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.codec_noted(kind)

    def protocol_detected(self, listener: str, kind: str) -> None:
        """See `Observer`."""
        for observer in self.each:
            observer.protocol_detected(listener, kind)
