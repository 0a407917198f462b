"""What can be called: services, their ports, and the endpoints behind them.

Frozen values that data plane and control plane share. An `Endpoint` says completely how to reach one port of one
workload; whether the way leads through mutual TLS is decided by whoever made the value, never by the proxy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

EMPTY: Mapping[str, str] = MappingProxyType({})


class Protocol(StrEnum):
    """What is spoken on a declared port."""

    AUTO = "auto"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"
    TLS = "tls"


class Wire(StrEnum):
    """What is spoken to an upstream: the outcome of a port's declared protocol and what its client speaks."""

    H1 = "http/1.1"
    H2 = "h2"
    RAW = "raw"  # bytes both ways, no heads


class ServiceKey(NamedTuple):
    """A service's full name; printed as users write it: `orders.shop`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"


class ClusterKey(NamedTuple):
    """One port of one service: what requests are balanced over, and what live state is keyed by."""

    service: ServiceKey
    port: int

    def __str__(self) -> str:
        return f"{self.service}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A declared port of a service."""

    port: int
    protocol: Protocol = Protocol.AUTO
    name: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A service and the ports it declares.

    Attributes:
        addresses: IP addresses of the service as a whole (`clusterIPs`), in canonical text; transparent capture knows
            the service by them.
    """

    key: ServiceKey
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plain:
    """Dial the endpoint's address in plain text."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Dial the endpoint's sidecar with mutual TLS.

    Attributes:
        server_name: ServerName to send: `PORT.SERVICE.NAMESPACE.mesh`, a declared port of the app.
        spiffe_ids: The exact identities the peer may have; any other ends the connection before a byte is sent.
        alpn: Protocols to offer, preferred first: `h2`, `http/1.1`.
    """

    server_name: str
    spiffe_ids: frozenset[str]
    alpn: tuple[str, ...] = ("http/1.1",)


Hop = Plain | Mesh
PLAIN = Plain()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One port of one workload.

    Attributes:
        id: Name of the workload, unique in its namespace (`orders-1`); live state is keyed by it.
        service_port: The port of the service that this endpoint serves.
        host, port: The address to dial. For a mesh hop, the inbound port of the workload's sidecar.
        weight: Relative share among the endpoints of one cluster, >= 1.
        ready: False takes no new requests; the endpoint stays known, so that its live state survives.
        place: Where and how it is reached, in one text: what connections are kept under.
    """

    id: str
    service_port: int
    host: str
    port: int
    hop: Hop = PLAIN
    weight: int = 1
    zone: str = ""
    version: str = ""
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY, hash=False)
    place: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        hop = self.hop
        peer = f" {hop.server_name} {sorted(hop.spiffe_ids)} {hop.alpn}" if isinstance(hop, Mesh) else ""
        object.__setattr__(self, "place", f"{self.host} {self.port}{peer}")

    @property
    def address(self) -> str:
        """`host:port` as printed in logs; IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """The endpoints of a service, all ports; versioned apart from the service, because they change more often."""

    service: ServiceKey
    endpoints: tuple[Endpoint, ...]

    def of_port(self, port: int) -> tuple[Endpoint, ...]:
        """The endpoints that serve `port` of the service, ready or not."""
        return tuple(endpoint for endpoint in self.endpoints if endpoint.service_port == port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An endpoint outside Kubernetes as its owner describes it; registration makes these.

    Attributes:
        ports: The app's ports, as the service declares them.
        inbound: Port of the sidecar's mTLS listener; None means that no sidecar is there.
        app: For each of `ports`, nothing more is needed: without a sidecar the address is dialled at that port.
    """

    namespace: str
    name: str
    service: str
    address: str
    ports: tuple[ServicePort, ...]
    inbound: int | None = None
    account: str = ""
    zone: str = ""
    version: str = ""
    weight: int = 1
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY, hash=False)
