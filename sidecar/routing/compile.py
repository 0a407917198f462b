"""Make a service's tables from the resources of a snapshot, and keep of the previous ones what still holds.

Called by `routing/table.py` when a table is first asked for after a push; never per request. A port has two tables: one
for requests (HTTPRoute, GRPCRoute) and one for connections that are not read (TLSRoute, TCPRoute).

Which policy: for timeouts and retries the first of the TrafficPolicy on the rule (`sectionName`), on the route, on
the service that the caller named, the default; for what concerns endpoints see `ClusterPlan`. A policy counts as a
whole: fields that it leaves out have their defaults, and are not filled from the next one.

Once a route is attached to a service, nothing is forwarded implicitly any more.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from sidecar.model.clusters import ClusterKey, Protocol
from sidecar.model.policies import DEFAULT_POLICY, TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import (
    AnyRoute,
    AnyRule,
    BackendRef,
    Filters,
    GrpcMatch,
    L4Rule,
    RouteMatch,
    RouteRule,
    TlsRoute,
    rules_of,
)
from sidecar.routing.attach import CONNECTION_KINDS, REQUEST_KINDS, Attachments
from sidecar.routing.filters import RuleFilters
from sidecar.routing.plan import ClusterPlan, L4Table, RoutePlan, ServiceTable

_ANY: tuple[RouteMatch] = (RouteMatch(),)


def compile_table(attachments: Attachments, cluster: ClusterKey, previous: ServiceTable | None) -> ServiceTable | None:
    """The table for a port of a service; None when the snapshot does not know the service or the port.

    Returns `previous`, the same object, when every resource that it was made from is unchanged by identity. Else plans
    of equal content are taken over from it.
    """
    if not _declared(attachments, cluster):
        return None
    routes = attachments.routes(*cluster, REQUEST_KINDS)
    sources = tuple(_sources(attachments, cluster, routes))
    if previous is not None and _same(previous.sources, sources):
        return previous
    clusters = {key: _cluster_plan(attachments, key, cluster, previous) for key in _backends(cluster, routes)}
    matches: list[tuple[RouteMatch | GrpcMatch, RoutePlan]] = []
    for _, rule, plan in _plans(attachments, cluster, routes, clusters, previous):
        matches += [(match, plan) for match in (_ANY if isinstance(rule, L4Rule) else rule.matches or _ANY)]
    return ServiceTable(*cluster, matches, clusters, sources)


def compile_l4_table(attachments: Attachments, cluster: ClusterKey, previous: L4Table | None) -> L4Table | None:
    """The table for the connections of a port; as `compile_table`."""
    if not _declared(attachments, cluster):
        return None
    routes = attachments.routes(*cluster, CONNECTION_KINDS)
    sources = tuple(_sources(attachments, cluster, routes))
    if previous is not None and _same(previous.sources, sources):
        return previous
    clusters = {key: _cluster_plan(attachments, key, cluster, previous) for key in _backends(cluster, routes)}
    plans: list[tuple[tuple[str, ...], RoutePlan]] = []
    for route, _, plan in _plans(attachments, cluster, routes, clusters, previous, of_connections=True):
        plans.append((route.hostnames if isinstance(route, TlsRoute) else (), plan))
    return L4Table(*cluster, plans, clusters, sources)


def _declared(attachments: Attachments, cluster: ClusterKey) -> bool:
    service = attachments.snapshot.service(cluster.service)
    return service is not None and any(declared.port == cluster.port for declared in service.ports)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _sources(attachments: Attachments, cluster: ClusterKey, routes: list[AnyRoute]) -> Iterator[object]:
    """Every resource that the table depends on, and None where one is missing, in a fixed order."""
    yield attachments.snapshot.service(cluster.service)
    yield attachments.service_policy(cluster.service)
    for route in routes:
        yield route
        for rule in rules_of(route):
            yield attachments.route_policy(route, rule.name)
    for key in _backends(cluster, routes):
        yield attachments.snapshot.service(key.service)
        yield attachments.snapshot.endpoints(key.service)
        yield attachments.service_policy(key.service)


def _backends(cluster: ClusterKey, routes: list[AnyRoute]) -> list[ClusterKey]:
    """All clusters that may take traffic, each once; without a route the service's own."""
    if not routes:
        return [cluster]
    refs = (ref for route in routes for rule in rules_of(route) for ref in _weighty(rule))
    return list(dict.fromkeys(ClusterKey(ref.service, ref.port) for ref in refs))


def _weighty(rule: AnyRule) -> list[BackendRef]:
    return [ref for ref in rule.backends if ref.weight > 0]


def _cluster_plan(
    attachments: Attachments, key: ClusterKey, named: ClusterKey, previous: ServiceTable | L4Table | None
) -> ClusterPlan:
    service = attachments.snapshot.service(key.service)
    declared = next((port for port in service.ports if port.port == key.port), None) if service is not None else None
    plan = ClusterPlan(
        key=key,
        endpoints=attachments.endpoints(key) if declared is not None else (),
        policy=_policy(attachments.service_policy(key.service) or attachments.service_policy(named.service)),
        protocol=declared.protocol if declared is not None else Protocol.AUTO,
        known=declared is not None,
        service=key.service,
    )
    before = previous.clusters.get(key) if previous is not None else None
    if before is not None and (before.endpoints, before.policy, before.protocol, before.known) == (
        plan.endpoints,
        plan.policy,
        plan.protocol,
        plan.known,
    ):
        return before
    return plan


def _policy(resource: TrafficPolicyResource | None) -> TrafficPolicy:
    return DEFAULT_POLICY if resource is None else resource.policy


def _plans(
    attachments: Attachments,
    cluster: ClusterKey,
    routes: list[AnyRoute],
    clusters: dict[ClusterKey, ClusterPlan],
    previous: ServiceTable | L4Table | None,
    *,
    of_connections: bool = False,
) -> Iterator[tuple[AnyRoute | None, AnyRule, RoutePlan]]:
    """Every rule and what became of it, in the order that breaks ties; without a route the way to the service."""
    known = {plan.name: plan for plan in previous.routes} if previous is not None else {}
    service_policy = attachments.service_policy(cluster.service)

    def plan_of(name: str, rule: AnyRule, policy: TrafficPolicy) -> RoutePlan:
        plan = _route_plan(name, rule, policy, clusters)
        if of_connections:
            plan.request_s = None
        return _same_as_before(plan, known.get(name))

    if not routes:
        own = L4Rule(backends=(BackendRef(*cluster),))
        yield None, own, plan_of("default", own, _policy(service_policy))
    for route in routes:
        for index, rule in enumerate(rules_of(route)):
            name = f"{route.kind}/{route.namespace}/{route.name}/{rule.name or f'rule-{index}'}"
            policy = _policy(attachments.route_policy(route, rule.name) or service_policy)
            yield route, rule, plan_of(name, rule, policy)


def _route_plan(name: str, rule: AnyRule, policy: TrafficPolicy, clusters: dict[ClusterKey, ClusterPlan]) -> RoutePlan:
    refs = _weighty(rule)
    backends = tuple(clusters[ClusterKey(ref.service, ref.port)] for ref in refs)
    request_s, per_try_s = (rule.request_s, rule.backend_request_s) if isinstance(rule, RouteRule) else (None, None)
    backend_filters = tuple(_filters(ref.filters, rule) for ref in refs)
    return RoutePlan(
        name=name,
        backends=backends,
        cumulative=tuple(accumulate(ref.weight for ref in refs)),
        policy=policy,
        policies=tuple(
            replace(backend.policy, timeouts=policy.timeouts, retries=policy.retries) for backend in backends
        ),
        # Gateway API: 0 switches the limit off
        request_s=(policy.timeouts.request_s if request_s is None else request_s) or None,
        whole_response=request_s is not None,
        per_try_s=per_try_s,
        filters=None if isinstance(rule, L4Rule) else _filters(rule.filters, rule),
        backend_filters=backend_filters if any(backend_filters) else (),
    )


def _filters(filters: Filters | None, rule: AnyRule) -> RuleFilters | None:
    if filters is None:
        return None
    return RuleFilters(filters, rule.matches[0].path.value if isinstance(rule, RouteRule) and rule.matches else "")


def _same_as_before(plan: RoutePlan, before: RoutePlan | None) -> RoutePlan:
    """`before` when it says the same; its backends must be the same objects, because it holds on to them."""
    if before is None or not _same(before.backends, plan.backends):
        return plan
    return before if _content(plan) == _content(before) else plan


def _content(plan: RoutePlan) -> tuple[object, ...]:
    times = (plan.request_s, plan.whole_response, plan.per_try_s)
    return plan.cumulative, plan.policies, plan.policy, times, plan.filters, plan.backend_filters
