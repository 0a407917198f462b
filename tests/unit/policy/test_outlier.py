"""Failing endpoints are taken out while others are there, and come back."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import Ejection, Mode, SuccessRatio
from sidecar.policy.outlier import (
    BUCKETS,
    Ejected,
    Kind,
    State,
    Why,
    begin_probe,
    end_probe,
    passing,
    probe_due,
    record,
    state,
)

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
    kind: Kind = Kind.OTHER,
    *,
    probed: bool = False,
) -> Ejected | None:
    """The result of the last of several failures."""
    results = [_end(made, live, kind, policy, mode, now_s, probed=probed) for _ in range(times)]
    assert results[:-1] == [None] * (times - 1)
    return results[-1]


def succeed(made: ClusterLive, live: EndpointLive, now_s: float, times: int = 1, *, probed: bool = False) -> None:
    for _ in range(times):
        assert _end(made, live, None, POLICY, Mode.ENFORCE, now_s, probed=probed) is None


def _end(
    made: ClusterLive,
    live: EndpointLive,
    kind: Kind | None,
    policy: Ejection,
    mode: Mode,
    now_s: float,
    *,
    probed: bool,
) -> Ejected | None:
    """A try as the attempts machine counts it."""
    live.tries += 1
    live.in_flight += 1
    ejected = record(made, live, kind, policy, mode, now_s, NoJitter(), probed=probed)
    live.in_flight -= 1
    live.failed_tries += kind is not None
    return ejected


def test_five_failures_in_a_row_eject_for_five_seconds() -> None:
    made, lives = cluster(3)
    ejected = fail(made, lives[0], 100.0, times=5)
    assert ejected == Ejected(KEY, "orders-0", until_s=105.0, for_s=5.0, failures=5, shadow=False, why=Why.FAILURES)
    assert lives[0].ejected_until_s == 105.0
    assert passing(lives, POLICY) == lives[1:]
    assert [state(live, 104.9) for live in lives] == [State.TRIPPED, State.PASSING, State.PASSING]
    assert state(lives[0], 105.0) is State.PROBING
    assert passing(lives, POLICY) == lives[1:]  # but for its one probe


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
        ejected = fail(made, lives[0], now_s, probed=True)
        assert ejected is not None
        assert ejected.failures == 1
        assert ejected.why is Why.PROBE
        lengths.append(ejected.for_s)
        now_s = ejected.until_s
    assert lengths == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


def test_after_its_time_one_success_makes_it_passing() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    succeed(made, lives[0], 105.0, times=9)  # of requests that were sent before it was ejected
    assert state(lives[0], 105.0) is State.PROBING
    succeed(made, lives[0], 105.0, probed=True)
    assert state(lives[0], 105.0) is State.PASSING
    assert not made.somebody_out
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
    assert fail(made, lives[0], 105.0) is None  # sent before; only a probe tells
    again = fail(made, lives[0], 105.0, probed=True)
    assert again is not None
    assert again.for_s == 10.0


def test_one_that_answers_although_it_is_out_is_back_and_its_neighbour_can_be_spared() -> None:
    made, lives = cluster(2)
    fail(made, lives[0], 100.0, times=5)
    assert fail(made, lives[1], 101.0, times=5) is None
    assert fail(made, lives[0], 101.0, probed=True) is None
    assert lives[0].ejected_until_s == 105.0
    succeed(made, lives[0], 101.0, probed=True)
    assert fail(made, lives[1], 101.0) is not None
    assert passing(lives, POLICY) == lives[:1]


@pytest.mark.parametrize(
    ("quiet_s", "next_s"),
    [(0.0, 20.0), (49.0, 20.0), (50.0, 10.0), (99.0, 10.0), (100.0, 5.0), (100_000.0, 5.0)],
)
def test_each_quiet_spell_of_ten_base_times_forgets_one_ejection(quiet_s: float, next_s: float) -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    fail(made, lives[0], 105.0, probed=True)  # the second: back at 115
    succeed(made, lives[0], 115.0, probed=True)
    again = fail(made, lives[0], 115.0 + quiet_s, times=5)
    assert again is not None
    assert again.for_s == next_s


def test_being_unused_after_an_ejection_is_not_quiet() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    again = fail(made, lives[0], 10_000.0, probed=True)
    assert again is not None
    assert again.for_s == 10.0


def test_thousands_of_ejections_stay_at_the_longest_time() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    lives[0].ejections = 5000
    again = fail(made, lives[0], 105.0, probed=True)
    assert again is not None
    assert again.for_s == POLICY.max_s


def test_up_to_a_half_is_added_so_that_endpoints_do_not_return_together() -> None:
    made, lives = cluster(3)
    lives[0].failures = 4
    ejected = record(made, lives[0], Kind.OTHER, POLICY, Mode.ENFORCE, 100.0, MostJitter())
    assert ejected is not None
    assert 7.499 < ejected.for_s <= 7.5
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
    assert passing(lives, POLICY) == lives  # both fail: panic
    succeed(made, lives[0], 105.0, probed=True)
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
        assert ejected == Ejected(KEY, "orders-0", until_s=105.0, for_s=5.0, failures=5, shadow=True, why=Why.FAILURES)
    assert passing(lives, POLICY) is lives
    assert lives[0].ejections == 0


def test_all_passing_is_the_same_object_and_nobody_is_an_empty_sequence() -> None:
    _, lives = cluster(3)
    assert passing(lives, POLICY) is lives
    nobody: list[EndpointLive] = []
    assert passing(nobody, POLICY) is nobody


def test_those_not_ready_never_pass_even_when_they_are_all_there_is() -> None:
    _, lives = cluster(3, unready=[1])
    assert passing(lives, POLICY) == [lives[0], lives[2]]
    _, none_ready = cluster(2, unready=[0, 1])
    assert passing(none_ready, POLICY) == []


def test_when_every_ready_endpoint_is_out_all_of_them_are_used() -> None:
    _, lives = cluster(3, unready=[0])
    for live in lives[1:]:
        live.ejected_until_s = 200.0
    assert passing(lives, POLICY) == lives[1:]


def test_when_the_last_one_fails_as_well_all_of_them_are_used_until_it_answers() -> None:
    made, lives = cluster(3)
    policy = Ejection(max_percent=100)
    for live in lives[:2]:
        fail(made, live, 100.0, times=5, policy=policy)
    assert fail(made, lives[2], 100.0, times=4, policy=policy) is None
    assert passing(lives, policy) == lives[2:]
    assert fail(made, lives[2], 101.0, policy=policy) is None
    assert passing(lives, policy) == lives
    succeed(made, lives[2], 102.0)
    assert passing(lives, policy) == lives[2:]


def test_a_policy_that_ejects_nobody_lets_the_ejected_pass_at_once() -> None:
    made, lives = cluster(3, unready=[2])
    fail(made, lives[0], 100.0, times=5)
    assert passing(lives, Ejection(max_percent=0)) == lives[:2]


def test_one_request_at_a_time_asks_an_endpoint_that_may_be_back() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    assert probe_due(lives, POLICY, 104.9) is None
    assert probe_due(lives, POLICY, 105.0) is lives[0]
    assert begin_probe(lives[0], POLICY, 104.9) == 0.0
    turn_s = begin_probe(lives[0], POLICY, 105.0)
    assert probe_due(lives, POLICY, 105.1) is None
    assert passing(lives, POLICY) == lives[1:]
    other_s = begin_probe(lives[0], POLICY, 105.1)  # nobody better was there
    assert other_s == 0.0
    end_probe(lives[0], other_s)
    assert probe_due(lives, POLICY, 105.2) is None
    end_probe(lives[0], turn_s)  # its client left, for one
    assert probe_due(lives, POLICY, 105.2) is lives[0]


def test_a_probe_that_takes_too_long_does_not_keep_others_from_asking() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    slow_s = begin_probe(lives[0], POLICY, 105.0)
    assert probe_due(lives, POLICY, 109.9) is None
    assert probe_due(lives, POLICY, 110.0) is lives[0]
    assert begin_probe(lives[0], POLICY, 110.0)
    end_probe(lives[0], slow_s)
    assert probe_due(lives, POLICY, 110.1) is None


def test_nobody_is_probed_who_is_not_ready_or_when_nobody_is_to_be_ejected() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    assert probe_due(lives, Ejection(max_percent=0), 105.0) is None
    [_, *others] = made.sync([replace(lives[0].endpoint, ready=False), *(live.endpoint for live in lives[1:])])
    assert probe_due([lives[0], *others], POLICY, 105.0) is None


@pytest.mark.parametrize(
    ("kind", "policy", "times", "why"),
    [
        (Kind.CONNECT, Ejection(), 3, Why.CONNECT_FAILURES),
        (Kind.CONNECT, Ejection(connect_failures=0), 5, Why.FAILURES),
        (Kind.GATEWAY, Ejection(), 5, Why.FAILURES),
        (Kind.GATEWAY, Ejection(gateway_failures=2), 2, Why.GATEWAY_FAILURES),
        (Kind.OTHER, Ejection(gateway_failures=2, connect_failures=2), 5, Why.FAILURES),
    ],
)
def test_kinds_of_failures_are_counted_apart(kind: Kind, policy: Ejection, times: int, why: Why) -> None:
    made, lives = cluster(3)
    ejected = fail(made, lives[0], 100.0, times=times, policy=policy, kind=kind)
    assert ejected is not None
    assert ejected.why is why


def test_a_failure_of_another_kind_starts_a_kind_again_and_not_the_row() -> None:
    made, lives = cluster(3)
    for kind in (Kind.CONNECT, Kind.CONNECT, Kind.GATEWAY, Kind.CONNECT):
        assert fail(made, lives[0], 100.0, kind=kind) is None
    ejected = fail(made, lives[0], 100.0, kind=Kind.CONNECT)
    assert ejected is not None
    assert ejected.why is Why.FAILURES


def alternate(made: ClusterLive, live: EndpointLive, now_s: float, pairs: int, policy: Ejection) -> Ejected | None:
    """So many times a failure and a success; the ejection, if there was one."""
    for _ in range(pairs):
        ejected = fail(made, live, now_s, policy=policy)
        if ejected is not None:
            return ejected
        succeed(made, live, now_s)
    return None


def test_one_that_fails_often_but_never_long_in_a_row_is_ejected_when_too_few_succeed() -> None:
    made, lives = cluster(3)
    policy = Ejection(success=SuccessRatio(at_least_percent=60.0))
    ejected = alternate(made, lives[0], 100.0, 50, policy)
    assert ejected is not None
    assert ejected.why is Why.SUCCESS_RATIO
    assert lives[0].tries == 21  # twenty told, and the one that failed now
    assert alternate(made, lives[1], 100.0, 9, policy) is None  # too few to conclude anything


@pytest.mark.parametrize("at_least", [0.0, 50.0])
def test_half_good_answers_are_enough_for_half_and_anything_is_for_none(at_least: float) -> None:
    made, lives = cluster(3)
    policy = Ejection(success=SuccessRatio(at_least_percent=at_least))
    assert alternate(made, lives[0], 100.0, 500, policy) is None


def test_what_is_older_than_the_window_is_forgotten() -> None:
    made, lives = cluster(3)
    policy = Ejection(consecutive_failures=1000, success=SuccessRatio(at_least_percent=50.0))
    for second in range(60):  # all fail, but 15 in ten seconds are too few
        assert fail(made, lives[0], 100.0 + second, policy=policy) is None
        assert (
            fail(made, lives[0], 100.0 + second + 0.1, times=second % 2, policy=policy) is None if second % 2 else True
        )
        assert len(lives[0].window) <= BUCKETS + 1


def test_successes_before_the_window_do_not_hide_a_failure_and_those_in_it_do() -> None:
    made, lives = cluster(3)
    policy = Ejection(consecutive_failures=1000)
    succeed(made, lives[0], 100.0, times=10_000)
    for _ in range(20):
        assert fail(made, lives[0], 111.0, policy=policy) is None
    ejected = fail(made, lives[0], 111.0, policy=policy)
    assert ejected is not None
    assert ejected.why is Why.SUCCESS_RATIO
    for _ in range(40):
        assert fail(made, lives[1], 111.0, policy=policy) is None
        succeed(made, lives[1], 111.0, times=2)


def test_an_endpoint_that_is_gone_leaves_nobody_out() -> None:
    made, lives = cluster(3)
    fail(made, lives[0], 100.0, times=5)
    assert made.somebody_out
    made.sync([live.endpoint for live in lives[1:]])
    assert not made.somebody_out


Step = tuple[float, int, bool, Kind | None, bool]


@given(
    size=st.integers(1, 7),
    percent=st.integers(0, 100),
    unready=st.sets(st.integers(0, 6), max_size=3),
    steps=st.lists(
        st.tuples(st.floats(0, 8), st.integers(0, 6), st.booleans(), st.sampled_from([None, *Kind]), st.booleans()),
        max_size=200,
    ),
    seed=st.integers(0, 2**32),
)
def test_whatever_fails_a_ready_endpoint_is_left_and_the_limit_holds(
    size: int, percent: int, unready: set[int], steps: list[Step], seed: int
) -> None:
    made, lives = cluster(size, unready)
    policy = Ejection(consecutive_failures=2, connect_failures=1, max_percent=percent)
    ready = [live for live in lives if live.endpoint.ready]
    rng, now_s = Random(seed), 0.0
    for gap_s, index, moves, kind, probed in steps:
        now_s += gap_s if moves else 0.0
        live = lives[index % size]
        before = state(live, now_s)
        ejected = record(made, live, kind, policy, Mode.ENFORCE, now_s, rng, probed=probed)
        out = [one for one in ready if state(one, now_s) is not State.PASSING]
        assert len(out) <= max(len(ready) >= 2, len(ready) * percent // 100)
        assert len(out) < len(ready) or not ready
        assert made.somebody_out == bool(out)
        left = [one for one in ready if one not in out]
        panic = len(left) == 1 and left[0].failures >= policy.consecutive_failures and percent > 0
        assert set(passing(lives, policy)) == set(ready if panic else left)
        due = probe_due(lives, policy, now_s)
        assert due is None or state(due, now_s) is State.PROBING
        if ejected is not None:
            assert before is State.PASSING or (before is State.PROBING and probed)
            assert kind is not None
            assert live in ready
            assert policy.base_s <= ejected.for_s <= policy.max_s * 1.5
