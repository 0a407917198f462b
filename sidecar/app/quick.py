"""`sidecar run --listen ADDR --to ADDR[,ADDR...]`: a bootstrap and a snapshot made from two flags.

The upstream becomes an ordinary service with ordinary endpoints, so that the one-command proxy runs the same code and
the same default policies as a mesh does.
"""

from sidecar.errors import ConfigError
from sidecar.model.bootstrap import (
    AdminConfig,
    Bootstrap,
    HostPort,
    MetricsConfig,
    NodeInfo,
    OutboundConfig,
    Upstream,
)
from sidecar.model.clusters import Endpoint, EndpointSet, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot

SERVICE = ServiceKey("local", "upstream")
PORT = 80
_LOOPBACK_ANY = HostPort("127.0.0.1", 0)


def parse_address(flag: str, text: str) -> HostPort:
    """`host:port`, `[v6]:port`, `:port` (loopback). Raises ConfigError naming the flag."""
    host, colon, digits = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError([f"{flag}: {text!r} is not an address; write IPv6 as [::1]:8080"])
    if not colon or not digits.isascii() or not digits.isdigit() or int(digits) > 65_535:
        raise ConfigError([f"{flag}: {text!r} is not an address such as 127.0.0.1:8080 or :8080"])
    return HostPort(host or "127.0.0.1", int(digits))


def bootstrap(listen: str, admin: str | None, metrics: str | None) -> Bootstrap:
    """What the flags say; admin and metrics on a free port unless asked. Raises ConfigError."""
    return Bootstrap(
        node=NodeInfo(service="proxy", namespace="local", id="proxy", account="proxy"),
        source="--listen",
        outbound=OutboundConfig(
            listen=(), upstreams=(Upstream(service=SERVICE, port=PORT, listen=parse_address("--listen", listen)),)
        ),
        admin=AdminConfig(listen=parse_address("--admin", admin) if admin else _LOOPBACK_ANY),
        metrics=MetricsConfig(listen=parse_address("--metrics", metrics) if metrics else _LOOPBACK_ANY),
    )


def snapshot(to: str) -> Snapshot:
    """The upstream as a service; `to` is a comma-separated list of addresses. Raises ConfigError."""
    addresses = [parse_address("--to", part) for part in to.split(",") if part.strip()]
    if not addresses:
        raise ConfigError(["--to: at least one address is needed, such as 127.0.0.1:8080"])
    if len(set(addresses)) < len(addresses):
        raise ConfigError([f"--to: {to!r} names an address twice; each endpoint stands once"])
    endpoints = tuple(
        Endpoint(id=str(address), service_port=PORT, host=address.host, port=address.port) for address in addresses
    )
    resources = [
        Resource(
            f"Service/{SERVICE.namespace}/{SERVICE.name}", 0, Service(SERVICE, (ServicePort(PORT, Protocol.AUTO),))
        ),
        Resource(f"Endpoints/{SERVICE.namespace}/{SERVICE.name}", 0, EndpointSet(SERVICE, endpoints)),
    ]
    return Snapshot(complete=True).changed(resources, version=0)
