"""Eject endpoints that fail while their neighbours do not.

`record` is called once per finished try, `passing` once per try to learn who may be picked. Nothing here waits: an
endpoint that comes back is a comparison made at the next call.

An endpoint is *passing*, *tripped* (ejected until a time) or *probing* (that time is over and nothing succeeded yet).
"Open" and "closed" are avoided, because proxies use them in opposite senses. A probing endpoint takes traffic as
before; its first failure ejects it again for twice as long, its first success makes it passing.

Refuses to eject the last passing endpoint and more than `max_percent` of a cluster: a doubtful endpoint beats none.
If all are out all the same (their neighbours have left since), everybody ready is used: panic. So too when the last one
fails as they did, and only stays because it is the last: in a rolling restart the one ejected before it is back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sidecar.model.clusters import ClusterKey
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import Ejection, Mode

JITTER_RATIO = 0.1  # added to every ejection, so that endpoints ejected together do not return together
QUIET_BASES = 10  # a quiet spell is this many times base_s: the six doublings to max_s are forgotten in max_s
_MAX_DOUBLINGS = 40  # far above any max_s; keeps 2.0 ** n finite


@dataclass(frozen=True, slots=True)
class Ejected:
    """An ejection as it was decided, for the log, the metrics and the report.

    Attributes:
        cluster: The cluster that the endpoint was ejected from.
        endpoint: Id of the endpoint.
        until_s: When it may be tried again, monotonic seconds.
        for_s: How long that is from now.
        failures: Consecutive failures that led to it.
        shadow: True when the policy only watches and nothing was done.
    """

    cluster: ClusterKey
    endpoint: str
    until_s: float
    for_s: float
    failures: int
    shadow: bool


def passing(endpoints: Sequence[EndpointLive], policy: Ejection, now_s: float) -> Sequence[EndpointLive]:
    """The endpoints that may be picked: ready and not tripped.

    Returns `endpoints` itself when that is all of them, which is the usual case and allocates nothing. When every
    ready endpoint is tripped, or all but one and that one fails too, all the ready ones (panic). A policy of
    `max_percent` 0 ejects nobody, from the moment that it is in force.
    """
    if policy.max_percent <= 0:
        now_s = float("inf")
    for live in endpoints:
        if live.ejected_until_s > now_s or not live.endpoint.ready:
            break
    else:
        return endpoints
    ready = [live for live in endpoints if live.endpoint.ready]
    left = [live for live in ready if live.ejected_until_s <= now_s]
    if len(left) == 1 and left[0].failures >= policy.consecutive_failures:
        return ready
    return left or ready


def record(
    cluster: ClusterLive,
    live: EndpointLive,
    ok: bool,
    policy: Ejection,
    mode: Mode,
    now_s: float,
    rng: Random,
    *,
    probed: bool = False,
) -> Ejected | None:
    """Note how a try ended; return the ejection that it led to.

    Counts consecutive failures only; `tries`, `failed_tries` and `in_flight` are the caller's. What comes back while
    the endpoint is tripped and was sent before says nothing about its return: it is not counted. A success that was
    sent while it was tripped (`probed`: there was nobody better) makes it passing at once.

    In shadow mode the ejection is returned, marked, and nothing is done; counting starts again, so that it is
    reported once per `consecutive_failures`, always with the first ejection's length.
    """
    if live.ejected_until_s > now_s and not (ok and probed):
        return None
    if ok:
        live.failures = 0
        live.ejected_until_s = 0.0
        return None
    live.failures += 1
    probing = live.ejected_until_s > 0.0
    if not probing and live.failures < policy.consecutive_failures:
        return None
    if not _may_eject(cluster, live, policy, now_s):
        return None
    return _eject(cluster, live, policy, now_s, shadow=mode is Mode.SHADOW, probing=probing, rng=rng)


def _may_eject(cluster: ClusterLive, live: EndpointLive, policy: Ejection, now_s: float) -> bool:
    """True when the cluster can spare `live`; the limit is checked with it counted among the ejected."""
    peers = [peer for peer in cluster.endpoints.values() if peer.endpoint.ready and not peer.leaving]
    if policy.max_percent <= 0 or live not in peers:
        return False
    ejected = 1 + sum(peer.ejected_until_s > now_s for peer in peers)
    allowed = max(1, len(peers) * policy.max_percent // 100)
    return ejected <= allowed and ejected < len(peers)


def _eject(
    cluster: ClusterLive,
    live: EndpointLive,
    policy: Ejection,
    now_s: float,
    *,
    shadow: bool,
    probing: bool,
    rng: Random,
) -> Ejected:
    # Being unused is no proof of health: a probing endpoint has not been quiet.
    before = live.ejections if probing else _remembered(live, policy, now_s)
    for_s = _length_s(policy, before) * (1.0 + JITTER_RATIO * rng.random())
    ejected = Ejected(cluster.key, live.endpoint.id, now_s + for_s, for_s, live.failures, shadow)
    live.failures = 0
    if not shadow:
        live.ejected_until_s = ejected.until_s
        cluster.ejected_until_s = max(cluster.ejected_until_s, ejected.until_s)
        live.ejections = before + 1
        live.last_ejected_s = now_s
    return ejected


def _remembered(live: EndpointLive, policy: Ejection, now_s: float) -> int:
    """Ejections that still count: each quiet spell of QUIET_BASES * base_s since the last return forgets one."""
    if not live.ejections:
        return 0
    returned_s = live.last_ejected_s + _length_s(policy, live.ejections - 1)
    return max(0, live.ejections - max(0, int((now_s - returned_s) / (QUIET_BASES * policy.base_s))))


def _length_s(policy: Ejection, before: int) -> float:
    """Seconds of the ejection after `before` earlier ones, without jitter."""
    return min(policy.max_s, policy.base_s * 2.0 ** min(before, _MAX_DOUBLINGS))
