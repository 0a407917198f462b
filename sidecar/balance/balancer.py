"""How the endpoints of one cluster are chosen under one policy: what `policy/attempts.py` is given for a request.

Put together once (which of them may be asked, the algorithm, zones, slow start), kept with the cluster's live state,
and then asked for every try. What a policy does not ask for is not there: None, and nobody calls it.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sidecar.balance import pick
from sidecar.balance.ewma import observe
from sidecar.balance.slow_start import SlowStart
from sidecar.balance.tables import Consistent, maglev, ring
from sidecar.balance.zones import ZoneFirst
from sidecar.model.balancing import HASHING, Algorithm, Balancing, HashKey, Otherwise, Subset, ZoneRule
from sidecar.model.live import ClusterLive, EndpointLive

MAX_KEPT = 8  # policies that a cluster is called under at once: one, and one more for each that a push replaces

Members: TypeAlias = Callable[[ClusterLive], Sequence[EndpointLive]]
Notice: TypeAlias = Callable[[Sequence[EndpointLive], ClusterLive, float], None]
Observe: TypeAlias = Callable[[EndpointLive, float, bool | None, float], None]

_ALGORITHMS: dict[Algorithm, pick.Pick] = {
    Algorithm.EWMA: pick.ewma,
    Algorithm.LEAST_REQUEST: pick.least_request,
    Algorithm.RANDOM: pick.at_random,
    Algorithm.ROUND_ROBIN: pick.round_robin,
}


class Balancer:
    """See the module's text.

    Attributes:
        pick: The choice among endpoints that may be asked; None when there are none.
        members: The endpoints that the policy means, when it does not mean all; the same object as long as they are.
        notice: Told who may be asked, before `pick`.
        observe: Told how long a try took and how it ended.
        hash_key: What of a request `pick` wants the hash of.
        labels: `tier=gold, version=v2`, when it means those only.
    """

    __slots__ = ("_panic_percent", "hash_key", "labels", "members", "notice", "observe", "pick")

    def __init__(self, balancing: Balancing, zone: str) -> None:
        self._panic_percent = balancing.panic_percent
        subset = balancing.subset
        self.labels = ", ".join(f"{name}={value}" for name, value in subset.labels) if subset is not None else ""
        self.members: Members | None = _Labelled(subset) if subset is not None else None
        members = self.members or _present
        self.hash_key: HashKey | None = balancing.hash_key
        self.observe: Observe | None = observe if balancing.algorithm is Algorithm.EWMA else None
        self.notice: Notice | None = None
        self.pick: pick.Pick
        if balancing.algorithm in HASHING:
            make = ring if balancing.algorithm is Algorithm.RING_HASH else maglev
            self.pick = Consistent(make, members).pick
            return
        if balancing.slow_start_s:
            self.notice = SlowStart(balancing.slow_start_s).notice
        self.pick = _ALGORITHMS[balancing.algorithm]
        if zone and balancing.zone is ZoneRule.FIRST:
            self.pick = ZoneFirst(zone, self.pick, members).pick

    def unless_panic(self, passing: Sequence[EndpointLive], members: Sequence[EndpointLive]) -> Sequence[EndpointLive]:
        """`passing`, or all that are ready when too few of them pass: panic."""
        if passing is members or not self._panic_percent:
            return passing
        ready = [live for live in members if live.endpoint.ready]
        return ready if len(passing) * 100 < len(ready) * self._panic_percent else passing


def balancer_of(cluster: ClusterLive, balancing: Balancing, zone: str) -> Balancer:
    """The balancer of a cluster under a policy, for callers in `zone`; made on first use."""
    found = cluster.balancers.get(balancing)
    if found is None:
        if len(cluster.balancers) >= MAX_KEPT:
            cluster.balancers.clear()
        found = cluster.balancers[balancing] = Balancer(balancing, zone)
    assert isinstance(found, Balancer)
    return found


def _present(cluster: ClusterLive) -> Sequence[EndpointLive]:
    return cluster.present


class _Labelled:
    """The endpoints with the labels of a subset; looked for when the endpoints change."""

    __slots__ = ("_found", "_source", "_subset")

    def __init__(self, subset: Subset) -> None:
        self._subset = subset
        self._source: Sequence[EndpointLive] | None = None
        self._found: Sequence[EndpointLive] = ()

    def __call__(self, cluster: ClusterLive) -> Sequence[EndpointLive]:
        if cluster.present is not self._source:
            self._source = cluster.present
            found = [live for live in cluster.present if self._has_labels(live)]
            self._found = found if found or self._subset.otherwise is Otherwise.NONE else cluster.present
        return self._found

    def _has_labels(self, live: EndpointLive) -> bool:
        endpoint = live.endpoint
        return all(
            (endpoint.version if name == "version" else endpoint.labels.get(name)) == value
            for name, value in self._subset.labels
        )
