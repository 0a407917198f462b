"""Small snapshots for tests of the control plane's pure parts, written in one line each."""

from types import MappingProxyType

from sidecar.model.clusters import Endpoint, EndpointSet, Service, ServiceKey, ServicePort
from sidecar.model.policies import AuthorizationPolicy, TargetRef, TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteRule
from sidecar.model.snapshot import Body, Resource, Snapshot


def key(text: str) -> ServiceKey:
    """`orders.shop` as a key; `orders` is in namespace `shop`."""
    name, _, namespace = text.partition(".")
    return ServiceKey(namespace or "shop", name)


def service(text: str, version: int = 1) -> Resource:
    named = key(text)
    return _resource("Service", named.namespace, named.name, version, Service(named, (ServicePort(8080),)))


def endpoints(text: str, *ids: str, version: int = 1) -> Resource:
    named = key(text)
    made = tuple(Endpoint(id=each, service_port=8080, host="127.0.0.1", port=15006) for each in ids)
    return _resource("Endpoints", named.namespace, named.name, version, EndpointSet(named, made))


def route(name: str, parent: str, *backends: str, version: int = 1, namespace: str = "shop") -> Resource:
    rule = RouteRule(backends=tuple(BackendRef(key(each), 8080) for each in backends))
    body = HttpRoute(namespace=namespace, name=name, parents=(ParentRef(key(parent)),), rules=(rule,))
    return _resource("HTTPRoute", namespace, name, version, body)


def traffic(name: str, *targets: tuple[str, str], version: int = 1) -> Resource:
    refs = tuple(TargetRef(kind, target) for kind, target in targets)
    body = TrafficPolicyResource(namespace="shop", name=name, targets=refs, policy=TrafficPolicy())
    return _resource("TrafficPolicy", "shop", name, version, body)


def access(name: str, *targets: tuple[str, str], version: int = 1) -> Resource:
    refs = tuple(TargetRef(kind, target) for kind, target in targets)
    body = AuthorizationPolicy(namespace="shop", name=name, targets=refs)
    return _resource("AuthorizationPolicy", "shop", name, version, body)


def snapshot(*resources: Resource, version: int = 1) -> Snapshot:
    """A complete snapshot of these."""
    return Snapshot(MappingProxyType({each.name: each for each in resources}), version, complete=True)


def _resource(kind: str, namespace: str, name: str, version: int, body: Body) -> Resource:
    return Resource(f"{kind}/{namespace}/{name}", version, body)
