"""What all kinds of routes share: the Services whose callers they steer, and those they lead to; nodes <-> model.

Both references are Services, in any namespace. A reference to anything else is an error, not something left out.
"""

from collections.abc import Callable

from sidecar.config.header import GATEWAY_API, Metadata, document
from sidecar.config.matches import complain_of_twins
from sidecar.config.node import Fields, Json, Node
from sidecar.model.clusters import ServiceKey
from sidecar.model.routes import AnyRoute, BackendRef, Filters, ParentRef, rules_of

MAX_WEIGHT = 1_000_000  # Gateway API's


def parse_parents(spec: Fields, meta: Metadata) -> tuple[ParentRef, ...]:
    """The `parentRefs` of a route's spec, each once."""
    nodes = spec.need("parentRefs", "the Services whose callers it steers").items(at_least=1)
    parents = tuple(_parent(node, meta.namespace) for node in nodes)
    complain_of_twins(nodes, [parent if parent.service.name else None for parent in parents], "parentRef")
    return parents


def warn_of_hostnames(spec: Fields) -> None:
    """Say that `hostnames` have no effect on a route of HTTP or gRPC."""
    spec.maybe("hostnames", lambda node: node.warn("are ignored on routes whose parent is a Service (GAMMA)"), None)


def parse_backends(
    rule: Node, got: Fields, namespace: str, nothing: str, filters: Callable[[Node], Filters | None] | None
) -> tuple[BackendRef, ...]:
    """The `backendRefs` of a rule.

    Args:
        nothing: What happens to traffic when there is no backend, for a warning; "" if it is fine to have none.
        filters: Reads the filters of one backend; None: this kind has none there.
    """
    node = got.get("backendRefs")
    if node is None or node.value == []:
        if nothing:
            (node or rule).warn(f"no backendRefs: {nothing}")
        return ()
    items = node.items()
    seen = rule.source.problems.count
    backends = tuple(_backend(item, namespace, filters) for item in items)
    if rule.source.problems.count != seen:
        return backends
    # Files must take traffic somewhere; on the wire it is the router that answers, as Gateway API says.
    if rule.source.strict and backends and not any(backend.weight for backend in backends):
        node.complain("the weights add up to 0, so no request could go anywhere; give one backendRef a weight above 0")
    complain_of_twins(items, [(backend.service, backend.port) for backend in backends], "backendRef")
    return backends


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


def _backend(node: Node, namespace: str, filters: Callable[[Node], Filters | None] | None) -> BackendRef:
    known = ("group", "kind", "namespace", "name", "port", "weight")
    got = node.fields(*known, "filters") if filters else node.fields(*known, unsupported=("filters",))
    _service_kind(got, "backend")
    where = got.maybe("namespace", Node.label, namespace)
    name = got.need("name", "the Service's name").label()
    return BackendRef(
        ServiceKey(where, name),
        got.need("port", "the Service's port").port(),
        got.maybe("weight", lambda field: field.integer(0, MAX_WEIGHT), 1),
        got.maybe("filters", filters, None) if filters else None,
    )


def encode_route_document(
    route: AnyRoute, rules: list[Json], encode_filters: Callable[[Filters], list[Json]] | None = None
) -> dict[str, Json]:
    """The document of a route whose `rules` are encoded but for their backends."""
    parents: list[Json] = []
    for parent in route.parents:
        entry = _reference(parent.service)
        parents.append(entry if parent.port is None else entry | {"port": parent.port})
    for rule, made in zip(rules_of(route), rules, strict=True):
        assert isinstance(made, dict), made
        made["backendRefs"] = [_encode_backend(backend, encode_filters) for backend in rule.backends]
        if rule.name:
            made["name"] = rule.name
    spec: dict[str, Json] = {"parentRefs": parents, "rules": rules}
    whole = document(GATEWAY_API, route.kind, route.namespace, route.name, spec)
    metadata = whole["metadata"]
    if route.created and isinstance(metadata, dict):
        metadata["creationTimestamp"] = route.created
    return whole


def _encode_backend(backend: BackendRef, encode_filters: Callable[[Filters], list[Json]] | None) -> Json:
    made = _reference(backend.service) | {"port": backend.port, "weight": backend.weight}
    if backend.filters is not None and encode_filters is not None:
        made["filters"] = encode_filters(backend.filters)
    return made


def _reference(service: ServiceKey) -> dict[str, Json]:
    return {"group": "", "kind": "Service", "name": service.name, "namespace": service.namespace}
