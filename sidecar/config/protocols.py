"""What is spoken on a declared port, in the words of our own kinds and of Kubernetes'.

Our kinds take the names of `Protocol`. A `v1/Service` says it in `appProtocol`, or by the beginning of the port's name,
as Istio reads it: many manifests rely on that.
"""

from sidecar.config.node import Node
from sidecar.model.clusters import Protocol

# Beside our own names: Kubernetes' standard ones (KEP-3726), IANA's for HTTP, and those that Istio knows.
_APP_PROTOCOLS = {
    **{protocol.value: protocol for protocol in Protocol},
    "https": Protocol.TLS,
    "grpc-web": Protocol.HTTP,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TLS,
    **dict.fromkeys(("mongo", "mysql", "postgresql", "redis"), Protocol.TCP),
}


def port_protocol(node: Node) -> Protocol:
    """The protocol that a field of our own kinds names."""
    return node.choice(Protocol)


def app_protocol(node: Node) -> Protocol:
    """The protocol that an `appProtocol` names."""
    return _APP_PROTOCOLS[node.one_of(tuple(_APP_PROTOCOLS))]


def protocol_of_name(name: str) -> Protocol:
    """The protocol that a port's name begins with: `http`, `grpc-api`, `grpc-web-x`, `tcp-db`; else `auto`."""
    first, _, rest = name.partition("-")
    if first == "grpc" and rest.partition("-")[0] == "web":
        first = "grpc-web"
    return _APP_PROTOCOLS.get(first, Protocol.AUTO)
