"""Routes find their parents, policies their targets, endpoints their port."""

from sidecar.model.clusters import ClusterKey
from sidecar.model.policies import TargetRef
from sidecar.model.routes import HttpRoute, ParentRef
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.routing.attach import CONNECTION_KINDS, REQUEST_KINDS, Attachments
from tests.unit.routing.builders import (
    PORT,
    endpoint,
    endpoints,
    grpc_route,
    key,
    policy,
    push,
    route,
    rule,
    service,
    snapshot,
    tcp_route,
    tls_route,
)

ORDERS = TargetRef("Service", "orders")


def test_routes_are_in_the_order_that_breaks_ties() -> None:
    young = route(rule(), name="a", created="2026-03-01T00:00:00Z")
    old_b = route(rule(), name="b", created="2025-03-01T00:00:00Z")
    old_c = route(rule(), name="c", created="2025-03-01T00:00:00Z")
    from_file = route(rule(), name="z")
    attached = Attachments(snapshot(young, old_c, old_b, from_file)).routes(key("orders"), PORT, REQUEST_KINDS)
    assert attached == [from_file, old_b, old_c, young]


def test_a_route_concerns_its_parents_and_their_ports_only() -> None:
    all_ports = route(rule(), name="all")
    one_port = route(rule(), name="one", port=9090)
    elsewhere = route(rule(), name="else", parent="stock")
    attachments = Attachments(snapshot(all_ports, one_port, elsewhere))
    assert attachments.routes(key("orders"), PORT, REQUEST_KINDS) == [all_ports]
    assert attachments.routes(key("orders"), 9090, REQUEST_KINDS) == [all_ports, one_port]
    assert attachments.routes(key("stock"), PORT, REQUEST_KINDS) == [elsewhere]
    assert attachments.routes(key("nobody"), PORT, REQUEST_KINDS) == []


def test_a_route_that_names_a_service_twice_is_attached_once() -> None:
    parents = (ParentRef(key("orders"), PORT), ParentRef(key("orders"), 9090))
    both = HttpRoute(namespace="shop", name="both", parents=parents, rules=(rule(),))
    attachments = Attachments(snapshot(both))
    assert (
        attachments.routes(key("orders"), PORT, REQUEST_KINDS)
        == attachments.routes(key("orders"), 9090, REQUEST_KINDS)
        == [both]
    )


def test_of_several_kinds_on_a_port_the_first_counts() -> None:
    http = route(rule(), name="http")
    grpc, tls, tcp = grpc_route(name="grpc", port=9090), tls_route("db.example.com"), tcp_route()
    attachments = Attachments(snapshot(http, grpc, tls, tcp))
    assert attachments.routes(key("orders"), PORT, REQUEST_KINDS) == [http]
    assert attachments.routes(key("orders"), 9090, REQUEST_KINDS) == [grpc]
    assert attachments.routes(key("orders"), PORT, CONNECTION_KINDS) == [tls]
    assert Attachments(snapshot(tcp)).routes(key("orders"), PORT, REQUEST_KINDS) == [tcp]


def test_a_policy_is_found_by_each_of_its_targets_in_its_own_namespace() -> None:
    both = policy("both", ORDERS, TargetRef("HTTPRoute", "orders"))
    attachments = Attachments(snapshot(both))
    assert attachments.service_policy(key("orders")) is both
    assert attachments.route_policy(route(), "") is both
    assert attachments.route_policy(grpc_route(), "") is None
    assert attachments.service_policy(key("orders")._replace(namespace="other")) is None


def test_of_several_policies_on_one_target_the_first_by_name_counts() -> None:
    first, second = policy("a", ORDERS), policy("b", ORDERS)
    assert Attachments(snapshot(second, first)).service_policy(key("orders")) is first


def test_a_policy_on_a_named_rule_beats_one_on_the_whole_route() -> None:
    whole = policy("a-whole", TargetRef("HTTPRoute", "orders"))
    named = policy("named", TargetRef("HTTPRoute", "orders", "slow"))
    attachments = Attachments(snapshot(whole, named))
    assert attachments.route_policy(route(), "slow") is named
    assert attachments.route_policy(route(), "other") is whole
    assert attachments.route_policy(route(), "") is whole
    assert attachments.route_policy(route(name="another"), "slow") is None


def test_endpoints_are_those_of_the_port_and_keep_their_identity_while_they_are_equal() -> None:
    ours, other = endpoint("orders-1"), endpoint("orders-1", 9090)
    before = Attachments(snapshot(endpoints("orders", ours, other)))
    cluster = ClusterKey(key("orders"), PORT)
    found = before.endpoints(cluster)
    assert found == (ours,)
    assert before.endpoints(cluster) is found

    moved = Attachments(push(before.snapshot, endpoints("orders", ours, endpoint("orders-2", 9090))), before)
    assert moved.endpoints(cluster) is found

    grown = Attachments(push(moved.snapshot, endpoints("orders", ours, endpoint("orders-2"))), moved)
    assert len(grown.endpoints(cluster)) == 2


def test_without_endpoints_there_are_none_and_what_is_gone_is_forgotten() -> None:
    before = Attachments(snapshot(endpoints("orders")))
    cluster = ClusterKey(key("orders"), PORT)
    assert before.endpoints(cluster)
    after = Attachments(push(before.snapshot, drop=("Endpoints/shop/orders",)), before)
    assert after.endpoints(cluster) == ()
    assert not after.by_port


def test_a_resource_that_is_not_what_its_name_says_is_not_used() -> None:
    wrong = {name: Resource(name, 1, service("orders")) for name in ("HTTPRoute/shop/x", "TrafficPolicy/shop/x")}
    attachments = Attachments(Snapshot(wrong))
    assert attachments.routes(key("orders"), PORT, REQUEST_KINDS) == []
    assert attachments.service_policy(key("orders")) is None
