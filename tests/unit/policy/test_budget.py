"""Retries never add more load than the budget says."""

from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
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


def replay(events: list[Event], policy: BudgetPolicy) -> None:
    """Let (gap in ms, is it a request) happen; after each retry look back over exactly one interval."""
    budget = BudgetLive()
    times_ms = list(accumulate(gap for gap, _ in events))
    interval_ms = round(policy.interval_s * 1000)
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
            assert retried <= in_window * policy.percent / 100 + policy.min_per_second * policy.interval_s
        assert len(budget.slots) <= 12


@given(
    events=st.lists(st.tuples(st.one_of(st.integers(0, 5), st.integers(0, 1500)), st.booleans()), max_size=150),
    percent=st.sampled_from([0.0, 20.0, 100.0]),
    interval_ms=st.sampled_from([10_000, 1_000, 333]),
    per_second=st.sampled_from([0.0, 3.0, 40.0]),
)
def test_no_window_of_one_interval_holds_more_retries_than_allowed(
    events: list[Event], percent: float, interval_ms: int, per_second: float
) -> None:
    replay(events, BudgetPolicy(percent=percent, interval_s=interval_ms / 1000, min_per_second=per_second))


@pytest.mark.parametrize("interval_ms", [1, 2, 7, 10, 20, 33])
@pytest.mark.parametrize(("percent", "free"), [(100.0, 0.0), (50.0, 1.0), (0.0, 2.0)])
def test_nor_does_any_window_when_everything_happens_at_the_edges_of_slots(
    interval_ms: int, percent: float, free: float
) -> None:
    policy = BudgetPolicy(percent=percent, interval_s=interval_ms / 1000, min_per_second=free / (interval_ms / 1000))
    rng = Random(interval_ms)
    replay([(rng.choice((0, 0, 1, 1, 2, 3, interval_ms)), rng.random() < 0.3) for _ in range(1500)], policy)


def test_a_retry_is_remembered_for_its_interval_and_not_much_longer() -> None:
    one = BudgetPolicy(percent=0.0, min_per_second=0.1)  # one retry in ten seconds
    for offset in range(0, 1001, 100):  # wherever in its slot it was taken
        budget = BudgetLive()
        note_request(budget, one, 100.0)
        assert take_retry(budget, one, 100.0 + offset / 1000)
        assert not take_retry(budget, one, 110.0 + offset / 1000 - 0.001)
        assert take_retry(budget, one, 110.0 + offset / 1000 + 1.002)
