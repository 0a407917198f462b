"""What is true now: requests in flight, failures, ejections, budgets. Lives outside the snapshot.

Keyed by (service, port) and endpoint id, so that a push which does not touch an endpoint changes nothing of what is
known about it. One owner: the worker's single thread; changed only between awaits. Pure data: the rules are in
`policy`, the connections in `proxy/pool.py`.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sidecar.model.balancing import Balancing
from sidecar.model.clusters import ClusterKey, Endpoint

NEVER_S = -math.inf


@dataclass(slots=True, eq=False)
class EndpointLive:
    """Live state of one endpoint.

    Attributes:
        endpoint: Its newest description.
        in_flight: Tries under way.
        failures: Consecutive failed tries; a success sets it to 0.
        gateway_failures, connect_failures: The same for failures of one kind.
        window: Marks of (seconds, ended tries, failed tries) at failures; see policy/outlier.py.
        ejected_until_s: Time until which no new request goes there; 0.0 means passing.
        probed_until_s: Until when a request is taken for the endpoint's probe; 0.0: none is on its way.
        ejections: How often it was ejected; the next ejection's length doubles with each, a quiet spell forgets one.
        leaving: The endpoint is no longer in any snapshot; it goes when its last request has ended.
        rtt_s: Estimate of the time to an answer's head, at first a guess. See balance/ewma.py.
        error_share: Of its recent tries, 0 to 1.
        cost_s: Of both, when they were last changed.
        measured_s: When that was, or NEVER_S.
        warm_at_s: When its slow start is over; 0.0: it had none. See balance/slow_start.py.
    """

    endpoint: Endpoint
    in_flight: int = 0
    failures: int = 0
    gateway_failures: int = 0
    connect_failures: int = 0
    window: deque[tuple[float, int, int]] = field(default_factory=deque)
    ejected_until_s: float = 0.0
    probed_until_s: float = 0.0
    ejections: int = 0
    last_ejected_s: float = 0.0
    leaving: bool = False
    tries: int = 0
    failed_tries: int = 0
    rtt_s: float = 0.030
    error_share: float = 0.0
    cost_s: float = 0.030
    measured_s: float = NEVER_S
    warm_at_s: float = 0.0


@dataclass(slots=True, eq=False)
class BudgetLive:
    """Ten slots of requests and retries; see policy/budget.py.

    Attributes:
        until_s: Until when the newest slot takes what happens, under a policy of `interval_s`.
    """

    slots: deque[list[int]] = field(default_factory=deque)  # each [start in ms, requests, retries]
    until_s: float = 0.0
    interval_s: float = 0.0


@dataclass(slots=True, eq=False)
class ClusterLive:
    """Live state of one cluster."""

    key: ClusterKey
    endpoints: dict[str, EndpointLive] = field(default_factory=dict)
    budget: BudgetLive = field(default_factory=BudgetLive)
    in_flight: int = 0
    pending: int = 0
    turn: int = 0  # round robin's place
    all_ready: bool = False  # every endpoint of `present` takes requests
    somebody_out: bool = False  # an endpoint is ejected, or nothing has succeeded since it was
    weighted: bool = False  # endpoints of unequal weight; spares the usual cluster a walk over its weights
    slow_start_s: float = 0.0
    warming_until_s: float = 0.0  # the latest of the endpoints' `warm_at_s`
    present: Sequence[EndpointLive] = ()
    balancers: dict[Balancing, object] = field(default_factory=dict)  # see balance/balancer.py
    source: object = None

    def current(self, endpoints: Sequence[Endpoint]) -> Sequence[EndpointLive]:
        """The live endpoints of the newest description; `endpoints` is synced once, known by its identity."""
        if endpoints is not self.source:
            self.present = self.sync(endpoints)
            self.source = endpoints
        return self.present

    def release(self, live: EndpointLive) -> None:
        """A try on `live` has ended; one that is leaving goes with its last."""
        live.in_flight -= 1
        if live.leaving and live.in_flight == 0:
            self.endpoints.pop(live.endpoint.id, None)

    def sync(self, endpoints: Iterable[Endpoint]) -> list[EndpointLive]:
        """Take a new description of the endpoints; return the live ones in its order.

        An endpoint that stays keeps its state. One that is gone is marked leaving, and dropped once it is idle.
        """
        present: list[EndpointLive] = []
        for endpoint in endpoints:
            live = self.endpoints.get(endpoint.id)
            if live is None:
                live = self.endpoints[endpoint.id] = EndpointLive(endpoint)
            live.endpoint = endpoint
            live.leaving = False
            present.append(live)
        self.all_ready = all(live.endpoint.ready for live in present)
        self.weighted = len({live.endpoint.weight for live in present}) > 1
        self.somebody_out = any(live.ejected_until_s for live in present)
        kept = {live.endpoint.id for live in present}
        for gone in [live for name, live in self.endpoints.items() if name not in kept]:
            gone.leaving = True
            if gone.in_flight == 0:
                del self.endpoints[gone.endpoint.id]
        return present


class LiveRegistry:
    """The one home of live state in a worker."""

    __slots__ = ("clusters",)

    def __init__(self) -> None:
        self.clusters: dict[ClusterKey, ClusterLive] = {}

    def cluster(self, key: ClusterKey) -> ClusterLive:
        """The cluster's state, made on first use."""
        live = self.clusters.get(key)
        if live is None:
            live = self.clusters[key] = ClusterLive(key)
        return live
