"""Weights in, a route out."""

import json
from typing import Any

import pytest

from control_plane.answers import Kind, Refused
from control_plane.compile import Compiler, Content, Edit, next_snapshot, remember
from control_plane.resources import application, parse
from control_plane.traffic import retarget, show
from sidecar.model.clusters import Protocol, ServicePort, Workload
from sidecar.model.snapshot import Snapshot

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop, labels: {team: core}}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules:
    - matches: [{path: {value: /}}]
      backendRefs: [{name: orders-v1, port: 8080, weight: 90}, {name: orders-v2, port: 8080, weight: 10}]
"""


def mesh(*versions: str, ports: tuple[ServicePort, ...] = (ServicePort(8080),), yaml: str = "") -> Content:
    content = Content()
    for version in versions:
        made = Workload(
            namespace="shop",
            name=f"orders-{version}-1",
            service="orders",
            address="10.0.0.1",
            ports=ports,
            account="orders",
            version=version,
        )
        edit = Edit(registered={f"shop/{made.name}": made}, remembered=remember(content, made))
        content = content.edited(edit)
    if yaml:
        content = content.edited(application(content, parse(yaml, "t.yaml"), "mesh.local", "t.yaml").edit)
    return content


def snapshot(content: Content) -> Snapshot:
    return next_snapshot(Snapshot(), Compiler("mesh.local").compile(content), 7)


def weights(content: Content) -> dict[str, int]:
    return {each.label: each.weight for each in show(content, snapshot(content), 7, "shop", "orders").backends}


def set_to(content: Content, **named: int) -> Content:
    parsed = retarget(content, snapshot(content), "shop", "orders", named)
    return content.edited(Edit(user={parsed.name: parsed}))


def document(content: Content, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content.user[name].document)
    return found


def test_show_without_a_route() -> None:
    content = mesh("v1", "v2")
    shown = show(content, snapshot(content), 7, "shop", "orders")
    assert (shown.route, shown.backends, shown.known) == ("", (), ("orders-v1", "orders-v2"))


def test_show_with_a_route() -> None:
    content = mesh("v1", "v2", "v3", yaml=ROUTE)
    shown = show(content, snapshot(content), 7, "shop", "orders")
    assert shown.route == "HTTPRoute/shop/split"
    assert [(each.name, each.label, each.port, each.weight) for each in shown.backends] == [
        ("orders-v1", "v1", 8080, 90),
        ("orders-v2", "v2", 8080, 10),
    ]
    assert shown.known == ("orders-v1", "orders-v2", "orders-v3")


def test_set_without_a_route_makes_one() -> None:
    made = set_to(mesh("v1", "v2"), v1=90, v2=10)
    assert weights(made) == {"v1": 90, "v2": 10}
    assert document(made, "HTTPRoute/shop/orders")["spec"] == {
        "parentRefs": [{"group": "", "kind": "Service", "name": "orders"}],
        "rules": [
            {
                "backendRefs": [
                    {"name": "orders-v1", "port": 8080, "weight": 90},
                    {"name": "orders-v2", "port": 8080, "weight": 10},
                ]
            }
        ],
    }


def test_set_changes_the_named_and_keeps_the_rest() -> None:
    made = set_to(mesh("v1", "v2", yaml=ROUTE), v2=30)
    assert weights(made) == {"v1": 90, "v2": 30}
    kept = document(made, "HTTPRoute/shop/split")
    assert kept["metadata"]["labels"] == {"team": "core"}
    assert kept["spec"]["rules"][0]["matches"] == [{"path": {"value": "/"}}]


def test_names_in_full_and_in_short() -> None:
    assert weights(set_to(mesh("v1", "v2", yaml=ROUTE), **{"orders-v1": 1, "v2": 2})) == {"v1": 1, "v2": 2}


def test_a_registered_version_that_the_route_does_not_name_is_added() -> None:
    assert weights(set_to(mesh("v1", "v2", "v3", yaml=ROUTE), v3=5)) == {"v1": 90, "v2": 10, "v3": 5}


def test_every_rule_with_the_same_backends_is_changed() -> None:
    rule = ROUTE.split("rules:\n")[1]
    made = set_to(mesh("v1", "v2", yaml=ROUTE + rule), v2=50)
    rules = document(made, "HTTPRoute/shop/split")["spec"]["rules"]
    assert [[each["weight"] for each in rule["backendRefs"]] for rule in rules] == [[90, 50], [90, 50]]


@pytest.mark.parametrize(
    ("named", "message", "hint"),
    [
        ({"v9": 1}, "orders has no version 'v9'", "known: v1, v2"),
        ({"v1": 0, "v2": 0}, "all weights would be 0: nothing would take the traffic", "leave one above 0"),
        ({"v1": -1}, "HTTPRoute/shop/split would not be valid", "name other weights"),
        ({"v1": 2_000_000}, "HTTPRoute/shop/split would not be valid", "name other weights"),
        ({"v1": 1, "orders-v1": 2}, "a backend is named twice", "known: orders-v1, orders-v2"),
        ({}, "no weights were given", "name at least one, such as v1=90"),
    ],
)
def test_weights_that_cannot_be(named: dict[str, int], message: str, hint: str) -> None:
    with pytest.raises(Refused, match=message) as refusal:
        set_to(mesh("v1", "v2", yaml=ROUTE), **named)
    assert refusal.value.hint == hint


def test_two_routes_are_named_and_none_is_changed() -> None:
    yaml = ROUTE + "---" + ROUTE.replace("name: split", "name: other")
    with pytest.raises(Refused, match=r"2 routes steer orders\.shop") as refusal:
        set_to(mesh("v1", "v2", yaml=yaml), v1=1)
    assert refusal.value.kind is Kind.AMBIGUOUS
    assert refusal.value.details == ("HTTPRoute/shop/other", "HTTPRoute/shop/split")


def test_of_very_many_routes_some_are_named() -> None:
    many = "---".join(ROUTE.replace("name: split", f"name: split-{number}") for number in range(30))
    with pytest.raises(Refused, match="30 routes steer orders") as refusal:
        show(mesh("v1", "v2", yaml=many), snapshot(mesh("v1", "v2", yaml=many)), 7, "shop", "orders")
    assert len(refusal.value.details) == 11
    assert refusal.value.details[-1] == "and 20 more"


def test_a_canary_can_be_turned_off() -> None:
    assert set_to(mesh("v1", "v2", yaml=ROUTE), v2=0) is not None


def test_rules_with_different_backends_are_left_to_the_user() -> None:
    rule = "    - matches: [{path: {value: /b}}]\n      backendRefs: [{name: orders-v2, port: 8080}]\n"
    with pytest.raises(Refused, match="2 rules with different backends"):
        set_to(mesh("v1", "v2", yaml=ROUTE + rule), v1=1)


def test_a_route_without_backends_is_left_to_the_user() -> None:
    yaml = ROUTE[: ROUTE.index("      backendRefs")]
    with pytest.raises(Refused, match="HTTPRoute/shop/split has no backends"):
        set_to(mesh("v1", "v2", yaml=yaml), v1=1)


def test_a_route_of_the_services_name_with_another_parent_is_not_overwritten() -> None:
    yaml = ROUTE.replace("name: split", "name: orders").replace("name: orders}]", "name: orders-v1}]", 1)
    with pytest.raises(Refused, match=r"HTTPRoute/shop/orders is there, but its parent is not orders\.shop"):
        set_to(mesh("v1", "v2", yaml=yaml), v1=1)


def test_an_unknown_service_lists_those_that_are_known() -> None:
    content = mesh("v1")
    with pytest.raises(Refused, match=r"there is no service stock\.shop") as refusal:
        show(content, snapshot(content), 7, "shop", "stock")
    assert (refusal.value.kind, refusal.value.hint) == (Kind.NOT_FOUND, "known: orders.shop, orders-v1.shop")


def test_of_several_ports_the_one_that_carries_http_is_split() -> None:
    ports = (ServicePort(8080), ServicePort(5432, Protocol.TCP))
    made = set_to(mesh("v1", ports=ports), v1=1)
    assert document(made, "HTTPRoute/shop/orders")["spec"]["parentRefs"][0]["port"] == 8080
    with pytest.raises(Refused, match=r"which port of orders.shop is to be split is not clear \(ports: 8080/auto, 909"):
        set_to(mesh("v1", ports=(ServicePort(8080), ServicePort(9090))), v1=1)


@pytest.mark.parametrize("kind", ["GRPCRoute", "TCPRoute", "TLSRoute"])
def test_a_route_of_any_kind_is_edited(kind: str) -> None:
    yaml = ROUTE.replace("kind: HTTPRoute", f"kind: {kind}").replace("matches: [{path: {value: /}}]", "name: split")
    if kind == "TLSRoute":
        yaml = yaml.replace("  rules:", "  hostnames: [orders.example.com]\n  rules:")
    made = set_to(mesh("v1", "v2", yaml=yaml), v1=50)
    assert weights(made) == {"v1": 50, "v2": 10}
    assert document(made, f"{kind}/shop/split")["spec"]["rules"][0]["name"] == "split"


def test_routes_of_two_kinds_are_named_and_none_is_changed() -> None:
    grpc = ROUTE.replace("kind: HTTPRoute", "kind: GRPCRoute").replace("matches: [{path: {value: /}}]", "name: split")
    with pytest.raises(Refused, match=r"2 routes steer orders\.shop") as refusal:
        set_to(mesh("v1", "v2", yaml=f"{ROUTE}---{grpc}"), v1=1)
    assert refusal.value.details == ("GRPCRoute/shop/split", "HTTPRoute/shop/split")


def test_without_a_route_a_service_of_tcp_gets_a_tcp_route() -> None:
    made = set_to(mesh("v1", "v2", ports=(ServicePort(5432, Protocol.TCP),)), v1=9, v2=1)
    assert weights(made) == {"v1": 9, "v2": 1}
    assert document(made, "TCPRoute/shop/orders")["spec"]["parentRefs"] == [
        {"group": "", "kind": "Service", "name": "orders"}
    ]
