"""Documents of users are read strictly, those of the wire with the tolerance that version skew needs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.resources import SNAPSHOT_KINDS, USER_KINDS, parse_documents, parse_json, parse_wire, to_document
from sidecar.errors import ConfigError
from sidecar.model.balancing import Algorithm
from sidecar.model.clusters import Endpoint, EndpointSet, Mesh, Protocol, Service, ServiceKey, ServicePort, Workload
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import (
    DEFAULT_POLICY,
    AllowRule,
    AuthorizationPolicy,
    Mode,
    TargetRef,
    TrafficPolicyResource,
)
from sidecar.model.routes import (
    BackendRef,
    Filters,
    GrpcMatch,
    GrpcRoute,
    HeaderMatch,
    HeaderModifier,
    HttpRoute,
    L4Rule,
    MethodMatch,
    ParentRef,
    PathKind,
    PathMatch,
    PathModifier,
    PathModifierKind,
    Redirect,
    Rewrite,
    RouteMatch,
    TcpRoute,
    TlsRoute,
    ValueKind,
)
from tests.unit.config import strategies

# The documents of the contract, as users write them.
CONTRACT = """
kind: Workload            # an endpoint outside Kubernetes; registration makes these
metadata: {name: orders-1, namespace: shop, labels: {version: v1}}
spec: {service: orders, address: 10.0.0.5, ports: [{port: 8080, protocol: http}], inbound: 15006, account: orders, zone: eu-1a, weight: 1}
---
kind: TrafficPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: orders}]                 # or HTTPRoute (+ sectionName)
  timeouts: {request: 15s, perTry: 3s, connect: 1s, streamIdle: 5m}
  retries: {attempts: 2, on: [connect-failure, refused-stream, gateway-error], backoff: {base: 25ms, max: 250ms}, budget: {percent: 20, interval: 10s, minPerSecond: 3}, maxBody: 64Ki}
  balancing: {algorithm: ewma}
  ejection: {consecutiveFailures: 5, base: 5s, max: 300s, maxPercent: 34}
  limits: {connections: 1024, pending: 256, requests: 1024}
  mode: enforce                                               # or shadow: count and log what it would have done
---
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec: {targetRefs: [{kind: Service, name: orders}], mode: enforce, allow: [{from: {services: [frontend.shop]}}]}
"""  # noqa: E501 - as it stands there

ENDPOINTS: dict[str, Any] = {
    "apiVersion": "sidecar-mesh.dev/v1alpha1",
    "kind": "Endpoints",
    "metadata": {"name": "orders", "namespace": "shop"},
    "spec": {
        "endpoints": [
            {
                "id": "orders-1",
                "servicePort": 8080,
                "address": "127.0.0.1",
                "port": 15106,
                "weight": 1,
                "zone": "",
                "version": "v1",
                "ready": True,
                "labels": {},
                "hop": {
                    "mesh": {
                        "serverName": "8080.orders.shop.mesh",
                        "spiffeIds": ["spiffe://mesh.local/ns/shop/sa/orders"],
                        "alpn": ["http/1.1"],
                    }
                },
            }
        ]
    },
}


def refused(name: str, document: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_wire(name, 1, json.dumps(document))
    return caught.value.problems


def endpoints_with(**changes: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(ENDPOINTS))
    document["spec"]["endpoints"][0] |= changes
    return document


def test_the_contracts_documents_mean_what_they_say() -> None:
    workload, traffic, access = (parsed.body for parsed in parse_documents(CONTRACT, "contract.yaml"))
    assert workload == Workload(
        namespace="shop",
        name="orders-1",
        service="orders",
        address="10.0.0.5",
        ports=(ServicePort(8080, Protocol.HTTP),),
        inbound=15006,
        account="orders",
        zone="eu-1a",
        version="v1",
    )
    assert isinstance(traffic, TrafficPolicyResource)
    assert traffic.targets == (TargetRef("Service", "orders"),)
    assert traffic.policy.timeouts.per_try_s == 3.0
    assert traffic.policy.retries == DEFAULT_POLICY.retries
    assert traffic.policy.ejection == DEFAULT_POLICY.ejection
    assert traffic.policy.balancing.algorithm is Algorithm.EWMA
    assert access == AuthorizationPolicy(
        namespace="shop",
        name="orders",
        targets=(TargetRef("Service", "orders"),),
        allow=(AllowRule(services=frozenset({ServiceKey("shop", "frontend")})),),
        mode=Mode.ENFORCE,
    )


def test_an_endpoints_document_is_read_and_written_as_the_wire_has_it() -> None:
    resource = parse_wire("Endpoints/shop/orders", 7, json.dumps(ENDPOINTS))
    hop = Mesh("8080.orders.shop.mesh", frozenset({"spiffe://mesh.local/ns/shop/sa/orders"}), ("http/1.1",))
    endpoint = Endpoint(id="orders-1", service_port=8080, host="127.0.0.1", port=15106, hop=hop, version="v1")
    assert resource.body == EndpointSet(ServiceKey("shop", "orders"), (endpoint,))
    assert (resource.name, resource.version) == ("Endpoints/shop/orders", 7)
    assert to_document(resource.body) == ENDPOINTS


def test_the_wire_ignores_unknown_fields_of_a_newer_control_plane() -> None:
    document = endpoints_with(locality={"rack": 7}) | {"extra": 1}
    document["metadata"]["shard"] = 3
    assert (
        parse_wire("Endpoints/shop/orders", 1, document).body == parse_wire("Endpoints/shop/orders", 1, ENDPOINTS).body
    )


def test_the_wire_refuses_unknown_words_because_they_change_the_meaning() -> None:
    assert refused("Endpoints/shop/orders", endpoints_with(hop={"quic": {}})) == [
        "spec.endpoints[0].hop: give exactly one of: plain, mesh"
    ]
    policy = {
        "apiVersion": "sidecar-mesh.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "orders"}], "balancing": {"algorithm": "quantum"}},
    }
    assert refused("TrafficPolicy/shop/orders", policy) == [
        f"spec.balancing.algorithm: 'quantum' is not known (known: {', '.join(Algorithm)})"
    ]


def test_the_wire_refuses_features_of_a_route_that_this_version_lacks() -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "orders"}],
            "rules": [{"filters": [{"type": "RequestMirror"}], "backendRefs": [{"name": "orders", "port": 80}]}],
        },
    }
    supported = "RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite"
    assert refused("HTTPRoute/shop/orders", route) == [
        f"spec.rules[0].filters[0].type: RequestMirror is not supported here in this version (supported: {supported})"
    ]


def test_a_document_must_be_what_it_is_called() -> None:
    assert refused("Endpoints/shop/stock", ENDPOINTS) == [
        "metadata: the document is Endpoints/shop/orders, not 'Endpoints/shop/stock'"
    ]


def test_kinds_of_users_do_not_travel_and_compiled_ones_are_not_written_by_hand() -> None:
    workload = to_document(parse_documents(CONTRACT, "a.yaml")[0].body)
    assert refused("Workload/shop/orders-1", workload)[0].startswith("kind: 'Workload' is not known")
    with pytest.raises(ConfigError, match="write a Workload"):
        parse_json(json.dumps(ENDPOINTS))
    assert set(USER_KINDS) - set(SNAPSHOT_KINDS) == {"Workload", "MeshPolicy"}
    assert set(SNAPSHOT_KINDS) - set(USER_KINDS) == {"Endpoints"}


def test_all_weights_0_are_an_error_in_files_and_500_on_the_wire() -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "orders"}],
            "rules": [{"backendRefs": [{"name": "orders", "port": 80, "weight": 0}]}],
        },
    }
    with pytest.raises(ConfigError, match="add up to 0"):
        parse_json(json.dumps(route))
    body = parse_wire("HTTPRoute/shop/orders", 1, route).body
    assert isinstance(body, HttpRoute)
    assert body.rules[0].backends == (BackendRef(ServiceKey("shop", "orders"), 80, 0),)


def test_what_a_route_leaves_out_is_gateway_apis_default() -> None:
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, creationTimestamp: "2026-01-02T03:04:05Z"}
spec:
  parentRefs: [{group: core, kind: Service, name: orders, port: 80}]
  rules:
  - backendRefs: [{name: orders, port: 80}, {name: stock, namespace: store, port: 81, weight: 0}]
  - matches: [{path: {type: Exact, value: /a}, headers: [{name: X-User, value: ann}], method: POST}, {}]
    timeouts: {request: 0s, backendRequest: 500ms}
    backendRefs: [{name: orders, port: 80}]
"""
    route = parse_documents(text, "a.yaml")[0].body
    assert isinstance(route, HttpRoute)
    assert (route.namespace, route.created) == ("default", "2026-01-02T03:04:05Z")
    assert route.parents == (ParentRef(ServiceKey("default", "orders"), 80),)
    first, second = route.rules
    assert first.matches == (RouteMatch(),)
    assert first.backends == (
        BackendRef(ServiceKey("default", "orders"), 80, 1),
        BackendRef(ServiceKey("store", "stock"), 81, 0),
    )
    assert (first.request_s, first.backend_request_s) == (None, None)
    assert second.matches[0].path == PathMatch(PathKind.EXACT, "/a")
    assert [(header.name, header.value) for header in second.matches[0].headers] == [("x-user", "ann")]
    assert second.matches[1] == RouteMatch()
    assert (second.request_s, second.backend_request_s) == (0.0, 0.5)


def test_each_kind_of_route_is_read_and_older_names_of_its_version_mean_the_same() -> None:
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules:
  - matches: [{method: {service: shop.Orders}, headers: [{type: RegularExpression, name: X-User, value: "a.*"}]}, {}]
    filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}
    backendRefs: [{name: orders, port: 80}]
  - backendRefs: [{name: orders, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: db, namespace: shop}
spec: {parentRefs: [{kind: Service, name: db, port: 5432}], rules: [{backendRefs: [{name: db, port: 5432}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: {name: db, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: db}]
  hostnames: [db.example.com, "*.example.org"]
  rules: [{name: only, backendRefs: [{name: db, port: 5432}]}]
"""
    grpc, tcp, tls = (parsed.body for parsed in parse_documents(text, "a.yaml"))
    db = BackendRef(ServiceKey("shop", "db"), 5432)
    assert isinstance(grpc, GrpcRoute)
    assert grpc.rules[0].matches == (
        GrpcMatch(MethodMatch("shop.Orders"), (HeaderMatch("x-user", "a.*", ValueKind.REGEX),)),
        GrpcMatch(),
    )
    assert grpc.rules[0].filters == Filters(response=HeaderModifier(remove=("server",)))
    assert grpc.rules[1].matches == (GrpcMatch(),)
    assert isinstance(tcp, TcpRoute)
    assert (tcp.parents, tcp.rules) == ((ParentRef(ServiceKey("shop", "db"), 5432),), (L4Rule(backends=(db,)),))
    assert isinstance(tls, TlsRoute)
    assert tls.hostnames == ("db.example.com", "*.example.org")
    assert tls.rules == (L4Rule(name="only", backends=(db,)),)


def test_filters_are_read_in_any_order() -> None:
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules:
  - matches: [{path: {value: /old}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}}
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-A, value: "1"}], add: [{name: x-b, value: "2, 3"}], remove: [x-c]}
    backendRefs:
    - {name: orders, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-d]}}]}
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, statusCode: 308}}]
"""
    route = parse_documents(text, "a.yaml")[0].body
    assert isinstance(route, HttpRoute)
    first, second = route.rules
    assert first.filters == Filters(
        request=HeaderModifier((("X-A", "1"),), (("x-b", "2, 3"),), ("x-c",)),
        rewrite=Rewrite("new.example", PathModifier(PathModifierKind.PREFIX, "")),
    )
    assert first.backends[0].filters == Filters(request=HeaderModifier(remove=("x-d",)))
    assert (second.filters, second.backends) == (Filters(redirect=Redirect("https", port=8443, status=308)), ())


def test_0s_switches_a_policys_timeouts_off() -> None:
    text = """
kind: TrafficPolicy
metadata: {name: a}
spec: {targetRefs: [{kind: Service, name: a}], timeouts: {request: 0s, perTry: 0s, tunnelIdle: 0s}}
"""
    body = parse_documents(text, "a.yaml")[0].body
    assert isinstance(body, TrafficPolicyResource)
    times = body.policy.timeouts
    assert (times.request_s, times.per_try_s, times.tunnel_idle_s) == (None, None, None)


def test_a_kubernetes_service_gives_its_tcp_ports_and_addresses() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, uid: 8f1c, managedFields: [{manager: kubectl}]}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7, "fd00:0::7"]
  type: ClusterIP
  selector: {app: orders}
  ports:
  - {name: grpc-api, port: 9000, protocol: TCP, targetPort: 9000, nodePort: 30000}
  - {name: web, port: 80, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, protocol: UDP}
  - {port: 5432}
  - {name: grpc-web-shop, port: 9001}
  - {name: redis, port: 6379}
  - {name: tcp-db, port: 5433, appProtocol: tls}
status: {loadBalancer: {}}
"""
    parsed = parse_documents(text, "a.yaml")[0]
    assert parsed.body == Service(
        ServiceKey("shop", "orders"),
        (
            ServicePort(9000, Protocol.GRPC, "grpc-api"),
            ServicePort(80, Protocol.HTTP2, "web"),
            ServicePort(5432, Protocol.AUTO, ""),
            ServicePort(9001, Protocol.HTTP, "grpc-web-shop"),
            ServicePort(6379, Protocol.TCP, "redis"),
            ServicePort(5433, Protocol.TLS, "tcp-db"),
        ),
        ("10.96.0.7", "fd00::7"),
    )


@pytest.mark.parametrize("spec", ["clusterIP: None, clusterIPs: [None]", 'clusterIP: ""', "clusterIPs: []"])
def test_a_headless_service_has_no_address(spec: str) -> None:
    text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: orders}}\nspec: {{{spec}, ports: [{{port: 80}}]}}"
    assert parse_documents(text, "a.yaml")[0].body == Service(ServiceKey("default", "orders"), (ServicePort(80),))


def test_a_store_keeps_what_the_author_wrote_without_status() -> None:
    text = "kind: MeshPolicy\nmetadata: {name: mesh, annotations: {who: ann}}\nspec: {mtls: off}\nstatus: {ok: true}"
    parsed = parse_documents(text, "a.yaml")[0]
    assert isinstance(parsed.body, MeshPolicy)
    assert json.loads(parsed.document) == {
        "kind": "MeshPolicy",
        "metadata": {"name": "mesh", "annotations": {"who": "ann"}},
        "spec": {"mtls": "off"},
    }
    assert parse_json(parsed.document, version=9).body == parsed.body


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 70_000), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.text(max_size=5), below, max_size=3)),
    max_leaves=8,
)


@given(st.data())
def test_any_part_of_a_document_may_be_anything_without_a_traceback(data: st.DataObject) -> None:
    body = data.draw(strategies.snapshot_bodies)
    document: Any = to_document(body)
    place = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list):
            place[key] = data.draw(json_values)
            break
        place = place[key]
    for line in lines_about(document):
        assert ": " in line
        assert "\n" not in line


def lines_about(document: object) -> list[str]:
    try:
        parse_wire("Service/shop/orders", 1, json.dumps(document))
    except ConfigError as refusal:
        return refusal.problems
    return []
