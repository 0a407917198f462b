"""Workloads become Services and Endpoints, services become identities, defaults become policies."""

from sidecar.config.derive import DerivedResult, derive, endpoints_of, resolve_principals, services_and_endpoints
from sidecar.config.resources import parse_documents, parse_wire
from sidecar.model.clusters import (
    PLAIN,
    EndpointSet,
    Mesh,
    Protocol,
    Service,
    ServiceKey,
    ServicePort,
    Workload,
)
from sidecar.model.policies import AllowRule, AuthorizationPolicy, TargetRef, TrafficPolicyResource


def workload(name: str, **changes: object) -> Workload:
    values: dict[str, object] = {
        "namespace": "shop",
        "service": "orders",
        "address": "10.0.0.5",
        "ports": (ServicePort(8080, Protocol.HTTP),),
        "inbound": 15006,
        "version": "v1",
    }
    return Workload(name=name, **{**values, **changes})  # type: ignore[arg-type]  # values of any field


def derived(text: str, *, mesh: bool = True) -> DerivedResult:
    return derive(parse_documents(text, "a.yaml"), trust_domain="mesh.local", mesh=mesh)


def body_of(result: DerivedResult, name: str) -> object:
    return {resource.name: resource.body for resource in result.resources}[name]


def test_a_workload_makes_its_service_and_the_one_of_its_version() -> None:
    made = services_and_endpoints([workload("b", version="v2"), workload("a")], "mesh.local", mesh=True, version=4)
    assert [resource.name for resource in made] == [
        *("Service/shop/orders", "Endpoints/shop/orders", "Service/shop/orders-v1", "Endpoints/shop/orders-v1"),
        *("Service/shop/orders-v2", "Endpoints/shop/orders-v2"),
    ]
    bodies = {resource.name: resource.body for resource in made}
    everything, second = bodies["Endpoints/shop/orders"], bodies["Endpoints/shop/orders-v2"]
    assert isinstance(everything, EndpointSet)
    assert isinstance(second, EndpointSet)
    assert [endpoint.id for endpoint in everything.endpoints] == ["a", "b"]
    assert second.endpoints == everything.endpoints[1:]
    assert bodies["Service/shop/orders"] == Service(ServiceKey("shop", "orders"), (ServicePort(8080, Protocol.HTTP),))
    assert {resource.version for resource in made} == {4}
    for resource in made:
        assert parse_wire(resource.name, 4, resource.document) == resource


def test_a_mesh_hop_names_the_workloads_own_service_and_dials_its_sidecar() -> None:
    (endpoint,) = endpoints_of(workload("a", account="web"), "example.org", mesh=True)
    identity = frozenset({"spiffe://example.org/ns/shop/sa/web"})
    assert endpoint.hop == Mesh("8080.orders.shop.mesh", identity, alpn=("h2", "http/1.1"))
    assert (endpoint.host, endpoint.port, endpoint.service_port) == ("10.0.0.5", 15006, 8080)


def test_without_mesh_or_sidecar_the_app_is_dialled_in_plain_text() -> None:
    for one, mesh in ((workload("a"), False), (workload("a", inbound=None), True)):
        (endpoint,) = endpoints_of(one, "mesh.local", mesh=mesh)
        assert (endpoint.hop, endpoint.port) == (PLAIN, 8080)


def test_each_port_is_an_endpoint_of_its_own() -> None:
    ports = (ServicePort(8080, Protocol.HTTP), ServicePort(9000, Protocol.GRPC))
    made = endpoints_of(workload("a", ports=ports, weight=7, zone="z", ready=False), "mesh.local", mesh=True)
    assert [(one.id, one.service_port, one.port, one.weight, one.zone, one.ready) for one in made] == [
        ("a", 8080, 15006, 7, "z", False),
        ("a", 9000, 15006, 7, "z", False),
    ]


def test_a_declared_protocol_beats_auto() -> None:
    auto = workload("a", ports=(ServicePort(8080), ServicePort(9000)))
    made = services_and_endpoints([auto, workload("b")], "mesh.local", mesh=False)
    body = made[0].body
    assert isinstance(body, Service)
    assert body.ports == (ServicePort(8080, Protocol.HTTP), ServicePort(9000))


def test_a_version_never_replaces_a_service_that_workloads_name() -> None:
    made = services_and_endpoints(
        [workload("a"), workload("x", service="orders-v1", version="")], "mesh.local", mesh=False
    )
    bodies = {resource.name: resource.body for resource in made}
    own = bodies["Endpoints/shop/orders-v1"]
    assert isinstance(own, EndpointSet)
    assert [endpoint.id for endpoint in own.endpoints] == ["x"]


def test_callers_are_resolved_to_the_accounts_of_their_workloads_and_the_default_one() -> None:
    policy = AuthorizationPolicy(
        namespace="shop",
        name="stock",
        targets=(TargetRef("Service", "stock"),),
        allow=(
            AllowRule(
                services=frozenset({ServiceKey("shop", "orders"), ServiceKey("ops", "cron")}),
                principals=frozenset({"spiffe://other/x"}),
            ),
        ),
    )
    workloads = [
        workload("a", account="web"),
        workload("b", account="api"),
        workload("c", namespace="ops", account="no"),
    ]
    resolved = resolve_principals(policy, workloads, "mesh.local")
    assert resolved.allow[0].services == policy.allow[0].services
    assert resolved.allow[0].principals == {
        "spiffe://other/x",
        "spiffe://mesh.local/ns/shop/sa/web",
        "spiffe://mesh.local/ns/shop/sa/api",
        "spiffe://mesh.local/ns/shop/sa/orders",
        "spiffe://mesh.local/ns/ops/sa/cron",
    }


WORKLOADS = """
kind: Workload
metadata: {name: orders-1, namespace: shop}
spec: {service: orders, address: 10.0.0.5, ports: [{port: 8080}], inbound: 15006}
---
"""


def test_a_service_document_keeps_its_ports_and_is_there_without_workloads() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\n"
    result = derived(f"{WORKLOADS}{text}spec: {{ports: [{{name: tcp, port: 5432}}]}}\n")
    assert result.problems == []
    key = ServiceKey("shop", "db")
    assert body_of(result, "Service/shop/db") == Service(key, (ServicePort(5432, Protocol.TCP, "tcp"),))
    assert body_of(result, "Endpoints/shop/db") == EndpointSet(key, ())


def test_the_mesh_policy_decides_trust_domain_mtls_and_defaults() -> None:
    policy = """
kind: MeshPolicy
metadata: {name: mesh}
spec: {MTLS, trustDomain: example.org, defaults: {timeouts: {request: 7s}}}
---
kind: TrafficPolicy
metadata: {name: own, namespace: shop}
spec: {targetRefs: [{kind: Service, name: orders}]}
---
kind: Workload
metadata: {name: stock-1, namespace: shop}
spec: {service: stock, address: 10.0.0.6, ports: [{port: 8080}]}
"""
    strict = derived(WORKLOADS + policy.replace("MTLS", "mtls: strict"))
    endpoints = body_of(strict, "Endpoints/shop/orders")
    assert isinstance(endpoints, EndpointSet)
    hop = endpoints.endpoints[0].hop
    assert isinstance(hop, Mesh)
    assert hop.spiffe_ids == {"spiffe://example.org/ns/shop/sa/orders"}
    default = body_of(strict, "TrafficPolicy/shop/stock.mesh-default")
    assert isinstance(default, TrafficPolicyResource)
    assert default.policy.timeouts.request_s == 7.0
    assert [resource.name for resource in strict.resources if "mesh-default" in resource.name] == [
        "TrafficPolicy/shop/stock.mesh-default"
    ]
    plain = body_of(derived(WORKLOADS + policy.replace("MTLS", "mtls: off")), "Endpoints/shop/orders")
    assert isinstance(plain, EndpointSet)
    assert plain.endpoints[0].hop == PLAIN


def test_problems_are_told_beside_the_resources() -> None:
    result = derived(
        "kind: TrafficPolicy\nmetadata: {name: a, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: order}]}"
    )
    assert result.problems == ["a.yaml:3:43: spec.targetRefs[0].name: target order.shop: no such Service (known: none)"]
