"""What users wrote -> what sidecars read: the resources of a snapshot.

Workloads become Services and Endpoints, callers' services become SPIFFE IDs, the mesh's defaults become policies. The
control plane compiles its store with the same functions that serve a static folder. Nothing here looks at files or
decides about traffic; `check.py` says what does not fit together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sidecar.config.check import check_references
from sidecar.config.grammar import spiffe_id
from sidecar.config.problems import Problems
from sidecar.config.resources import Parsed, resource_of
from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import (
    PLAIN,
    Endpoint,
    EndpointSet,
    Hop,
    Mesh,
    Protocol,
    Service,
    ServiceKey,
    ServicePort,
    Workload,
)
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import AuthorizationPolicy, TargetRef, TrafficPolicyResource
from sidecar.model.snapshot import Resource

# HTTP/2 first: it carries what HTTP/1.1 cannot (TCP with half-close, gRPC); a sidecar without it picks the other.
MESH_ALPN = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class DerivedResult:
    """What documents make together. With `problems`, the resources must not be used.

    Attributes:
        resources: In order of name.
        problems, warnings: Complete lines.
    """

    resources: tuple[Resource, ...]
    problems: list[str]
    warnings: list[str]


def derive(documents: Sequence[Parsed], *, trust_domain: str, mesh: bool) -> DerivedResult:
    """The snapshot's resources that `documents` make.

    Args:
        documents: All that there is; what they name and is not among them does not exist.
        trust_domain: For SPIFFE IDs; a MeshPolicy that names one wins.
        mesh: Whether hops to workloads with a sidecar use mutual TLS; a MeshPolicy with `mtls: off` says no.
    """
    problems = Problems()
    check_references(documents, problems)
    policy = next((parsed.body for parsed in documents if isinstance(parsed.body, MeshPolicy)), None)
    if policy is not None:
        trust_domain = policy.trust_domain or trust_domain
        mesh = mesh and policy.mtls is not MtlsMode.OFF
    workloads = [parsed.body for parsed in documents if isinstance(parsed.body, Workload)]
    made = {r.name: r for r in services_and_endpoints(workloads, trust_domain, mesh)}
    for parsed in documents:
        body = parsed.body
        if isinstance(body, Workload | MeshPolicy):
            continue
        if isinstance(body, AuthorizationPolicy):
            body = resolve_principals(body, workloads, trust_domain)
        elif isinstance(body, Service):
            empty = EndpointSet(body.key, ())
            made.setdefault(f"Endpoints/{body.key.namespace}/{body.key.name}", resource_of(empty, parsed.version))
        made[parsed.name] = resource_of(body, parsed.version)
    for resource in default_policies(policy, made.values()):
        made[resource.name] = resource
    return DerivedResult(tuple(made[name] for name in sorted(made)), problems.lines(), problems.warning_lines())


def services_and_endpoints(
    workloads: Iterable[Workload], trust_domain: str, mesh: bool, version: int = 0
) -> list[Resource]:
    """Services and Endpoints that workloads make by being there: `orders`, and `orders-v1` for version `v1`.

    A service that workloads name themselves is never replaced by one made from a version (`orders-v1` beside version
    `v1` of `orders`). `version` becomes every resource's version.
    """
    groups: dict[ServiceKey, list[Workload]] = {}
    versions: dict[ServiceKey, list[Workload]] = {}
    for workload in sorted(workloads, key=lambda workload: (workload.namespace, workload.name)):
        key = ServiceKey(workload.namespace, workload.service)
        groups.setdefault(key, []).append(workload)
        if workload.version:
            versions.setdefault(version_service(key, workload.version), []).append(workload)
    for key, members in versions.items():
        groups.setdefault(key, members)
    made = []
    for key in sorted(groups):
        endpoints = (endpoint for member in groups[key] for endpoint in endpoints_of(member, trust_domain, mesh))
        made.append(resource_of(Service(key, _ports(groups[key])), version))
        made.append(resource_of(EndpointSet(key, tuple(endpoints)), version))
    return made


def version_service(service: ServiceKey, version: str) -> ServiceKey:
    """The service of one version only: `orders-v1` of `orders`."""
    return ServiceKey(service.namespace, f"{service.name}-{version}")


def endpoints_of(workload: Workload, trust_domain: str, mesh: bool) -> list[Endpoint]:
    """One endpoint for each port. With a mesh hop, all are dialled at the sidecar's inbound port."""
    made = []
    for port in workload.ports:
        hop: Hop = PLAIN
        dial = port.port
        if mesh and workload.inbound is not None:
            name = f"{port.port}.{workload.service}.{workload.namespace}.mesh"
            account = workload.account or workload.service
            hop = Mesh(name, frozenset({spiffe_id(trust_domain, workload.namespace, account)}), MESH_ALPN)
            dial = workload.inbound
        made.append(
            Endpoint(
                id=workload.name,
                service_port=port.port,
                host=workload.address,
                port=dial,
                hop=hop,
                weight=workload.weight,
                zone=workload.zone,
                version=workload.version,
                ready=workload.ready,
                labels=workload.labels,
            )
        )
    return made


def resolve_principals(
    policy: AuthorizationPolicy, workloads: Iterable[Workload], trust_domain: str
) -> AuthorizationPolicy:
    """The policy with its callers' SPIFFE IDs: the accounts of each service's workloads, and the account that has the
    service's name, so that a caller may come before its first workload is registered."""
    accounts: dict[ServiceKey, set[str]] = {}
    for workload in workloads:
        key = ServiceKey(workload.namespace, workload.service)
        accounts.setdefault(key, set()).add(workload.account or workload.service)
    return replace(
        policy,
        allow=tuple(
            replace(
                rule,
                principals=rule.principals
                | {
                    spiffe_id(trust_domain, service.namespace, account)
                    for service in rule.services
                    for account in accounts.get(service, set()) | {service.name}
                },
            )
            for rule in policy.allow
        ),
    )


def default_policies(policy: MeshPolicy | None, resources: Iterable[Resource]) -> list[Resource]:
    """The mesh's default TrafficPolicy for each Service that no TrafficPolicy targets; an own one replaces it whole."""
    if policy is None or policy.defaults is None:
        return []
    bodies = [resource.body for resource in resources]
    own = {
        ServiceKey(body.namespace, target.name)
        for body in bodies
        if isinstance(body, TrafficPolicyResource)
        for target in body.targets
        if target.kind == "Service"
    }
    return [
        resource_of(
            TrafficPolicyResource(
                namespace=body.key.namespace,
                name=f"{body.key.name}.mesh-default",
                targets=(TargetRef("Service", body.key.name),),
                policy=policy.defaults,
            )
        )
        for body in bodies
        if isinstance(body, Service) and body.key not in own
    ]


def _ports(workloads: Iterable[Workload]) -> tuple[ServicePort, ...]:
    """All ports of the workloads. A declared protocol beats `auto`; of two different ones the first counts."""
    ports: dict[int, ServicePort] = {}
    for workload in workloads:
        for port in workload.ports:
            known = ports.get(port.port)
            if known is None or (known.protocol is Protocol.AUTO and port.protocol is not Protocol.AUTO):
                ports[port.port] = port
    return tuple(ports[number] for number in sorted(ports))
