"""Bodies of every kind, for round trips."""

from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from sidecar.model.balancing import (
    HASHING,
    Algorithm,
    Balancing,
    HashKey,
    HashOf,
    Otherwise,
    Subset,
    ZoneRule,
)
from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import (
    EMPTY,
    PLAIN,
    Endpoint,
    EndpointSet,
    Mesh,
    Protocol,
    Service,
    ServiceKey,
    ServicePort,
    Workload,
)
from sidecar.model.fallback import Fallback
from sidecar.model.faults import InjectedFault
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import (
    AllowRule,
    AuthorizationPolicy,
    Backoff,
    BudgetPolicy,
    Ejection,
    Limits,
    Mode,
    Retries,
    RetryOn,
    SuccessRatio,
    TargetRef,
    Timeouts,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.rates import RateLimit
from sidecar.model.routes import (
    ROUTE_KINDS,
    BackendRef,
    Filters,
    GrpcMatch,
    GrpcRoute,
    GrpcRule,
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
    QueryMatch,
    Redirect,
    Rewrite,
    RouteMatch,
    RouteRule,
    TcpRoute,
    TlsRoute,
    ValueKind,
)

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
subdomains = st.lists(labels, min_size=1, max_size=3).map(".".join)
label_values = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?)?", fullmatch=True)
ports = st.integers(1, 65_535)
milliseconds = st.integers(1, 10**9).map(lambda ms: ms / 1000)
conditions = st.lists(
    st.tuples(
        st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True), st.none() | st.from_regex(r"[!-~]{1,8}", fullmatch=True)
    ),
    max_size=3,
).map(tuple)
hosts = st.one_of(st.ip_addresses().map(str), labels.map(lambda label: f"{label}.example"))
services = st.builds(ServiceKey, labels, labels)
spiffe_ids = st.builds("spiffe://mesh.local/ns/{}/sa/{}".format, labels, labels)
label_maps = st.dictionaries(labels, label_values, max_size=3).map(
    lambda found: MappingProxyType({name: value for name, value in found.items() if name != "version"}) or EMPTY
)
printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


def unique_ports(protocols: st.SearchStrategy[Protocol]) -> st.SearchStrategy[tuple[ServicePort, ...]]:
    """At least one port, each number once."""
    port = st.builds(ServicePort, ports, protocols, st.one_of(st.just(""), labels))
    return st.lists(port, min_size=1, max_size=4, unique_by=lambda made: made.port).map(tuple)


cluster_ips = st.lists(st.ip_addresses().map(str), max_size=2, unique=True).map(tuple)
service_bodies = st.builds(Service, services, unique_ports(st.sampled_from(Protocol)), cluster_ips)

hops = st.one_of(
    st.just(PLAIN),
    st.builds(
        Mesh,
        st.builds("{}.{}.{}.mesh".format, ports, labels, labels),
        st.frozensets(spiffe_ids, min_size=1, max_size=3),
        st.sampled_from([("http/1.1",), ("h2", "http/1.1")]),
    ),
)
endpoints = st.builds(
    Endpoint,
    id=subdomains,
    service_port=ports,
    host=hosts,
    port=ports,
    hop=hops,
    weight=st.integers(1, 1_000_000),
    zone=label_values,
    version=label_values,
    ready=st.booleans(),
    labels=label_maps,
)
endpoint_sets = st.builds(
    EndpointSet,
    services,
    st.lists(endpoints, max_size=4, unique_by=lambda endpoint: (endpoint.id, endpoint.service_port)).map(tuple),
)

paths = st.from_regex(r"/([a-z0-9_~%$&=:@-]{0,0}[a-z0-9]{1,8}(/[a-z0-9._-]*[a-z0-9])?)?", fullmatch=True)
expressions = st.sampled_from(["/a/.*", "(?i)v[0-9]+", "x|y", r"[^/]{2,}\.z"])
field_names = st.from_regex(r"x-[a-z0-9!#$%&'*+.^_|~-]{1,10}", fullmatch=True).filter(lambda n: n[:7] != "x-mesh-")
field_values = st.from_regex(r"[!-~]{1,8}( [!-~]{1,8})?", fullmatch=True)


def compared(kind: type, names: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[HeaderMatch | QueryMatch, ...]]:
    """Conditions on headers or parameters, each name once."""
    one = st.one_of(
        st.builds(kind, names, printable, st.just(ValueKind.EXACT)),
        st.builds(kind, names, expressions, st.just(ValueKind.REGEX)),
    )
    return st.lists(one, max_size=3, unique_by=lambda made: made.name).map(tuple)


path_matches = st.one_of(
    st.builds(PathMatch, st.sampled_from([PathKind.EXACT, PathKind.PREFIX]), paths),
    st.builds(PathMatch, st.just(PathKind.REGEX), expressions),
)
matches = st.builds(
    RouteMatch,
    path_matches,
    compared(HeaderMatch, field_names),
    st.one_of(st.none(), st.sampled_from(["GET", "POST", "PATCH"])),
    compared(QueryMatch, printable),
)


@st.composite
def modifiers(draw: st.DrawFn) -> HeaderModifier:
    """Some fields, each named once, dealt out to the three actions."""
    names = draw(st.lists(field_names, min_size=1, max_size=6, unique=True))
    first, second = sorted((draw(st.integers(0, len(names))), draw(st.integers(0, len(names)))))
    valued = [(name, draw(field_values)) for name in names[:second]]
    return HeaderModifier(tuple(valued[:first]), tuple(valued[first:]), tuple(names[second:]))


full_paths = st.builds(PathModifier, st.just(PathModifierKind.FULL), paths)
prefixes = st.builds(PathModifier, st.just(PathModifierKind.PREFIX), st.one_of(st.just(""), paths))
header_filters = st.builds(Filters, request=st.none() | modifiers(), response=st.none() | modifiers()).map(
    lambda made: made if made != Filters() else None
)
redirects = st.builds(
    Redirect,
    scheme=st.sampled_from(["", "http", "https"]),
    hostname=st.just("") | subdomains,
    path=st.none() | full_paths | prefixes,
    port=ports,
    status=st.sampled_from([301, 302, 303, 307, 308]),
)
rewrites = st.one_of(
    st.builds(Rewrite, subdomains, st.none() | full_paths | prefixes),
    st.builds(Rewrite, st.just(""), full_paths | prefixes),
)
backends = st.builds(BackendRef, services, ports, st.integers(0, 1_000_000), header_filters)
plain_backends = st.builds(BackendRef, services, ports, st.integers(0, 1_000_000))


def once(members: st.SearchStrategy[BackendRef]) -> st.SearchStrategy[tuple[BackendRef, ...]]:
    return st.lists(members, max_size=3, unique_by=lambda one: (one.service, one.port)).map(tuple)


@st.composite
def route_rules(draw: st.DrawFn) -> RouteRule:
    """A rule; the name is set afterwards, because names are unique in a route."""
    request_s = draw(st.one_of(st.none(), st.just(0.0), milliseconds))
    backend_s = draw(st.one_of(st.none(), st.just(0.0), milliseconds))
    if request_s and backend_s and request_s < backend_s:
        backend_s = request_s
    found = draw(st.lists(matches, min_size=1, max_size=3))
    redirect = draw(st.none() | redirects)
    rewrite = draw(st.none() | rewrites) if redirect is None else None
    modified = redirect or rewrite
    if modified is not None and modified.path is not None and modified.path.kind is PathModifierKind.PREFIX:
        found = [RouteMatch(PathMatch(PathKind.PREFIX, draw(paths)))]
    headers = draw(header_filters) or Filters()
    filters = Filters(request=headers.request, response=headers.response, redirect=redirect, rewrite=rewrite)
    return RouteRule(
        matches=tuple(found),
        backends=() if redirect is not None else draw(once(backends)),
        request_s=request_s,
        backend_request_s=backend_s,
        filters=filters if filters != Filters() else None,
    )


words = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,8}", fullmatch=True)
methods = st.one_of(
    st.builds(MethodMatch, words, st.just("") | words, st.just(ValueKind.EXACT)),
    st.builds(MethodMatch, st.just(""), words, st.just(ValueKind.EXACT)),
    st.builds(MethodMatch, expressions, st.just("") | expressions, st.just(ValueKind.REGEX)),
)
grpc_rules = st.builds(
    GrpcRule,
    matches=st.lists(
        st.builds(GrpcMatch, st.none() | methods, compared(HeaderMatch, field_names)), min_size=1, max_size=3
    ).map(tuple),
    backends=once(backends),
    filters=header_filters,
)
l4_rules = st.tuples(st.builds(L4Rule, name=st.just("") | subdomains, backends=once(plain_backends)))
hostnames = st.builds("{}{}".format, st.sampled_from(["", "*."]), labels.map(lambda label: f"{label}.example"))
shared = {
    "namespace": labels,
    "name": subdomains,
    "parents": st.lists(
        st.builds(ParentRef, services, st.one_of(st.none(), ports)), min_size=1, max_size=3, unique=True
    ).map(tuple),
    "created": st.sampled_from(["", "2026-01-02T03:04:05Z"]),
}
http_routes = st.builds(HttpRoute, rules=st.lists(route_rules(), min_size=1, max_size=3).map(tuple), **shared)
grpc_routes = st.builds(GrpcRoute, rules=st.lists(grpc_rules, min_size=1, max_size=3).map(tuple), **shared)
tcp_routes = st.builds(TcpRoute, rules=l4_rules, **shared)
tls_routes = st.builds(
    TlsRoute,
    hostnames=st.lists(hostnames, min_size=1, max_size=3, unique=True).map(tuple),
    rules=l4_rules,
    **shared,
)
routes = st.one_of(http_routes, grpc_routes, tcp_routes, tls_routes)


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float]:
    """A base and a maximum not below it."""
    low, high = sorted((draw(milliseconds), draw(milliseconds)))
    return low, high


label_names = st.from_regex(r"[a-z]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
hash_keys = st.one_of(
    st.builds(HashKey, st.just(HashOf.HEADER), st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True)),
    st.builds(HashKey, st.just(HashOf.COOKIE), st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)),
    st.builds(HashKey, st.sampled_from((HashOf.SOURCE, HashOf.PATH))),
)
rate_limits = st.builds(
    RateLimit,
    requests=st.integers(1, 1_000_000),
    interval_s=st.integers(1000, 100_000).map(lambda ms: ms / 1000),
    burst=st.integers(1, 1_000_000),
    key=st.none() | hash_keys,
    path=st.sampled_from(["", "/", "/search", "/a/b"]),
)
fallbacks = st.builds(
    Fallback,
    statuses=st.frozensets(st.integers(400, 599), min_size=1, max_size=5),
    status=st.integers(200, 599),
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8"]),
    body=printable,
)
subsets = st.builds(
    Subset,
    st.dictionaries(label_names, label_values, min_size=1, max_size=3).map(lambda found: tuple(sorted(found.items()))),
    st.sampled_from(Otherwise),
)


@st.composite
def balancings(draw: st.DrawFn) -> Balancing:
    """Hashing has a key, and neither zone nor slow start."""
    algorithm = draw(st.sampled_from(Algorithm))
    made = Balancing(
        algorithm=algorithm,
        subset=draw(st.one_of(st.none(), subsets)),
        panic_percent=draw(st.integers(0, 100)),
    )
    if algorithm in HASHING:
        return replace(made, hash_key=draw(hash_keys))
    return replace(made, zone=draw(st.sampled_from(ZoneRule)), slow_start_s=draw(st.integers(0, 10**6)) / 1000)


@st.composite
def traffic_policies(draw: st.DrawFn) -> TrafficPolicy:
    """A policy that holds what the checks across fields demand."""
    per_try_s = draw(st.one_of(st.none(), milliseconds))
    connect_s = draw(milliseconds)
    request_s = draw(st.one_of(st.none(), st.just(round(max(per_try_s or 0.0, connect_s) + 1.0, 3))))
    request_asked = request_s != Timeouts().request_s or draw(st.booleans())
    backoff, ejection = draw(spans()), draw(spans())
    return TrafficPolicy(
        timeouts=Timeouts(
            request_s=request_s,
            request_asked=request_asked,
            per_try_s=per_try_s,
            connect_s=connect_s,
            stream_idle_s=draw(milliseconds),
            tunnel_idle_s=draw(st.one_of(st.none(), milliseconds)),
        ),
        retries=Retries(
            attempts=draw(st.integers(0, 10)),
            on=draw(st.frozensets(st.sampled_from(RetryOn))),
            statuses=draw(st.frozensets(st.integers(400, 599), max_size=16)),
            headers=draw(conditions),
            backoff=Backoff(base_s=backoff[0], max_s=backoff[1]),
            budget=BudgetPolicy(
                percent=draw(st.integers(0, 10_000)) / 100,
                interval_s=draw(st.integers(1000, 100_000)) / 1000,
                min_per_second=draw(st.integers(0, 10_000)) / 10,
            ),
            max_body_bytes=draw(st.integers(0, 1_048_576)),
        ),
        balancing=draw(balancings()),
        ejection=Ejection(
            consecutive_failures=draw(st.integers(1, 1000)),
            gateway_failures=draw(st.integers(0, 1000)),
            connect_failures=draw(st.integers(0, 1000)),
            success=SuccessRatio(
                at_least_percent=draw(st.integers(0, 100)),
                interval_s=draw(st.integers(1000, 100_000)) / 1000,
                min_requests=draw(st.integers(1, 10_000)),
            ),
            base_s=ejection[0],
            max_s=ejection[1],
            max_percent=draw(st.integers(0, 100)),
        ),
        limits=Limits(
            connections=draw(st.integers(1, 10**6)),
            pending=draw(st.integers(0, 10**6)),
            requests=draw(st.integers(1, 10**6)),
        ),
        rate_limits=tuple(draw(st.lists(rate_limits, max_size=3))),
        sticky=draw(st.one_of(st.none(), hash_keys)),
        fallback=draw(st.none() | fallbacks),
        faults=tuple(draw(st.lists(faults(), max_size=3))),
        mode=draw(st.sampled_from(Mode)),
    )


@st.composite
def faults(draw: st.DrawFn) -> InjectedFault:
    """What does something, and no two things that exclude each other."""
    status = draw(st.one_of(st.just(0), st.integers(400, 599)))
    delay_s = draw(st.one_of(st.just(0.0), milliseconds))
    return InjectedFault(
        percent=draw(st.integers(0, 1000)) / 10,
        tries=draw(st.integers(0, 100)),
        headers=draw(conditions),
        callers=draw(st.frozensets(st.builds(ServiceKey, labels, labels), max_size=3)),
        delay_s=delay_s,
        status=status,
        reset=not status and (draw(st.booleans()) or not delay_s),
    )


service_targets = st.builds(TargetRef, st.just("Service"), labels)
route_targets = st.builds(TargetRef, st.sampled_from(ROUTE_KINDS), subdomains, st.one_of(st.just(""), subdomains))
traffic_policy_resources = st.builds(
    TrafficPolicyResource,
    namespace=labels,
    name=subdomains,
    targets=st.lists(st.one_of(service_targets, route_targets), min_size=1, max_size=3, unique=True).map(tuple),
    policy=traffic_policies(),
)
authorization_policies = st.builds(
    AuthorizationPolicy,
    namespace=labels,
    name=subdomains,
    targets=st.lists(service_targets, min_size=1, max_size=3, unique=True).map(tuple),
    allow=st.lists(
        st.builds(
            AllowRule,
            services=st.frozensets(services, min_size=1, max_size=3),
            principals=st.frozensets(spiffe_ids, max_size=3),
        ),
        max_size=3,
    ).map(tuple),
    mode=st.sampled_from(Mode),
)
snapshot_bodies = st.one_of(service_bodies, endpoint_sets, routes, traffic_policy_resources, authorization_policies)

workloads = st.builds(
    Workload,
    namespace=labels,
    name=subdomains,
    service=labels,
    address=hosts,
    ports=unique_ports(st.sampled_from(Protocol)),
    inbound=st.one_of(st.none(), ports),
    account=labels,
    zone=label_values,
    version=st.one_of(st.just(""), labels),
    weight=st.integers(1, 1_000_000),
    ready=st.booleans(),
    labels=label_maps,
)
mesh_policies = st.builds(
    MeshPolicy,
    namespace=labels,
    name=subdomains,
    mtls=st.sampled_from(MtlsMode),
    trust_domain=st.sampled_from(["", "mesh.local", "example.org"]),
    defaults=st.one_of(st.none(), traffic_policies()),
)
