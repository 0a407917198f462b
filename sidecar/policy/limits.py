"""Refuse a request at the door when its cluster is full.

Asked once per request, before the first try; the caller keeps the counters. Failing at once with a named reason beats a
queue whose head has already given up. The number of connections is the pool's to limit, not counted here.
"""

from sidecar.model.live import ClusterLive
from sidecar.model.policies import Limits


def admit(cluster: ClusterLive, limits: Limits) -> bool:
    """True when one more request fits: at most `requests` under way, per worker. `pending` bounds the pool's queue."""
    return cluster.in_flight < limits.requests
