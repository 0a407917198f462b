"""What is spoken on a declared port: read, and say so when this version does not do it justice."""

from sidecar.config.node import Node
from sidecar.model.clusters import Protocol

# Everything is served as HTTP/1.1 so far; accepted all the same, because manifests exist that say what is true.
_SERVED = frozenset((Protocol.AUTO, Protocol.HTTP))


def port_protocol(node: Node) -> Protocol:
    """The protocol that a field names; a warning when its traffic would not get through."""
    return checked(node, node.choice(Protocol))


def checked(node: Node, protocol: Protocol) -> Protocol:
    """`protocol`, warned of at `node` when this version cannot carry it."""
    if protocol not in _SERVED:
        node.warn(f"{protocol.value} is not carried by this version, which speaks HTTP/1.1 only")
    return protocol
