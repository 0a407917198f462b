"""Eject endpoints that fail while their neighbours do not.

`record` is called once per finished try, `passing` once per try to learn who may be picked. Nothing here waits: an
endpoint that comes back is a comparison made at the next call.

An endpoint is *passing*, *tripped* (ejected until a time) or *probing* (that time is over and nothing succeeded yet).
"Open" and "closed" are avoided, because proxies use them in opposite senses. A probing endpoint gets one real request
at a time (`probe_due`), and nobody else's: its failure ejects the endpoint again for twice as long, its success makes
it passing. Half of a service's callers would else learn from their own failures that it is still down.

What trips it: failures in a row of any kind; of a gateway's (502, 503, 504, a lost connection, a try's timeout) and of
dials apart, because a policy may want those counted sooner; and too few successes among the tries of the last seconds,
for those that fail often but never long in a row (Hystrix's window). Successes cost nothing: tries are counted anyway,
and looked at when one fails.

Refuses to eject the last passing endpoint and more than `max_percent` of a cluster: a doubtful endpoint beats none.
If all are out all the same (their neighbours have left since), everybody ready is used: panic. So too when the last one
fails as they did, and only stays because it is the last: in a rolling restart the one ejected before it is back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from sidecar.model.clusters import ClusterKey
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import Ejection, Mode

JITTER_RATIO = 0.5  # added to every ejection, so that endpoints ejected together do not return together
QUIET_BASES = 10  # a quiet spell is this many times base_s: the six doublings to max_s are forgotten in max_s
BUCKETS = 10  # of a window; Hystrix's
_MAX_DOUBLINGS = 40  # far above any max_s; keeps 2.0 ** n finite


class State(StrEnum):
    """What an endpoint is to its callers; see the module's text."""

    PASSING = "passing"
    TRIPPED = "tripped"
    PROBING = "probing"


class Kind(StrEnum):
    """What kind of failure a try ended with."""

    CONNECT = "connect"  # the dial or its handshake
    GATEWAY = "gateway"  # 502, 503, 504, and what a gateway would answer so
    OTHER = "other"


class Why(StrEnum):
    """What led to an ejection; value of log field and metric label."""

    FAILURES = "failures"
    GATEWAY_FAILURES = "gateway-failures"
    CONNECT_FAILURES = "connect-failures"
    SUCCESS_RATIO = "success-ratio"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Ejected:
    """An ejection as it was decided, for the log, the metrics and the report.

    Attributes:
        cluster: The cluster that the endpoint was ejected from.
        endpoint: Id of the endpoint.
        until_s: When it may be tried again, monotonic seconds.
        for_s: How long that is from now.
        failures: Consecutive failures until then.
        shadow: True when the policy only watches and nothing was done.
        why: What tripped it.
    """

    cluster: ClusterKey
    endpoint: str
    until_s: float
    for_s: float
    failures: int
    shadow: bool
    why: Why


def state(live: EndpointLive, now_s: float) -> State:
    """What the endpoint is now."""
    if live.ejected_until_s == 0.0:
        return State.PASSING
    return State.TRIPPED if live.ejected_until_s > now_s else State.PROBING


def passing(endpoints: Sequence[EndpointLive], policy: Ejection) -> Sequence[EndpointLive]:
    """The endpoints that may be picked: ready and passing.

    Returns `endpoints` itself when that is all of them, which is the usual case and allocates nothing. When every
    ready endpoint is out, or all but one and that one fails too, all the ready ones (panic). A policy of `max_percent`
    0 ejects nobody, from the moment that it is in force.
    """
    watches = policy.max_percent > 0
    for live in endpoints:
        if (live.ejected_until_s and watches) or not live.endpoint.ready:
            break
    else:
        return endpoints
    ready = [live for live in endpoints if live.endpoint.ready]
    if not watches:
        return ready
    left = [live for live in ready if not live.ejected_until_s]
    if len(left) == 1 and left[0].failures >= policy.consecutive_failures:
        return ready
    return left or ready


def probe_due(endpoints: Sequence[EndpointLive], policy: Ejection, now_s: float) -> EndpointLive | None:
    """A probing endpoint that waits for its one request: the next request's first try is for it."""
    if policy.max_percent > 0:
        for live in endpoints:
            if 0.0 < live.ejected_until_s <= now_s and live.probed_until_s <= now_s and live.endpoint.ready:
                return live
    return None


def begin_probe(live: EndpointLive, policy: Ejection, now_s: float) -> float:
    """A request goes to an endpoint that is out: until it has ended no other one is its probe. Returns its turn.

    0.0 when it is not the probe: its time is not over yet, or another one is on its way, and it goes there for want of
    somebody better. A probe that takes longer than `base_s` does not hold the place: somebody else may learn sooner.
    """
    if live.ejected_until_s > now_s or live.probed_until_s > now_s:
        return 0.0
    live.probed_until_s = now_s + policy.base_s
    return live.probed_until_s


def end_probe(live: EndpointLive, turn_s: float) -> None:
    """The request with that turn has ended, whether it told anything or not."""
    if turn_s and live.probed_until_s == turn_s:
        live.probed_until_s = 0.0


def record(
    cluster: ClusterLive,
    live: EndpointLive,
    failure: Kind | None,
    policy: Ejection,
    mode: Mode,
    now_s: float,
    rng: Random,
    *,
    probed: bool = False,
) -> Ejected | None:
    """Note how a try ended (None: well); return the ejection that it led to.

    `tries`, `failed_tries` and `in_flight` are the caller's. Of an endpoint that is out only a probe tells anything:
    what was sent before its ejection and comes back now is not counted. A success of a request that went there while
    it was out (`probed`: it was its turn, or there was nobody better) makes it passing at once.

    In shadow mode the ejection is returned, marked, and nothing is done; counting starts again, so that it is
    reported once per `consecutive_failures`, always with the first ejection's length.
    """
    if live.ejected_until_s and not probed:
        return None
    if failure is None:
        _pass(cluster, live)
        return None
    if live.ejected_until_s > now_s:
        return None
    _count(live, failure)
    why = _trips(live, policy, now_s)
    if why is None or not _may_eject(cluster, live, policy):
        return None
    return _eject(cluster, live, policy, now_s, why=why, shadow=mode is Mode.SHADOW, rng=rng)


def _pass(cluster: ClusterLive, live: EndpointLive) -> None:
    live.failures = live.gateway_failures = live.connect_failures = 0
    if live.ejected_until_s:
        live.ejected_until_s = live.probed_until_s = 0.0
        cluster.somebody_out = any(peer.ejected_until_s for peer in cluster.endpoints.values() if not peer.leaving)


def _count(live: EndpointLive, failure: Kind) -> None:
    live.failures += 1
    live.gateway_failures = live.gateway_failures + 1 if failure is Kind.GATEWAY else 0
    live.connect_failures = live.connect_failures + 1 if failure is Kind.CONNECT else 0


def _trips(live: EndpointLive, policy: Ejection, now_s: float) -> Why | None:
    ratio_is_low = _too_few_succeed(live, policy, now_s)  # always asked: it keeps the window
    if live.ejected_until_s:
        return Why.PROBE
    if live.failures >= policy.consecutive_failures:
        return Why.FAILURES
    if policy.gateway_failures and live.gateway_failures >= policy.gateway_failures:
        return Why.GATEWAY_FAILURES
    if policy.connect_failures and live.connect_failures >= policy.connect_failures:
        return Why.CONNECT_FAILURES
    return Why.SUCCESS_RATIO if ratio_is_low else None


def _too_few_succeed(live: EndpointLive, policy: Ejection, now_s: float) -> bool:
    """Whether the share of good answers in the window is too small, once it has enough of them.

    The window begins with a failure: what came before the first one that it knows is not counted.
    """
    window = policy.success
    if not window.at_least_percent:
        return False
    ended, failed = live.tries - live.in_flight, live.failed_tries
    marks = live.window
    while marks and marks[0][0] <= now_s - window.interval_s:
        marks.popleft()
    if not marks or marks[-1][0] <= now_s - window.interval_s / BUCKETS:
        marks.append((now_s, ended, failed))
    _, ended_then, failed_then = marks[0]
    tries, failures = ended - ended_then, failed - failed_then
    if tries < window.min_requests:
        return False
    return 100.0 * (tries - failures) < window.at_least_percent * tries


def _may_eject(cluster: ClusterLive, live: EndpointLive, policy: Ejection) -> bool:
    """True when the cluster can spare `live`; the limit is checked with it counted among those that are out."""
    peers = [peer for peer in cluster.endpoints.values() if peer.endpoint.ready and not peer.leaving]
    if policy.max_percent <= 0 or live not in peers:
        return False
    ejected = 1 + sum(peer is not live and peer.ejected_until_s > 0.0 for peer in peers)
    allowed = max(1, len(peers) * policy.max_percent // 100)
    return ejected <= allowed and ejected < len(peers)


def _eject(
    cluster: ClusterLive,
    live: EndpointLive,
    policy: Ejection,
    now_s: float,
    *,
    why: Why,
    shadow: bool,
    rng: Random,
) -> Ejected:
    # Being unused is no proof of health: a probing endpoint has not been quiet.
    before = live.ejections if why is Why.PROBE else _remembered(live, policy, now_s)
    for_s = _length_s(policy, before) * (1.0 + JITTER_RATIO * rng.random())
    ejected = Ejected(cluster.key, live.endpoint.id, now_s + for_s, for_s, live.failures, shadow, why)
    live.failures = live.gateway_failures = live.connect_failures = 0
    live.window.clear()
    if not shadow:
        live.ejected_until_s = ejected.until_s
        cluster.somebody_out = True
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
