"""What a sidecar gets to see: the closure of the services that it calls, and of the one it stands beside.

Built once per revision from the compiled snapshot, asked by sessions.py for each subscription. Pure. Of a wanted
service it takes the Service, its Endpoints, the routes whose parent it is, Service and Endpoints of their backends,
and the policies that point at any of these; of the sidecar's own service the Service and its policies (the inbound
side obeys them), without Endpoints. It does not follow a backend's own routes: a route is taken once, at the parent.
"""

from collections import defaultdict
from collections.abc import Iterable

from sidecar.model.clusters import ServiceKey
from sidecar.model.policies import AuthorizationPolicy, TrafficPolicyResource
from sidecar.model.routes import AnyRoute, backends_of, services_of
from sidecar.model.snapshot import Resource, Snapshot

MAX_CACHED_WANTS = 200_000  # of all remembered answers together; a want is about 250 bytes

_Key = tuple[ServiceKey, str, frozenset[ServiceKey]]


class Closures:
    """Closures over one snapshot. Names are `KIND/NAMESPACE/NAME`; only such as exist are returned."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._routes: dict[ServiceKey, list[AnyRoute]] = defaultdict(list)
        self._policies: dict[str, list[str]] = defaultdict(list)  # by the name of what they point at
        self._cache: dict[_Key, frozenset[str]] = {}
        self._cached_wants = 0
        for resource in snapshot.resources.values():
            self._add(resource)

    def of(self, own: ServiceKey, version: str, wants: frozenset[ServiceKey]) -> frozenset[str]:
        """Everything for a sidecar beside `own` (of that version, or "") that calls `wants`.

        A consumer's route (Gateway API: a route in another namespace than its parent) counts for callers in the
        route's namespace only.
        """
        key = (own, version, wants)
        found = self._cache.get(key)
        if found is None:
            names = self._own(own, version)
            for service in wants:
                self._wanted(service, own.namespace, names)
            found = frozenset(name for name in names if name in self.snapshot.resources)
            self._remember(key, found)
        return found

    def led_to(self, route: AnyRoute) -> frozenset[str]:
        """Services and Endpoints that a route needs: its parents and its backends; only such as exist."""
        names = {
            f"{kind}/{key.namespace}/{key.name}" for key in services_of(route) for kind in ("Service", "Endpoints")
        }
        return frozenset(name for name in names if name in self.snapshot.resources)

    def _remember(self, key: "_Key", found: frozenset[str]) -> None:
        """A sidecar may change its wants a thousand times within one snapshot: the oldest answers go."""
        self._cache[key] = found
        self._cached_wants += len(key[2])
        while self._cached_wants > MAX_CACHED_WANTS and len(self._cache) > 1:
            oldest = next(iter(self._cache))
            self._cached_wants -= len(oldest[2])
            del self._cache[oldest]

    def _add(self, resource: Resource) -> None:
        body = resource.body
        if isinstance(body, AnyRoute):
            for service in {parent.service for parent in body.parents}:
                self._routes[service].append(body)
            return
        match body:
            case TrafficPolicyResource(namespace=namespace, targets=targets):
                for target in targets:
                    self._policies[f"{target.kind}/{namespace}/{target.name}"].append(resource.name)
            case AuthorizationPolicy(namespace=namespace, targets=targets):
                for target in targets:
                    self._policies[f"{target.kind}/{namespace}/{target.name}"].append(resource.name)
            case _:
                pass

    def _own(self, own: ServiceKey, version: str) -> set[str]:
        name = f"Service/{own.namespace}/{own.name}"
        pointed_at = [name, f"{name}-{version}"] if version else [name]
        return {name, *self._pointing_at(pointed_at)}

    def _wanted(self, service: ServiceKey, caller: str, names: set[str]) -> None:
        routes = [r for r in self._routes.get(service, ()) if r.namespace in (service.namespace, caller)]
        services = {service}.union(*map(backends_of, routes))
        pointed_at = [f"Service/{key.namespace}/{key.name}" for key in services]
        pointed_at += [f"{route.kind}/{route.namespace}/{route.name}" for route in routes]
        names.update(pointed_at)
        names.update(f"Endpoints/{key.namespace}/{key.name}" for key in services)
        names.update(self._pointing_at(pointed_at))

    def _pointing_at(self, names: Iterable[str]) -> set[str]:
        return {policy for name in names for policy in self._policies.get(name, ())}
