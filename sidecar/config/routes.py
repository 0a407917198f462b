"""Gateway API's `HTTPRoute` with Services as parents: documents <-> model.

What the kind knows and this version does not (filters, retry, regular expressions, query parameters) is an error that
names what is supported, never something that is quietly left out: a route that does half of what it says is worse than
none. `0s` switches a timeout off and stays 0.0.
"""

from sidecar.config import grammar
from sidecar.config.header import GATEWAY_API, Metadata, document
from sidecar.config.matches import complain_of_twins, encode_match, parse_matches
from sidecar.config.node import Fields, Json, Node
from sidecar.config.services import MAX_WEIGHT
from sidecar.model.clusters import ServiceKey
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteMatch, RouteRule


def parse_route(meta: Metadata, spec: Node) -> HttpRoute:
    """An HTTPRoute."""
    got = spec.fields("parentRefs", "hostnames", "rules")
    got.maybe("hostnames", lambda node: node.warn("are ignored on routes whose parent is a Service (GAMMA)"), None)
    parents = got.need("parentRefs", "the Services whose callers it steers").items(at_least=1)
    rules = got.need("rules", "a list of rules").items(at_least=1)
    route = HttpRoute(
        namespace=meta.namespace,
        name=meta.name,
        parents=tuple(_parent(node, meta.namespace) for node in parents),
        rules=tuple(_rule(node, meta.namespace) for node in rules),
        created=meta.created,
    )
    complain_of_twins(rules, [rule.name for rule in route.rules], "rule name")
    complain_of_twins(parents, [parent if parent.service.name else None for parent in route.parents], "parentRef")
    return route


def _service_kind(got: Fields, what: str) -> None:
    """Check `group` and `kind` of a reference. Linkerd's and Argo's examples write group `core`."""
    why = f"; a {what} is a Service in this version"
    got.maybe("group", lambda node: node.one_of(("", "core"), why), "")
    got.maybe("kind", lambda node: node.one_of(("Service",), why), "")


def _parent(node: Node, namespace: str) -> ParentRef:
    got = node.fields("group", "kind", "namespace", "name", "port", unsupported=("sectionName",))
    _service_kind(got, "parent")
    if "kind" not in got:
        node.complain("field 'kind' is missing (Service; Gateway API takes no kind for a Gateway)")
    where = got.maybe("namespace", Node.label, namespace)
    name = got.need("name", "the Service's name").label()
    return ParentRef(ServiceKey(where, name), got.maybe("port", Node.port, None))


def _rule(node: Node, namespace: str) -> RouteRule:
    later = ("filters", "retry", "sessionPersistence")
    got = node.fields("name", "matches", "backendRefs", "timeouts", unsupported=later)
    request_s, backend_request_s = got.maybe("timeouts", _timeouts, (None, None))
    return RouteRule(
        name=got.maybe("name", lambda field: field.parsed(grammar.parse_subdomain, ""), ""),
        matches=got.maybe("matches", parse_matches, ()) or (RouteMatch(),),
        backends=_backends(node, got, namespace),
        request_s=request_s,
        backend_request_s=backend_request_s,
    )


def _backends(rule: Node, got: Fields, namespace: str) -> tuple[BackendRef, ...]:
    node = got.get("backendRefs")
    if node is None or node.value == []:
        (node or rule).warn("no backendRefs: every request of this rule is answered with 500")
        return ()
    items = node.items()
    seen = rule.source.problems.count
    backends = tuple(_backend(item, namespace) for item in items)
    if rule.source.problems.count != seen:
        return backends
    # Files must take traffic somewhere; on the wire it is the router that answers 500, as Gateway API says.
    if rule.source.strict and backends and not any(backend.weight for backend in backends):
        node.complain("the weights add up to 0, so no request could go anywhere; give one backendRef a weight above 0")
    complain_of_twins(items, [(backend.service, backend.port) for backend in backends], "backendRef")
    return backends


def _backend(node: Node, namespace: str) -> BackendRef:
    got = node.fields("group", "kind", "namespace", "name", "port", "weight", unsupported=("filters",))
    _service_kind(got, "backend")
    where = got.maybe("namespace", Node.label, namespace)
    name = got.need("name", "the Service's name").label()
    return BackendRef(
        ServiceKey(where, name),
        got.need("port", "the Service's port").port(),
        got.maybe("weight", lambda field: field.integer(0, MAX_WEIGHT), 1),
    )


def _timeouts(node: Node) -> tuple[float | None, float | None]:
    got = node.fields("request", "backendRequest")
    seen = node.source.problems.count
    request_s = got.maybe("request", _bound, None)
    backend_request_s = got.maybe("backendRequest", _bound, None)
    if request_s is None or backend_request_s is None or node.source.problems.count != seen:
        return request_s, backend_request_s
    if 0.0 < request_s < backend_request_s:
        node.at("backendRequest").complain(
            f"backendRequest ({grammar.format_duration(backend_request_s)}) must not be more than "
            f"request ({grammar.format_duration(request_s)}), which bounds all tries together"
        )
    return request_s, backend_request_s


def _bound(node: Node) -> float:
    return node.seconds(at_least=0.0)


def encode_route(route: HttpRoute) -> dict[str, Json]:
    """The document of an HTTPRoute."""
    parents: list[Json] = []
    for parent in route.parents:
        entry = _reference(parent.service)
        parents.append(entry if parent.port is None else entry | {"port": parent.port})
    spec: dict[str, Json] = {"parentRefs": parents, "rules": [_encode_rule(rule) for rule in route.rules]}
    made = document(GATEWAY_API, "HTTPRoute", route.namespace, route.name, spec)
    metadata = made["metadata"]
    if route.created and isinstance(metadata, dict):
        metadata["creationTimestamp"] = route.created
    return made


def _reference(service: ServiceKey) -> dict[str, Json]:
    return {"group": "", "kind": "Service", "name": service.name, "namespace": service.namespace}


def _encode_rule(rule: RouteRule) -> dict[str, Json]:
    timeouts: dict[str, Json] = {}
    if rule.request_s is not None:
        timeouts["request"] = grammar.format_duration(rule.request_s)
    if rule.backend_request_s is not None:
        timeouts["backendRequest"] = grammar.format_duration(rule.backend_request_s)
    backends: list[Json] = [
        _reference(backend.service) | {"port": backend.port, "weight": backend.weight} for backend in rule.backends
    ]
    made: dict[str, Json] = {"matches": [encode_match(match) for match in rule.matches], "backendRefs": backends}
    if rule.name:
        made["name"] = rule.name
    if timeouts:
        made["timeouts"] = timeouts
    return made
