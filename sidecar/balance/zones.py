"""Own zone first: shorter ways, no price for traffic between zones, and a zone that is lost takes only its own callers.

How much stays is gradual. The part is the own zone's passing weight, over-provided by OVERPROVISION (Envoy's 1.4),
of a *fair share*: what each zone would have if the endpoints' weight were spread evenly. With three of three endpoints
everything stays, with two 93 %, with one 47 %; the rest goes to the other zones. The measure is the fair share and not
what the zone itself once had, so that a zone with one endpoint of ten is not sent half of the load: callers are taken
to be spread evenly. Envoy's zone-aware routing asks the control plane where they really are.

A try that would go to an endpoint whose recent tries failed spills over too, with the share of those failures as the
chance: ejection takes out a third of a cluster at most, and a zone may be more than that. (Only EWMA knows of
failures.)
"""

from collections.abc import Callable, Sequence
from random import Random

from sidecar.balance.ewma import recent_errors
from sidecar.balance.pick import Pick
from sidecar.model.live import ClusterLive, EndpointLive

OVERPROVISION = 1.4  # Envoy's


class ZoneFirst:
    """The choice of a caller in `zone`, for one cluster and one policy; `choose` is the algorithm inside a zone."""

    __slots__ = ("_choose", "_fair", "_far", "_members", "_near", "_of_members", "_share", "_source", "_zone")

    def __init__(self, zone: str, choose: Pick, members: Callable[[ClusterLive], Sequence[EndpointLive]]) -> None:
        """`members`: all endpoints, ready or not; the same object as long as they are the same."""
        self._zone = zone
        self._choose = choose
        self._members = members
        self._of_members: Sequence[EndpointLive] | None = None
        self._fair = 0.0  # weight of a zone, if all were equal; 0: there is nothing to prefer
        self._source: Sequence[EndpointLive] | None = None
        self._near: Sequence[EndpointLive] = ()
        self._far: Sequence[EndpointLive] = ()
        self._share = 0.0

    def pick(
        self, passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
    ) -> EndpointLive | None:
        """An endpoint of the own zone, or of another when that one is not enough."""
        members = self._members(cluster)
        if members is not self._of_members:
            self._of_members, self._fair, self._source = members, _fair_weight(members, self._zone), None
        if not self._fair:
            return self._choose(passing, cluster, rng, now_s, key)
        if passing is not self._source:
            self._divide(passing)
        near, far = self._near, self._far
        if not far:
            return self._choose(near, cluster, rng, now_s, key)
        if not near or (self._share < 1.0 and rng.random() >= self._share):
            return self._choose(far, cluster, rng, now_s, key)
        chosen = self._choose(near, cluster, rng, now_s, key)
        if chosen is not None and chosen.error_share and rng.random() < recent_errors(chosen, now_s):
            return self._choose(far, cluster, rng, now_s, key)
        return chosen

    def _divide(self, passing: Sequence[EndpointLive]) -> None:
        self._source = passing
        self._near = [live for live in passing if live.endpoint.zone == self._zone]
        self._far = [live for live in passing if live.endpoint.zone != self._zone]
        self._share = OVERPROVISION * sum(live.endpoint.weight for live in self._near) / self._fair


def _fair_weight(members: Sequence[EndpointLive], zone: str) -> float:
    """A zone's weight if all had the same; 0.0 when `zone` has no endpoint, or all of them. No zone is one, too."""
    zones = {live.endpoint.zone for live in members}
    if zone not in zones or len(zones) == 1:
        return 0.0
    return sum(live.endpoint.weight for live in members) / len(zones)
