"""What differs between the two sides of a sidecar, asked by the one exchange that serves both.

`outbound.py` routes by name and splits; `inbound.py` authorizes and hands to the app.
"""

from typing import Protocol

from sidecar.model.clusters import ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.messages import Fields
from sidecar.proxy.handover import HandOver
from sidecar.proxy.pool import Pool
from sidecar.routing.plan import RoutePlan
from sidecar.transport.stream import Peer


class Side(Protocol):
    """One side; `reporter` is `source` or `destination`."""

    reporter: str

    @property
    def live(self) -> LiveRegistry:
        """The live state of what this side calls."""

    @property
    def pool(self) -> Pool:
        """The connections to what this side calls."""

    @property
    def service(self) -> ServiceKey | None:
        """The service asked for, once `route` has found it."""

    async def route(self, record: HandOver, peer: Peer) -> RoutePlan:
        """Where the request may go. Raises ProxyError (NR, NC, RBAC) when nowhere."""

    def ends_at(self, record: HandOver, plan: RoutePlan, peer: Peer) -> float | None:
        """The absolute end of the request."""

    def own_fields(self, record: HandOver, peer: Peer, span_id: str, *, mesh_hop: bool) -> Fields:
        """Fields that this side sets on the way to the next hop."""
