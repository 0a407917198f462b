"""Own zone first, and how much of it stays when it cannot carry everything."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from sidecar.balance.balancer import Balancer
from sidecar.balance.ewma import observe
from sidecar.model.balancing import Algorithm, Balancing, ZoneRule
from sidecar.model.clusters import Endpoint
from sidecar.model.live import EndpointLive
from tests.unit.balance.lives import cluster, endpoint

NOW_S = 1000.0
DRAWS = 4000
ALGORITHMS = (Algorithm.EWMA, Algorithm.LEAST_REQUEST, Algorithm.RANDOM, Algorithm.ROUND_ROBIN)


def near_share(
    endpoints: Sequence[Endpoint],
    out: Sequence[str] = (),
    *,
    algorithm: Algorithm = Algorithm.RANDOM,
    rule: ZoneRule = ZoneRule.FIRST,
    zone: str = "a",
    failing: Sequence[str] = (),
) -> float:
    """The part of tries of a caller in `zone` that stays in zone a, with `out` not passing."""
    made, lives = cluster(*endpoints)
    passing: Sequence[EndpointLive] = lives
    if out:
        passing = [live for live in lives if live.endpoint.id not in out]
    for live in lives:
        observe(live, 0.02, True, NOW_S)
        for _ in range(100 if live.endpoint.id in failing else 0):
            observe(live, 0.001, False, NOW_S)
    pick = Balancer(Balancing(algorithm=algorithm, zone=rule), zone).pick
    rng = Random(1)
    chosen = [pick(passing, made, rng, NOW_S, None) for _ in range(DRAWS)]
    zones = Counter(live.endpoint.zone for live in chosen if live is not None)
    assert sum(zones.values()) == DRAWS
    return zones["a"] / DRAWS


def three(zone: str, weight: int = 1) -> list[Endpoint]:
    return [endpoint(f"{zone}-{number}", weight, zone) for number in range(1, 4)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_zone_that_is_in_order_keeps_everything(algorithm: Algorithm) -> None:
    assert near_share([*three("a"), *three("b")], algorithm=algorithm) == 1.0


@pytest.mark.parametrize(
    ("out", "share"), [(["a-1"], 1.4 * 2 / 3), (["a-1", "a-2"], 1.4 / 3), (["a-1", "a-2", "a-3"], 0.0)]
)
def test_what_it_cannot_carry_goes_to_the_others(out: list[str], share: float) -> None:
    assert near_share([*three("a"), *three("b")], out) == pytest.approx(share, abs=0.03)


def test_one_endpoint_of_ten_is_not_sent_half_of_the_load() -> None:
    endpoints = [endpoint("a-1", zone="a"), *(endpoint(f"b-{number}", zone="b") for number in range(9))]
    assert near_share(endpoints) == pytest.approx(1.4 / 5, abs=0.03)


def test_weights_say_what_a_zone_can_carry() -> None:
    assert near_share([*three("a"), *three("b", 3)]) == pytest.approx(1.4 / 2, abs=0.03)


def test_nobody_near_is_nobody_to_prefer() -> None:
    assert near_share([*three("a"), *three("b")], zone="c") == pytest.approx(0.5, abs=0.03)


def test_when_all_others_are_out_the_own_zone_carries_what_it_must() -> None:
    assert near_share([*three("a"), *three("b")], ["a-1", "b-1", "b-2", "b-3"]) == 1.0


def test_zones_do_not_matter_to_who_says_so_or_has_none() -> None:
    assert near_share([*three("a"), *three("b")], rule=ZoneRule.ANY) == pytest.approx(0.5, abs=0.03)
    assert near_share([*three("a"), *three("b")], zone="") == pytest.approx(0.5, abs=0.03)


def test_an_endpoint_that_fails_and_is_not_ejected_yet_sends_its_tries_on() -> None:
    endpoints = [*three("a"), *three("b")]
    failing = ["a-1", "a-2", "a-3"]
    assert near_share(endpoints, algorithm=Algorithm.EWMA, failing=failing) < 0.02
    assert near_share(endpoints, algorithm=Algorithm.EWMA, failing=["a-1"]) == 1.0  # the other two are asked instead


def test_new_endpoints_are_seen() -> None:
    made, lives = cluster(endpoint("a-1", zone="a"), endpoint("b-1", zone="b"))
    pick = Balancer(Balancing(algorithm=Algorithm.RANDOM), "a").pick
    assert pick(lives, made, Random(1), NOW_S, None) is lives[0]
    later = made.current((endpoint("b-1", zone="b"), endpoint("b-2", zone="b")))
    chosen = {pick(later, made, Random(seed), NOW_S, None) for seed in range(20)}
    assert chosen == set(later)
