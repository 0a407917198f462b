"""The mesh that is measured, as plain values: 100 routes over two versions of one service, three endpoints each.

Every proxy's configuration is made from what stands here, so that all do the same work. The endpoints share one port
and differ in their loopback address, because an endpoint of a service listens on the service's port.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.model.policies import DEFAULT_POLICY

NAMESPACE = "shop"
SERVICE = "orders"
CALLER = "frontend"
HOST = f"{SERVICE}.{NAMESPACE}"
VERSIONS = ("v1", "v2")
ENDPOINTS = {
    "v1": ("127.0.1.1", "127.0.1.2", "127.0.1.3"),
    "v2": ("127.0.1.4", "127.0.1.5", "127.0.1.6"),
}
# Where the sidecars in front of the endpoints are, on one port of theirs; one process has all six addresses.
SIDECARS = {
    "v1": ("127.0.2.1", "127.0.2.2", "127.0.2.3"),
    "v2": ("127.0.2.4", "127.0.2.5", "127.0.2.6"),
}
# What all proxies do: tries, ejection, limits and times are the product's defaults.
POLICY = DEFAULT_POLICY
# What users switch on first, as a TrafficPolicy's `spec`, for the rows that show its cost; nothing is refused by it.
COMMON_POLICIES: Mapping[str, object] = {
    "timeouts": {"request": "5s", "perTry": "2s"},
    "retries": {"attempts": 3, "on": ["connect-failure", "refused-stream", "reset", "gateway-error"]},
    "balancing": {"algorithm": "ewma", "slowStart": "30s"},
    "ejection": {"consecutiveFailures": 3, "gatewayFailures": 3, "success": {"atLeast": 80}},
    "stickySplit": {"header": "x-user"},
    "fallback": {"body": "{}"},
    "limits": {"requests": 512},
}
CANARY_HEADER = ("x-tier", "canary")
CANARY_ROUTES = 3
ROUTES = 100


@dataclass(frozen=True, slots=True)
class Route:
    """Requests below `prefix` (and with `header`, if there is one) go to the versions by weight."""

    prefix: str
    header: tuple[str, str] | None
    weights: tuple[tuple[str, int], ...]


def area(number: int) -> str:
    """The path prefix of a route."""
    return f"/api/area-{number:03d}"


def areas(routes: int = ROUTES) -> int:
    """How many different prefixes there are: routes by header share theirs with a plain one. Without routes, one."""
    return max(1, routes - CANARY_ROUTES)


def make_routes(routes: int = ROUTES, turn: int = 0) -> tuple[Route, ...]:
    """The routes in order of precedence: those that ask for a header come first.

    Args:
        routes: How many: none, or more than CANARY_ROUTES.
        turn: Of a configuration that is pushed again and again: with an odd one, the last route's weights differ.
    """
    if not routes:
        return ()
    split, other = (("v1", 90), ("v2", 10)), (("v1", 89), ("v2", 11))
    canary = [Route(area(number), CANARY_HEADER, (("v2", 1),)) for number in range(CANARY_ROUTES)]
    last = areas(routes) - 1
    plain = (
        Route(area(number), None, other if turn % 2 and number == last else split) for number in range(areas(routes))
    )
    return (*canary, *plain)


def is_canary(path_area: int, header_value: str) -> bool:
    """Whether a request is meant for v2 by one of the header routes."""
    return path_area < CANARY_ROUTES and header_value == CANARY_HEADER[1]
