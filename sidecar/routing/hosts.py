"""Read the name that a client asked for: which service of the mesh, and which port.

First step of routing on the outbound port. Only names of the mesh are understood; every other host is refused by
returning None, so that a sidecar is never an open proxy. Whether the service exists is for the snapshot to say.
"""

import re

from sidecar.model.clusters import ServiceKey

_LABEL = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123 section 2.1; 63 characters at most
_NAME = re.compile(
    rb"(%b)(?:\.(%b)(?:\.mesh|\.svc\.cluster\.local)?)?\.?(?::([0-9]{1,5}))?" % (_LABEL, _LABEL),
)
_MAX_LENGTH = 160  # two labels, the longest suffix, a dot and a port


def resolve(authority: bytes, *, default_namespace: str, default_port: int) -> tuple[ServiceKey, int | None] | None:
    """The service and port that an authority names; None when it is not a name of the mesh.

    Understood are `orders`, `orders.shop`, `orders.shop.mesh` and `orders.shop.svc.cluster.local`, each with an
    optional dot at the end of the name and an optional port (1 to 65535), in any case.

    Args:
        authority: As received, from `Host` or an absolute target.
        default_namespace: Namespace of `orders` alone: that of the calling workload.
        default_port: Port when none is given; 0 for none, then the port returned is None and the caller decides.
    """
    if len(authority) > _MAX_LENGTH:
        return None
    found = _NAME.fullmatch(authority.lower())
    if found is None:
        return None
    name, namespace, digits = found.groups()
    port = int(digits) if digits else default_port
    if digits and not 0 < port < 65_536:
        return None
    return ServiceKey(namespace.decode() if namespace else default_namespace, name.decode()), port or None
