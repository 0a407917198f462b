"""The attempts machine: route, pick, try, again, answer. The one home of these decisions.

The full path, the fast path and the simulator only do what it returns:

    exchange = start(...)
    step = next_step(exchange, now_s, rng)      # Try | Wait | Answer
    outcome(exchange, result, now_s, rng)       # after a Try; then next_step again
    ended(exchange, result, now_s, rng)         # gRPC only: what the trailers of the forwarded answer said
    finish(exchange)                            # exactly once, however it ended

Pure: `now_s`, `rng` and the way to pick among endpoints come in as values. It holds retry, budget, deadline,
avoid-tried, ejection and limits; it never waits and never sees a socket.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from sidecar.errors import CONNECT_FAILED, INVALID_BACKEND, NO_ENDPOINT, OVERFLOW, REQUEST_TIMEOUT, Fault, Side
from sidecar.model.clusters import Endpoint
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import TrafficPolicy
from sidecar.policy import budget, deadline, limits, outlier, retry
from sidecar.policy.grpc import ENDPOINT_FAILURES, RESOURCE_EXHAUSTED, UNAVAILABLE
from sidecar.policy.retry import Failure, GiveUp

SHED_STATUS = 429  # an endpoint is asked too much
Lives = Sequence[EndpointLive]


class Balancer(Protocol):
    """How an endpoint is chosen: `balance/balancer.py`, which says more. What is None is not asked for."""

    @property
    def pick(self) -> Callable[[Lives, ClusterLive, Random, float, int | None], EndpointLive | None]:
        """The choice among those that may be asked, given the hash of the request's key."""

    @property
    def members(self) -> Callable[[ClusterLive], Lives] | None:
        """The endpoints that the policy means, when it does not mean all."""

    @property
    def notice(self) -> Callable[[Lives, ClusterLive, float], None] | None:
        """Told who may be asked."""

    @property
    def observe(self) -> Callable[[EndpointLive, float, bool | None, float], None] | None:
        """Told how long a try took (below 0: not known), and whether it went well (None: not known)."""

    @property
    def labels(self) -> str:
        """Which endpoints it means, for people."""

    def unless_panic(self, passing: Lives, members: Lives) -> Lives:
        """`passing`, or more when those are too few."""


@dataclass(slots=True)  # one for each request, and four times cheaper than a frozen one
class Try:
    """Send the request to `endpoint`; its head must be there before `until_s` (None: no limit)."""

    endpoint: Endpoint
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Back off for `delay_s` seconds, then ask again."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Stop. Send the client `fault`; None means: forward the answer that the last try got.

    `denied` says why there is no further try, when one was wanted.
    """

    fault: Fault | None
    denied: GiveUp | None


Step = Try | Wait | Answer
_FORWARD = Answer(None, None)


class Exchange:
    """One request on its way; made by `start`, changed only by this module.

    Most of it stays as it is for most requests, so the defaults are the class's: an exchange is made for every request,
    and sets only what is its own.

    Attributes:
        probes: `current` was out when it was picked: it was its turn, or nobody better was there.
        probe_turn_s: See `outlier.begin_probe`.
        refused: A try was refused unread: the next such asks the budget.
        cut_offs: Tries that a GOAWAY cut off; see policy/retry.py.
        replayable: The caller clears it when more of the body was sent than is kept.
        key: Hash of what the request is balanced by; None: nothing.
        asked_s: Since when the endpoint has the whole request and may answer: when the try began, unless the caller
            moves it on, because a body took longer; `inf` while it is still on its way.
    """

    attempt = 0
    current: EndpointLive | None = None
    probes = False
    probe_turn_s = 0.0
    refused = False
    cut_offs = 0
    denied: GiveUp | None = None
    ejected: outlier.Ejected | None = None
    replayable = True
    over: Answer | None = None
    last: Failure | None = None
    delay_s = 0.0
    finished = False
    key: int | None = None
    asked_s = 0.0

    def __init__(
        self,
        cluster: ClusterLive,
        policy: TrafficPolicy,
        balancer: Balancer,
        method: bytes,
        idempotency_key: bool,
        per_try_s: float | None,
        ends_at_s: float | None,
    ) -> None:
        self.cluster = cluster
        self.policy = policy
        self.balancer = balancer
        self.method = method
        self.idempotency_key = idempotency_key
        self.per_try_s = per_try_s
        self.ends_at_s = ends_at_s
        self.tried: list[EndpointLive] = []


def start(
    cluster: ClusterLive,
    endpoints: Sequence[Endpoint],
    known: bool,
    policy: TrafficPolicy,
    balancer: Balancer,
    *,
    method: bytes,
    idempotency_key: bool,
    per_try_s: float | None,
    ends_at_s: float | None,
    now_s: float,
) -> Exchange:
    """Begin an exchange with the cluster that the route's split chose.

    Call it right after reading the current snapshot: it brings live state up to `endpoints`.

    Args:
        known: False when the route names a service that does not exist; its share is answered 500.
        per_try_s: The route's bound of one try; None: the policy's.
        ends_at_s: Absolute end of the request; see policy/deadline.py.
    """
    cluster.current(endpoints)
    return begin(cluster, known, policy, balancer, method, idempotency_key, per_try_s, ends_at_s, now_s)


def begin(
    cluster: ClusterLive,
    known: bool,
    policy: TrafficPolicy,
    balancer: Balancer,
    method: bytes,
    idempotency_key: bool,
    per_try_s: float | None,
    ends_at_s: float | None,
    now_s: float,
) -> Exchange:
    """`start` for a caller that keeps the cluster's live state at hand, and current."""
    exchange = Exchange(cluster, policy, balancer, method, idempotency_key, per_try_s, ends_at_s)
    if not known:
        sentence = f"the route leads to {cluster.key}, which is not a known service"
        exchange.over = Answer(INVALID_BACKEND.saying(sentence), None)
        exchange.finished = True
    elif not limits.admit(cluster, policy.limits):
        sentence = f"{cluster.key} already has {policy.limits.requests} requests in flight (limits.requests)"
        exchange.over = Answer(OVERFLOW.saying(sentence), None)
        exchange.finished = True
    else:
        cluster.in_flight += 1
        budget.note_request(cluster.budget, policy.retries.budget, now_s)
    return exchange


def next_step(exchange: Exchange, now_s: float, rng: Random) -> Step:
    """What to do now. After a Try, `outcome` must be told before the next call."""
    if exchange.over is not None:
        return exchange.over
    if exchange.delay_s > 0.0:
        delay_s, exchange.delay_s = exchange.delay_s, 0.0
        return Wait(delay_s)
    if exchange.ends_at_s is not None and now_s >= exchange.ends_at_s:
        return _stop(exchange, REQUEST_TIMEOUT)
    chosen = _choose(exchange, now_s, rng)
    if chosen is None:
        return _stop(exchange, _nobody(exchange))
    exchange.current = chosen
    exchange.probes = chosen.ejected_until_s > 0.0
    if exchange.probes:
        exchange.probe_turn_s = outlier.begin_probe(chosen, exchange.policy.ejection, now_s)
    exchange.tried.append(chosen)
    exchange.attempt += 1
    exchange.asked_s = now_s
    chosen.in_flight += 1
    chosen.tries += 1
    timeouts = exchange.policy.timeouts
    if exchange.per_try_s is None and timeouts.per_try_s is None:  # nearly always; see `try_limit_s`
        return Try(chosen.endpoint, exchange.ends_at_s)
    return Try(chosen.endpoint, deadline.try_limit_s(timeouts, exchange.per_try_s, now_s, exchange.ends_at_s))


def outcome(
    exchange: Exchange, result: Failure | None, now_s: float, rng: Random, *, judged: bool = True, shed: bool = False
) -> None:
    """Tell how the try ended: None for an answer's head that is to be forwarded, else the failure.

    A failure that the client caused (it left) must not be told here: `finish` alone ends such an exchange.
    `exchange.ejected` is set when this outcome took an endpoint out.

    Args:
        judged: False when a head without failure says nothing yet, because its trailers will (gRPC): `ended` is to be
            told then.
        shed: The answer is SHED_STATUS. No failure, but who refuses at once must not look quick, or gets more of it.
    """
    live = exchange.current
    if live is None:
        return
    if result is None:
        observe = exchange.balancer.observe
        if observe is not None:
            observe(live, now_s - exchange.asked_s, not shed if judged else None, now_s)
        if judged and (live.failures or live.ejected_until_s):  # else there is nothing for a success to forget
            _record(exchange, live, result, now_s, rng)
        exchange.over = _FORWARD
        return
    _record(exchange, live, result, now_s, rng)
    exchange.last = result
    if result.answered and not retry.can_be_wanted(result, exchange.policy.retries):
        # A plain 500 counts against the endpoint, but nobody asks for it again.
        exchange.over = _FORWARD if result.fault is None else Answer(result.fault, None)
        return
    verdict = retry.worth_another_try(
        result,
        policy=exchange.policy.retries,
        method=exchange.method,
        has_idempotency_key=exchange.idempotency_key,
        attempt=exchange.attempt,
        replayable=exchange.replayable,
        refused_before=exchange.refused,
        cut_off_before=exchange.cut_offs,
        budget=lambda: budget.take_retry(exchange.cluster.budget, exchange.policy.retries.budget, now_s),
        now_s=now_s,
        ends_at_s=exchange.ends_at_s,
        rng=rng,
    )
    if retry.cut_off(result):
        exchange.cut_offs = min(exchange.cut_offs + 1, retry.CUT_OFF_MAX)
    elif retry.refused_unread(result):
        exchange.refused = True
    if isinstance(verdict, GiveUp):
        exchange.denied = verdict
        exchange.over = Answer(result.fault, verdict)
        if result.fault is None:
            return  # its answer will be forwarded: the endpoint stays busy until `finish`
    else:
        exchange.delay_s = verdict
    _give_back(exchange)


def ended(exchange: Exchange, result: Failure | None, now_s: float, rng: Random) -> None:
    """Tell what the end of a forwarded answer said of its endpoint, where its head could not; before `finish`.

    Not told when nobody knows: the client left first. `exchange.ejected` as for `outcome`.
    """
    live = exchange.current
    if live is None:
        return
    _record(exchange, live, result, now_s, rng)
    exchange.asked_s = math.inf  # the head told how long it took
    if result is None:
        _observe(exchange, live, True, now_s)


def _record(exchange: Exchange, live: EndpointLive, result: Failure | None, now_s: float, rng: Random) -> None:
    if _blames_nobody(result):
        return
    kind = None if result is None or _blameless(result) else _kind(result)
    if result is not None:
        _observe(exchange, live, kind is None and not _sheds(result), now_s)
    policy = exchange.policy
    exchange.ejected = outlier.record(
        exchange.cluster, live, kind, policy.ejection, policy.mode, now_s, rng, probed=exchange.probes
    )
    if kind is not None:
        live.failed_tries += 1


def _observe(exchange: Exchange, live: EndpointLive, ok: bool, now_s: float) -> None:
    observe = exchange.balancer.observe
    if observe is not None:
        observe(live, now_s - exchange.asked_s, ok, now_s)


def _sheds(result: Failure) -> bool:
    return result.status == SHED_STATUS or result.grpc_status == RESOURCE_EXHAUSTED


def _kind(result: Failure) -> outlier.Kind:
    if result.fault is not None and not result.answered:
        return outlier.Kind.CONNECT if result.fault.flag == CONNECT_FAILED.flag else outlier.Kind.GATEWAY
    if result.grpc_status is not None:
        return outlier.Kind.GATEWAY if result.grpc_status == UNAVAILABLE else outlier.Kind.OTHER
    return outlier.Kind.GATEWAY if result.status in retry.RETRIABLE_STATUSES else outlier.Kind.OTHER


def _blames_nobody(result: Failure | None) -> bool:
    """True for a failure that says nothing about the endpoint. A timeout does.

    Our own limits, no identity yet; and one GOAWAY cuts off many, whose endpoint is in order (it ends old connections)
    or, if it ends itself, is going to refuse the next.
    """
    fault = result.fault if result is not None else None
    return fault is not None and (fault.cut_off or (fault.side is Side.SELF and fault.flag != "UT"))


def _blameless(result: Failure) -> bool:
    """True for an answer that a policy may want tried elsewhere, but that an endpoint in order gives too."""
    if not result.answered:
        return False
    if result.grpc_status is None:
        return result.status is not None and result.status < 500
    return result.grpc_status not in ENDPOINT_FAILURES


def finish(exchange: Exchange) -> None:
    """Give back what the exchange holds. Further calls do nothing."""
    if exchange.finished:
        return
    exchange.finished = True
    exchange.cluster.in_flight -= 1
    _give_back(exchange)


def _give_back(exchange: Exchange) -> None:
    live, exchange.current = exchange.current, None
    if live is not None:
        if exchange.probes:
            outlier.end_probe(live, exchange.probe_turn_s)
        exchange.cluster.release(live)


def _choose(exchange: Exchange, now_s: float, rng: Random) -> EndpointLive | None:
    cluster, balancer = exchange.cluster, exchange.balancer
    members = cluster.present if balancer.members is None else balancer.members(cluster)
    passing = members
    # Nearly always all are ready and nobody is out; it is asked for every try.
    if not cluster.all_ready or cluster.somebody_out:
        ejection = exchange.policy.ejection
        passing = outlier.passing(members, ejection)
        probe = None if exchange.tried else outlier.probe_due(members, ejection, now_s)
        if probe is not None and exchange.key is None:
            return probe
        if probe is not None:  # only a request whose key leads there
            passing = [live for live in members if live is probe or live in passing]
    if balancer.notice is not None:
        balancer.notice(passing, cluster, now_s)
    if passing is not members:
        passing = balancer.unless_panic(passing, members)
    if exchange.tried:
        untried = [live for live in passing if live not in exchange.tried] or _doubtful(exchange, members)
        passing = untried or _not_last(passing, exchange.tried[-1])
    return balancer.pick(passing, cluster, rng, now_s, exchange.key)


def _doubtful(exchange: Exchange, members: Lives) -> Lives:
    """Ejected endpoints, for a request that those who pass do not even take: asking them again would not help."""
    if exchange.last is None or not exchange.last.untouched:
        return ()
    return [live for live in members if live.endpoint.ready and live not in exchange.tried]


def _not_last(passing: Sequence[EndpointLive], last: EndpointLive) -> Sequence[EndpointLive]:
    """All were tried: anybody but the one that failed just now, unless it is the only one."""
    return [live for live in passing if live is not last] or passing


def _nobody(exchange: Exchange) -> Fault:
    if exchange.last is not None and exchange.last.fault is not None:
        return exchange.last.fault
    key = exchange.cluster.key
    if not exchange.cluster.present:
        return NO_ENDPOINT.saying(f"{key} has no endpoint")
    members = exchange.balancer.members
    if members is not None and not members(exchange.cluster):
        return NO_ENDPOINT.saying(f"no endpoint of {key} has the labels {exchange.balancer.labels} (balancing.subset)")
    return NO_ENDPOINT.saying(f"none of the {len(exchange.cluster.present)} endpoints of {key} is ready")


def _stop(exchange: Exchange, fault: Fault) -> Answer:
    exchange.over = Answer(fault, None)
    return exchange.over
