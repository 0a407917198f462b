"""Do documents fit together? Routes name services and ports that exist, policies attach to something.

Runs over documents that are fine by themselves, so that one typing error is one line. In a static folder, what is not
there does not exist, and a reference to it is an error; where services come and go (a control plane), it is a warning.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from sidecar.config.grammar import shown
from sidecar.config.idle_routes import warn_of_idle_routes
from sidecar.config.lint import warn_of_contradictions
from sidecar.config.node import Node
from sidecar.config.problems import Problems
from sidecar.config.resources import Parsed
from sidecar.model.clusters import Protocol, Service, ServiceKey, Workload
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import AuthorizationPolicy, TargetRef, TrafficPolicyResource
from sidecar.model.routes import AnyRoute, rules_of

Ports = Mapping[ServiceKey, Collection[int]]
_MOST_NAMES = 8  # in one message
_MOST_COMPARED = 200  # for a suggestion; it costs some microseconds a name


def check_references(
    documents: Sequence[Parsed], problems: Problems, *, services: Ports | None = None, complete: bool = True
) -> None:
    """Check every reference among `documents`; complaints go to `problems`.

    Args:
        services: More services that exist, with their ports: what is registered at a control plane.
        complete: False when a service that is not known may still come.
    """
    check = _Check({**(services or {}), **known_services(documents)}, documents, problems, complete)
    for parsed in documents:
        body = parsed.body
        if isinstance(body, AnyRoute):
            check.route(parsed.node, body)
        elif isinstance(body, TrafficPolicyResource):
            check.targets(parsed.node, body.namespace, body.targets)
        elif isinstance(body, AuthorizationPolicy):
            check.targets(parsed.node, body.namespace, body.targets)
            check.callers(parsed.node, body)
    warn_of_idle_routes(documents, problems)
    warn_of_contradictions(documents, problems)
    check.workloads()
    check.one_of_each()


def known_services(documents: Iterable[Parsed]) -> dict[ServiceKey, set[int]]:
    """The services that documents make, with their ports. A Service document alone decides its ports."""
    made: dict[ServiceKey, set[int]] = {}
    declared: dict[ServiceKey, set[int]] = {}
    for parsed in documents:
        body = parsed.body
        if isinstance(body, Service):
            declared[body.key] = {port.port for port in body.ports}
        elif isinstance(body, Workload):
            names = [body.service, f"{body.service}-{body.version}"] if body.version else [body.service]
            for name in names:
                made.setdefault(ServiceKey(body.namespace, name), set()).update(port.port for port in body.ports)
    return {**made, **declared}


class _Check:
    """One run over a set of documents."""

    def __init__(
        self, known: dict[ServiceKey, Collection[int]], documents: Sequence[Parsed], problems: Problems, complete: bool
    ) -> None:
        self._known = known
        self._names = [str(key) for key in sorted(known)]
        self._documents = documents
        self._problems = problems
        self._complete = complete

    def route(self, node: Node, route: AnyRoute) -> None:
        """Parents and backends are services and ports that exist."""
        for index, parent in enumerate(route.parents):
            self._service(node.at("spec", "parentRefs", index), "parentRef", parent.service, parent.port)
        for number, rule in enumerate(rules_of(route)):
            for index, backend in enumerate(rule.backends):
                place = node.at("spec", "rules", number, "backendRefs", index)
                self._service(place, "backendRef", backend.service, backend.port)

    def targets(self, node: Node, namespace: str, targets: tuple[TargetRef, ...]) -> None:
        """What a policy attaches to exists."""
        for index, target in enumerate(targets):
            place = node.at("spec", "targetRefs", index)
            if target.kind == "Service":
                self._service(place, "target", ServiceKey(namespace, target.name), None)
            else:
                self._route_target(place, namespace, target)

    def _service(self, node: Node, what: str, key: ServiceKey, port: int | None) -> None:
        ports = self._known.get(key)
        full = str(key) if port is None else f"{key}:{port}"
        if ports is None:
            known = listed(self._names, str(key))
            self._missing(node.at("name"), f"{what} {full}: no such Service ({known})")
        elif port is not None and port not in ports:
            declared = ", ".join(map(str, sorted(ports))) or "none"
            self._missing(node.at("port"), f"{what} {full}: the Service has no such port (declared: {declared})")

    def _route_target(self, node: Node, namespace: str, target: TargetRef) -> None:
        bodies = [parsed.body for parsed in self._documents]
        routes = [body for body in bodies if isinstance(body, AnyRoute) and body.kind == target.kind]
        here = {route.name: route for route in routes if route.namespace == namespace}
        route = here.get(target.name)
        if route is None:
            known = listed(sorted(here), target.name)
            self._missing(
                node.at("name"), f"target {target.name}: no such {target.kind} in namespace {namespace} ({known})"
            )
            return
        names = {rule.name for rule in rules_of(route)}
        if target.section and target.section not in names:
            known = listed(sorted(name for name in names if name), target.section)
            self._missing(node.at("sectionName"), f"{target.kind} {route.name} has no rule {target.section} ({known})")

    def callers(self, node: Node, policy: AuthorizationPolicy) -> None:
        """A caller that is not known yet is let in by its default account; that may be a typing error."""
        for index, rule in enumerate(policy.allow):
            for service in sorted(rule.services - self._known.keys()):
                known = listed(self._names, str(service))
                place = node.at("spec", "allow", index, "from", "services")
                message = f"no Service {service} is there; only its default account would be let in ({known})"
                self._problems.warn(place.problem(message))

    def workloads(self) -> None:
        """Workloads agree with the Service documents, and with each other, on ports, protocols and names."""
        own = {key for key, _ in self._workloads()}
        declared = {parsed.body.key for parsed in self._documents if isinstance(parsed.body, Service)}
        protocols: dict[tuple[ServiceKey, int], Protocol] = {}
        for key, (node, workload) in self._workloads():
            self._workload_ports(node, workload, key, key in declared, protocols)
            made = ServiceKey(key.namespace, f"{key.name}-{workload.version}")
            if workload.version and made in own:
                message = f"version {workload.version} of {key} would make Service {made}, which other workloads name"
                self._problems.add(node.at("metadata", "labels", "version").problem(message))

    def _workload_ports(
        self,
        node: Node,
        workload: Workload,
        key: ServiceKey,
        declared: bool,
        protocols: dict[tuple[ServiceKey, int], Protocol],
    ) -> None:
        for index, port in enumerate(workload.ports):
            place = node.at("spec", "ports", index)
            if declared and port.port not in self._known[key]:
                self._problems.warn(place.problem(f"Service {key} does not declare port {port.port}; nobody calls it"))
            first = protocols.setdefault((key, port.port), port.protocol)
            if first is not port.protocol and Protocol.AUTO not in (first, port.protocol):
                message = f"protocol {port.protocol.value} here, {first.value} at another workload of {key}"
                self._problems.add(place.problem(message))

    def _workloads(self) -> Iterator[tuple[ServiceKey, tuple[Node, Workload]]]:
        for parsed in self._documents:
            if isinstance(parsed.body, Workload):
                yield ServiceKey(parsed.body.namespace, parsed.body.service), (parsed.node, parsed.body)

    def one_of_each(self) -> None:
        """There is one MeshPolicy, and one TrafficPolicy for a target."""
        mesh = [parsed for parsed in self._documents if isinstance(parsed.body, MeshPolicy)]
        for parsed in mesh[1:]:
            self._problems.add(parsed.node.problem(f"a mesh has one MeshPolicy; {mesh[0].name} is there already"))
        taken: dict[tuple[str, TargetRef], str] = {}
        for parsed in sorted(self._documents, key=lambda parsed: parsed.name):
            body = parsed.body
            if not isinstance(body, TrafficPolicyResource):
                continue
            for index, target in enumerate(body.targets):
                first = taken.setdefault((body.namespace, target), parsed.name)
                if first != parsed.name:
                    message = f"{first} targets {target.kind} {target.name} too; the first by name counts"
                    self._problems.warn(parsed.node.at("spec", "targetRefs", index).problem(message))

    def _missing(self, node: Node, message: str) -> None:
        problem = node.problem(message)
        if self._complete:
            self._problems.add(problem)
        else:
            self._problems.warn(problem)


def listed(names: list[str], wanted: str) -> str:
    """`did you mean ...? known: ...`, at most a line of names."""
    near = get_close_matches(wanted, names, n=1) if len(names) <= _MOST_COMPARED else []
    hint = f"did you mean {shown(near[0])}? " if near else ""
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{hint}known: {', '.join(names[:_MOST_NAMES]) or 'none'}{more}"
