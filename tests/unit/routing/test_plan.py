"""A table knows its plans and finds the one for a head."""

from sidecar.model.clusters import ClusterKey, Protocol
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.model.routes import RouteMatch
from sidecar.routing.plan import ClusterPlan, RoutePlan, ServiceTable
from tests.unit.routing.builders import PORT, exact, head, key, match, prefix

CLUSTER = ClusterKey(key("orders"), PORT)


def plan(name: str) -> RoutePlan:
    backend = ClusterPlan(CLUSTER, (), DEFAULT_POLICY, Protocol.HTTP, True, key("orders"))
    return RoutePlan(name, (backend,), (1,), DEFAULT_POLICY, (DEFAULT_POLICY,), 15.0, False, None)


def table(*matches: tuple[RouteMatch, RoutePlan]) -> ServiceTable:
    return ServiceTable(key("orders"), PORT, list(matches), {}, ())


def test_a_head_leads_to_the_plan_of_its_match_or_to_none() -> None:
    one, other = plan("one"), plan("other")
    made = table((match(exact("/a")), one), (match(prefix("/b")), other), (match(exact("/c")), one))
    assert [made.match(head(path)) for path in ("/a", "/b/x", "/c", "/d")] == [one, other, one, None]


def test_each_plan_is_listed_once_in_the_order_given() -> None:
    one, other = plan("one"), plan("other")
    assert table((match(exact("/a")), one), (match(), other), (match(exact("/c")), one)).routes == (one, other)


def test_plans_are_compared_by_identity_because_caches_are_keyed_by_them() -> None:
    assert plan("same") != plan("same")
