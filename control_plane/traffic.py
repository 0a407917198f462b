"""How a service's traffic is split, and the route that results from new weights.

Behind `meshctl traffic show / set`. Pure. The route is the one, of any kind, whose parent is the Service; a NAME is a
backend of it in full (`orders-v1`), or without the service's name (`v1`), or a registered version that it does not lead
to yet. Backends that are not named keep their weight: `set orders v2=10` must never send everything to v2.
"""

import json
from collections.abc import Mapping
from typing import Any

from control_plane.answers import Backend, Kind, Refused, Traffic
from control_plane.compile import Content
from sidecar.config.header import DEFAULT_NAMESPACE, GATEWAY_API
from sidecar.config.resources import Parsed, parse_json, to_json
from sidecar.errors import ConfigError
from sidecar.model.clusters import Protocol, Service, ServiceKey
from sidecar.model.routes import AnyRoute, AnyRule, BackendRef, rules_of
from sidecar.model.snapshot import Snapshot

MOST_NAMED = 10  # routes in one complaint
_OPAQUE = (Protocol.TCP, Protocol.TLS)


def show(content: Content, snapshot: Snapshot, revision: int, namespace: str, service: str) -> Traffic:
    """The split as it is. Raises Refused when there is no such service, or several routes steer it."""
    key = _service(snapshot, namespace, service)
    parsed = route_of(content, key)
    backends: tuple[Backend, ...] = ()
    if parsed is not None:
        backends = tuple(_shown(each, service) for each in _split(parsed).backends)
    return Traffic(
        revision=revision,
        namespace=namespace,
        service=service,
        route=parsed.name if parsed is not None else "",
        backends=backends,
        known=_known(content, key, backends),
    )


def retarget(content: Content, snapshot: Snapshot, namespace: str, service: str, weights: Mapping[str, int]) -> Parsed:
    """The route with new weights; without one a new one: an HTTPRoute, or a TCPRoute where no port carries HTTP.

    Raises Refused for names that are not known, and for weights that are none.
    """
    if not weights:
        raise Refused("no weights were given", "name at least one, such as v1=90")
    key = _service(snapshot, namespace, service)
    parsed = route_of(content, key)
    if parsed is None:
        document, port = _new_route(content, snapshot, key)
    else:
        document, port = json.loads(parsed.document), 0
    present = _split(parsed).backends if parsed is not None else ()
    port = present[0].port if present else port
    known = _known(content, key, tuple(_shown(each, service) for each in present))
    wanted = {_full(name, service, known): weight for name, weight in weights.items()}
    if len(wanted) != len(weights):
        raise Refused("a backend is named twice", f"known: {', '.join(known)}")
    where = document["metadata"].get("namespace", DEFAULT_NAMESPACE)
    for rule in document["spec"]["rules"]:
        if rule.get("backendRefs") or parsed is None:
            _set_weights(rule, where, key, wanted, port)
            if all(each.get("weight", 1) == 0 for each in rule["backendRefs"]):
                raise Refused("all weights would be 0: nothing would take the traffic", "leave one above 0")
    try:
        return parse_json(to_json(document))
    except ConfigError as problem:
        name = parsed.name if parsed is not None else f"{document['kind']}/{namespace}/{service}"
        raise Refused(f"{name} would not be valid", "name other weights", details=tuple(problem.problems)) from None


def route_of(content: Content, key: ServiceKey) -> Parsed | None:
    """The route whose parent is the service, or None. Raises Refused when there are several."""
    found = [
        parsed
        for _, parsed in sorted(content.user.items())
        if isinstance(parsed.body, AnyRoute) and any(parent.service == key for parent in parsed.body.parents)
    ]
    if len(found) > 1:
        raise Refused(
            f"{len(found)} routes steer {key}",
            "edit one of them and apply it",
            details=tuple(parsed.name for parsed in found[:MOST_NAMED])
            + ((f"and {len(found) - MOST_NAMED} more",) if len(found) > MOST_NAMED else ()),
            kind=Kind.AMBIGUOUS,
        )
    return found[0] if found else None


def _service(snapshot: Snapshot, namespace: str, service: str) -> ServiceKey:
    key = ServiceKey(namespace, service)
    if snapshot.service(key) is None:
        known = [str(each.body.key) for each in snapshot.of_kind("Service") if isinstance(each.body, Service)]
        listed = ", ".join(known[:8]) or "none"
        raise Refused(f"there is no service {key}", f"known: {listed}", kind=Kind.NOT_FOUND)
    return key


def _split(parsed: Parsed) -> AnyRule:
    """The rule whose backends are the split; several rules must agree on them."""
    assert isinstance(parsed.body, AnyRoute)
    rules = [rule for rule in rules_of(parsed.body) if rule.backends]
    if not rules:
        raise Refused(f"{parsed.name} has no backends", "give it backendRefs and apply it", kind=Kind.CONFLICT)
    if any({_id(each) for each in rule.backends} != {_id(each) for each in rules[0].backends} for rule in rules):
        raise Refused(
            f"{parsed.name} has {len(rules)} rules with different backends",
            "edit the route and apply it",
            kind=Kind.AMBIGUOUS,
        )
    return rules[0]


def _id(backend: BackendRef) -> tuple[ServiceKey, int]:
    return backend.service, backend.port


def _shown(backend: BackendRef, service: str) -> Backend:
    name = backend.service.name
    return Backend(name, name.removeprefix(f"{service}-"), backend.port, backend.weight)


def _known(content: Content, key: ServiceKey, backends: tuple[Backend, ...]) -> tuple[str, ...]:
    """Names that can be given a weight: the route's backends, and the versions of the service's workloads.

    Versions of workloads that were registered once stay known; an applied Workload counts while it is there.
    """
    versions = {
        each.name
        for each, known in content.remembered.items()
        if each.namespace == key.namespace and known.version_of == key.name
    }
    versions |= {
        f"{each.service}-{each.version}"
        for each in content.workloads()
        if (each.namespace, each.service) == key and each.version
    }
    return tuple(dict.fromkeys([*(backend.name for backend in backends), *sorted(versions)]))


def _full(name: str, service: str, known: tuple[str, ...]) -> str:
    for candidate in (name, f"{service}-{name}"):
        if candidate in known:
            return candidate
    listed = ", ".join(each.removeprefix(f"{service}-") for each in known) or "none is registered"
    raise Refused(f"{service} has no version {name[:64]!r}", f"known: {listed}", kind=Kind.NOT_FOUND)


def _set_weights(rule: dict[str, Any], where: str, key: ServiceKey, wanted: Mapping[str, int], port: int) -> None:
    """Change a rule of a document; `where` is the route's namespace, in which backends are unless they say so."""
    backends: list[dict[str, Any]] = rule.setdefault("backendRefs", [])
    here = {each["name"]: each for each in backends if each.get("namespace", where) == key.namespace}
    for name, weight in wanted.items():
        if name in here:
            here[name]["weight"] = weight
        else:
            elsewhere = {} if where == key.namespace else {"namespace": key.namespace}
            backends.append({"name": name, **elsewhere, "port": port, "weight": weight})


def _new_route(content: Content, snapshot: Snapshot, key: ServiceKey) -> tuple[dict[str, Any], int]:
    """A route without backends for the one port that can be meant, and that port."""
    service = snapshot.service(key)
    ports = service.ports if service is not None else ()
    http = [port.port for port in ports if port.protocol not in _OPAQUE]
    kind, fit = ("HTTPRoute", http) if http else ("TCPRoute", [port.port for port in ports])
    if len(fit) != 1:
        listed = ", ".join(f"{port.port}/{port.protocol.value}" for port in ports) or "none"
        raise Refused(
            f"which port of {key} is to be split is not clear (ports: {listed})",
            f"write the {kind} and apply it",
            kind=Kind.AMBIGUOUS,
        )
    taken = f"{kind}/{key.namespace}/{key.name}"
    if taken in content.user:
        raise Refused(f"{taken} is there, but its parent is not {key}", "correct its parentRefs", kind=Kind.CONFLICT)
    parent: dict[str, Any] = {"group": "", "kind": "Service", "name": key.name}
    if len(ports) > 1:
        parent["port"] = fit[0]
    document = {
        "apiVersion": GATEWAY_API,
        "kind": kind,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": []}]},
    }
    return document, fit[0]
