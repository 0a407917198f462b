"""The configuration of one moment: a map of named, versioned, immutable resources.

A push makes a new snapshot that shares every untouched resource with the old one *by identity*; compiled routes and
cached metric children are keyed by those identities and so survive. A request keeps the snapshot it started with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from sidecar.model.clusters import EndpointSet, Service, ServiceKey
from sidecar.model.policies import AuthorizationPolicy, TrafficPolicyResource
from sidecar.model.routes import AnyRoute

Body = Service | EndpointSet | AnyRoute | TrafficPolicyResource | AuthorizationPolicy


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it was accepted.

    Attributes:
        name: `KIND/NAMESPACE/NAME`, for example `HTTPRoute/shop/orders`.
        version: The revision of the store that last changed it; 0 for files.
        body: What the data plane reads.
        document: The JSON text it came as; `/config`, the disk cache and other workers get this.
    """

    name: str
    version: int
    body: Body
    document: str = "{}"


class Known(Enum):
    """What a snapshot can say about a service."""

    FOUND = "found"
    ABSENT = "absent"  # the source of the snapshot says that it does not exist
    UNKNOWN = "unknown"  # nobody asked for it yet


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Immutable; `changed` makes the next one.

    Attributes:
        version: Revision of the newest push that was applied; 0 for files.
        complete: True when what is not here does not exist (a static folder); else it may just not be wanted yet.
        absent: Services that were asked for and do not exist.
    """

    resources: Mapping[str, Resource] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0
    complete: bool = False
    absent: frozenset[ServiceKey] = frozenset()

    def changed(
        self,
        put: Iterable[Resource],
        drop: Iterable[str] = (),
        *,
        version: int,
        absent: frozenset[ServiceKey] | None = None,
    ) -> "Snapshot":
        """The snapshot after a push. A resource equal to the present one keeps its old identity."""
        resources = dict(self.resources)
        for name in drop:
            resources.pop(name, None)
        for resource in put:
            present = resources.get(resource.name)
            if present is not None and present.body == resource.body:
                resource = Resource(resource.name, resource.version, present.body, resource.document)
            resources[resource.name] = resource
        return Snapshot(MappingProxyType(resources), version, self.complete, self.absent if absent is None else absent)

    def service(self, key: ServiceKey) -> Service | None:
        """The service, or None."""
        body = self._body(f"Service/{key.namespace}/{key.name}")
        return body if isinstance(body, Service) else None

    def endpoints(self, key: ServiceKey) -> EndpointSet | None:
        """The service's endpoints, or None when none were ever sent."""
        body = self._body(f"Endpoints/{key.namespace}/{key.name}")
        return body if isinstance(body, EndpointSet) else None

    def knows(self, key: ServiceKey) -> Known:
        """Whether the service exists, as far as this snapshot can say."""
        if self.service(key) is not None:
            return Known.FOUND
        return Known.ABSENT if self.complete or key in self.absent else Known.UNKNOWN

    def of_kind(self, kind: str) -> list[Resource]:
        """All resources of a kind (`HTTPRoute`), in order of name."""
        prefix = kind + "/"
        return [self.resources[name] for name in sorted(self.resources) if name.startswith(prefix)]

    def _body(self, name: str) -> Body | None:
        resource = self.resources.get(name)
        return resource.body if resource is not None else None
