"""Make a service's tables from the resources of a snapshot, and keep of the previous ones what still holds.

Called by `routing/table.py` when a table is first asked for after a push; never per request. A port has two tables: one
for requests (HTTPRoute, GRPCRoute) and one for connections that are not read (TLSRoute, TCPRoute).

Which policy: for timeouts and retries the first of the TrafficPolicy on the rule (`sectionName`), on the route, on
the service that the caller named, the default; for what concerns endpoints see `ClusterPlan`. A policy counts as a
whole: fields that it leaves out have their defaults, and are not filled from the next one.

Once a route is attached to a service, nothing is forwarded implicitly any more.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain

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
from sidecar.routing.plan import ClusterPlan, L4Table, RoutePart, RoutePlan, ServiceTable

_ANY: tuple[RouteMatch] = (RouteMatch(),)


def compile_table(attachments: Attachments, cluster: ClusterKey, previous: ServiceTable | None) -> ServiceTable | None:
    """The table for a port of a service; None when the snapshot does not know the service or the port.

    Returns `previous`, the same object, when all that it was made from is unchanged. Else the routes of which nothing
    changed are taken over from it as they are, so that a push costs what it changes, and of the others those plans that
    say the same as before.
    """
    if not _declared(attachments, cluster):
        return None
    parts, clusters = _parts(attachments, cluster, REQUEST_KINDS, previous)
    if previous is not None and _same(previous.parts, parts):
        return previous
    matches: list[tuple[RouteMatch | GrpcMatch, RoutePlan]] = []
    for part in parts:
        for rule, plan in part.plans:
            matches += [(match, plan) for match in (_ANY if isinstance(rule, L4Rule) else rule.matches or _ANY)]
    return ServiceTable(*cluster, matches, clusters, parts)


def compile_l4_table(attachments: Attachments, cluster: ClusterKey, previous: L4Table | None) -> L4Table | None:
    """The table for the connections of a port; as `compile_table`."""
    if not _declared(attachments, cluster):
        return None
    parts, clusters = _parts(attachments, cluster, CONNECTION_KINDS, previous)
    if previous is not None and _same(previous.parts, parts):
        return previous
    plans: list[tuple[tuple[str, ...], RoutePlan]] = []
    for part in parts:
        hostnames = part.route.hostnames if isinstance(part.route, TlsRoute) else ()
        plans += [(hostnames, plan) for _, plan in part.plans]
    return L4Table(*cluster, plans, clusters, parts)


def _declared(attachments: Attachments, cluster: ClusterKey) -> bool:
    service = attachments.snapshot.service(cluster.service)
    return service is not None and any(declared.port == cluster.port for declared in service.ports)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _parts(
    attachments: Attachments, cluster: ClusterKey, kinds: tuple[str, ...], previous: ServiceTable | L4Table | None
) -> tuple[tuple[RoutePart, ...], dict[ClusterKey, ClusterPlan]]:
    """What each route of these kinds contributes, in the order that breaks ties, and all clusters that they lead to."""
    known = {_identity(part.route): part for part in previous.parts} if previous is not None else {}
    routes: list[AnyRoute | None] = [*attachments.routes(*cluster, kinds)] or [None]
    found = [(route, known.get(_identity(route))) for route in routes]
    uses = [part.uses if part is not None and part.route is route else _uses(cluster, route) for route, part in found]
    clusters = {
        key: _cluster_plan(attachments, key, cluster, previous) for key in dict.fromkeys(chain.from_iterable(uses))
    }
    makers = _Maker(attachments, cluster, clusters, of_connections=kinds is CONNECTION_KINDS)
    return tuple(makers.part(route, keys, part) for (route, part), keys in zip(found, uses, strict=True)), clusters


def _identity(route: AnyRoute | None) -> tuple[str, ...]:
    return (route.kind, route.namespace, route.name) if route is not None else ()


def _uses(cluster: ClusterKey, route: AnyRoute | None) -> tuple[ClusterKey, ...]:
    """All clusters that may take traffic, each once; without a route the service's own."""
    if route is None:
        return (cluster,)
    refs = (ref for rule in rules_of(route) for ref in _weighty(rule))
    return tuple(dict.fromkeys(ClusterKey(ref.service, ref.port) for ref in refs))


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


class _Maker:
    """Makes the parts of one table."""

    def __init__(
        self,
        attachments: Attachments,
        cluster: ClusterKey,
        clusters: dict[ClusterKey, ClusterPlan],
        *,
        of_connections: bool,
    ) -> None:
        self._attachments = attachments
        self._cluster = cluster
        self._clusters = clusters
        self._of_connections = of_connections
        self._service_policy = attachments.service_policy(cluster.service)
        self._merged: dict[tuple[int, int], TrafficPolicy] = {}

    def part(self, route: AnyRoute | None, uses: tuple[ClusterKey, ...], before: RoutePart | None) -> RoutePart:
        """The part of `route`, or `before` when nothing that it was made from has changed."""
        rules: Sequence[AnyRule] = (
            (L4Rule(backends=(BackendRef(*self._cluster),)),) if route is None else rules_of(route)
        )
        policies = [self._policy(route, rule) for rule in rules]
        sources = (*policies, *(self._clusters[key] for key in uses))
        if before is not None and before.route is route and _same(before.sources, sources):
            return before
        known = {plan.name: plan for _, plan in before.plans} if before is not None else {}
        plans = []
        for index, (rule, policy) in enumerate(zip(rules, policies, strict=True)):
            plan = self._plan(_name(route, rule, index), rule, policy)
            plans.append((rule, _same_as_before(plan, known.get(plan.name))))
        return RoutePart(route, uses, sources, tuple(plans))

    def _policy(self, route: AnyRoute | None, rule: AnyRule) -> TrafficPolicy:
        own = self._attachments.route_policy(route, rule.name) if route is not None else None
        return _policy(own or self._service_policy)

    def _plan(self, name: str, rule: AnyRule, policy: TrafficPolicy) -> RoutePlan:
        refs = _weighty(rule)
        backends = tuple([self._clusters[ClusterKey(ref.service, ref.port)] for ref in refs])
        request_s, per_try_s = (rule.request_s, rule.backend_request_s) if isinstance(rule, RouteRule) else (None, None)
        backend_filters = tuple([_filters(ref.filters, rule) for ref in refs])
        # Gateway API: 0 switches the limit off
        limit_s = (policy.timeouts.request_s if request_s is None else request_s) or None
        sticky = policy.sticky if len(backends) > 1 and not self._of_connections else None
        return RoutePlan(
            name=name,
            backends=backends,
            cumulative=tuple(accumulate([ref.weight for ref in refs])),
            policy=policy,
            policies=tuple([self._policy_of(backend, policy) for backend in backends]),
            request_s=None if self._of_connections else limit_s,
            whole_response=request_s is not None,
            per_try_s=per_try_s,
            filters=None if isinstance(rule, L4Rule) else _filters(rule.filters, rule),
            backend_filters=backend_filters if any(backend_filters) else (),
            sticky=sticky,
            names=tuple([str(backend.key).encode() for backend in backends]) if sticky is not None else (),
        )

    def _policy_of(self, backend: ClusterPlan, policy: TrafficPolicy) -> TrafficPolicy:
        """The backend's, but for what the rule's says of a whole request. The same for all rules that have the same."""
        key = id(backend), id(policy)
        merged = self._merged.get(key)
        if merged is None:
            merged = replace(
                backend.policy,
                timeouts=policy.timeouts,
                retries=policy.retries,
                fallback=policy.fallback,
                faults=policy.faults,
            )
            self._merged[key] = merged
        return merged


def _name(route: AnyRoute | None, rule: AnyRule, index: int) -> str:
    if route is None:
        return "default"
    return f"{route.kind}/{route.namespace}/{route.name}/{rule.name or f'rule-{index}'}"


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
