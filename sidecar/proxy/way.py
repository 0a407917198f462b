"""One backend of a rule with what a plain request on its way there is decided by, looked up once for each snapshot."""

from sidecar.balance.balancer import Balancer, balancer_of
from sidecar.model import clusters
from sidecar.model.live import LiveRegistry
from sidecar.model.policies import TrafficPolicy
from sidecar.routing.plan import ClusterPlan

# For a client that speaks HTTP/1.1, and for one that speaks HTTP/2; see routing/wire.py.
_HTTP1 = (clusters.Protocol.AUTO, clusters.Protocol.HTTP)
_HTTP2 = (clusters.Protocol.AUTO, clusters.Protocol.HTTP2, clusters.Protocol.GRPC)


class Way:
    """See the module's text.

    Attributes:
        live: The cluster's live state, synced with `cluster.endpoints`.
        requests: It is spoken to in HTTP/1.1 when the client speaks that.
        streams: It is spoken to in HTTP/2 when the client speaks that.
    """

    __slots__ = ("balancer", "cluster", "live", "max_body_bytes", "policy", "requests", "streams")

    def __init__(self, cluster: ClusterPlan, policy: TrafficPolicy, registry: LiveRegistry, zone: str) -> None:
        """`zone`: the caller's."""
        self.cluster = cluster
        self.live = registry.cluster(cluster.key)
        self.live.current(cluster.endpoints)
        self.policy = policy
        self.balancer: Balancer = balancer_of(self.live, policy.balancing, zone)
        self.max_body_bytes = policy.retries.max_body_bytes
        self.requests = cluster.protocol in _HTTP1
        self.streams = cluster.protocol in _HTTP2
