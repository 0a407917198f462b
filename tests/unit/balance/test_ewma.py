"""What an endpoint is expected to cost, and whom that leads to."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.balance import pick
from sidecar.balance.ewma import DECAY_S, FRESH_S, LEAST_SUCCESS, SEED_S, cost, observe, recent_errors
from sidecar.model.live import EndpointLive
from tests.unit.balance.lives import cluster, endpoint

NOW_S = 1000.0
times = st.floats(0.0005, 5.0)


def live(*tries: tuple[float, float, bool]) -> EndpointLive:
    """One that was asked: when, for how long, with success or not."""
    made = EndpointLive(endpoint("orders-1"))
    for at_s, took_s, ok in tries:
        observe(made, took_s, ok, at_s)
    return made


def test_who_has_never_answered_is_asked_once_and_then_counts_as_the_seed() -> None:
    new = live()
    assert cost(new, 0, NOW_S) == 0.0
    assert cost(new, 2, NOW_S) == 2 * SEED_S


@given(took_s=times)
def test_the_first_answer_replaces_the_seed(took_s: float) -> None:
    assert cost(live((NOW_S, took_s, True)), 0, NOW_S) == took_s


def test_a_first_failure_leaves_the_seed() -> None:
    failed = live((NOW_S, 0.001, False))
    assert failed.rtt_s == SEED_S
    assert cost(failed, 0, NOW_S) == pytest.approx(SEED_S / 0.9)


@given(before_s=times, took_s=times)
def test_a_slower_answer_counts_at_once_and_a_quicker_one_little_by_little(before_s: float, took_s: float) -> None:
    asked = live((NOW_S, before_s, True), (NOW_S + 0.05, took_s, True))
    if took_s >= before_s:
        assert asked.rtt_s == took_s
    else:
        assert took_s <= asked.rtt_s <= before_s
        assert asked.rtt_s == pytest.approx(took_s + (before_s - took_s) * (1 - 0.05 / DECAY_S))


def test_after_the_time_constant_a_third_of_a_peak_is_left() -> None:
    asked = live((NOW_S, 1.0, True))
    for step in range(1, 201):
        observe(asked, 0.0, True, NOW_S + step * DECAY_S / 200)
    assert asked.rtt_s == pytest.approx(0.3679, abs=0.001)


@given(before_s=times, took_s=times)
def test_a_failure_never_lowers_the_latency(before_s: float, took_s: float) -> None:
    failed = live((NOW_S, before_s, True), (NOW_S + 1, took_s, False))
    assert failed.rtt_s == max(before_s, took_s)


def test_one_failure_costs_a_tenth_and_ten_in_a_row_two_thirds() -> None:
    once = live((NOW_S, 0.02, True), (NOW_S, 0.001, False))
    assert cost(once, 0, NOW_S) == pytest.approx(0.02 / 0.9)
    often = live((NOW_S, 0.02, True), *[(NOW_S, 0.001, False)] * 10)
    assert cost(often, 0, NOW_S) == pytest.approx(0.02 / 0.9**10)


def test_who_always_fails_costs_a_hundred_times_as_much_and_no_more() -> None:
    failing = live((NOW_S, 0.02, True), *[(NOW_S, 0.001, False)] * 1000)
    assert cost(failing, 0, NOW_S) == pytest.approx(0.02 / LEAST_SUCCESS)


def test_success_makes_up_for_failures() -> None:
    again = live((NOW_S, 0.02, True), (NOW_S, 0.001, False), *[(NOW_S, 0.02, True)] * 30)
    assert cost(again, 0, NOW_S) == pytest.approx(0.02, rel=0.01)


def test_what_is_under_way_counts() -> None:
    asked = live((NOW_S, 0.02, True))
    assert cost(asked, 4, NOW_S) == pytest.approx(5 * cost(asked, 0, NOW_S))


@given(took_s=times, age_s=st.floats(FRESH_S, 200.0), more_s=st.floats(0.1, 100.0))
def test_who_is_not_asked_costs_less_and_less(took_s: float, age_s: float, more_s: float) -> None:
    asked = live((NOW_S, took_s, True), (NOW_S, took_s, False))
    assert cost(asked, 1, NOW_S + age_s + more_s) < cost(asked, 1, NOW_S + age_s) < cost(asked, 1, NOW_S)


def test_who_was_ten_times_as_slow_is_asked_again_after_some_23_seconds() -> None:
    slow, quick = live((NOW_S, 0.2, True)), live((NOW_S, 0.02, True))
    observe(quick, 0.02, True, NOW_S + 22)
    assert cost(slow, 0, NOW_S + 22) > cost(quick, 0, NOW_S + 22)
    observe(quick, 0.02, True, NOW_S + 24)
    assert cost(slow, 0, NOW_S + 24) < cost(quick, 0, NOW_S + 24)


def test_failures_are_forgotten_as_latencies_are() -> None:
    failed = live(*[(NOW_S, 0.001, False)] * 100)
    assert recent_errors(failed, NOW_S) == pytest.approx(1.0, abs=0.001)
    assert recent_errors(failed, NOW_S + DECAY_S) == pytest.approx(0.3679, abs=0.001)
    assert recent_errors(live((NOW_S, 0.02, True)), NOW_S) == 0.0


def test_an_unknown_time_or_outcome_says_nothing_of_it() -> None:
    asked = live((NOW_S, 0.02, True), (NOW_S, 0.001, False))
    rtt_s, errors = asked.rtt_s, asked.error_share
    observe(asked, -1.0, None, NOW_S)
    assert (asked.rtt_s, asked.error_share) == (rtt_s, errors)
    observe(asked, 0.5, None, NOW_S)  # the head of a call came; whether it went well will be told
    assert (asked.rtt_s, asked.error_share) == (0.5, errors)


@given(
    tries=st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(-1.0, 20.0), st.sampled_from((True, False, None)))),
)
def test_estimates_stay_what_they_are_of(tries: list[tuple[float, float, bool | None]]) -> None:
    asked, now_s = live(), NOW_S
    for pause_s, took_s, ok in tries:
        now_s += pause_s
        observe(asked, took_s, ok, now_s)
        assert 0.0 <= asked.error_share < 1.0
        assert 0.0 <= asked.rtt_s <= max([SEED_S, *(took for _, took, _ in tries)])
        assert cost(asked, 3, now_s) >= 0.0


def test_of_two_the_cheaper_one_is_taken() -> None:
    made, lives = cluster(endpoint("a"), endpoint("b"))
    for each, took_s in zip(lives, (0.02, 0.05), strict=True):
        observe(each, took_s, True, NOW_S)
    rng = Random(1)
    assert {pick.ewma(lives, made, rng, NOW_S, None) for _ in range(20)} == {lives[0]}
    lives[0].in_flight = 2  # 60 ms against 50
    assert {pick.ewma(lives, made, rng, NOW_S, None) for _ in range(20)} == {lives[1]}
    for _ in range(10):
        observe(lives[1], 0.001, False, NOW_S)  # 143 ms
    assert {pick.ewma(lives, made, rng, NOW_S, None) for _ in range(20)} == {lives[0]}


def test_of_unequal_weights_load_counts_for_the_weight_and_the_draw_decides_at_rest() -> None:
    made, lives = cluster(endpoint("heavy", 3), endpoint("light", 1))
    for each in lives:
        observe(each, 0.02, True, NOW_S)
    rng = Random(2)
    rest = Counter(pick.ewma(lives, made, rng, NOW_S, None) for _ in range(4000))
    assert abs(rest[lives[0]] - 3000) < 120
    lives[0].in_flight, lives[1].in_flight = 3, 1  # the same, for their weights
    busy = Counter(pick.ewma(lives, made, rng, NOW_S, None) for _ in range(4000))
    assert abs(busy[lives[0]] - 3000) < 120
    lives[0].in_flight = 4
    more = Counter(pick.ewma(lives, made, rng, NOW_S, None) for _ in range(4000))
    assert abs(more[lives[0]] - 4000 * 9 / 16) < 140  # only when it was drawn twice
