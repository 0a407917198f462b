"""Retries never add more load than the budget says."""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.model.live import BudgetLive
from sidecar.model.policies import BudgetPolicy
from sidecar.policy.budget import note_request, take_retry

NOTHING_FREE = BudgetPolicy(min_per_second=0.0)


def taken(budget: BudgetLive, policy: BudgetPolicy, now_s: float, wanted: int) -> int:
    return sum(take_retry(budget, policy, now_s) for _ in range(wanted))


def test_without_traffic_the_minimum_of_a_whole_interval_may_come_at_once() -> None:
    assert taken(BudgetLive(), BudgetPolicy(), 100.0, 50) == 30


def test_a_fifth_of_the_requests_may_be_retried() -> None:
    budget = BudgetLive()
    for _ in range(100):
        note_request(budget, NOTHING_FREE, 100.0)
    assert taken(budget, NOTHING_FREE, 100.0, 50) == 20


def test_both_parts_add_up() -> None:
    budget = BudgetLive()
    for _ in range(100):
        note_request(budget, BudgetPolicy(), 100.0)
    assert taken(budget, BudgetPolicy(), 100.0, 100) == 50


def test_a_policy_of_nothing_allows_nothing() -> None:
    budget = BudgetLive()
    nothing = BudgetPolicy(percent=0.0, min_per_second=0.0)
    note_request(budget, nothing, 100.0)
    assert not take_retry(budget, nothing, 100.0)


def test_a_refused_retry_is_not_counted() -> None:
    budget = BudgetLive()
    assert not take_retry(budget, NOTHING_FREE, 100.0)
    for _ in range(5):
        note_request(budget, NOTHING_FREE, 100.0)
    assert take_retry(budget, NOTHING_FREE, 100.0)


def test_what_was_spent_comes_back_after_the_interval() -> None:
    budget = BudgetLive()
    assert taken(budget, BudgetPolicy(), 100.0, 50) == 30
    assert not take_retry(budget, BudgetPolicy(), 109.999)
    assert taken(budget, BudgetPolicy(), 112.0, 50) == 30


def test_requests_of_the_last_interval_count_and_older_ones_do_not() -> None:
    budget = BudgetLive()
    for _ in range(10):
        note_request(budget, NOTHING_FREE, 100.0)
    assert take_retry(budget, NOTHING_FREE, 109.0)
    assert not take_retry(budget, NOTHING_FREE, 110.001)


def test_a_steady_stream_of_failures_gets_nearly_its_whole_share() -> None:
    budget, policy = BudgetLive(), BudgetPolicy()
    retries = 0
    for tick in range(6000):  # a minute of 100 requests a second that all fail
        note_request(budget, policy, tick / 100)
        retries += take_retry(budget, policy, tick / 100)
    allowed = 0.2 * 6000 + 3 * 60
    assert 0.85 * allowed <= retries <= allowed + 30


def test_memory_is_a_dozen_slots_however_long_it_runs() -> None:
    budget, policy = BudgetLive(), BudgetPolicy()
    for tick in range(20_000):
        note_request(budget, policy, tick / 50)
    assert len(budget.slots) <= 12


@pytest.mark.parametrize("interval_s", [1.0, 30.0])
def test_two_policies_on_one_cluster_do_not_forgive_what_was_spent(interval_s: float) -> None:
    # Routes to the same cluster may carry different policies; alternating must not reset the slots.
    budget = BudgetLive()
    short, other = BudgetPolicy(), BudgetPolicy(interval_s=interval_s)
    assert taken(budget, short, 100.0, 50) == 30
    for step in range(50):
        note_request(budget, other, 100.0)
        note_request(budget, short, 100.0 + step / 1000)
    assert taken(budget, short, 100.1, 50) == 20


Event = tuple[int, bool]
EVENTS = st.lists(st.tuples(st.one_of(st.integers(0, 5), st.integers(0, 1500)), st.booleans()), max_size=150)


@settings(max_examples=200)
@given(
    events=EVENTS,
    percent=st.sampled_from([0.0, 20.0, 100.0]),
    interval_ms=st.sampled_from([10_000, 1_000, 333, 15]),
    per_second=st.sampled_from([0.0, 3.0, 40.0]),
)
def test_no_window_of_one_interval_holds_more_retries_than_allowed(
    events: list[Event], percent: float, interval_ms: int, per_second: float
) -> None:
    policy = BudgetPolicy(percent=percent, interval_s=interval_ms / 1000, min_per_second=per_second)
    budget = BudgetLive()
    times_ms = list(accumulate(gap for gap, _ in events))
    requests: list[int] = []
    retries: list[int] = []
    for now_ms, (_, is_request) in zip(times_ms, events, strict=True):
        if is_request:
            note_request(budget, policy, now_ms / 1000)
            requests.append(now_ms)
        elif take_retry(budget, policy, now_ms / 1000):
            retries.append(now_ms)
            in_window = sum(when > now_ms - interval_ms for when in requests)
            retried = sum(when > now_ms - interval_ms for when in retries)
            assert retried <= in_window * percent / 100 + per_second * policy.interval_s
        assert len(budget.slots) <= 12
