"""Failing endpoints are taken out while others are there, and come back."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import Ejection, Mode
from sidecar.policy.outlier import Ejected, passing, record

KEY = ClusterKey(ServiceKey("shop", "orders"), 8080)
POLICY = Ejection()


class NoJitter(Random):
    def random(self) -> float:
        return 0.0


class MostJitter(Random):
    def random(self) -> float:
        return 1.0 - 2.0**-53


def cluster(size: int, unready: Iterable[int] = ()) -> tuple[ClusterLive, list[EndpointLive]]:
    made = ClusterLive(KEY)
    out = set(unready)
    lives = made.sync(
        Endpoint(id=f"orders-{n}", service_port=8080, host="127.0.0.1", port=9000 + n, ready=n not in out)
        for n in range(size)
    )
    return made, lives


def fail(
    made: ClusterLive,
    live: EndpointLive,
    now_s: float,
    times: int = 1,
    policy: Ejection = POLICY,
    mode: Mode = Mode.ENFORCE,
) -> Ejected | None:
    """The result of the last of several failures."""
    results = [record(made, live, False, policy, mode, now_s, NoJitter()) for _ in range(times)]
    assert results[:-1] == [None] * (times - 1)
    return results[-1]


def succeed(made: ClusterLive, live: EndpointLive, now_s: float) -> None:
    assert record(made, live, True, POLICY, Mode.ENFORCE, now_s, NoJitter()) is None


def test_five_failures_in_a_row_eject_for_five_seconds() -> None:
    made, lives = cluster(3)
    ejected = fail(made, lives[0], 100.0, times=5)
    assert ejected == Ejected(KEY, "orders-0", until_s=105.0, for_s=5.0, failures=5, shadow=False)
    assert lives[0].ejected_until_s == 105.0
    assert passing(lives, POLICY, 104.9) == lives[1:]
    assert passing(lives, POLICY, 105.0) is lives


def test_a_success_between_failures_starts_the_count_again() -> None:
    made, lives = cluster(3)
    assert fail(made, lives[0], 100.0, times=4) is None
    succeed(made, lives[0], 100.0)
    assert fail(made, lives[0], 100.0, times=4) is None
    assert fail(made, lives[0], 100.0) is not None


def test_after_its_time_one_failure_ejects_again_for_twice_as_long() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    now_s, lengths = 105.0, []
    for _ in range(8):
        ejected = fail(made, lives[0], now_s)
        assert ejected is not None
        assert ejected.failures == 1
        lengths.append(ejected.for_s)
        now_s = ejected.until_s
    assert lengths == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_after_its_time_one_success_makes_it_passing() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    succeed(made, lives[0], 105.0)
    assert lives[0].ejected_until_s == 0.0
    assert fail(made, lives[0], 105.0, times=4) is None
    again = fail(made, lives[0], 105.0)
    assert again is not None
    assert again.for_s == 10.0  # the first ejection is not forgotten yet


def test_what_comes_back_during_an_ejection_is_not_counted() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    assert fail(made, lives[0], 101.0, times=20) is None
    succeed(made, lives[0], 102.0)
    assert lives[0].ejected_until_s == 105.0
    again = fail(made, lives[0], 105.0)
    assert again is not None
    assert again.for_s == 10.0


def test_one_that_answers_although_it_is_out_is_back_and_its_neighbour_can_be_spared() -> None:
    made, lives = cluster(2)
    fail(made, lives[0], 100.0, times=5)
    assert fail(made, lives[1], 101.0, times=5) is None
    assert record(made, lives[0], False, POLICY, Mode.ENFORCE, 101.0, NoJitter(), probed=True) is None
    assert lives[0].ejected_until_s == 105.0
    assert record(made, lives[0], True, POLICY, Mode.ENFORCE, 101.0, NoJitter(), probed=True) is None
    assert fail(made, lives[1], 101.0) is not None
    assert passing(lives, POLICY, 101.0) == lives[:1]


@pytest.mark.parametrize(
    ("quiet_s", "next_s"),
    [(0.0, 20.0), (49.0, 20.0), (50.0, 10.0), (99.0, 10.0), (100.0, 5.0), (100_000.0, 5.0)],
)
def test_each_quiet_spell_of_ten_base_times_forgets_one_ejection(quiet_s: float, next_s: float) -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    fail(made, lives[0], 105.0)  # the second: back at 115
    succeed(made, lives[0], 115.0)
    again = fail(made, lives[0], 115.0 + quiet_s, times=5)
    assert again is not None
    assert again.for_s == next_s


def test_being_unused_after_an_ejection_is_not_quiet() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    again = fail(made, lives[0], 10_000.0)
    assert again is not None
    assert again.for_s == 10.0


def test_thousands_of_ejections_stay_at_the_longest_time() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    lives[0].ejections = 5000
    again = fail(made, lives[0], 105.0)
    assert again is not None
    assert again.for_s == POLICY.max_s


def test_up_to_a_tenth_is_added_so_that_endpoints_do_not_return_together() -> None:
    made, lives = cluster(3)
    lives[0].failures = 4
    ejected = record(made, lives[0], False, POLICY, Mode.ENFORCE, 100.0, MostJitter())
    assert ejected is not None
    assert 5.499 < ejected.for_s <= 5.5
    assert ejected.until_s == 100.0 + ejected.for_s


@pytest.mark.parametrize(
    ("size", "percent", "at_once"),
    [
        (1, 34, 0), (2, 34, 1), (3, 34, 1), (5, 34, 1), (6, 34, 2), (10, 34, 3),
        (10, 100, 9), (3, 100, 2), (2, 100, 1), (1, 100, 0), (10, 1, 1), (10, 0, 0), (4, 50, 2),
    ],
)  # fmt: skip
def test_no_more_than_the_limit_is_ejected_at_once_and_never_the_last(size: int, percent: int, at_once: int) -> None:
    made, lives = cluster(size)
    policy = Ejection(max_percent=percent)
    ejected = [fail(made, live, 100.0, times=5, policy=policy) for live in lives]
    assert sum(one is not None for one in ejected) == at_once
    assert sum(live.ejected_until_s > 100.0 for live in lives) == at_once


def test_an_endpoint_that_could_not_be_spared_is_ejected_as_soon_as_it_can() -> None:
    made, lives = cluster(2)
    fail(made, lives[0], 100.0, times=5)
    assert fail(made, lives[1], 100.0, times=7) is None
    ejected = fail(made, lives[1], 105.0)
    assert ejected is not None
    assert ejected.failures == 8


def test_endpoints_that_are_not_ready_or_are_leaving_do_not_count_as_neighbours() -> None:
    made, lives = cluster(3, unready=[2])
    made.sync([lives[0].endpoint, lives[2].endpoint])  # orders-1 leaves, but has requests in flight
    made.endpoints["orders-1"] = lives[1]
    lives[1].leaving = True
    assert fail(made, lives[0], 100.0, times=9) is None


@pytest.mark.parametrize("state", ["not ready", "leaving"])
def test_an_endpoint_that_takes_no_new_requests_is_not_ejected(state: str) -> None:
    made, lives = cluster(4, unready=[0] if state == "not ready" else [])
    lives[0].leaving = state == "leaving"
    assert fail(made, lives[0], 100.0, times=9) is None


def test_shadow_says_what_it_would_have_done_once_per_row_of_failures_and_does_nothing() -> None:
    made, lives = cluster(3)
    for _ in range(2):
        ejected = fail(made, lives[0], 100.0, times=5, mode=Mode.SHADOW)
        assert ejected == Ejected(KEY, "orders-0", until_s=105.0, for_s=5.0, failures=5, shadow=True)
    assert passing(lives, POLICY, 100.0) is lives
    assert lives[0].ejections == 0


def test_all_passing_is_the_same_object_and_nobody_is_an_empty_sequence() -> None:
    _, lives = cluster(3)
    assert passing(lives, POLICY, 0.0) is lives
    nobody: list[EndpointLive] = []
    assert passing(nobody, POLICY, 0.0) is nobody


def test_those_not_ready_never_pass_even_when_they_are_all_there_is() -> None:
    _, lives = cluster(3, unready=[1])
    assert passing(lives, POLICY, 0.0) == [lives[0], lives[2]]
    _, none_ready = cluster(2, unready=[0, 1])
    assert passing(none_ready, POLICY, 0.0) == []


def test_when_every_ready_endpoint_is_out_all_of_them_are_used() -> None:
    _, lives = cluster(3, unready=[0])
    for live in lives[1:]:
        live.ejected_until_s = 200.0
    assert passing(lives, POLICY, 100.0) == lives[1:]


def test_when_the_last_one_fails_as_well_all_of_them_are_used_until_it_answers() -> None:
    made, lives = cluster(3)
    policy = Ejection(max_percent=100)
    for live in lives[:2]:
        fail(made, live, 100.0, times=5, policy=policy)
    assert fail(made, lives[2], 100.0, times=4, policy=policy) is None
    assert passing(lives, policy, 101.0) == lives[2:]
    assert fail(made, lives[2], 101.0, policy=policy) is None
    assert passing(lives, policy, 101.0) == lives
    succeed(made, lives[2], 102.0)
    assert passing(lives, policy, 102.0) == lives[2:]


def test_a_policy_that_ejects_nobody_lets_the_ejected_pass_at_once() -> None:
    made, lives = cluster(3, unready=[2])
    fail(made, lives[0], 100.0, times=5)
    assert passing(lives, Ejection(max_percent=0), 100.0) == lives[:2]


Step = tuple[float, int, bool, bool]


@given(
    size=st.integers(1, 7),
    percent=st.integers(0, 100),
    unready=st.sets(st.integers(0, 6), max_size=3),
    steps=st.lists(st.tuples(st.floats(0, 8), st.integers(0, 6), st.booleans(), st.booleans()), max_size=200),
    seed=st.integers(0, 2**32),
)
def test_whatever_fails_a_ready_endpoint_is_left_and_the_limit_holds(
    size: int, percent: int, unready: set[int], steps: list[Step], seed: int
) -> None:
    made, lives = cluster(size, unready)
    policy = Ejection(consecutive_failures=2, max_percent=percent)
    ready = [live for live in lives if live.endpoint.ready]
    rng, now_s = Random(seed), 0.0
    for gap_s, index, moves, ok in steps:
        now_s += gap_s if moves else 0.0
        live = lives[index % size]
        was_passing = live.ejected_until_s <= now_s
        ejected = record(made, live, ok, policy, Mode.ENFORCE, now_s, rng)
        out = [one for one in ready if one.ejected_until_s > now_s]
        assert len(out) <= max(len(ready) >= 2, len(ready) * percent // 100)
        assert len(out) < len(ready) or not ready
        left = [one for one in ready if one.ejected_until_s <= now_s]
        panic = len(left) == 1 and left[0].failures >= policy.consecutive_failures and percent > 0
        assert set(passing(lives, policy, now_s)) == set(ready if panic else left)
        if ejected is not None:
            assert was_passing
            assert not ok
            assert live in ready
            assert policy.base_s <= ejected.for_s <= policy.max_s * 1.1
