"""Content in, snapshot out; what did not change stays the same object."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.compile import Compiler, Content, Edit, Remembered, difference, kept, next_snapshot, remember, stale
from sidecar.config.resources import parse_documents, parse_wire
from sidecar.model.clusters import EndpointSet, Mesh, Plain, Service, ServiceKey, ServicePort, Workload
from sidecar.model.policies import AuthorizationPolicy
from sidecar.model.snapshot import Resource, Snapshot

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules: [{backendRefs: [{name: orders-v1, port: 8080, weight: 1}]}]
"""


def workload(name: str, service: str = "orders", version: str = "", **other: object) -> Workload:
    ports = (ServicePort(8080),)
    made = Workload(namespace="shop", name=name, service=service, address="10.0.0.1", ports=ports, inbound=15006,
                    account=service, version=version)  # fmt: skip
    for field, value in other.items():
        object.__setattr__(made, field, value)
    return made


def content(*workloads: Workload, yaml: str = "") -> Content:
    made = Content(user=MappingProxyType({each.name: each for each in parse_documents(yaml, "t.yaml")} if yaml else {}))
    for each in workloads:
        node = f"{each.namespace}/{each.name}"
        made = made.edited(Edit(registered={node: each}, remembered=remember(made, each)))
    return made


def compiled(given: Content) -> dict[str, Resource]:
    return Compiler("mesh.local").compile(given)


def endpoints(made: dict[str, Resource], service: str) -> EndpointSet:
    body = made[f"Endpoints/shop/{service}"].body
    assert isinstance(body, EndpointSet)
    return body


def test_workloads_make_services_and_endpoints_also_for_each_version() -> None:
    made = compiled(content(workload("orders-1", version="v1"), workload("orders-2", version="v2")))
    assert sorted(made) == [
        *("Endpoints/shop/orders", "Endpoints/shop/orders-v1", "Endpoints/shop/orders-v2"),
        *("Service/shop/orders", "Service/shop/orders-v1", "Service/shop/orders-v2"),
    ]
    assert [each.id for each in endpoints(made, "orders").endpoints] == ["orders-1", "orders-2"]
    (only,) = endpoints(made, "orders-v2").endpoints
    assert only.hop == Mesh(
        "8080.orders.shop.mesh", frozenset({"spiffe://mesh.local/ns/shop/sa/orders"}), ("h2", "http/1.1")
    )


def test_every_document_is_what_the_sidecar_reads() -> None:
    yaml = ROUTE + "---\n" + ACCESS + "---\n" + MESH
    for name, resource in compiled(content(workload("orders-1", version="v1"), yaml=yaml)).items():
        assert parse_wire(name, 7, resource.document).body == resource.body


def test_a_users_service_decides_the_ports_and_gets_the_endpoints() -> None:
    yaml = (
        "{apiVersion: v1, kind: Service, metadata: {name: orders, namespace: shop}, "
        "spec: {ports: [{port: 8080, appProtocol: http}]}}"
    )
    made = compiled(content(workload("orders-1"), yaml=yaml))
    body = made["Service/shop/orders"].body
    assert isinstance(body, Service)
    assert body.ports[0].protocol == "http"
    assert [each.id for each in endpoints(made, "orders").endpoints] == ["orders-1"]


def test_a_users_service_without_workloads_has_no_endpoints() -> None:
    yaml = "{apiVersion: v1, kind: Service, metadata: {name: new, namespace: shop}, spec: {ports: [{port: 80}]}}"
    assert endpoints(compiled(content(yaml=yaml)), "new").endpoints == ()


def test_of_an_applied_and_a_registered_workload_the_registered_one_counts() -> None:
    yaml = """
kind: Workload
metadata: {name: orders-1, namespace: shop}
spec: {service: orders, address: 10.9.9.9, ports: [{port: 8080}]}
"""
    assert endpoints(compiled(content(yaml=yaml)), "orders").endpoints[0].host == "10.9.9.9"
    made = compiled(content(workload("orders-1"), yaml=yaml))
    assert [each.host for each in endpoints(made, "orders").endpoints] == ["10.0.0.1"]


ACCESS = """
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec: {targetRefs: [{kind: Service, name: orders}], allow: [{from: {services: [frontend.shop]}}]}
"""
MESH = """
kind: MeshPolicy
metadata: {name: mesh, namespace: mesh-system}
spec: {mtls: "off", defaults: {retries: {attempts: 1}}}
"""


def principals(made: dict[str, Resource]) -> set[str]:
    body = made["AuthorizationPolicy/shop/orders"].body
    assert isinstance(body, AuthorizationPolicy)
    return {each.rpartition("/")[2] for rule in body.allow for each in rule.principals}


def test_callers_become_the_identities_of_their_workloads() -> None:
    assert principals(compiled(content(yaml=ACCESS))) == {"frontend"}
    made = compiled(content(workload("f", "frontend", account="web"), yaml=ACCESS))
    assert principals(made) == {"frontend", "web"}


def test_the_meshs_policy_gives_defaults_and_may_turn_tls_off() -> None:
    made = compiled(content(workload("orders-1"), yaml=MESH))
    assert endpoints(made, "orders").endpoints[0].hop == Plain()
    assert "TrafficPolicy/shop/orders.mesh-default" in made
    assert not any(name.startswith("MeshPolicy") for name in made)


class TestRemembered:
    def test_a_service_stays_without_endpoints_when_its_last_workload_leaves(self) -> None:
        before = content(workload("orders-1", version="v1"))
        after = before.edited(Edit(registered={"shop/orders-1": None}))
        made = compiled(after)
        assert sorted(made) == ["Endpoints/shop/orders", "Service/shop/orders"]
        assert endpoints(made, "orders").endpoints == ()

    def test_a_version_stays_while_a_route_names_it(self) -> None:
        before = content(workload("orders-1", version="v1"), yaml=ROUTE)
        after = before.edited(Edit(registered={"shop/orders-1": None}))
        assert "Service/shop/orders-v1" in compiled(after)
        assert stale(after) == {}
        without = after.edited(Edit(user={"HTTPRoute/shop/orders": None}))
        assert "Service/shop/orders-v1" not in compiled(without)
        assert stale(without) == {ServiceKey("shop", "orders-v1"): None}

    def test_a_version_that_is_served_is_not_stale(self) -> None:
        assert stale(content(workload("orders-1", version="v1"))) == {}

    def test_ports_add_up_and_a_service_is_not_demoted_to_a_version(self) -> None:
        first = content(workload("a", "orders-v1"), workload("b", "orders", version="v1", ports=(ServicePort(9090),)))
        known = first.remembered[ServiceKey("shop", "orders-v1")]
        assert known == Remembered((ServicePort(8080), ServicePort(9090)), "")
        assert remember(first, workload("a", "orders-v1")) == {}
        assert ServiceKey("shop", "orders") in kept(first, {})


class TestNextSnapshot:
    def test_unchanged_resources_keep_identity_and_version(self) -> None:
        compiler = Compiler("mesh.local")
        one = content(workload("orders-1"), workload("stock-1", "stock"), yaml=ACCESS)
        first = next_snapshot(Snapshot(), compiler.compile(one), 5)
        two = one.edited(Edit(registered={"shop/stock-1": workload("stock-1", "stock", ready=False)}))
        made = compiler.compile(two)
        assert difference(first, made) == {"Endpoints/shop/stock"}
        second = next_snapshot(first, made, 9)
        for name, resource in second.resources.items():
            if name == "Endpoints/shop/stock":
                assert resource.version == 9
            else:
                assert resource is first.resources[name]
                assert resource.version == 5

    def test_what_is_gone_is_a_difference(self) -> None:
        first = next_snapshot(Snapshot(), compiled(content(yaml=ACCESS)), 1)
        assert difference(first, {}) == {"AuthorizationPolicy/shop/orders"}
        assert next_snapshot(first, {}, 2).resources == {}


NODES = st.sampled_from(["orders-1", "orders-2", "stock-1", "stock-2"])
STEPS = st.tuples(NODES, st.sampled_from(["", "v1", "v2", "gone", "unready"]))


@given(st.lists(STEPS, max_size=12))
def test_a_compiler_with_a_past_compiles_like_a_new_one(steps: list[tuple[str, str]]) -> None:
    compiler = Compiler("mesh.local")
    now = content(yaml=ACCESS + "---\n" + ROUTE)
    for node, what in steps:
        made = workload(node, node.split("-")[0], what if what.startswith("v") else "", ready=what != "unready")
        edit = Edit(registered={f"shop/{node}": None if what == "gone" else made}, remembered=remember(now, made))
        now = now.edited(edit)
        mine, fresh = compiler.compile(now), compiled(now)
        assert {name: each.document for name, each in mine.items()} == {n: each.document for n, each in fresh.items()}


@pytest.mark.parametrize("edit", [Edit(), Edit(user={}), Edit(registered={}, remembered={})])
def test_an_empty_edit_is_false_and_changes_nothing(edit: Edit) -> None:
    now = content(workload("orders-1"))
    assert not edit
    assert now.edited(edit) == now
