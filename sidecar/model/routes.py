"""Routes as users write them: Gateway API's kinds with a Service as parent (GAMMA), frozen.

`routing/table.py` compiles these once per snapshot; nothing here is read per request. `hostnames` of HTTPRoutes and
GRPCRoutes are not kept: on mesh routes they say nothing, as GAMMA has it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from sidecar.model.clusters import ServiceKey


class PathKind(StrEnum):
    """How a path is compared; names are Gateway API's."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


class ValueKind(StrEnum):
    """How a header, a query parameter or a gRPC method is compared; names are Gateway API's."""

    EXACT = "Exact"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A prefix matches whole segments: `/a` takes `/a` and `/a/b`, not `/ab`. Expressions: `model/pattern.py`."""

    kind: PathKind = PathKind.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A condition on one header; `name` in lower case. What a repeated header means is for `routing/match.py`."""

    name: str
    value: str
    kind: ValueKind = ValueKind.EXACT


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """A condition on the first value of a query parameter; name and value decoded, case counts."""

    name: str
    value: str
    kind: ValueKind = ValueKind.EXACT


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All parts must hold."""

    path: PathMatch = PathMatch()
    headers: tuple[HeaderMatch, ...] = ()
    method: str | None = None
    query: tuple[QueryMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodMatch:
    """A gRPC method: `service` and `method`, of which one may be "" for any."""

    service: str = ""
    method: str = ""
    kind: ValueKind = ValueKind.EXACT


@dataclass(frozen=True, slots=True)
class GrpcMatch:
    """All parts must hold; without a method, every gRPC request."""

    method: MethodMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderModifier:
    """Fields to replace, to add to those that are there, to take away; each name once among all three."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class PathModifierKind(StrEnum):
    """What of a path is replaced; names are Gateway API's."""

    FULL = "ReplaceFullPath"
    PREFIX = "ReplacePrefixMatch"


@dataclass(frozen=True, slots=True)
class PathModifier:
    """A new path, or a new beginning in the place of the rule's prefix. "" as a beginning takes the prefix away."""

    kind: PathModifierKind
    value: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer in the place of forwarding. What is "" or None stays as the request has it."""

    scheme: str = ""
    hostname: str = ""
    path: PathModifier | None = None
    port: int | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another host, another path for the upstream."""

    hostname: str = ""
    path: PathModifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a rule, or one backend of it, changes on the way. A redirect and a rewrite exclude each other."""

    request: HeaderModifier | None = None
    response: HeaderModifier | None = None
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A share of a rule's traffic. Weights are relative; 0 takes none. `filters` act for this share only."""

    service: ServiceKey
    port: int
    weight: int = 1
    filters: Filters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One rule of an HTTPRoute: any of `matches` leads to `backends`.

    Attributes:
        request_s: Bound of the whole response, tries included (Gateway API `timeouts.request`); None: the policy's;
            0.0: no bound, as Gateway API's `0s`.
        backend_request_s: Bound of one try; None: the policy's; 0.0: no bound of its own.
    """

    name: str = ""
    matches: tuple[RouteMatch, ...] = (RouteMatch(),)
    backends: tuple[BackendRef, ...] = ()
    request_s: float | None = None
    backend_request_s: float | None = None
    filters: Filters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRule:
    """One rule of a GRPCRoute; its filters modify headers only."""

    name: str = ""
    matches: tuple[GrpcMatch, ...] = (GrpcMatch(),)
    backends: tuple[BackendRef, ...] = ()
    filters: Filters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class L4Rule:
    """The one rule of a TCPRoute or TLSRoute: connections go to `backends`."""

    name: str = ""
    backends: tuple[BackendRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The Service whose callers a route steers; port None means all its ports."""

    service: ServiceKey
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """An HTTPRoute object."""

    kind: ClassVar[str] = "HTTPRoute"
    namespace: str
    name: str
    parents: tuple[ParentRef, ...]
    rules: tuple[RouteRule, ...]
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRoute:
    """A GRPCRoute object."""

    kind: ClassVar[str] = "GRPCRoute"
    namespace: str
    name: str
    parents: tuple[ParentRef, ...]
    rules: tuple[GrpcRule, ...]
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRoute:
    """A TLSRoute object: connections by the ServerName that their ClientHello asks for, never decrypted.

    `hostnames`, lower case: names in full, or `*.example.com` for every name below `example.com`.
    """

    kind: ClassVar[str] = "TLSRoute"
    namespace: str
    name: str
    parents: tuple[ParentRef, ...]
    hostnames: tuple[str, ...]
    rules: tuple[L4Rule, ...]
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRoute:
    """A TCPRoute object: all connections of a port."""

    kind: ClassVar[str] = "TCPRoute"
    namespace: str
    name: str
    parents: tuple[ParentRef, ...]
    rules: tuple[L4Rule, ...]
    created: str = ""


AnyRoute = HttpRoute | GrpcRoute | TlsRoute | TcpRoute
AnyRule = RouteRule | GrpcRule | L4Rule
# Of routes of several kinds on one port, those of the first kind here count and the rest do nothing (GAMMA).
ROUTE_KINDS = ("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute")


def rules_of(route: AnyRoute) -> tuple[AnyRule, ...]:
    """The rules of a route of any kind."""
    return route.rules


def services_of(route: AnyRoute) -> set[ServiceKey]:
    """Every service that a route names: its parents and its backends."""
    return {parent.service for parent in route.parents} | backends_of(route)


def backends_of(route: AnyRoute) -> set[ServiceKey]:
    """Every service that a route leads to."""
    return {backend.service for rule in rules_of(route) for backend in rule.backends}
