"""What holds for the whole mesh: one MeshPolicy, read by whoever derives a snapshot; never part of one."""

from dataclasses import dataclass

from sidecar.model.bootstrap import MtlsMode
from sidecar.model.policies import TrafficPolicy

DEFAULT_TRUST_DOMAIN = "mesh.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPolicy:
    """The mesh's own policy; at most one exists.

    Attributes:
        mtls: `off` makes every hop plain text; `permissive` and `strict` use mutual TLS wherever a sidecar is.
        trust_domain: First part of every identity; "" leaves it to the control plane.
        defaults: The TrafficPolicy of services that have none of their own; None: the product's defaults.
    """

    namespace: str
    name: str
    mtls: MtlsMode = MtlsMode.STRICT
    trust_domain: str = ""
    defaults: TrafficPolicy | None = None
