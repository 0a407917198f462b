"""Refuse a request at the door when its cluster is full; end a connection that has served its time.

`admit` is asked once per request, before the first try; the caller keeps the counters. Failing at once with a named
reason beats a queue whose head has already given up. The number of connections is the pool's to limit, not counted
here. `lifetime_s` is asked once per connection.
"""

import math
from random import Random

from sidecar.model.live import ClusterLive
from sidecar.model.policies import Limits


def admit(cluster: ClusterLive, limits: Limits) -> bool:
    """True when one more request fits: at most `requests` under way, per worker. `pending` bounds the pool's queue."""
    return cluster.in_flight < limits.requests


def lifetime_s(age_s: float, rng: Random) -> float:
    """How long one connection may live: `age_s` give or take a tenth; 0 is for ever.

    Callers that connected in one moment, after a restart, must not all come back in one moment later.
    """
    return age_s * rng.uniform(0.9, 1.1) if age_s else math.inf
