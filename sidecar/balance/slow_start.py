"""An endpoint that is new, or back, gets its share little by little: caches are cold, code is not compiled yet.

For the window of a policy its weight counts in part: from LEAST_SHARE to the whole, in a straight line (Envoy's
figures, with its aggression of 1). Only beside others: when all begin together, as for a sidecar that has just started,
their shares are equal. Consistent hashing does not know it: a key's endpoint is not a matter of degree.
"""

from collections.abc import Sequence

from sidecar.model.live import ClusterLive, EndpointLive

LEAST_SHARE = 0.1  # Envoy's; with less it would be slow to warm up at all


def share_of(live: EndpointLive, cluster: ClusterLive, now_s: float) -> float:
    """The part of its weight that counts now, LEAST_SHARE to 1."""
    left_s = live.warm_at_s - now_s
    return 1.0 if left_s <= 0.0 else max(LEAST_SHARE, 1.0 - left_s / cluster.slow_start_s)


class SlowStart:
    """Notices who has come. One for each cluster and policy; asked for each try, and only where a policy wants it."""

    __slots__ = ("_known", "_last", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._last: Sequence[EndpointLive] | None = None
        self._known: set[EndpointLive] | None = None

    def notice(self, passing: Sequence[EndpointLive], cluster: ClusterLive, now_s: float) -> None:
        """`passing`: all that may be asked now, whoever was tried. Who was not among them the last time has come."""
        if passing is self._last:
            return
        cluster.slow_start_s = self._window_s
        known, self._known, self._last = self._known, set(passing), passing
        come = self._known - known if known else ()
        for live in come:
            cluster.warming_until_s = live.warm_at_s = now_s + self._window_s
