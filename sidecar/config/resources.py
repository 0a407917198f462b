"""All kinds in one table, and the ways in and out: YAML of users, JSON of the wire, documents for others.

`parse_documents` is strict, because users want to hear of a typing error. `parse_wire` reads what a control plane of
another version may have sent: unknown fields are ignored, unknown values are refused. Both use the same parsers.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from sidecar.config.access import encode_authorization_policy, parse_authorization_policy
from sidecar.config.grammar import shown
from sidecar.config.grpc_routes import encode_grpc_route, parse_grpc_route
from sidecar.config.header import GATEWAY_ALPHA, GATEWAY_API, OWN_API, Metadata, read_metadata
from sidecar.config.json_text import node_of, read_json
from sidecar.config.l4_routes import encode_tcp_route, encode_tls_route, parse_tcp_route, parse_tls_route
from sidecar.config.node import Json, Node, Source
from sidecar.config.policy.traffic import encode_traffic_policy, parse_traffic_policy
from sidecar.config.problems import Problems
from sidecar.config.routes import encode_route, parse_route
from sidecar.config.services import encode_endpoints, encode_service, parse_endpoints, parse_service
from sidecar.config.workloads import (
    VERSION_LABEL,
    encode_mesh_policy,
    encode_workload,
    parse_mesh_policy,
    parse_workload,
)
from sidecar.config.yaml_text import read_yaml
from sidecar.errors import ConfigError
from sidecar.model.clusters import EndpointSet, Service, Workload
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import AuthorizationPolicy, TrafficPolicyResource
from sidecar.model.routes import GrpcRoute, HttpRoute, TcpRoute, TlsRoute
from sidecar.model.snapshot import Body, Resource

UserBody = Body | Workload | MeshPolicy

# Kinds that other versions or sources of this product know; a user hears "not yet" instead of "unknown".
_LATER_KINDS = ("EndpointSlice", "UDPRoute", "Rollout")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document that is fine by itself.

    Attributes:
        name: `KIND/NAMESPACE/NAME`.
        body: What it means.
        node: Where it stands; gives later checks their positions.
        document: What its author wrote, as JSON, for a store to keep; without `status`.
        version: Revision of the store; 0 for files.
    """

    name: str
    body: UserBody
    node: Node
    document: str
    version: int = 0


class _Kind(NamedTuple):
    """How one kind is read and written. Typed by hand: each function takes and makes the `body` of its own kind."""

    api: str
    parse: Callable[[Metadata, Node, Node], UserBody]  # metadata, spec, whole document
    body: type
    encode: Callable[[Any], dict[str, Json]]
    dotted: bool = True
    user: bool = True
    wire: bool = True
    older: tuple[str, ...] = ()  # apiVersions that mean the same


def _workload(meta: Metadata, spec: Node, whole: Node) -> Workload:
    version = whole.at("metadata", "labels", VERSION_LABEL)
    return parse_workload(meta, spec, version if version.key == VERSION_LABEL else None)


_KINDS = {
    "Service": _Kind("v1", lambda m, s, _: parse_service(m, s), Service, encode_service, dotted=False),
    "HTTPRoute": _Kind(GATEWAY_API, lambda m, s, _: parse_route(m, s), HttpRoute, encode_route),
    "GRPCRoute": _Kind(GATEWAY_API, lambda m, s, _: parse_grpc_route(m, s), GrpcRoute, encode_grpc_route),
    "TLSRoute": _Kind(
        GATEWAY_API, lambda m, s, _: parse_tls_route(m, s), TlsRoute, encode_tls_route, older=GATEWAY_ALPHA
    ),
    "TCPRoute": _Kind(
        GATEWAY_API, lambda m, s, _: parse_tcp_route(m, s), TcpRoute, encode_tcp_route, older=GATEWAY_ALPHA[:1]
    ),
    "TrafficPolicy": _Kind(
        OWN_API, lambda m, s, _: parse_traffic_policy(m, s), TrafficPolicyResource, encode_traffic_policy
    ),
    "AuthorizationPolicy": _Kind(
        OWN_API, lambda m, s, _: parse_authorization_policy(m, s), AuthorizationPolicy, encode_authorization_policy
    ),
    "Workload": _Kind(OWN_API, _workload, Workload, encode_workload, wire=False),
    "MeshPolicy": _Kind(OWN_API, lambda m, s, _: parse_mesh_policy(m, s), MeshPolicy, encode_mesh_policy, wire=False),
    "Endpoints": _Kind(
        OWN_API, lambda m, s, _: parse_endpoints(m, s), EndpointSet, encode_endpoints, dotted=False, user=False
    ),
}
_KIND_OF_BODY = {kind.body: name for name, kind in _KINDS.items()}
USER_KINDS = tuple(name for name, kind in _KINDS.items() if kind.user)
SNAPSHOT_KINDS = tuple(name for name, kind in _KINDS.items() if kind.wire)


def parse_documents(text: str, file: str) -> list[Parsed]:
    """The documents of a YAML text with one or more of them, in order. Raises ConfigError with every problem."""
    problems = Problems()
    parsed = read_documents(text, file, problems)
    problems.raise_if_any()
    return parsed


def read_documents(text: str, file: str, problems: Problems) -> list[Parsed]:
    """The good documents of a YAML text. What is wrong, and what is only doubtful, goes to `problems`."""
    found = []
    for node in read_yaml(text, Source(file, problems)):
        read = _read(node, USER_KINDS)
        if read is not None:
            found.append(Parsed(*read, node, _written(node)))
    complain_of_repeats(found)
    return found


def parse_json(text: str, *, version: int = 0, strict: bool = True) -> Parsed:
    """One user document as JSON, as a store keeps it. Raises ConfigError; its problems have paths, no positions."""
    problems = Problems()
    node = read_json(text, Source("", problems, strict=strict))
    read = None if node is None else _read(node, USER_KINDS)
    problems.raise_if_any()
    assert node is not None, text
    assert read is not None, text
    return Parsed(*read, node, _written(node), version)


def parse_wire(name: str, version: int, document: str | dict[str, Any]) -> Resource:
    """A resource of a snapshot from the wire or the disk cache: JSON text, or the same decoded.

    Raises ConfigError with one line a problem, `path: ...`; `name` must be what the document calls itself.
    """
    problems = Problems()
    source = Source("", problems, strict=False)
    node = read_json(document, source) if isinstance(document, str) else node_of(document, source)
    read = None if node is None else _read(node, SNAPSHOT_KINDS)
    problems.raise_if_any()
    assert read is not None, name
    found, body = read
    if found != name:
        raise ConfigError([f"metadata: the document is {found}, not {shown(name)}"])
    assert not isinstance(body, Workload | MeshPolicy), name  # not among SNAPSHOT_KINDS
    return Resource(name, version, body, document if isinstance(document, str) else to_json(document))


def name_of(body: UserBody) -> str:
    """`KIND/NAMESPACE/NAME` of a body."""
    if isinstance(body, Service):
        namespace, name = body.key
    elif isinstance(body, EndpointSet):
        namespace, name = body.service
    else:
        namespace, name = body.namespace, body.name
    return f"{_KIND_OF_BODY[type(body)]}/{namespace}/{name}"


def to_document(body: UserBody) -> dict[str, Json]:
    """The document of a body: `parse_wire` of it gives an equal body back."""
    return _KINDS[_KIND_OF_BODY[type(body)]].encode(body)


def to_json(document: Json) -> str:
    """Canonical JSON: sorted names, no blanks, ASCII. Equal documents give equal text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def resource_of(body: Body, version: int = 0) -> Resource:
    """A resource as it travels, from a body that was derived."""
    return Resource(name_of(body), version, body, to_json(to_document(body)))


def _read(node: Node, kinds: tuple[str, ...]) -> tuple[str, UserBody] | None:
    """Name and body of the document in `node`, or None after complaints."""
    problems = node.source.problems
    seen = problems.count
    got = node.fields("apiVersion", "kind", "metadata", "spec", ignored=("status",))
    kind_node = got.need("kind", "one of " + ", ".join(kinds))
    name = kind_node.text(64)
    if name not in kinds:
        if name:
            kind_node.complain(_unknown_kind(name, kinds))
        return None
    kind = _KINDS[name]
    api = got.get("apiVersion")
    if api is not None:
        if api.text(256) not in ("", kind.api, *kind.older):
            known = " or ".join((kind.api, *kind.older))
            api.complain(f"{shown(api.value)} is not known; {name} has apiVersion {known} in this version")
    elif kind.api != OWN_API:
        node.complain(f"field 'apiVersion' is missing ({kind.api}); Kubernetes' own kinds need it everywhere")
    meta = read_metadata(got.need("metadata", "name and namespace"), dotted=kind.dotted)
    body = kind.parse(meta, got.need("spec", f"what the {name} says"), node)
    if problems.count != seen:
        return None
    return f"{name}/{meta.namespace}/{meta.name}", body


def _written(node: Node) -> str:
    """What the author of a document wrote, without what a server added."""
    plain = node.plain()
    if isinstance(plain, dict):
        plain.pop("status", None)
    return to_json(plain)


def _unknown_kind(name: str, kinds: tuple[str, ...]) -> str:
    known = f"known: {', '.join(kinds)}"
    if name == "Endpoints":
        return f"Endpoints are made from Workloads; write a Workload for each endpoint ({known})"
    if name in _LATER_KINDS:
        return f"{name} is not supported in this version ({known})"
    near = get_close_matches(name, kinds, n=1)
    return f"{shown(name)} is not known ({f'did you mean {near[0]}? ' if near else ''}{known})"


def complain_of_repeats(parsed: list[Parsed]) -> None:
    """Complain about documents of one name, in one file or in several."""
    first: dict[str, Node] = {}
    for document in parsed:
        there = first.setdefault(document.name, document.node)
        if there is not document.node:
            place = f"{there.source.file}:{there.line}:{there.column}"
            document.node.complain(f"{document.name} is there twice; the first is at {place}")
