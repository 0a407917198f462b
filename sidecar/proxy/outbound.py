"""The caller's side: from a name to a route of the mesh.

Used by every outbound listener. A listener for one upstream names its service; the explicit proxy reads `Host` and
serves names of the mesh only, so that it is never an open proxy.
"""

from functools import partial

from sidecar.errors import NO_CLUSTER, NO_ROUTE, ProxyError
from sidecar.model.clusters import Protocol, ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.messages import Fields, RequestHead
from sidecar.model.snapshot import Known, Snapshot
from sidecar.policy import deadline, grpc
from sidecar.proxy.edits import REQUEST_ID
from sidecar.proxy.handover import HandOver
from sidecar.proxy.patience import Patience
from sidecar.proxy.pool import Pool
from sidecar.proxy.worker import UNKNOWN_WAIT_S, Worker
from sidecar.routing.hosts import resolve
from sidecar.routing.plan import RoutePlan
from sidecar.telemetry import trace
from sidecar.telemetry.observer import SOURCE
from sidecar.transport.stream import Peer

_NO_LIMIT = b"%d" % deadline.MAX_HEADER_MS  # said to the next hop, which would otherwise assume its default


class Outbound:
    """One request's way out. `fixed` is the service and port of a listener that leads to one upstream only."""

    __slots__ = ("_fixed", "_worker", "reporter", "service")

    def __init__(self, worker: Worker, fixed: tuple[ServiceKey, int] | None = None) -> None:
        self.reporter = SOURCE
        self.service: ServiceKey | None = fixed[0] if fixed is not None else None
        self._fixed = fixed
        self._worker = worker

    @property
    def live(self) -> LiveRegistry:
        """See `Side`."""
        return self._worker.live

    @property
    def pool(self) -> Pool:
        """See `Side`."""
        return self._worker.pool

    async def route(self, record: HandOver, peer: Peer, patience: Patience) -> RoutePlan:
        """See `Side`."""
        worker = self._worker
        head = record.head
        if not head.asks_for_bytes and record.snapshot is worker.snapshot:
            plan = self.route_now(head, peer)
            if plan is not None:
                return plan
        key, port = self._fixed or self._asked_for(head.authority)
        if record.snapshot.knows(key) is Known.UNKNOWN:
            await patience.bounded(partial(find, worker, key))
            record.snapshot = worker.snapshot
        worker.directory.used(key)
        snapshot = record.snapshot
        if snapshot.knows(key) is Known.FOUND:
            self.service = key  # not before: it becomes a label of metrics, which clients must not make up
        number = port or _only_port(snapshot, key)
        if head.asks_for_bytes:
            return self._route_bytes(record, key, number)
        table = worker.router.table(snapshot, key, number)
        if table is None:
            raise ProxyError(NO_ROUTE, _why_no_table(snapshot, key, port))
        plan = table.match(head)
        if plan is None:
            shown = record.head.target[:100].decode("ascii", "replace")
            raise ProxyError(NO_ROUTE, f"no rule of the routes of {key} matches {shown}")
        return plan

    def route_now(self, head: RequestHead, peer: Peer) -> RoutePlan | None:
        """See `Side`."""
        del peer
        worker = self._worker
        found = worker.tables.get(self._fixed or head.authority)
        if found is None:
            try:
                key, port = self._fixed or self._asked_for(head.authority)
            except ProxyError:
                return None
            snapshot = worker.snapshot
            if snapshot.knows(key) is not Known.FOUND:
                return None
            table = worker.router.table(snapshot, key, port or _only_port(snapshot, key))
            if table is None:
                return None
            found = worker.keep_table(self._fixed or head.authority, key, table)
        key, table = found
        worker.directory.used(key)
        self.service = key
        return table.match(head)

    def _route_bytes(self, record: HandOver, key: ServiceKey, port: int) -> RoutePlan:
        """For what is not read as HTTP: TCPRoute, TLSRoute, or the service itself."""
        table = self._worker.router.l4_table(record.snapshot, key, port)
        if table is None:
            raise ProxyError(NO_ROUTE, _why_no_table(record.snapshot, key, port or None))
        plan = table.match(record.server_name or None)
        if plan is None:
            shown = record.server_name[:100].decode("ascii", "replace")
            raise ProxyError(NO_ROUTE, f"no TLSRoute of {key} matches the ServerName {shown!r}")
        return plan

    def end_s(self, plan: RoutePlan, told: bytes | None, since_s: float, peer: Peer) -> float | None:
        """See `Side`."""
        del peer
        return deadline.ends_at(plan.request_s, told, since_s)

    def grpc_end_s(
        self, plan: RoutePlan, told: bytes | None, asked: bytes | None, since_s: float, peer: Peer
    ) -> float | None:
        """See `Side`."""
        del peer
        asked_s = deadline.asked_s(plan.request_s, plan.policy.timeouts, in_route=plan.whole_response)
        return deadline.ends_at(asked_s, told, since_s, grpc_s=grpc.timeout_s(asked))

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
        """See `Side`."""
        del peer
        if not mesh_hop:
            return []
        left = _NO_LIMIT if ends_at_s is None else deadline.remaining_header(ends_at_s, self._worker.now())
        return [(deadline.DEADLINE_HEADER, left)]

    def _asked_for(self, authority: bytes) -> tuple[ServiceKey, int | None]:
        found = resolve(authority, default_namespace=self._worker.node.namespace, default_port=0)
        if found is None:
            shown = authority[:100].decode("ascii", "replace")
            raise ProxyError(NO_ROUTE, f"{shown!r} is not the name of a service of the mesh, such as orders.shop:8080")
        return found


async def find(worker: Worker, key: ServiceKey) -> None:
    """Ask for a service that the snapshot does not know yet. Raises ProxyError when nobody answers in time."""
    if await worker.directory.find(key, UNKNOWN_WAIT_S) is Known.UNKNOWN:
        raise ProxyError(NO_CLUSTER, f"{key} is not known here yet: the control plane has not answered")


async def declared_protocol(worker: Worker, key: ServiceKey, port: int) -> Protocol:
    """What a port of a service says it speaks; AUTO for one that is not known."""
    if worker.snapshot.knows(key) is Known.UNKNOWN:
        try:
            await find(worker, key)
        except ProxyError:
            return Protocol.AUTO  # routing will ask again, and answer its client
    return protocol_now(worker, key, port) or Protocol.AUTO


def protocol_now(worker: Worker, key: ServiceKey, port: int) -> Protocol | None:
    """The same without asking anybody; None for a service that is not known yet."""
    if worker.snapshot.knows(key) is Known.UNKNOWN:
        return None
    service = worker.snapshot.service(key)
    ports = service.ports if service is not None else ()
    return next((declared.protocol for declared in ports if declared.port == port), Protocol.AUTO)


def trace_fields(record: HandOver, span_id: str) -> Fields:
    """Trace context and request id for the next hop."""
    fields: Fields = []
    context = record.trace
    if context is not None:
        fields.append((b"traceparent", trace.format_traceparent(context, span_id)))
        if context.tracestate:
            fields.append((b"tracestate", context.tracestate.encode("ascii")))
    if record.head.get(REQUEST_ID) is None:
        fields.append((REQUEST_ID, record.request_id))
    return fields


def _only_port(snapshot: Snapshot, key: ServiceKey) -> int:
    """The port meant when none was named: 80 if declared, else the only one; 0 for none."""
    service = snapshot.service(key)
    ports = [declared.port for declared in service.ports] if service is not None else []
    if 80 in ports:
        return 80
    return ports[0] if len(ports) == 1 else 0


def _why_no_table(snapshot: Snapshot, key: ServiceKey, port: int | None) -> str:
    service = snapshot.service(key)
    if service is None:
        return f"{key} is not a known service"
    ports = ", ".join(str(declared.port) for declared in service.ports) or "none"
    if port is None:
        return f"{key} declares the ports {ports}; name one, as in {key}:8080"
    return f"{key} has no port {port} (its ports: {ports})"
