"""What a table is made of, whose policy counts, and what survives a push by identity."""

from dataclasses import replace

import pytest

from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.clusters import ClusterKey, Protocol, Service, ServicePort
from sidecar.model.policies import (
    DEFAULT_POLICY,
    Ejection,
    Limits,
    Mode,
    Retries,
    TargetRef,
    Timeouts,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.routes import Filters, HeaderModifier, Redirect, Rewrite, RouteRule
from sidecar.model.snapshot import Body, Snapshot
from sidecar.routing.attach import Attachments
from sidecar.routing.compile import compile_l4_table, compile_table
from sidecar.routing.filters import RuleFilters
from sidecar.routing.plan import L4Table, RoutePlan, ServiceTable
from tests.unit.routing.builders import (
    PORT,
    call,
    endpoint,
    endpoints,
    exact,
    grpc_route,
    grpc_rule,
    head,
    key,
    match,
    policy,
    prefix,
    push,
    route,
    rule,
    service,
    snapshot,
    tcp_route,
    tls_route,
)

ORDERS = ClusterKey(key("orders"), PORT)
SHOP = (
    service("orders"),
    endpoints("orders", endpoint("orders-1"), endpoint("orders-2")),
    service("orders-v1"),
    endpoints("orders-v1", endpoint("orders-1")),
    service("orders-v2"),
    endpoints("orders-v2", endpoint("orders-2")),
    service("stock"),
    endpoints("stock"),
)


def compiled(given: Snapshot, previous: ServiceTable | None = None, cluster: ClusterKey = ORDERS) -> ServiceTable:
    table = compile_table(Attachments(given), cluster, previous)
    assert table is not None
    return table


def plan_for(table: ServiceTable, path: str = "/") -> RoutePlan:
    plan = table.match(head(path))
    assert plan is not None
    return plan


def settings(attempts: int, algorithm: Algorithm = Algorithm.EWMA) -> TrafficPolicy:
    """A policy that is told from others by its numbers, in both halves."""
    return TrafficPolicy(
        timeouts=Timeouts(request_s=float(attempts)),
        retries=Retries(attempts=attempts),
        balancing=Balancing(algorithm=algorithm),
    )


def on(attempts: int, kind: str, name: str, section: str = "") -> TrafficPolicyResource:
    target = TargetRef(kind, name, section)
    return policy(f"{kind}-{name}-{section}".lower(), target, settings=settings(attempts))


# --- what is there


def test_a_service_or_port_that_the_snapshot_does_not_know_has_no_table() -> None:
    attachments = Attachments(snapshot(*SHOP))
    assert compile_table(attachments, ClusterKey(key("nobody"), PORT), None) is None
    assert compile_table(attachments, ClusterKey(key("orders"), 9999), None) is None


def test_without_a_route_every_request_goes_to_the_services_own_endpoints() -> None:
    table = compiled(snapshot(*SHOP))
    plan = plan_for(table, "/any")
    assert (plan.name, plan.cumulative, plan.policy) == ("default", (1,), DEFAULT_POLICY)
    assert (plan.request_s, plan.whole_response, plan.per_try_s) == (15.0, False, None)
    (own,) = plan.backends
    assert (own.key, own.service, own.known, own.protocol) == (ORDERS, key("orders"), True, Protocol.HTTP)
    assert [one.id for one in own.endpoints] == ["orders-1", "orders-2"]
    assert table.clusters == {ORDERS: own}
    assert (table.service, table.port) == ORDERS


def test_only_the_endpoints_and_the_protocol_of_the_port_count() -> None:
    two_ports = Service(key("orders"), (ServicePort(PORT, Protocol.GRPC), ServicePort(9090, Protocol.TCP)))
    given = snapshot(two_ports, endpoints("orders", endpoint("orders-1"), endpoint("orders-1", 9090)))
    (own,) = plan_for(compiled(given)).backends
    assert [one.service_port for one in own.endpoints] == [PORT]
    assert own.protocol is Protocol.GRPC


def test_endpoints_that_are_not_ready_stay_in_the_plan() -> None:
    given = snapshot(service("orders"), endpoints("orders", endpoint("orders-1", ready=False)))
    assert len(plan_for(compiled(given)).backends[0].endpoints) == 1


def test_an_attached_route_replaces_implicit_forwarding() -> None:
    given = snapshot(*SHOP, route(rule("orders-v1", matches=(match(exact("/a")),))))
    table = compiled(given)
    assert plan_for(table, "/a").name == "HTTPRoute/shop/orders/rule-0"
    assert table.match(head("/b")) is None


def test_weights_add_up_and_backends_without_weight_take_nothing() -> None:
    table = compiled(snapshot(*SHOP, route(rule(("orders-v1", 90), ("stock", 0), ("orders-v2", 10)))))
    plan = plan_for(table)
    assert [backend.key.service.name for backend in plan.backends] == ["orders-v1", "orders-v2"]
    assert plan.cumulative == (90, 100)
    assert len(plan.policies) == 2
    assert set(table.clusters) == {backend.key for backend in plan.backends}


@pytest.mark.parametrize("empty", [rule(), rule(("orders-v1", 0))])
def test_a_rule_without_backends_is_a_plan_without_backends(empty: RouteRule) -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(empty))))
    assert (plan.backends, plan.cumulative, plan.policies) == ((), (), ())


def test_a_backend_that_does_not_exist_keeps_its_share_and_is_marked() -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(rule(("orders-v1", 9), ("gone", 1))))))
    assert [backend.known for backend in plan.backends] == [True, False]
    assert plan.cumulative == (9, 10)
    assert plan.backends[1].endpoints == ()


def test_a_backend_port_that_is_not_declared_does_not_exist() -> None:
    given = snapshot(service("orders"), service("admin", 1), endpoints("admin"), route(rule("admin")))
    (backend,) = plan_for(compiled(given)).backends
    assert not backend.known
    assert backend.endpoints == ()


def test_a_backend_that_is_its_own_parent_means_its_endpoints_and_not_its_routes() -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(rule("orders")))))
    assert plan.backends[0].key == ORDERS
    assert len(plan.backends[0].endpoints) == 2


def test_rules_are_named_by_their_own_name_or_their_place() -> None:
    rules = (rule("stock", matches=(match(exact("/a")),)), rule("stock", name="slow", matches=(match(),)))
    table = compiled(snapshot(*SHOP, route(*rules)))
    assert [plan.name for plan in table.routes] == ["HTTPRoute/shop/orders/rule-0", "HTTPRoute/shop/orders/slow"]


def test_a_rule_without_matches_takes_everything_and_several_matches_lead_to_one_plan() -> None:
    assert plan_for(compiled(snapshot(*SHOP, route(rule("stock", matches=())))), "/x").name.endswith("rule-0")
    several = route(rule("stock", matches=(match(exact("/a")), match(prefix("/b")))))
    table = compiled(snapshot(*SHOP, several))
    assert plan_for(table, "/a") is plan_for(table, "/b/c")
    assert len(table.routes) == 1


def test_filters_of_a_rule_and_of_its_backends_are_compiled_and_none_costs_nothing() -> None:
    changes = Filters(rewrite=Rewrite("a"))
    of_backend = Filters(request=HeaderModifier(remove=("x-a",)))
    both = rule("orders-v1", "orders-v2", matches=(match(prefix("/a")),), filters=changes)
    first, second = both.backends
    both = replace(both, backends=(first, replace(second, filters=of_backend)))
    table = compiled(snapshot(*SHOP, route(both, rule("orders-v1", matches=(match(prefix("/b")),)))))
    plan, plain = plan_for(table, "/a"), plan_for(table, "/b")
    assert plan.filters == RuleFilters(changes, "/a")
    assert plan.backend_filters == (None, RuleFilters(of_backend, "/a"))
    assert (plain.filters, plain.backend_filters) == (None, ())


def test_a_rule_that_redirects_has_no_backends() -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(rule(filters=Filters(redirect=Redirect(hostname="a")))))))
    assert plan.backends == ()
    assert plan.filters is not None
    assert plan.filters.redirect(head("/x")) == (302, b"http://a/x")


def test_calls_of_grpc_are_routed_and_other_routes_of_the_port_do_nothing() -> None:
    calls = grpc_route(
        grpc_rule("orders-v1", matches=(call("shop.Orders", "Get"), call("shop.Orders", "List"))),
        grpc_rule(("orders-v1", 9), ("orders-v2", 1), name="rest"),
    )
    policies = policy("a", TargetRef("GRPCRoute", "orders", "rest"), settings=with_retries(7))
    table = compiled(snapshot(*SHOP, calls, route(rule("stock")), policies))
    get, rest = plan_for(table, "/shop.Orders/Get"), plan_for(table, "/shop.Orders/Put")
    assert plan_for(table, "/shop.Orders/List") is get
    assert (get.name, get.request_s, get.whole_response) == ("GRPCRoute/shop/orders/rule-0", 15.0, False)
    assert (rest.name, rest.cumulative, rest.policy.retries.attempts) == ("GRPCRoute/shop/orders/rest", (9, 10), 7)


def test_what_speaks_http_on_a_port_with_a_tcp_route_alone_obeys_that() -> None:
    split = tcp_route(("orders-v1", 1), ("orders-v2", 3))
    plan = plan_for(compiled(snapshot(*SHOP, split)))
    assert (plan.name, plan.cumulative, plan.request_s) == ("TCPRoute/shop/orders/rule-0", (1, 4), 15.0)
    assert plan_for(compiled(snapshot(*SHOP, split, route(rule("stock"))))).name == "HTTPRoute/shop/orders/rule-0"


def l4(given: Snapshot, previous: L4Table | None = None) -> L4Table:
    table = compile_l4_table(Attachments(given), ORDERS, previous)
    assert table is not None
    return table


def test_connections_without_a_route_go_to_the_service_itself_for_as_long_as_they_last() -> None:
    table = l4(snapshot(*SHOP, route(rule("stock"))))
    plan = table.match(None)
    assert plan is not None
    assert table.match(b"any.example.com") is plan
    assert (plan.name, plan.request_s, plan.filters) == ("default", None, None)
    assert [backend.key for backend in plan.backends] == [ORDERS]
    assert not table.asks_server_name


def test_a_tcp_route_takes_every_connection_and_the_oldest_wins() -> None:
    old = tcp_route(("orders-v1", 1), ("orders-v2", 1), name="old", created="2025-01-01T00:00:00Z")
    table = l4(snapshot(*SHOP, old, tcp_route("stock", name="new", created="2026-01-01T00:00:00Z")))
    for name in (None, b"db.example.com"):
        plan = table.match(name)
        assert plan is not None
        assert (plan.name, plan.cumulative) == ("TCPRoute/shop/old/rule-0", (1, 2))


def test_a_route_without_backends_refuses_by_having_none() -> None:
    plan = l4(snapshot(*SHOP, tcp_route())).match(None)
    assert plan is not None
    assert plan.backends == ()


def test_tls_is_routed_by_server_name() -> None:
    routes = (
        tls_route("db.example.com", "*.one.example.com", to="orders-v1", name="a"),
        tls_route("*.example.com", to="orders-v2", name="b"),
        tls_route("db.example.com", to="stock", name="c"),
    )
    table = l4(snapshot(*SHOP, *routes, tcp_route("stock")))
    assert table.asks_server_name

    def led(name: bytes | None) -> str:
        plan = table.match(name)
        return "" if plan is None else plan.name.split("/")[2]

    asked = (b"db.example.com", b"DB.Example.com.", b"x.one.example.com", b"one.example.com", b"x.y.example.com")
    assert [led(name) for name in asked] == ["a", "a", "a", "b", "b"]
    nobody = (b"example.com", b"example.org", b"com", b"", b".", b"x.example.com.evil", None)
    assert [led(name) for name in nobody] == [""] * len(nobody)


def test_a_push_keeps_what_it_does_not_change_of_a_table_of_connections() -> None:
    before = snapshot(*SHOP, tcp_route("orders-v1", name="a"), tcp_route("stock", name="b", created="2026"))
    first = l4(before)
    assert l4(push(before, service("more")), first) is first
    changed = l4(push(before, tcp_route("orders-v2", name="b", created="2026")), first)
    assert changed is not first
    assert changed.match(None) is first.match(None)
    assert compile_l4_table(Attachments(before), ORDERS._replace(port=1), None) is None


def with_retries(attempts: int) -> TrafficPolicy:
    return TrafficPolicy(retries=Retries(attempts=attempts))


def test_the_oldest_route_then_the_first_by_name_then_the_first_rule_wins_a_tie() -> None:
    young = route(rule("stock"), name="a", created="2026-01-01T00:00:00Z")
    old = route(rule("stock"), rule("stock"), name="b", created="2025-01-01T00:00:00Z")
    same_age = route(rule("stock"), name="c", created="2025-01-01T00:00:00Z")
    table = compiled(snapshot(*SHOP, young, same_age, old))
    assert plan_for(table).name == "HTTPRoute/shop/b/rule-0"


# --- times


@pytest.mark.parametrize(
    ("request_s", "effective_s", "whole"),
    [(None, 15.0, False), (3.0, 3.0, True), (60.0, 60.0, True), (0.0, None, True)],
)
def test_a_routes_own_timeout_bounds_the_whole_response(
    request_s: float | None, effective_s: float | None, whole: bool
) -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(rule("stock", request_s=request_s, backend_request_s=1.5)))))
    assert (plan.request_s, plan.whole_response, plan.per_try_s) == (effective_s, whole, 1.5)


def test_a_policy_without_request_timeout_means_no_limit() -> None:
    unlimited = TrafficPolicy(timeouts=Timeouts(request_s=None))
    given = snapshot(*SHOP, policy("p", TargetRef("Service", "orders"), settings=unlimited))
    assert plan_for(compiled(given)).request_s is None


# --- whose policy


@pytest.mark.parametrize(
    ("there", "attempts"),
    [
        ([], 2),
        ([on(3, "Service", "orders")], 3),
        ([on(3, "Service", "orders"), on(4, "HTTPRoute", "orders")], 4),
        ([on(3, "Service", "orders"), on(4, "HTTPRoute", "orders"), on(5, "HTTPRoute", "orders", "slow")], 5),
        ([on(6, "HTTPRoute", "orders", "other")], 2),
        ([on(7, "Service", "stock")], 2),  # the backend's callers obey what was set for the service that they named
    ],
)
def test_timeouts_and_retries_come_from_the_nearest_policy_to_the_rule(
    there: list[TrafficPolicyResource], attempts: int
) -> None:
    plan = plan_for(compiled(snapshot(*SHOP, route(rule("stock", name="slow")), *there)))
    assert plan.policy.retries.attempts == attempts
    assert [one.retries.attempts for one in plan.policies] == [attempts]
    assert plan.request_s == (15.0 if attempts == 2 else float(attempts))


@pytest.mark.parametrize(
    ("there", "failures"),
    [
        ({}, 5),
        ({"orders": 6}, 6),  # no policy of its own: that of the service which the caller named
        ({"orders": 6, "orders-v1": 7}, 7),
        ({"orders-v1": 7}, 7),
        ({"orders-v2": 8}, 5),
    ],
)
def test_ejection_limits_and_balancing_come_from_the_backends_policy(there: dict[str, int], failures: int) -> None:
    policies = [
        policy(name, TargetRef("Service", name), settings=TrafficPolicy(ejection=Ejection(consecutive_failures=n)))
        for name, n in there.items()
    ]
    routed = policy("routed", TargetRef("HTTPRoute", "orders"), settings=settings(9, Algorithm.RANDOM))
    plan = plan_for(compiled(snapshot(*SHOP, route(rule("orders-v1")), routed, *policies)))
    assert plan.backends[0].policy.ejection.consecutive_failures == failures
    assert plan.policies[0].ejection.consecutive_failures == failures
    assert plan.policies[0].balancing.algorithm is Algorithm.EWMA
    assert plan.policies[0].retries.attempts == 9


def test_what_a_try_obeys_is_put_together_from_both() -> None:
    ours = TrafficPolicy(timeouts=Timeouts(connect_s=0.5), retries=Retries(attempts=4), mode=Mode.SHADOW)
    turns = Balancing(algorithm=Algorithm.ROUND_ROBIN)
    theirs = TrafficPolicy(balancing=turns, limits=Limits(requests=7), mode=Mode.ENFORCE)
    given = snapshot(
        *SHOP,
        route(rule("stock")),
        policy("ours", TargetRef("Service", "orders"), settings=ours),
        policy("theirs", TargetRef("Service", "stock"), settings=theirs),
    )
    (put_together,) = plan_for(compiled(given)).policies
    assert put_together == replace(theirs, timeouts=ours.timeouts, retries=ours.retries)


# --- what survives a push


BASE: tuple[Body, ...] = (
    *SHOP,
    route(
        rule(("orders-v1", 90), ("orders-v2", 10), matches=(match(exact("/a")),)),
        rule("orders-v1", matches=(match(prefix("/b")),)),
    ),
    policy("orders", TargetRef("Service", "orders"), settings=settings(3)),
    service("unrelated"),
    endpoints("unrelated"),
    route(rule("unrelated"), name="unrelated", parent="unrelated"),
)


@pytest.mark.parametrize(
    "change",
    [
        (),
        (service("unrelated", 1, 2),),
        (endpoints("unrelated", endpoint("unrelated-9")),),
        (endpoints("orders", endpoint("orders-7")),),  # the parent's own endpoints are behind none of its rules
        (endpoints("stock", endpoint("stock-9")),),
        (route(rule("stock"), name="unrelated", parent="unrelated"),),
        (route(rule("stock"), name="new", parent="stock"),),
        (route(rule("stock"), name="other-port", port=9999),),
        (policy("new", TargetRef("Service", "stock")),),
        (policy("new", TargetRef("HTTPRoute", "unrelated")),),
        (policy("zzz", TargetRef("Service", "orders")),),  # a second one on the same target, by name
        BASE,  # everything again, equal
        (service("orders", PORT, 9090),),  # one more port
        (service("orders-v1", PORT, 9090),),
        (endpoints("orders-v1", endpoint("orders-1"), endpoint("orders-1", 9090)),),  # and its endpoints
    ],
)
def test_a_push_of_something_else_leaves_the_same_table(change: tuple[Body, ...]) -> None:
    before = snapshot(*BASE)
    table = compiled(before)
    assert compiled(push(before, *change), table) is table


@pytest.mark.parametrize(
    "change",
    [
        endpoints("orders-v2", endpoint("orders-9")),
        route(rule("stock")),
        route(rule("stock"), name="second"),
        policy("orders", TargetRef("Service", "orders"), settings=settings(4)),
        policy("new", TargetRef("Service", "orders-v2"), settings=settings(4)),
        policy("new", TargetRef("HTTPRoute", "orders"), settings=settings(4)),
        policy("new", TargetRef("HTTPRoute", "orders", "slow"), settings=settings(4)),
    ],
)
def test_a_push_of_what_it_was_made_from_makes_a_new_table(change: Body) -> None:
    named = route(*(replace(one, name="slow") for one in (rule("orders-v1"), rule("orders-v2"))))
    before = snapshot(*BASE, named)
    table = compiled(before)
    assert compiled(push(before, change), table) is not table


@pytest.mark.parametrize(
    "gone", ["HTTPRoute/shop/orders", "TrafficPolicy/shop/orders", "Endpoints/shop/orders-v1", "Service/shop/orders-v2"]
)
def test_a_resource_that_goes_makes_a_new_table(gone: str) -> None:
    before = snapshot(*BASE)
    table = compiled(before)
    assert compiled(push(before, drop=(gone,)), table) is not table


def test_a_change_of_one_backend_keeps_the_plans_that_it_is_not_in() -> None:
    before = snapshot(*BASE)
    old = compiled(before)
    new = compiled(push(before, endpoints("orders-v2", endpoint("orders-9"))), old)
    split_before, split_now = plan_for(old, "/a"), plan_for(new, "/a")
    assert split_now is not split_before
    assert split_now.backends[0] is split_before.backends[0]
    assert split_now.backends[1] is not split_before.backends[1]
    assert plan_for(new, "/b") is plan_for(old, "/b")


def test_moving_weights_keeps_clusters_and_the_rules_that_did_not_move() -> None:
    before = snapshot(*BASE)
    old = compiled(before)
    moved = route(
        rule(("orders-v1", 50), ("orders-v2", 50), matches=(match(exact("/a")),)),
        rule("orders-v1", matches=(match(prefix("/b")),)),
    )
    new = compiled(push(before, moved), old)
    assert plan_for(new, "/a").cumulative == (50, 100)
    assert plan_for(new, "/a").backends == plan_for(old, "/a").backends
    assert plan_for(new, "/b") is plan_for(old, "/b")


@pytest.mark.parametrize(
    "change",
    [
        policy("orders", TargetRef("Service", "orders"), TargetRef("Service", "stock"), settings=settings(3)),
        route(
            rule(("orders-v1", 90), ("orders-v2", 10), matches=(match(exact("/a")), match(exact("/a2")))),
            rule("orders-v1", matches=(match(prefix("/b")),)),
        ),
    ],
)
def test_a_change_that_says_the_same_keeps_every_plan(change: Body) -> None:
    before = snapshot(*BASE)
    old = compiled(before)
    new = compiled(push(before, change), old)
    assert new is not old
    assert new.routes == old.routes  # compared by identity
    assert new.clusters == old.clusters


@pytest.mark.parametrize(
    "change",
    [
        route(rule(("orders-v1", 1), matches=(match(exact("/a")),))),
        route(rule(("orders-v1", 90), ("orders-v2", 10), request_s=2.0)),
        route(rule(("orders-v1", 90), ("orders-v2", 10), request_s=3.0)),  # the same time, but of the whole response
        route(rule(("orders-v1", 90), ("orders-v2", 10), backend_request_s=2.0)),
        policy("orders", TargetRef("Service", "orders"), settings=settings(4)),
        service("orders-v1", protocol=Protocol.HTTP2),
    ],
)
def test_a_plan_that_says_something_else_is_a_new_one(change: Body) -> None:
    before = snapshot(*BASE)
    old = compiled(before)
    new = compiled(push(before, change), old)
    assert plan_for(new, "/a") is not plan_for(old, "/a")
