"""Short ways to write a snapshot down. Everything lives in namespace `shop` and on port 8080."""

from sidecar.model.clusters import Endpoint, EndpointSet, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.messages import RequestHead
from sidecar.model.policies import DEFAULT_POLICY, TargetRef, TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import (
    BackendRef,
    Filters,
    GrpcMatch,
    GrpcRoute,
    GrpcRule,
    HeaderMatch,
    HttpRoute,
    L4Rule,
    MethodMatch,
    ParentRef,
    PathKind,
    PathMatch,
    QueryMatch,
    RouteMatch,
    RouteRule,
    TcpRoute,
    TlsRoute,
    ValueKind,
)
from sidecar.model.snapshot import Body, Resource, Snapshot

PORT = 8080


def key(name: str) -> ServiceKey:
    return ServiceKey("shop", name)


def service(name: str, *ports: int, protocol: Protocol = Protocol.HTTP) -> Service:
    return Service(key(name), tuple(ServicePort(port, protocol) for port in ports or (PORT,)))


def endpoint(name: str, port: int = PORT, **more: int | bool) -> Endpoint:
    ready = bool(more.get("ready", True))
    return Endpoint(
        id=name, service_port=port, host="127.0.0.1", port=9000, weight=int(more.get("weight", 1)), ready=ready
    )


def endpoints(name: str, *members: Endpoint) -> EndpointSet:
    return EndpointSet(key(name), members or (endpoint(f"{name}-1"),))


def exact(path: str) -> PathMatch:
    return PathMatch(PathKind.EXACT, path)


def prefix(path: str) -> PathMatch:
    return PathMatch(PathKind.PREFIX, path)


def _dashed(name: str) -> str:
    """A header's name from that of a keyword argument."""
    return name.replace("_", "-")


def match(path: PathMatch | None = None, method: str | None = None, **headers: str) -> RouteMatch:
    return RouteMatch(
        path or PathMatch(), tuple(HeaderMatch(_dashed(name), value) for name, value in headers.items()), method
    )


def regex(path: str) -> PathMatch:
    return PathMatch(PathKind.REGEX, path)


def query(path: PathMatch | None = None, **parameters: str) -> RouteMatch:
    wanted = tuple(QueryMatch(name, value) for name, value in parameters.items())
    return RouteMatch(path or PathMatch(), query=wanted)


def call(service: str = "", method: str = "", kind: ValueKind = ValueKind.EXACT, **headers: str) -> GrpcMatch:
    """Without service and method: every call."""
    wanted = MethodMatch(service, method, kind) if service or method else None
    return GrpcMatch(wanted, tuple(HeaderMatch(_dashed(name), value) for name, value in headers.items()))


def backends(*pairs: tuple[str, int] | str) -> tuple[BackendRef, ...]:
    """Names or (name, weight)."""
    named = [(one, 1) if isinstance(one, str) else one for one in pairs]
    return tuple(BackendRef(key(service), PORT, weight) for service, weight in named)


def rule(
    *to: tuple[str, int] | str,
    matches: tuple[RouteMatch, ...] = (RouteMatch(),),
    name: str = "",
    request_s: float | None = None,
    backend_request_s: float | None = None,
    filters: Filters | None = None,
) -> RouteRule:
    return RouteRule(
        name=name,
        matches=matches,
        backends=backends(*to),
        request_s=request_s,
        backend_request_s=backend_request_s,
        filters=filters,
    )


def route(
    *rules: RouteRule, name: str = "orders", parent: str = "orders", port: int | None = None, created: str = ""
) -> HttpRoute:
    return HttpRoute(namespace="shop", name=name, parents=(ParentRef(key(parent), port),), rules=rules, created=created)


def grpc_rule(*to: tuple[str, int] | str, matches: tuple[GrpcMatch, ...] = (GrpcMatch(),), name: str = "") -> GrpcRule:
    return GrpcRule(name=name, matches=matches, backends=backends(*to))


def grpc_route(*rules: GrpcRule, name: str = "orders", port: int | None = None) -> GrpcRoute:
    return GrpcRoute(namespace="shop", name=name, parents=(ParentRef(key("orders"), port),), rules=rules)


def tcp_route(*to: tuple[str, int] | str, name: str = "orders", parent: str = "orders", created: str = "") -> TcpRoute:
    rules = (L4Rule(backends=backends(*to)),)
    return TcpRoute(namespace="shop", name=name, parents=(ParentRef(key(parent)),), rules=rules, created=created)


def tls_route(*hostnames: str, to: str = "orders", name: str = "orders", created: str = "") -> TlsRoute:
    return TlsRoute(
        namespace="shop",
        name=name,
        parents=(ParentRef(key("orders")),),
        hostnames=hostnames,
        rules=(L4Rule(backends=backends(to)),),
        created=created,
    )


def policy(name: str, *targets: TargetRef, settings: TrafficPolicy = DEFAULT_POLICY) -> TrafficPolicyResource:
    return TrafficPolicyResource(namespace="shop", name=name, targets=targets, policy=settings)


def resource(body: Body, version: int = 1) -> Resource:
    match body:
        case Service(key=service):
            name = f"Service/{service.namespace}/{service.name}"
        case EndpointSet(service=service):
            name = f"Endpoints/{service.namespace}/{service.name}"
        case HttpRoute() | GrpcRoute() | TcpRoute() | TlsRoute():
            name = f"{body.kind}/{body.namespace}/{body.name}"
        case TrafficPolicyResource():
            name = f"TrafficPolicy/{body.namespace}/{body.name}"
        case _:
            name = f"AuthorizationPolicy/{body.namespace}/{body.name}"
    return Resource(name, version, body)


def snapshot(*bodies: Body) -> Snapshot:
    return Snapshot(complete=True).changed((resource(body) for body in bodies), version=1)


def push(before: Snapshot, *bodies: Body, drop: tuple[str, ...] = ()) -> Snapshot:
    """The snapshot after one more push."""
    version = before.version + 1
    return before.changed((resource(body, version) for body in bodies), drop, version=version)


def head(target: str = "/", method: str = "GET", **headers: str) -> RequestHead:
    fields = [(_dashed(name).encode(), value.encode()) for name, value in headers.items()]
    return RequestHead(method.encode(), target.encode(), b"orders", [(b"host", b"orders"), *fields])
