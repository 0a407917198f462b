"""Make a service's table from the resources of a snapshot, and keep of the previous table what still holds.

Called by `routing/table.py` when a table is first asked for after a push; never per request.

Which policy: for timeouts and retries the first of the TrafficPolicy on the rule (`sectionName`), on the HTTPRoute, on
the service that the caller named, the default; for what concerns endpoints see `ClusterPlan`. A policy counts as a
whole: fields that it leaves out have their defaults, and are not filled from the next one.

Once a route is attached to a service, nothing is forwarded implicitly any more.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from sidecar.model.clusters import ClusterKey, Protocol
from sidecar.model.policies import DEFAULT_POLICY, TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import BackendRef, HttpRoute, RouteMatch, RouteRule
from sidecar.routing.attach import Attachments
from sidecar.routing.plan import ClusterPlan, RoutePlan, ServiceTable

_ANY = (RouteMatch(),)


def compile_table(attachments: Attachments, cluster: ClusterKey, previous: ServiceTable | None) -> ServiceTable | None:
    """The table for a port of a service; None when the snapshot does not know the service or the port.

    Returns `previous`, the same object, when every resource that it was made from is unchanged by identity. Else plans
    of equal content are taken over from it.
    """
    service = attachments.snapshot.service(cluster.service)
    if service is None or all(declared.port != cluster.port for declared in service.ports):
        return None
    routes = attachments.routes(*cluster)
    sources = tuple(_sources(attachments, cluster, routes))
    if previous is not None and _same(previous.sources, sources):
        return previous
    clusters = {key: _cluster_plan(attachments, key, cluster, previous) for key in _backends(cluster, routes)}
    matches = list(_matches(attachments, cluster, routes, clusters))
    known = {plan.name: plan for plan in previous.routes} if previous is not None else {}
    plans = {plan: _same_as_before(plan, known.get(plan.name)) for _, plan in matches}
    return ServiceTable(*cluster, [(match, plans[plan]) for match, plan in matches], clusters, sources)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _sources(attachments: Attachments, cluster: ClusterKey, routes: list[HttpRoute]) -> Iterator[object]:
    """Every resource that the table depends on, and None where one is missing, in a fixed order."""
    yield attachments.snapshot.service(cluster.service)
    yield attachments.service_policy(cluster.service)
    for route in routes:
        yield route
        for rule in route.rules:
            yield attachments.route_policy(route, rule.name)
    for key in _backends(cluster, routes):
        yield attachments.snapshot.service(key.service)
        yield attachments.snapshot.endpoints(key.service)
        yield attachments.service_policy(key.service)


def _backends(cluster: ClusterKey, routes: list[HttpRoute]) -> list[ClusterKey]:
    """All clusters that may take traffic, each once; without a route the service's own."""
    if not routes:
        return [cluster]
    refs = (ref for route in routes for rule in route.rules for ref in _weighty(rule))
    return list(dict.fromkeys(ClusterKey(ref.service, ref.port) for ref in refs))


def _weighty(rule: RouteRule) -> list[BackendRef]:
    return [ref for ref in rule.backends if ref.weight > 0]


def _cluster_plan(
    attachments: Attachments, key: ClusterKey, named: ClusterKey, previous: ServiceTable | None
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


def _matches(
    attachments: Attachments, cluster: ClusterKey, routes: list[HttpRoute], clusters: dict[ClusterKey, ClusterPlan]
) -> Iterator[tuple[RouteMatch, RoutePlan]]:
    """What leads where, in the order that breaks ties."""
    service_policy = attachments.service_policy(cluster.service)
    if not routes:
        own = RouteRule(backends=(BackendRef(*cluster),))
        yield _ANY[0], _route_plan("default", own, _policy(service_policy), clusters)
    for route in routes:
        for index, rule in enumerate(route.rules):
            name = f"HTTPRoute/{route.namespace}/{route.name}/{rule.name or f'rule-{index}'}"
            policy = _policy(attachments.route_policy(route, rule.name) or service_policy)
            plan = _route_plan(name, rule, policy, clusters)
            for match in rule.matches or _ANY:
                yield match, plan


def _route_plan(
    name: str, rule: RouteRule, policy: TrafficPolicy, clusters: dict[ClusterKey, ClusterPlan]
) -> RoutePlan:
    refs = _weighty(rule)
    backends = tuple(clusters[ClusterKey(ref.service, ref.port)] for ref in refs)
    request_s = policy.timeouts.request_s if rule.request_s is None else rule.request_s
    return RoutePlan(
        name=name,
        backends=backends,
        cumulative=tuple(accumulate(ref.weight for ref in refs)),
        policy=policy,
        policies=tuple(
            replace(backend.policy, timeouts=policy.timeouts, retries=policy.retries) for backend in backends
        ),
        request_s=request_s or None,  # Gateway API: 0 switches the limit off
        whole_response=rule.request_s is not None,
        per_try_s=rule.backend_request_s,
    )


def _same_as_before(plan: RoutePlan, before: RoutePlan | None) -> RoutePlan:
    """`before` when it says the same; its backends must be the same objects, because it holds on to them."""
    if before is None or not _same(before.backends, plan.backends):
        return plan
    ours = (plan.cumulative, plan.policies, plan.policy, plan.request_s, plan.whole_response, plan.per_try_s)
    theirs = (before.cumulative, before.policies, before.policy, before.request_s, before.whole_response)
    return before if ours == (*theirs, before.per_try_s) else plan
