"""What may be tried again, what is wanted, and in which order the reasons are found."""

from functools import partial
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import errors
from sidecar.errors import Fault
from sidecar.model.messages import ResponseHead
from sidecar.model.policies import Backoff, Retries, RetryOn
from sidecar.policy import grpc
from sidecar.policy.retry import (
    CUT_OFF_MAX,
    IDEMPOTENT_METHODS,
    Failure,
    GiveUp,
    can_be_wanted,
    conditions,
    names,
    worth_another_try,
)

EVERYTHING = frozenset(RetryOn)
FAULTS = [row for row in vars(errors).values() if isinstance(row, Fault)]


class Budget:
    """A budget with so much left; counts how often it was asked."""

    def __init__(self, left: int = 1) -> None:
        self.left = left
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left >= 0


class Half(Random):
    def random(self) -> float:
        return 0.5


def of(fault: Fault) -> Failure:
    """The failure as its row of the table tells it."""
    return Failure(fault, None, fault.upstream_untouched)


def answered(status: int, *, untouched: bool = False) -> Failure:
    return Failure(None, status, untouched)


def ask(
    failure: Failure,
    *,
    policy: Retries | None = None,
    method: bytes = b"GET",
    key: bool = False,
    attempt: int = 1,
    replayable: bool = True,
    refused_before: bool = False,
    cut_off_before: int = 0,
    budget: Budget | None = None,
    now_s: float = 100.0,
    ends_at_s: float | None = None,
    rng: Random | None = None,
) -> float | GiveUp:
    return worth_another_try(
        failure,
        policy=policy or Retries(),
        method=method,
        has_idempotency_key=key,
        attempt=attempt,
        replayable=replayable,
        refused_before=refused_before,
        cut_off_before=cut_off_before,
        budget=budget or Budget(),
        now_s=now_s,
        ends_at_s=ends_at_s,
        rng=rng or Half(),
    )


UNTOUCHED = [
    of(errors.CONNECT_FAILED),
    of(errors.CONNECT_TIMEOUT),
    of(errors.TLS_FAILED),
    of(errors.UPSTREAM_REFUSED),
    of(errors.UPSTREAM_CUT_OFF),
    Failure(errors.UPSTREAM_CLOSED, None, True),  # an idle connection that was found closed
    Failure(errors.UPSTREAM_RESET, None, True),
    answered(503, untouched=True),  # a verified mesh peer says so
]
TOUCHED = [
    of(errors.UPSTREAM_CLOSED),
    of(errors.UPSTREAM_RESET),
    of(errors.UPSTREAM_PROTOCOL),
    of(errors.TRY_TIMEOUT),
    answered(502),
    answered(503),
    answered(504),
]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH", b"get", b"PURGE"])
@pytest.mark.parametrize("failure", UNTOUCHED)
def test_a_request_that_was_provably_not_taken_is_tried_again_at_once_whatever_its_method(
    failure: Failure, method: bytes
) -> None:
    assert ask(failure, method=method) == 0.0


@pytest.mark.parametrize("failure", TOUCHED)
def test_any_other_failure_is_tried_again_for_idempotent_methods_or_with_a_key_only(failure: Failure) -> None:
    for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"):
        assert ask(failure, method=method) == 0.0125
    for method in (b"POST", b"PATCH", b"CONNECT", b"get"):
        assert ask(failure, method=method) is GiveUp.METHOD
        assert ask(failure, method=method, key=True) == 0.0125


@pytest.mark.parametrize(
    "failure",
    [of(row) for row in FAULTS if row.flag not in {"UF", "UC", "UR", "UPE", "UT"}]
    + [answered(status) for status in (400, 404, 409, 429, 500, 501, 505)]
    + [answered(429, untouched=True)],
)
def test_what_no_upstream_caused_and_other_statuses_are_never_tried_again(failure: Failure) -> None:
    assert ask(failure, policy=Retries(on=EVERYTHING - {RetryOn.SERVER_ERROR})) is GiveUp.POLICY


BEFORE_REQUEST = {"connect-failure", "reset", "reset-before-request", "gateway-error"}


@pytest.mark.parametrize(
    ("failure", "covered_by"),
    [
        (of(errors.CONNECT_FAILED), {"connect-failure"}),
        (of(errors.CONNECT_TIMEOUT), {"connect-failure"}),
        (of(errors.TLS_FAILED), {"connect-failure"}),
        (of(errors.UPSTREAM_REFUSED), {"refused-stream"}),
        (of(errors.UPSTREAM_CUT_OFF), {"refused-stream"}),
        (of(errors.UPSTREAM_CLOSED), {"reset", "gateway-error"}),
        (of(errors.UPSTREAM_RESET), {"reset", "gateway-error"}),
        (Failure(errors.UPSTREAM_CLOSED, None, True), BEFORE_REQUEST),
        (Failure(errors.UPSTREAM_RESET, None, True), BEFORE_REQUEST),
        (of(errors.UPSTREAM_PROTOCOL), {"gateway-error"}),
        (of(errors.TRY_TIMEOUT), {"gateway-error"}),
        (answered(502), {"gateway-error"}),
        (answered(503, untouched=True), {"gateway-error", "connect-failure"}),
        (answered(500), set()),
        (of(errors.OVERFLOW), set()),
    ],
)
def test_the_policy_names_the_failures_that_it_wants_tried_again(failure: Failure, covered_by: set[str]) -> None:
    assert conditions(failure) - {"5xx"} == covered_by
    for condition in EVERYTHING - {RetryOn.SERVER_ERROR}:
        wanted = ask(failure, policy=Retries(on=frozenset({condition}))) is not GiveUp.POLICY
        assert wanted == (condition in covered_by)


@pytest.mark.parametrize(
    "failure", [of(errors.UPSTREAM_REFUSED), grpc.failure_of(errors.UPSTREAM_REFUSED, untouched=True)]
)
def test_the_first_stream_that_was_refused_unread_costs_no_budget(failure: Failure) -> None:
    empty = Budget(0)
    assert ask(failure, method=b"POST", budget=empty) == 0.0
    assert empty.asked == 0
    assert ask(failure, budget=empty, refused_before=True) is GiveUp.BUDGET


@pytest.mark.parametrize("failure", [each for each in UNTOUCHED if RetryOn.REFUSED_STREAM not in conditions(each)])
def test_whatever_else_was_not_taken_asks_the_budget(failure: Failure) -> None:
    assert ask(failure, budget=Budget(0)) is GiveUp.BUDGET


def test_it_is_no_attempt_either_unless_the_policy_has_none() -> None:
    refused = of(errors.UPSTREAM_REFUSED)
    told = [ask(refused, attempt=n, refused_before=n > 1, budget=Budget(9)) for n in (1, 2, 3, 4)]
    assert told == [0.0, 0.025, 0.05, GiveUp.ATTEMPTS]  # two follow by default, and the one
    assert ask(answered(503), attempt=3, refused_before=True) == 0.05
    assert ask(refused, attempt=3) == 0.05
    assert ask(refused, policy=Retries(attempts=0)) is GiveUp.ATTEMPTS


CUT_OFF = errors.UPSTREAM_CUT_OFF


@pytest.mark.parametrize("failure", [of(CUT_OFF), grpc.failure_of(CUT_OFF, untouched=True)])
def test_what_a_goaway_cut_off_is_no_try_a_few_times(failure: Failure) -> None:
    empty = Budget(0)
    for before in range(CUT_OFF_MAX):
        assert ask(failure, method=b"POST", attempt=before + 3, cut_off_before=before, budget=empty) == 0.0
    assert empty.asked == 0
    assert ask(failure, attempt=CUT_OFF_MAX + 1, cut_off_before=CUT_OFF_MAX, budget=empty) is GiveUp.BUDGET
    assert ask(failure, attempt=CUT_OFF_MAX + 3, cut_off_before=CUT_OFF_MAX) is GiveUp.ATTEMPTS


def test_other_failures_count_as_if_it_had_not_been() -> None:
    assert ask(answered(503), attempt=4, cut_off_before=3) == 0.0125
    assert ask(of(errors.CONNECT_FAILED), attempt=4, cut_off_before=3) == 0.0
    assert ask(answered(503), attempt=6, cut_off_before=3) is GiveUp.ATTEMPTS
    assert ask(of(errors.UPSTREAM_REFUSED), attempt=4, cut_off_before=3, budget=Budget(0)) == 0.0
    assert ask(of(CUT_OFF), attempt=2, refused_before=True, budget=Budget(0)) == 0.0


def test_what_was_cut_off_obeys_all_but_the_budget() -> None:
    cut_off = partial(ask, of(CUT_OFF), budget=Budget(0))
    assert cut_off(policy=Retries(on=frozenset({RetryOn.RESET}))) is GiveUp.POLICY
    assert cut_off(policy=Retries(attempts=0)) is GiveUp.ATTEMPTS
    assert cut_off(replayable=False) is GiveUp.BODY_TOO_BIG
    assert cut_off(ends_at_s=100.0) is GiveUp.DEADLINE


def test_a_refused_stream_obeys_all_but_the_budget() -> None:
    refused = partial(ask, of(errors.UPSTREAM_REFUSED), budget=Budget(0))
    assert refused(policy=Retries(on=frozenset({RetryOn.RESET}))) is GiveUp.POLICY
    assert refused(policy=Retries(attempts=0)) is GiveUp.ATTEMPTS
    assert refused(replayable=False) is GiveUp.BODY_TOO_BIG
    assert refused(ends_at_s=100.0) is GiveUp.DEADLINE
    assert refused(attempt=2) == 0.025


def test_a_sentence_of_its_own_does_not_change_what_a_fault_is() -> None:
    assert ask(of(errors.CONNECT_FAILED.saying("10.0.0.7:8080 refused"))) == 0.0


def test_the_first_reason_in_this_order_is_given() -> None:
    wrong = partial(ask, answered(503), ends_at_s=99.0, budget=Budget(0))
    nothing_wanted, no_tries = Retries(on=frozenset(), attempts=0), Retries(attempts=0)
    assert wrong(policy=nothing_wanted, method=b"POST", replayable=False) is GiveUp.POLICY
    assert wrong(policy=no_tries, method=b"POST", replayable=False) is GiveUp.METHOD
    assert wrong(policy=no_tries, replayable=False) is GiveUp.BODY_TOO_BIG
    assert wrong(policy=no_tries) is GiveUp.ATTEMPTS
    assert wrong() is GiveUp.DEADLINE
    assert wrong(ends_at_s=None) is GiveUp.BUDGET


def test_two_tries_follow_the_first_by_default() -> None:
    assert [isinstance(ask(answered(503), attempt=n), float) for n in (1, 2, 3)] == [True, True, False]
    assert ask(answered(503), attempt=3) is GiveUp.ATTEMPTS


def test_only_the_first_retry_of_an_untouched_request_goes_at_once() -> None:
    assert ask(of(errors.CONNECT_FAILED), attempt=1) == 0.0
    assert ask(of(errors.CONNECT_FAILED), attempt=2) == 0.025


def test_the_wait_doubles_up_to_its_most() -> None:
    policy = Retries(attempts=2000)
    waits = [ask(answered(503), policy=policy, attempt=n) for n in (1, 2, 3, 4, 5, 6, 2000)]
    assert waits == [0.0125, 0.025, 0.05, 0.1, 0.125, 0.125, 0.125]


def test_a_wait_that_ends_after_the_request_is_no_wait() -> None:
    assert ask(answered(503), ends_at_s=100.0125) is GiveUp.DEADLINE
    assert ask(answered(503), ends_at_s=100.013) == 0.0125
    assert ask(of(errors.CONNECT_FAILED), ends_at_s=100.0) is GiveUp.DEADLINE


def test_reasons_are_stable_values_for_logs_and_metrics() -> None:
    values = ["budget", "method", "body_too_big", "deadline", "attempts", "policy", "started"]
    assert [reason.value for reason in GiveUp] == values


@given(
    failure=st.one_of(
        st.builds(Failure, st.sampled_from(FAULTS), st.none(), st.booleans()),
        st.builds(Failure, st.none(), st.integers(100, 599), st.booleans()),
    ),
    on=st.sets(st.sampled_from(RetryOn)).map(frozenset),
    method=st.sampled_from([b"GET", b"PUT", b"POST", b"PATCH", b"BREW"]),
    key=st.booleans(),
    attempt=st.integers(1, 5),
    replayable=st.booleans(),
    refused_before=st.booleans(),
    left=st.integers(0, 1),
    left_s=st.one_of(st.none(), st.floats(-1, 1)),
    seed=st.integers(0, 2**32),
)
def test_no_policy_makes_an_unsafe_request_go_twice(
    failure: Failure,
    on: frozenset[RetryOn],
    method: bytes,
    key: bool,
    attempt: int,
    replayable: bool,
    refused_before: bool,
    left: int,
    left_s: float | None,
    seed: int,
) -> None:
    budget = Budget(left)
    policy = Retries(on=on, backoff=Backoff(base_s=0.1, max_s=0.3))
    ends_at_s = None if left_s is None else 100.0 + left_s
    verdict = ask(
        failure,
        policy=policy,
        method=method,
        key=key,
        attempt=attempt,
        replayable=replayable,
        refused_before=refused_before,
        budget=budget,
        ends_at_s=ends_at_s,
        rng=Random(seed),
    )
    free = RetryOn.REFUSED_STREAM in conditions(failure) and not refused_before
    assert budget.asked == (not free and (isinstance(verdict, float) or verdict is GiveUp.BUDGET))
    if isinstance(verdict, float):
        assert failure.untouched or method in IDEMPOTENT_METHODS or key
        assert replayable
        assert attempt <= policy.attempts + (free or refused_before)
        assert left or free
        assert 0.0 <= verdict <= min(0.3, 0.1 * 2 ** (attempt - 1))
        assert ends_at_s is None or 100.0 + verdict < ends_at_s


def test_every_row_of_the_table_and_every_status_has_an_answer() -> None:
    for fault, untouched in product(FAULTS, (False, True)):
        assert conditions(Failure(fault, None, untouched)) <= EVERYTHING
    for status, untouched in product(range(100, 600), (False, True)):
        assert bool(conditions(Failure(None, status, untouched))) == (status >= 500)


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (answered(500), True),
        (answered(599), True),
        (answered(499), False),
        (of(errors.CONNECT_FAILED), True),
        (of(errors.UPSTREAM_RESET), True),
        (of(errors.TRY_TIMEOUT), True),
        (of(errors.OVERFLOW), False),
        (of(errors.CLIENT_GONE), False),
    ],
)
def test_5xx_is_every_server_error_and_what_a_gateway_would_answer_so(failure: Failure, wanted: bool) -> None:
    only = Retries(on=frozenset({RetryOn.SERVER_ERROR}))
    assert (ask(failure, policy=only) is not GiveUp.POLICY) == wanted
    assert ask(failure, policy=only, method=b"POST") in (GiveUp.METHOD, GiveUp.POLICY) or failure.untouched


def answer(status: int, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, [*fields])


def test_an_answer_that_the_policy_names_is_worth_another_try_where_that_is_safe() -> None:
    policy = Retries(on=frozenset(), statuses=frozenset({429}), headers=(("x-again", None), ("x-busy", "yes")))
    assert policy.reads_answers
    assert names(policy, answer(429))
    assert not names(policy, answer(503))
    assert names(policy, answer(200, (b"x-again", b"whatever")))
    assert names(policy, answer(200, (b"x-busy", b"yes")))
    assert not names(policy, answer(200, (b"x-busy", b"no")))
    named = Failure(None, 429, False, named=True)
    assert ask(named, policy=policy) == 0.0125
    assert ask(named, policy=policy, method=b"POST") is GiveUp.METHOD
    assert can_be_wanted(named, policy)
    assert not Retries(statuses=frozenset({503})).reads_answers


def test_nobody_is_told_why_a_plain_500_is_not_asked_for_again_unless_somebody_wants_that() -> None:
    assert not can_be_wanted(answered(500), Retries())
    assert can_be_wanted(answered(500), Retries(on=frozenset({RetryOn.SERVER_ERROR})))
    assert can_be_wanted(answered(503), Retries(on=frozenset()))
    cancelled = Failure(None, 200, False, grpc_status=1)
    assert can_be_wanted(cancelled, Retries())


@pytest.mark.parametrize(
    ("after_s", "ends_at_s", "answer"),
    [
        (2.0, None, 2.0),
        (0.0, None, 0.0125),
        (60.0, None, 60.0),
        (60.5, None, GiveUp.DEADLINE),
        (2.0, 102.1, 2.0),
        (2.0, 102.0, GiveUp.DEADLINE),
    ],
)
def test_an_endpoint_is_not_asked_before_it_says_so(
    after_s: float, ends_at_s: float | None, answer: float | GiveUp
) -> None:
    budget = Budget()
    busy = Failure(None, 503, False, retry_after_s=after_s)
    assert ask(busy, ends_at_s=ends_at_s, budget=budget) == answer
    assert budget.asked == (not isinstance(answer, GiveUp))
