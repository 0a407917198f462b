"""Decide whether a failed try is worth another, and how long to wait before it.

Asked by the attempts machine after each failed try, as long as nothing was sent to the client. Two questions are kept
apart: the policy says what is *wanted* (`retries.on`); what is *safe* is fixed here and not configurable. A request
that the upstream provably did not take may be repeated whatever its method; any other only if its method is idempotent
or it carries an `Idempotency-Key` (RFC 9110 section 9.2.2).

gRPC is POST throughout, so that rule alone would leave it only what was not taken. A `grpc-` condition is therefore the
user's word that the calls of this service may be repeated on that status, as `retryableStatusCodes` is to gRPC itself
(gRFC A6). No such condition is in the default policy.

Returns seconds or a reason, never waits, and asks the budget last, so that only retries that will happen are counted.

The budget bounds the load that retries add. What the upstream left unread loaded nobody, and goes again without asking
the budget and without being one of the policy's attempts, unless the policy has none; as in gRPC (gRFC A6, transparent
retries). Cut off by a GOAWAY that took others: at once, CUT_OFF_MAX times a request. Refused (REFUSED_STREAM): once,
because an endpoint that refuses whatever comes must not be sent everything as often as the policy has tries. Dials that
failed always ask: against a dead endpoint they are the load.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from sidecar.errors import INJECTED, Fault
from sidecar.model.messages import ResponseHead
from sidecar.model.policies import Retries, RetryOn

IDEMPOTENT_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
# gRPC has no bound. One is needed against an endpoint that ends each connection after a stream. Of a rush, some meet as
# many GOAWAYs as it has times the streams that a connection takes: twenty are enough for 200 requests at once, ten a
# connection. Half a second's stall makes that of 400 a second.
CUT_OFF_MAX = 20
RETRY_AFTER_MAX_S = 60.0  # a request without a time of its own is not kept for longer; its client can wait as well
RETRIABLE_STATUSES = frozenset((502, 503, 504))  # what a gateway says when it got no answer of the service's own
GRPC_CONDITIONS = frozenset(
    (
        RetryOn.GRPC_CANCELLED,
        RetryOn.GRPC_DEADLINE_EXCEEDED,
        RetryOn.GRPC_INTERNAL,
        RetryOn.GRPC_RESOURCE_EXHAUSTED,
        RetryOn.GRPC_UNAVAILABLE,
    )
)


class GiveUp(StrEnum):
    """Why there will be no other try; value of log field, metric label and header."""

    BUDGET = "budget"  # retries already add as much load as they may
    METHOD = "method"  # the upstream may have taken the request, and repeating it could double its effect
    BODY_TOO_BIG = "body_too_big"  # the body is no longer at hand in full
    DEADLINE = "deadline"  # the wait would end after the request's time
    ATTEMPTS = "attempts"  # every allowed try was made
    POLICY = "policy"  # the policy does not name this kind of failure
    STARTED = "started"  # the client already has a part of the answer; decided by the caller


@dataclass(frozen=True, slots=True)
class Failure:
    """How a try failed.

    Attributes:
        fault: The row of the table, if it ended without an answer.
        status: The answer's status, if there was one.
        untouched: The upstream provably did not take the request. The caller judges this: the row says so, or an idle
            connection was found closed before the first byte, or a verified mesh peer answered so.
        grpc_status: Of a gRPC request: the code that its caller would see (policy/grpc.py).
        named: The policy names this answer by its status or by a field of it.
        retry_after_s: How long to wait before another try, as the answer says it; None: it says nothing.
    """

    fault: Fault | None
    status: int | None
    untouched: bool
    grpc_status: int | None = None
    named: bool = False
    retry_after_s: float | None = None

    @property
    def answered(self) -> bool:
        """The endpoint answered, or somebody in its place (policy/faults.py): `status` says how."""
        return self.fault is None or self.fault.flag == INJECTED.flag


def names(policy: Retries, head: ResponseHead) -> bool:
    """Whether the policy names such an answer, by its status or by one of its fields."""
    if head.status in policy.statuses:
        return True
    for name, value in policy.headers:
        told = head.get(name.encode("ascii"))
        if told is not None and (value is None or told == value.encode("ascii")):
            return True
    return False


def can_be_wanted(failure: Failure, policy: Retries) -> bool:
    """False for an answer that is only forwarded: nobody asks why there was no other try after a plain 500."""
    found = conditions(failure)
    return failure.named or RetryOn.SERVER_ERROR in policy.on & found or bool(found - _SERVER_ERROR)


def worth_another_try(
    failure: Failure,
    *,
    policy: Retries,
    method: bytes,
    has_idempotency_key: bool,
    attempt: int,
    replayable: bool,
    refused_before: bool,
    cut_off_before: int,
    budget: Callable[[], bool],
    now_s: float,
    ends_at_s: float | None,
    rng: Random,
) -> float | GiveUp:
    """Seconds to wait before the next try, or the reason why there is none.

    Args:
        attempt: Number of the try that failed, from 1.
        replayable: The whole body can be sent (again): it was kept, or nothing of it was read yet.
        refused_before: An earlier try of this request was refused unread already.
        cut_off_before: How many earlier ones were cut off, at most CUT_OFF_MAX.
        budget: Takes one retry from the budget and says whether there was one; called last, at most once,
            and not for a try that is spared it.
        ends_at_s: End of the request; the next try starts before it. None: no limit.

    The first retry after an untouched failure goes at once: it goes to another endpoint, and nobody was loaded by the
    try that failed. All others wait between 0 and min(max_s, base_s * 2**(attempt - 1)), evenly drawn (full jitter),
    and at least as long as the answer says (`Retry-After`): one that asks for more than the request has left, or
    than RETRY_AFTER_MAX_S, is not tried again.
    """
    wanted = policy.on & conditions(failure)
    if not wanted and not failure.named:
        return GiveUp.POLICY
    safe = failure.untouched or method in IDEMPOTENT_METHODS or has_idempotency_key
    if not safe and wanted.isdisjoint(GRPC_CONDITIONS):
        return GiveUp.METHOD
    if not replayable:
        return GiveUp.BODY_TOO_BIG
    attempt -= cut_off_before
    again = cut_off(failure) and cut_off_before < CUT_OFF_MAX
    spared = again or (refused_unread(failure) and not refused_before and not cut_off(failure))
    if not policy.attempts or attempt - refused_before - spared > policy.attempts:
        return GiveUp.ATTEMPTS
    at_once = again or (failure.untouched and attempt == 1)
    delay_s = 0.0 if at_once else rng.random() * _ceiling_s(policy, attempt)
    if failure.retry_after_s is not None:
        if failure.retry_after_s > RETRY_AFTER_MAX_S:
            return GiveUp.DEADLINE
        delay_s = max(delay_s, failure.retry_after_s)
    if ends_at_s is not None and now_s + delay_s >= ends_at_s:
        return GiveUp.DEADLINE
    return delay_s if spared or budget() else GiveUp.BUDGET


def refused_unread(failure: Failure) -> bool:
    """True when a live connection said of this stream that it was not read: above GOAWAY's last, REFUSED_STREAM."""
    return RetryOn.REFUSED_STREAM in conditions(failure)


def cut_off(failure: Failure) -> bool:
    """True for such a one that nobody refused: a GOAWAY came meanwhile."""
    return failure.fault is not None and failure.fault.cut_off


def conditions(failure: Failure) -> frozenset[RetryOn]:
    """The conditions of a policy that cover this failure; empty when none can.

    A reset that came before the request was sent is a connect failure to the user, and a reset all the same. Faults
    of our own (no endpoint, limits, no route) and of the client are never worth another try. What a gRPC request's
    caller would see as UNAVAILABLE is covered by `grpc-unavailable`, however it came about.
    """
    fault = failure.fault
    if fault is None or failure.answered:
        return _of_answer(failure)
    if fault.flag in ("UC", "UR"):
        found = _REFUSED if fault.upstream_untouched else _RESET_UNTOUCHED if failure.untouched else _RESET
    else:
        found = _BY_FLAG.get(fault.flag, _NONE)
    return found | _BY_GRPC_STATUS.get(failure.grpc_status, _NONE) | _SERVER_ERROR if found else found


def _of_answer(failure: Failure) -> frozenset[RetryOn]:
    if failure.grpc_status is None:
        if failure.status not in RETRIABLE_STATUSES:
            return _SERVER_ERROR if failure.status is not None and failure.status >= 500 else _NONE
        return (_GATEWAY_UNTOUCHED if failure.untouched else _GATEWAY) | _SERVER_ERROR
    named = _BY_GRPC_STATUS.get(failure.grpc_status, _NONE)
    if failure.grpc_status == _UNAVAILABLE:  # what 503 is to HTTP
        named |= _GATEWAY
    return named | _CONNECT if failure.untouched else named


_NONE: frozenset[RetryOn] = frozenset()
_CONNECT = frozenset({RetryOn.CONNECT_FAILURE})
_SERVER_ERROR = frozenset({RetryOn.SERVER_ERROR})
_REFUSED = frozenset({RetryOn.REFUSED_STREAM})
_GATEWAY = frozenset({RetryOn.GATEWAY_ERROR})
_GATEWAY_UNTOUCHED = _GATEWAY | _CONNECT
_RESET = _GATEWAY | {RetryOn.RESET}
_RESET_UNTOUCHED = _RESET | _CONNECT | {RetryOn.RESET_BEFORE_REQUEST}
_UNAVAILABLE = 14
_BY_GRPC_STATUS: dict[int | None, frozenset[RetryOn]] = {
    1: frozenset({RetryOn.GRPC_CANCELLED}),
    4: frozenset({RetryOn.GRPC_DEADLINE_EXCEEDED}),
    8: frozenset({RetryOn.GRPC_RESOURCE_EXHAUSTED}),
    13: frozenset({RetryOn.GRPC_INTERNAL}),
    _UNAVAILABLE: frozenset({RetryOn.GRPC_UNAVAILABLE}),
}
_BY_FLAG = {"UF": _CONNECT, "UPE": _GATEWAY, "UT": _GATEWAY}  # UT of the whole request ends at its deadline anyway


def _ceiling_s(policy: Retries, attempt: int) -> float:
    # 2 ** 30 times any base is above any max; the bound keeps the power finite for absurd numbers of attempts.
    return min(policy.backoff.max_s, policy.backoff.base_s * 2.0 ** min(attempt - 1, 30))
