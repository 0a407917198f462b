"""What differs between the two sides of a sidecar, asked by the one exchange that serves both.

`outbound.py` routes by name and splits; `inbound.py` authorizes and hands to the app.
"""

from typing import Protocol

from sidecar.model.clusters import ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.messages import Fields, RequestHead
from sidecar.proxy.handover import HandOver
from sidecar.proxy.patience import Patience
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

    async def route(self, record: HandOver, peer: Peer, patience: Patience) -> RoutePlan:
        """Where the request may go. Raises ProxyError (NR, NC, RBAC) when nowhere."""

    def ends_at(self, record: HandOver, plan: RoutePlan, peer: Peer) -> float | None:
        """The absolute end of the request."""

    def own_fields(self, record: HandOver, peer: Peer, span_id: str, *, mesh_hop: bool) -> Fields:
        """Fields that this side sets on the way to the next hop: trace, request id, and `hop_fields`."""


class FastSide(Side, Protocol):
    """A side that can say without waiting and without a record what becomes of a plain request.

    One for a connection: it is asked about one request after the other.

    Attributes:
        service: The service asked for last, once `route_now` has found it.
    """

    service: ServiceKey | None

    def route_now(self, head: RequestHead, peer: Peer) -> RoutePlan | None:
        """`route` by the worker's snapshot for a request that is read, without waiting; None: `route` has to say."""

    def end_s(self, plan: RoutePlan, told: bytes | None, since_s: float, peer: Peer) -> float | None:
        """The same for what is not gRPC. `told`: value of the deadline's header; `since_s`: when its time began."""

    def grpc_end_s(
        self, plan: RoutePlan, told: bytes | None, asked: bytes | None, since_s: float, peer: Peer
    ) -> float | None:
        """The same for gRPC. `asked`: value of `grpc-timeout`."""

    def hop_fields(self, ends_at_s: float | None, peer: Peer, *, mesh_hop: bool) -> Fields:
        """Fields that only this side sets."""
