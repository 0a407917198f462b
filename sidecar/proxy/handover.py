"""One request's record, handed from path to path: whoever holds it can go on from where the other stopped.

Made by the connection when a head is complete, owned by it, changed by whichever path serves the request. The full
path (`exchange.serve`) can be entered at three places, and the record says at which: before routing (`exchange` is
None); after attempt n failed (`exchange` is there, `lease` is not); with the request written and perhaps bytes of the
answer in hand (`lease` is there).
"""

from enum import IntEnum

from sidecar.errors import Fault, ProxyError
from sidecar.model.clusters import Endpoint
from sidecar.model.messages import Fields, RequestHead
from sidecar.model.snapshot import Snapshot
from sidecar.policy.attempts import Exchange, Step
from sidecar.proxy.upstream import Lease
from sidecar.routing.filters import RuleFilters
from sidecar.routing.plan import ClusterPlan, RoutePlan
from sidecar.telemetry.observer import AttemptSpan
from sidecar.telemetry.trace import TraceContext


class Sent(IntEnum):
    """How far the answer to the client has got; it never goes back."""

    NOTHING = 0
    INTERIM = 1
    HEAD = 2
    BODY = 3


class HandOver:
    """See the module's text.

    Attributes:
        snapshot: The configuration that this request is served with, whatever is pushed meanwhile.
        route, cluster: What routing and the split decided; None before.
        body_seen: Request body received so far, as long as it can be sent again (`exchange.replayable`).
        body_complete: Nothing more of the request is to come.
        started_s, ends_at_s: Monotonic seconds; `ends_at_s` None is no limit.
        exchange: The attempts machine's state: attempt number, endpoints tried, budget, what is in flight.
        trace, span_id: The trace that the request belongs to and, on the inbound side, its SERVER span.
        trailers: Of the request, kept until its body has been sent.
        grpc: A call of gRPC; `grpc_told` is the status that its endpoint gave, once it has.
        filters: What the answer's head goes through: the backend's filters, then the rule's.
        outgoing: The head to send upstream: `head` after the filters of the rule and of the backend.
        raw: A TCP connection, for which `head` only stands, or of which another sidecar's CONNECT stream tells;
            `server_name` is what its ClientHello asked for, if it is TLS.
        tcp_told: Bytes in and out of a TCP connection that observers have heard of; None before it had its endpoint.
        tunnelled: The upstream switched protocols: what is counted as body is a tunnel's.
        bytes_in, bytes_out: Body bytes from and to the client.
        sent_downstream: How far the answer has got.
        lease: The upstream connection with the request written, if there is one.
        response_prefix: Bytes of the answer that were read and not yet given to the lease's codec.
        refused: Why the endpoint of `step` has no connection for it; the try is over before it has begun.
        step: What the machine said and nobody has done yet; with `lease`, the try that was written.
        why_left: Why the fast path gave the request away; "" when it never had it.
        fault: What ended the request, if something did.
        mark: A flag that `fault` does not tell: of an injected fault (policy/faults.py), of a fallback; or "".
    """

    __slots__ = (
        "body_complete",
        "body_seen",
        "bytes_in",
        "bytes_out",
        "cluster",
        "endpoint",
        "ends_at_s",
        "exchange",
        "fault",
        "filters",
        "grpc",
        "grpc_told",
        "head",
        "lease",
        "mark",
        "outgoing",
        "principal",
        "raw",
        "refused",
        "request_id",
        "response_prefix",
        "route",
        "sent_downstream",
        "server_name",
        "snapshot",
        "span_id",
        "spans",
        "started_s",
        "status",
        "step",
        "tcp_told",
        "trace",
        "trailers",
        "tunnelled",
        "why_left",
    )

    def __init__(self, snapshot: Snapshot, head: RequestHead, started_s: float, *, body_complete: bool) -> None:
        self.snapshot = snapshot
        self.head = head
        self.started_s = started_s
        self.body_seen = b""
        self.mark = ""
        self.body_complete = body_complete
        self.route: RoutePlan | None = None
        self.cluster: ClusterPlan | None = None
        self.endpoint: Endpoint | None = None
        self.ends_at_s: float | None = None
        self.exchange: Exchange | None = None
        self.trace: TraceContext | None = None
        self.trailers: Fields = []
        self.tunnelled = False
        self.raw = False
        self.tcp_told: tuple[int, int] | None = None
        self.grpc = False
        self.grpc_told: int | None = None
        self.filters: tuple[RuleFilters, ...] = ()
        self.outgoing = head
        self.server_name = b""
        self.span_id = ""
        self.spans: list[AttemptSpan] = []
        self.bytes_in = 0
        self.bytes_out = 0
        self.sent_downstream = Sent.NOTHING
        self.lease: Lease | None = None
        self.response_prefix = b""
        self.refused: ProxyError | None = None
        self.step: Step | None = None
        self.why_left = ""
        self.fault: Fault | None = None
        self.status = 0
        self.request_id = b""
        self.principal = ""
