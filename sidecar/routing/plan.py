"""What routing decides, ready to be used: where a request may go and what its sender obeys.

Made by `routing/compile.py` once per change of configuration and then shared by all requests; never changed. Compared
and cached by identity: an object that survives a push carries its metric children and synced endpoints along.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.model.balancing import HashKey
from sidecar.model.clusters import ClusterKey, Endpoint, Protocol, ServiceKey
from sidecar.model.messages import RequestHead
from sidecar.model.policies import TrafficPolicy
from sidecar.model.routes import AnyRoute, AnyRule, GrpcMatch, RouteMatch
from sidecar.routing.filters import RuleFilters
from sidecar.routing.match import Matcher


@dataclass(slots=True, eq=False)
class ClusterPlan:
    """One port of a backend service.

    Attributes:
        key: What live state is keyed by.
        endpoints: All endpoints of that port, ready or not. The same tuple in every plan of the cluster.
        policy: For what concerns endpoints (balancing, ejection, limits, mode): the policy of the backend service; if
            it has none, that of the service which the caller named; else the default.
        protocol: As the backend service declares it.
        known: False when the service or the port does not exist: the share is answered 500 (Gateway API), flag NC.
        service: The backend service.
    """

    key: ClusterKey
    endpoints: tuple[Endpoint, ...]
    policy: TrafficPolicy
    protocol: Protocol
    known: bool
    service: ServiceKey


@dataclass(slots=True, eq=False)
class RoutePlan:
    """One rule of a route of any kind, or the implicit way to a service without routes.

    Attributes:
        name: `HTTPRoute/shop/orders/rule-0`, or the rule's own name instead of `rule-0`; `default` without a route.
            Of connections (TCPRoute, TLSRoute) there is no `request_s`: they last as long as something moves.
        backends: Those with a weight above 0. Empty when the rule names none: the request is answered 500, flag NC.
            Of connections: they are refused.
        cumulative: Running sums of their weights, for `balance.pick.split`.
        policy: For what concerns the request (timeouts, retries): see `routing/compile.py` for which policy that is.
        policies: For each backend what a try obeys: timeouts, retries, fallback and faults of `policy`, the rest of
            the backend's.
        request_s: Time of the request; None: no limit.
        whole_response: True when the user set `request_s` in the route: it then bounds the whole response and not only
            its head.
        per_try_s: Time of one try when the route sets it (0: no limit); None: the policy's.
        filters: What the rule changes; None: nothing. A redirect answers before `backends` is looked at.
        backend_filters: The same for each of `backends`; empty when none of them has any.
        sticky: Where the key is that chooses among several backends; None: chance does, or there is one only.
        names: Of the backends, for that.
    """

    name: str
    backends: tuple[ClusterPlan, ...]
    cumulative: tuple[int, ...]
    policy: TrafficPolicy
    policies: tuple[TrafficPolicy, ...]
    request_s: float | None
    whole_response: bool
    per_try_s: float | None
    filters: RuleFilters | None = None
    backend_filters: tuple[RuleFilters | None, ...] = ()
    sticky: HashKey | None = None
    names: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RoutePart:
    """What a route contributes to a table; the next table has the same object while nothing of it changes.

    Attributes:
        route: None: no route is attached, and all requests go to the service itself.
        uses: The clusters that may take traffic, each once.
        sources: What else it was made from: the policy of each rule, the plan of each of `uses`.
        plans: Each rule, and what became of it.
    """

    route: AnyRoute | None
    uses: tuple[ClusterKey, ...]
    sources: tuple[object, ...]
    plans: tuple[tuple[AnyRule, RoutePlan], ...]


class ServiceTable:
    """The routes of one port of one service.

    Attributes:
        service, port: What it routes.
        routes: All plans, in the order that breaks ties; for `explain` and `/config`.
        clusters: All backends, by key.
        parts: What each route contributes; another one of the same parts is the same table.
        match: The rule that takes a request by Gateway API's precedence; None (404, NR) when none does. Exact path,
            then the longest expression, then the longest prefix; then a method, the most headers, the most query
            parameters; among equals the oldest route, the first by namespace and name, the first rule. Once a route is
            attached, nothing is forwarded implicitly. Not a method: it is called for every request.
    """

    __slots__ = ("clusters", "match", "parts", "port", "routes", "service")

    def __init__(
        self,
        service: ServiceKey,
        port: int,
        matches: list[tuple[RouteMatch | GrpcMatch, RoutePlan]],
        clusters: dict[ClusterKey, ClusterPlan],
        parts: tuple[RoutePart, ...],
    ) -> None:
        self.service = service
        self.port = port
        self.routes = tuple(dict.fromkeys(plan for _, plan in matches))
        self.clusters = clusters
        self.parts = parts
        self.match: Callable[[RequestHead], RoutePlan | None] = Matcher(matches).find


class L4Table:
    """Where the connections of one port of one service go; nothing of them is read but a ServerName.

    Attributes as of `ServiceTable`.
    """

    __slots__ = ("_any", "_exact", "_wildcards", "clusters", "parts", "port", "routes", "service")

    def __init__(
        self,
        service: ServiceKey,
        port: int,
        plans: list[tuple[tuple[str, ...], RoutePlan]],
        clusters: dict[ClusterKey, ClusterPlan],
        parts: tuple[RoutePart, ...],
    ) -> None:
        """`plans`: hostnames and where they lead, in the order that breaks ties; no hostnames: every connection."""
        self.service = service
        self.port = port
        self.routes = tuple(plan for _, plan in plans)
        self.clusters = clusters
        self.parts = parts
        self._any = next((plan for hostnames, plan in plans if not hostnames), None)
        self._exact: dict[bytes, RoutePlan] = {}
        self._wildcards: dict[bytes, RoutePlan] = {}
        for hostnames, plan in plans:
            for hostname in hostnames:
                names = self._wildcards if hostname.startswith("*.") else self._exact
                names.setdefault(hostname.removeprefix("*.").encode(), plan)

    @property
    def asks_server_name(self) -> bool:
        """Whether `match` needs one: only then must a ClientHello be waited for."""
        return self._any is None

    def match(self, server_name: bytes | None) -> RoutePlan | None:
        """The rule that takes a connection; None when none does, which then is refused (NR).

        A name in full beats a wildcard, a longer wildcard a shorter one; `*.example.com` takes every name below
        `example.com`, however deep, and not itself. Case does not count, nor does a dot at the end.

        Args:
            server_name: What the client's TLS asks for; None: it did not say, or speaks no TLS.
        """
        if self._any is not None or server_name is None:
            return self._any
        name = server_name.lower().removesuffix(b".")
        found = self._exact.get(name)
        while found is None and name and self._wildcards:
            name = name.partition(b".")[2]
            found = self._wildcards.get(name)
        return found
