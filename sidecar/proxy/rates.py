"""The rate limits of a service with what is known of its keys, kept over pushes that leave them as they are."""

from sidecar.model.clusters import ServiceKey
from sidecar.model.policies import Mode
from sidecar.model.snapshot import Snapshot
from sidecar.policy.rates import Buckets
from sidecar.routing.attach import own_policy


class Rates:
    """One worker's, of one service. `shadow`: count what would be refused, and refuse nothing."""

    __slots__ = ("buckets", "shadow")

    def __init__(self, buckets: tuple[Buckets, ...], *, shadow: bool) -> None:
        self.buckets = buckets
        self.shadow = shadow


def rates_of(snapshot: Snapshot, service: ServiceKey, before: Rates | None) -> Rates | None:
    """None when nobody asks for any. `before`: of an earlier snapshot; a limit that stays keeps its buckets."""
    policy = own_policy(snapshot, service)
    if policy is None or not policy.rate_limits:
        return None
    known = {each.limit: each for each in before.buckets} if before is not None else {}
    buckets = tuple(known.get(limit) or Buckets(limit) for limit in policy.rate_limits)
    return Rates(buckets, shadow=policy.mode is Mode.SHADOW)
