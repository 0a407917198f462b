"""Routes as users write them: Gateway API's HTTPRoute with a Service as parent (GAMMA), frozen.

`routing/table.py` compiles these once per snapshot; nothing here is read per request.
"""

from dataclasses import dataclass
from enum import StrEnum

from sidecar.model.clusters import ServiceKey


class PathKind(StrEnum):
    """How a path is compared; names are Gateway API's."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A prefix matches whole segments: `/a` takes `/a` and `/a/b`, not `/ab`."""

    kind: PathKind = PathKind.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """Exact match of one header; `name` in lower case."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All parts must hold."""

    path: PathMatch = PathMatch()
    headers: tuple[HeaderMatch, ...] = ()
    method: str | None = None


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A share of a rule's traffic. Weights are relative; 0 takes none."""

    service: ServiceKey
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One rule: any of `matches` leads to `backends`.

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


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The Service whose callers a route steers; port None means all its ports."""

    service: ServiceKey
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """An HTTPRoute object. `hostnames` are ignored on mesh routes, as GAMMA says."""

    namespace: str
    name: str
    parents: tuple[ParentRef, ...]
    rules: tuple[RouteRule, ...]
    created: str = ""
