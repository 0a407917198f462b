"""Routes that do nothing, or less than they say: what another kind takes from them, what their port does not speak.

Called by `check.py` over documents that are fine by themselves. All of it is a warning: what steers a port may change
tomorrow, and `routing/attach.py` has a rule for each case, the one that is told here.
"""

from collections.abc import Iterable, Mapping, Sequence

from sidecar.config.problems import Problems
from sidecar.config.resources import Parsed
from sidecar.model.clusters import Protocol, Service, ServiceKey, Workload
from sidecar.model.routes import AnyRoute, ParentRef

Spoken = Mapping[int, Protocol]
_OPAQUE = (Protocol.TCP, Protocol.TLS)
_HTTP = (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)
# What is never spoken where a kind of route does anything, and why.
_MUTE: dict[str, tuple[tuple[Protocol, ...], str]] = {
    "HTTPRoute": (_OPAQUE, "nothing there is read as HTTP"),
    "GRPCRoute": (_OPAQUE, "nothing there is read as HTTP"),
    "TLSRoute": (_HTTP, "no TLS of a client is expected there"),
}
# Who takes all of a port from whom (GAMMA's order of kinds), and who leaves a TCPRoute what is not HTTP.
_BEATEN_BY = {"HTTPRoute": ("GRPCRoute",), "TCPRoute": ("TLSRoute", "GRPCRoute", "HTTPRoute")}


def warn_of_idle_routes(documents: Sequence[Parsed], problems: Problems) -> None:
    """Warn at each parentRef by which a route does not do what it says."""
    attached: dict[tuple[ServiceKey, str], list[AnyRoute]] = {}
    for parsed in documents:
        if isinstance(parsed.body, AnyRoute):
            for service in {parent.service for parent in parsed.body.parents}:
                attached.setdefault((service, parsed.body.kind), []).append(parsed.body)
    spoken = spoken_of(documents)
    for parsed in documents:
        if isinstance(parsed.body, AnyRoute):
            for index, parent in enumerate(parsed.body.parents):
                ports = spoken.get(parent.service, {})
                kinds = _BEATEN_BY.get(parsed.body.kind, ())
                beside = (other for kind in kinds for other in attached.get((parent.service, kind), ()))
                why = _beaten(parsed.body, parent, beside, ports) or _mute(parsed.body, parent, ports)
                if why:
                    problems.warn(parsed.node.at("spec", "parentRefs", index).problem(why))


def spoken_of(documents: Iterable[Parsed]) -> dict[ServiceKey, Spoken]:
    """What is spoken on the ports of services; a Service document alone decides for its service."""
    by_workloads: dict[ServiceKey, dict[int, Protocol]] = {}
    declared: dict[ServiceKey, Spoken] = {}
    for parsed in documents:
        body = parsed.body
        if isinstance(body, Service):
            declared[body.key] = {port.port: port.protocol for port in body.ports}
        elif isinstance(body, Workload):
            ports = by_workloads.setdefault(ServiceKey(body.namespace, body.service), {})
            ports.update((port.port, port.protocol) for port in body.ports)
    return {**by_workloads, **declared}


def _beaten(route: AnyRoute, parent: ParentRef, beside: Iterable[AnyRoute], spoken: Spoken) -> str:
    for other in beside:
        shared = [
            ParentRef(each.service, parent.port or each.port)
            for each in other.parents
            if each.service == parent.service and (None in (each.port, parent.port) or each.port == parent.port)
        ]
        if not all(_mute(other, each, spoken) for each in shared):
            name = f"{other.kind}/{other.namespace}/{other.name} steers {parent.service} too"
            if route.kind == "TCPRoute" and other.kind != "TLSRoute":
                return f"{name}; this TCPRoute takes only connections that do not speak HTTP"
            return f"{name}; on the same port only {other.kind}s count, and this {route.kind} does nothing"
    return ""


def _mute(route: AnyRoute, parent: ParentRef, spoken: Spoken) -> str:
    protocols, why = _MUTE.get(route.kind, ((), ""))
    ports = [parent.port] if parent.port is not None else list(spoken)
    if not ports or any(spoken.get(port) not in protocols for port in ports):
        return ""
    return f"{parent.service}:{ports[0]} speaks {spoken[ports[0]].value}: {why}, so this {route.kind} does nothing"
