"""Mistakes in balancing, one at a time: each breaks a rule of `balancing_rules.py` within a thousand schedules."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from sidecar.balance import balancer, ewma, pick, slow_start, tables, zones
from sidecar.model.balancing import Algorithm
from sidecar.model.live import ClusterLive, EndpointLive
from tests.sim.schedules import BrokenError, play, schedule

WITHIN = 1_000
Lives = Sequence[EndpointLive]
Plant = Callable[[pytest.MonkeyPatch], None]


def _instead(algorithm: Algorithm, wrong: pick.Pick) -> Plant:
    return lambda planted: planted.setitem(vars(balancer)["_ALGORITHMS"], algorithm, wrong)


def _attribute(holder: object, name: str, wrong: object) -> Plant:
    return lambda planted: planted.setattr(holder, name, wrong)


def _failures_count_as_success(live: EndpointLive, took_s: float, ok: bool | None, now_s: float) -> None:
    ewma.observe(live, took_s, ok if ok is None else True, now_s)


def _failures_are_quick(live: EndpointLive, took_s: float, ok: bool | None, now_s: float) -> None:
    ewma.observe(live, took_s, None, now_s)
    ewma.observe(live, -1.0, ok, now_s)


def _without_peaks(live: EndpointLive, took_s: float, ok: bool | None, now_s: float) -> None:
    ewma.observe(live, min(took_s, live.rtt_s), ok, now_s)


def _busiest(passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None) -> EndpointLive | None:
    del cluster, rng, now_s, key
    return max(passing, key=lambda live: live.in_flight, default=None)


def _first(passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None) -> EndpointLive | None:
    del cluster, rng, now_s, key
    return passing[0] if passing else None


def _never_the_last(
    passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    return pick.at_random(passing[:-1] or passing, cluster, rng, now_s, key)


def _modulo(
    self: tables.Consistent, passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    del self, cluster, now_s
    return passing[(rng.getrandbits(64) if key is None else key) % len(passing)] if passing else None


def _without_key(
    self: tables.Consistent, passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    del key
    return _consistent(self, passing, cluster, rng, now_s, None)


def _anybody(
    self: zones.ZoneFirst, passing: Lives, cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    return pick.at_random(passing, cluster, rng, now_s, key)


def _others_first(self: zones.ZoneFirst, passing: Lives) -> None:
    _divide(self, passing)
    near: Any = vars(zones.ZoneFirst)["_near"].__get__(self)
    far: Any = vars(zones.ZoneFirst)["_far"].__get__(self)
    vars(zones.ZoneFirst)["_near"].__set__(self, far)
    vars(zones.ZoneFirst)["_far"].__set__(self, near)


_consistent = tables.Consistent.pick
_divide = vars(zones.ZoneFirst)["_divide"]


MISTAKES: dict[str, Plant] = {
    "ewma: latency is not looked at": _instead(Algorithm.EWMA, pick.least_request),
    "ewma: failures are not counted": _attribute(balancer, "observe", _failures_count_as_success),
    "ewma: a failure lowers the latency": _attribute(balancer, "observe", _failures_are_quick),
    "ewma: peaks are smoothed": _attribute(balancer, "observe", _without_peaks),
    "ewma: nothing fades": _attribute(ewma, "DECAY_S", 1e9),
    "least request: at random": _instead(Algorithm.LEAST_REQUEST, pick.at_random),
    "least request: the busiest": _instead(Algorithm.LEAST_REQUEST, _busiest),
    "round robin: at random": _instead(Algorithm.ROUND_ROBIN, pick.at_random),
    "round robin: no turns": _instead(Algorithm.ROUND_ROBIN, _first),
    "random: the first": _instead(Algorithm.RANDOM, _first),
    "random: never the last": _instead(Algorithm.RANDOM, _never_the_last),
    "hashing: modulo those that pass": _attribute(tables.Consistent, "pick", _modulo),
    "hashing: without the key": _attribute(tables.Consistent, "pick", _without_key),
    "zones: no matter": _attribute(zones.ZoneFirst, "pick", _anybody),
    "zones: the others first": _attribute(zones.ZoneFirst, "_divide", _others_first),
    "slow start: nobody is noticed": _attribute(slow_start.SlowStart, "notice", lambda *_: None),
    "slow start: the whole share at once": _attribute(pick, "share_of", lambda *_: 1.0),
    "panic: always": _attribute(
        balancer.Balancer, "unless_panic", lambda _, __, members: [each for each in members if each.endpoint.ready]
    ),
    "panic: never": _attribute(balancer.Balancer, "unless_panic", lambda _, passing, __: passing),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MISTAKES[name](monkeypatch)
    with pytest.raises(BrokenError):
        _play_many(slow_start=name.startswith("slow start"))


def _play_many(*, slow_start: bool) -> None:
    for seed in range(WITHIN):
        if not slow_start or _starts_slowly(seed):
            play(seed)


def _starts_slowly(seed: int) -> bool:
    """Whether a rule looks at somebody's slow start: few schedules have one, and to play the others takes a minute."""
    policies = [spec.policy.balancing for spec in schedule(seed).services.values()]
    return any(each.slow_start_s and each.algorithm in (Algorithm.RANDOM, Algorithm.ROUND_ROBIN) for each in policies)
