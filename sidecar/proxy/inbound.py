"""The called app's side: who may call, and on to the app.

The ServerName of the connection names a declared port; any other is refused. Authorization knows the verified peer. On
a port that declares HTTP no peer gets a tunnel of bytes, so that what is asked of requests cannot be escaped.
The app's hop is dialled again only when nothing was written, and times out at twice the caller's patience, so that the
caller's side decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.balance.hashing import key_of
from sidecar.errors import DENIED, MISDIRECTED, NO_TUNNEL, RATE_LIMITED, Fault, ProxyError
from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.bootstrap import InboundPort, NodeInfo
from sidecar.model.clusters import ClusterKey, Endpoint, Protocol, ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.messages import Fields, RequestHead
from sidecar.model.policies import AuthorizationPolicy, Ejection, Limits, Retries, RetryOn, Timeouts, TrafficPolicy
from sidecar.model.rates import RateLimit
from sidecar.policy import access, deadline, grpc, rates
from sidecar.proxy.affinity import source_of
from sidecar.proxy.edits import CLIENT_CERT
from sidecar.proxy.handover import HandOver
from sidecar.proxy.outbound import trace_fields
from sidecar.proxy.patience import Patience
from sidecar.proxy.pool import Pool
from sidecar.proxy.worker import Worker
from sidecar.routing.plan import ClusterPlan, RoutePlan
from sidecar.telemetry.observer import DESTINATION
from sidecar.transport.stream import Peer

# The caller's side decides how long a body may pause; this only ends what nobody waits for any more. Kuma's figure.
STREAM_IDLE_S = 3600.0

# What speaks these is only ever read as requests: bytes in a tunnel would reach the app past all that is asked of them.
_REQUESTS_ONLY = (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)

# A plain request of HTTP/1.1, or of HTTP/2, reaches an app that speaks these without the full path.
_HTTP1 = (Protocol.AUTO, Protocol.HTTP)
_HTTP2 = (Protocol.AUTO, Protocol.HTTP2, Protocol.GRPC)

APP = "app"  # the endpoint's id in logs and /clusters


@dataclass(frozen=True, slots=True)
class Target:
    """A declared port of the app."""

    service: ServiceKey
    plan: RoutePlan


def targets(node: NodeInfo, ports: tuple[InboundPort, ...], connections: int) -> dict[int, Target]:
    """The declared ports by number; made once."""
    return {declared.port: Target(node.key, _to_app(node, declared, connections)) for declared in ports}


def _to_app(node: NodeInfo, declared: InboundPort, connections: int) -> RoutePlan:
    policy = TrafficPolicy(
        timeouts=Timeouts(stream_idle_s=STREAM_IDLE_S),
        # Only what the app provably left alone: a stream that its GOAWAY cut off would else cost its caller a try.
        retries=Retries(attempts=1, on=frozenset({RetryOn.CONNECT_FAILURE, RetryOn.REFUSED_STREAM})),
        balancing=Balancing(algorithm=Algorithm.RANDOM),  # there is one app, and nothing to learn of it
        ejection=Ejection(max_percent=0),
        limits=Limits(connections=connections, requests=connections),
    )
    app = Endpoint(id=APP, service_port=declared.port, host=declared.app.host, port=declared.app.port)
    key = ClusterKey(node.key, declared.port)
    plan = ClusterPlan(key, (app,), policy, declared.protocol, True, node.key)
    return RoutePlan("inbound", (plan,), (1,), policy, (policy,), policy.timeouts.request_s, False, None)


class Inbound:
    """One connection's way in. `server_name_port` is the port that the ServerName named; None on plain text."""

    __slots__ = ("_judged_by", "_may_pass", "_server_name_port", "_targets", "_worker", "reporter", "service")

    def __init__(self, worker: Worker, known: dict[int, Target], server_name_port: int | None = None) -> None:
        self.reporter = DESTINATION
        self.service: ServiceKey | None = worker.node.key
        self._worker = worker
        self._targets = known
        self._server_name_port = server_name_port
        self._judged_by: Sequence[AuthorizationPolicy] | None = None  # who `_may_pass` is the verdict of
        self._may_pass = False

    @property
    def live(self) -> LiveRegistry:
        """See `Side`."""
        return self._worker.inbound_live

    @property
    def pool(self) -> Pool:
        """See `Side`."""
        return self._worker.inbound_pool

    async def route(self, record: HandOver, peer: Peer, patience: Patience) -> RoutePlan:
        """See `Side`."""
        del patience
        worker = self._worker
        target = self._target(record.head.authority)
        verdict = access.decide(worker.access_policies(target.service), peer.principal or None)
        if verdict.shadow_denied:
            worker.observer.shadowed("AuthorizationPolicy", target.service, "deny")
        if not verdict.allowed:
            raise ProxyError(DENIED, verdict.sentence)
        protocol = target.plan.backends[0].protocol
        if protocol in _REQUESTS_ONLY and record.head.asks_for_bytes:
            raise ProxyError(
                NO_TUNNEL,
                f"the port is declared {protocol.value}, which carries requests: CONNECT is for tcp, tls and auto",
            )
        refused = None if record.raw else self._too_many(target.service, record.head, peer)
        if refused is not None:
            raise ProxyError(refused)
        return target.plan

    def route_now(self, head: RequestHead, peer: Peer) -> RoutePlan | None:
        """See `Side`. The peer is the connection's, so the verdict holds until the policies change."""
        try:
            target = self._target(head.authority)
        except ProxyError:
            return None
        worker = self._worker
        policies = worker.access_policies(target.service)
        if policies is not self._judged_by:
            verdict = access.decide(policies, peer.principal or None)
            self._judged_by, self._may_pass = policies, verdict.allowed and not verdict.shadow_denied
        if not self._may_pass:
            return None
        if worker.rate_limits(target.service) is not None:
            protocol = target.plan.backends[0].protocol
            # What goes on to `route` all the same is counted there, and only there.
            fast = _HTTP2 if head.version == b"2" else _HTTP1
            if protocol not in fast or self._too_many(target.service, head, peer) is not None:
                return None
        return target.plan

    def _too_many(self, service: ServiceKey, head: RequestHead, peer: Peer) -> Fault | None:
        """Count a request among those of its service; why it is refused, if it is."""
        worker = self._worker
        limits = worker.rate_limits(service)
        if limits is None:
            return None
        told = rates.decide(limits.buckets, head.path, lambda limit: _key_of(limit, head, peer), worker.now())
        if told is None:
            return None
        if limits.shadow:
            worker.observer.shadowed("TrafficPolicy", service, "rate-limit")
            return None
        limit = told.limit
        sentence = f"{service} takes {limit.requests} requests in {limit.interval_s:g}s"
        whose = f" for each {limit.key.of.value}" if limit.key is not None else ""
        return RATE_LIMITED.saying(sentence + whose).after(told.retry_after_s)

    def end_s(self, plan: RoutePlan, told: bytes | None, since_s: float, peer: Peer) -> float | None:
        """See `Side`."""
        return deadline.ends_at(plan.request_s, told, since_s, inbound=True, verified=bool(peer.principal))

    def grpc_end_s(
        self, plan: RoutePlan, told: bytes | None, asked: bytes | None, since_s: float, peer: Peer
    ) -> float | None:
        """See `Side`."""
        del plan
        grpc_s, verified = grpc.timeout_s(asked), bool(peer.principal)
        return deadline.ends_at(None, told, since_s, inbound=True, verified=verified, grpc_s=grpc_s)

    def ends_at(self, record: HandOver, plan: RoutePlan, peer: Peer) -> float | None:
        """See `Side`."""
        head = record.head
        told = head.get(deadline.DEADLINE_HEADER)
        if not record.grpc:
            return self.end_s(plan, told, record.started_s, peer)
        return self.grpc_end_s(plan, told, head.get(grpc.TIMEOUT_HEADER), record.started_s, peer)

    def own_fields(self, record: HandOver, peer: Peer, span_id: str, *, mesh_hop: bool) -> Fields:
        """See `Side`."""
        return trace_fields(record, span_id) + self.hop_fields(record.ends_at_s, peer, mesh_hop=mesh_hop)

    def hop_fields(self, ends_at_s: float | None, peer: Peer, *, mesh_hop: bool) -> Fields:
        """See `Side`. The app learns the deadline too, so that it can pass it on to what it calls."""
        del mesh_hop
        fields: Fields = []
        if ends_at_s is not None:
            fields.append((deadline.DEADLINE_HEADER, deadline.remaining_header(ends_at_s, self._worker.now())))
        if peer.principal:
            fields.append((CLIENT_CERT, f"By={self._worker.identity};URI={peer.principal}".encode("ascii")))
        return fields

    def _target(self, authority: bytes) -> Target:
        """The port meant: the ServerName's; on plain text the only one, or the one that `Host` names."""
        port = self._server_name_port
        if port is None:
            if len(self._targets) == 1:
                return next(iter(self._targets.values()))
            _, _, text = authority.rpartition(b":")
            port = int(text) if text.isdigit() and len(text) <= 5 else 0
        target = self._targets.get(port)
        if target is None:
            declared = ", ".join(map(str, self._targets))
            raise ProxyError(MISDIRECTED, f"port {port} is not declared here (declared: {declared})")
        return target


def _key_of(limit: RateLimit, head: RequestHead, peer: Peer) -> bytes | None:
    return key_of(limit.key, head, source_of(peer)) if limit.key is not None else None
