"""Who attaches to whom in a snapshot: routes to their parents, policies to their targets, endpoints to their ports.

Built once per snapshot by the router, so that compiling a table looks up what concerns it instead of reading
everything. Order is settled here: routes oldest first, then by namespace and name; of several policies on one target
the first by name counts; of routes of several kinds on one port those of one kind (GAMMA).
"""

from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.policies import TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import AnyRoute
from sidecar.model.snapshot import Snapshot

# For requests, a port without routes of its own obeys its TCPRoute: that takes everything, also what speaks HTTP.
REQUEST_KINDS = ("GRPCRoute", "HTTPRoute", "TCPRoute")
CONNECTION_KINDS = ("TLSRoute", "TCPRoute")


class Attachments:
    """The cross references of one snapshot."""

    __slots__ = ("_policies", "_routes", "by_port", "snapshot")

    def __init__(self, snapshot: Snapshot, before: "Attachments | None" = None) -> None:
        """`before`: those of the previous snapshot; a port whose endpoints are equal keeps their identity."""
        self.snapshot = snapshot
        known = before.by_port if before is not None else {}
        self.by_port: dict[ClusterKey, tuple[Endpoint, ...]] = {
            key: endpoints for key, endpoints in known.items() if snapshot.endpoints(key.service) is not None
        }
        self._routes = _routes(snapshot)
        self._policies = _policies(snapshot)

    def routes(self, service: ServiceKey, port: int, kinds: tuple[str, ...]) -> list[AnyRoute]:
        """The routes that steer callers of this port, in the order that breaks ties.

        All are of the first of `kinds` that any attached route has.
        """
        attached = [
            route
            for route in self._routes.get(service, ())
            if any(parent.service == service and parent.port in (None, port) for parent in route.parents)
        ]
        present = {route.kind for route in attached}
        wins = next((kind for kind in kinds if kind in present), "")
        return [route for route in attached if route.kind == wins]

    def service_policy(self, service: ServiceKey) -> TrafficPolicyResource | None:
        """The policy whose target is the service."""
        return self._policies.get(("Service", service.namespace, service.name, ""))

    def route_policy(self, route: AnyRoute, section: str) -> TrafficPolicyResource | None:
        """The policy whose target is the named rule of the route, or else the route."""
        named = self._policies.get((route.kind, route.namespace, route.name, section))
        return named or self._policies.get((route.kind, route.namespace, route.name, ""))

    def endpoints(self, key: ClusterKey) -> tuple[Endpoint, ...]:
        """The endpoints of one port; the same tuple as long as they are equal."""
        found = self.snapshot.endpoints(key.service)
        if found is None:
            return ()
        endpoints = found.of_port(key.port)
        known = self.by_port.get(key)
        if known == endpoints:
            return known
        self.by_port[key] = endpoints
        return endpoints


_Target = tuple[str, str, str, str]  # kind, namespace, name, section


def _routes(snapshot: Snapshot) -> dict[ServiceKey, list[AnyRoute]]:
    bodies = [(name, resource.body) for name, resource in snapshot.resources.items()]
    routes = [body for name, body in bodies if isinstance(body, AnyRoute) and name.startswith(body.kind + "/")]
    # A route from a file has no creation time and counts as the oldest.
    routes.sort(key=lambda route: (route.created, route.namespace, route.name))
    attached: dict[ServiceKey, list[AnyRoute]] = {}
    for route in routes:
        for service in dict.fromkeys(parent.service for parent in route.parents):
            attached.setdefault(service, []).append(route)
    return attached


def _policies(snapshot: Snapshot) -> dict[_Target, TrafficPolicyResource]:
    attached: dict[_Target, TrafficPolicyResource] = {}
    for resource in snapshot.of_kind("TrafficPolicy"):
        body = resource.body
        if isinstance(body, TrafficPolicyResource):
            for target in body.targets:
                attached.setdefault((target.kind, body.namespace, target.name, target.section), body)
    return attached


def own_policy(snapshot: Snapshot, service: ServiceKey) -> TrafficPolicy | None:
    """The policy whose target is the service, for its own side: without building all attachments."""
    wanted = service.namespace, "Service", service.name
    for resource in snapshot.of_kind("TrafficPolicy"):
        body = resource.body
        if not isinstance(body, TrafficPolicyResource):
            continue
        if wanted in [(body.namespace, target.kind, target.name) for target in body.targets]:
            return body.policy
    return None
