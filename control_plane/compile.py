"""What the store holds -> the snapshot that sidecars read.

ledger.py calls it for every change, before anything is written. Pure. The compiling itself is `sidecar.config.derive`,
the same that a static folder goes through; here stand the inputs (`Content`), what outlives its workloads, and what
keeps a change small: inputs that are the same objects as last time are not compiled again, and a resource whose
document did not change keeps its identity and its version.

A Service made from workloads stays, without endpoints, when its last workload leaves: its callers then hear 503 and
may try again, and not 404. One made for a version stays only while a route names it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from sidecar.config.derive import default_policies, resolve_principals, services_and_endpoints, version_service
from sidecar.config.resources import Parsed, name_of, resource_of
from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import EndpointSet, Service, ServiceKey, ServicePort, Workload
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import AuthorizationPolicy
from sidecar.model.routes import AnyRoute, services_of
from sidecar.model.snapshot import Body, Resource, Snapshot

MAX_PORTS = 256  # of one service, all its workloads together; a workload has at most 64

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A service that workloads registered once. `version_of` names the service whose version it is, or ""."""

    ports: tuple[ServicePort, ...]
    version_of: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that is compiled.

    Attributes:
        user: What users applied, by `KIND/NS/NAME`.
        registered: What sidecars registered, by node (`NS/ID`).
        remembered: Services of workloads past and present.
    """

    user: Mapping[str, Parsed] = field(default_factory=lambda: MappingProxyType({}))
    registered: Mapping[str, Workload] = field(default_factory=lambda: MappingProxyType({}))
    remembered: Mapping[ServiceKey, Remembered] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def mesh_policy(self) -> MeshPolicy | None:
        """The mesh's own policy; the first by name, should there be several."""
        return next((p.body for _, p in sorted(self.user.items()) if isinstance(p.body, MeshPolicy)), None)

    def workloads(self) -> list[Workload]:
        """Registered ones and applied ones; of the same name, the registered one counts."""
        applied = [parsed.body for parsed in self.user.values() if isinstance(parsed.body, Workload)]
        return [*self.registered.values(), *(w for w in applied if f"{w.namespace}/{w.name}" not in self.registered)]

    def edited(self, edit: "Edit") -> "Content":
        """The content after an edit."""
        return Content(
            _edited(self.user, edit.user),
            _edited(self.registered, edit.registered),
            _edited(self.remembered, edit.remembered),
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the content, by key; None removes."""

    user: Mapping[str, Parsed | None] = field(default_factory=dict)
    registered: Mapping[str, Workload | None] = field(default_factory=dict)
    remembered: Mapping[ServiceKey, Remembered | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.user or self.registered or self.remembered)


class Compiler:
    """Compiles contents, each likely to be close to the one before."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain
        self._namespaces: dict[str, tuple[tuple[object, ...], list[Resource]]] = {}
        self._encoded: dict[str, tuple[Body, Resource]] = {}
        self._resolved: dict[str, tuple[tuple[object, ...], Resource]] = {}

    def compile(self, content: Content) -> dict[str, Resource]:
        """Every resource of the snapshot by name, version 0. The same content gives the same documents."""
        made: dict[str, Resource] = {}
        workloads = content.workloads()
        policy = content.mesh_policy
        for resource in self._of_workloads(workloads, policy):
            made[resource.name] = resource
        for key, remembered in kept(content, made).items():
            self._encode(Service(key, remembered.ports), made)
        for _, parsed in sorted(content.user.items()):
            body = parsed.body
            if isinstance(body, AuthorizationPolicy):
                made[parsed.name] = self._resolve(parsed.name, body, workloads)
            elif not isinstance(body, Workload | MeshPolicy):
                self._encode(body, made)
        for body in [each.body for each in made.values()]:
            if isinstance(body, Service) and f"Endpoints/{body.key.namespace}/{body.key.name}" not in made:
                self._encode(EndpointSet(body.key, ()), made)
        for resource in default_policies(policy, made.values()):
            made[resource.name] = resource
        for memory in (self._encoded, self._resolved):
            for name in memory.keys() - made.keys():
                memory.pop(name)
        return made

    def _of_workloads(self, workloads: list[Workload], policy: MeshPolicy | None) -> Iterable[Resource]:
        mesh = policy is None or policy.mtls is not MtlsMode.OFF
        by_namespace: dict[str, list[Workload]] = {}
        for workload in workloads:  # services never cross namespaces, so each can be compiled by itself
            by_namespace.setdefault(workload.namespace, []).append(workload)
        for gone in self._namespaces.keys() - by_namespace.keys():
            del self._namespaces[gone]
        for namespace, members in by_namespace.items():
            known = self._namespaces.get(namespace)
            inputs: tuple[object, ...] = (mesh, *members)
            if known is None or not _same(known[0], inputs):
                resources = services_and_endpoints(members, self._trust_domain, mesh)
                known = self._namespaces[namespace] = (inputs, resources)
            yield from known[1]

    def _encode(self, body: Body, made: dict[str, Resource]) -> None:
        name = name_of(body)
        known = self._encoded.get(name)
        if known is None or not (known[0] is body or known[0] == body):
            known = self._encoded[name] = (body, resource_of(body))
        made[name] = known[1]

    def _resolve(self, name: str, policy: AuthorizationPolicy, workloads: list[Workload]) -> Resource:
        callers = {service for rule in policy.allow for service in rule.services}
        accounts = sorted(
            {
                (each.namespace, each.service, each.account or each.service)
                for each in workloads
                if ServiceKey(each.namespace, each.service) in callers
            }
        )
        inputs: tuple[object, ...] = (policy, *accounts)
        known = self._resolved.get(name)
        if known is None or known[0] != inputs:
            known = (inputs, resource_of(resolve_principals(policy, workloads, self._trust_domain)))
            self._resolved[name] = known
        return known[1]


def difference(before: Snapshot, made: Mapping[str, Resource]) -> frozenset[str]:
    """Names that were put, changed or dropped."""
    put = {name for name, each in made.items() if not _unchanged(before.resources.get(name), each)}
    return frozenset(put | (before.resources.keys() - made.keys()))


def next_snapshot(before: Snapshot, made: Mapping[str, Resource], revision: int) -> Snapshot:
    """The snapshot at `revision`: what changed has that version, everything else is the object that it was."""
    resources = {}
    for name, resource in made.items():
        present = before.resources.get(name)
        if present is not None and _unchanged(present, resource):
            resources[name] = present
        else:
            resources[name] = replace(resource, version=revision)
    return Snapshot(MappingProxyType(resources), revision, complete=True)


def _unchanged(present: Resource | None, made: Resource) -> bool:
    return present is not None and present.document == made.document


def kept(content: Content, made: Mapping[str, Resource]) -> dict[ServiceKey, Remembered]:
    """Remembered services that have no workloads now and stay all the same."""
    named = {
        service
        for parsed in content.user.values()
        if isinstance(parsed.body, AnyRoute)
        for service in services_of(parsed.body)
    }
    return {
        key: remembered
        for key, remembered in content.remembered.items()
        if f"Service/{key.namespace}/{key.name}" not in made and (not remembered.version_of or key in named)
    }


def stale(content: Content) -> dict[ServiceKey, Remembered | None]:
    """Remembered versions that nobody serves and no route names: to be forgotten."""
    served = {
        version_service(ServiceKey(each.namespace, each.service), each.version)
        for each in content.workloads()
        if each.version
    }
    staying = served | kept(content, {}).keys()
    return {key: None for key in content.remembered if key not in staying}


def remember(content: Content, workload: Workload) -> dict[ServiceKey, Remembered | None]:
    """What to remember when `workload` registers: its services with all ports that they had, up to MAX_PORTS."""
    base = ServiceKey(workload.namespace, workload.service)
    wanted = {base: ""}
    if workload.version:
        wanted[version_service(base, workload.version)] = workload.service
    changes: dict[ServiceKey, Remembered | None] = {}
    for key, version_of in wanted.items():
        known = content.remembered.get(key)
        ports = {port.port: port for port in (*(known.ports if known else ()), *workload.ports)}
        if len(ports) > MAX_PORTS:  # somebody tries one after the other: what is not declared now is forgotten
            ports = {port.port: port for port in workload.ports}
        # A service in its own right is not demoted to somebody's version.
        demoted = known is not None and not known.version_of and version_of
        new = Remembered(tuple(ports[number] for number in sorted(ports)), "" if demoted else version_of)
        if new != known:
            changes[key] = new
    return changes


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def _edited(mapping: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    if not changes:
        return mapping
    merged: dict[K, V | None] = {**mapping, **changes}
    return MappingProxyType({key: value for key, value in merged.items() if value is not None})
