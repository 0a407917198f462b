"""Which endpoint takes the next try, and which share a request falls into."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import overload

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.balance.balancer import balancer_of
from sidecar.balance.pick import split
from sidecar.model.balancing import HASHING, Algorithm, Balancing, HashKey, HashOf
from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import ClusterLive, EndpointLive

KEY = ClusterKey(ServiceKey("shop", "orders"), 8080)
DRAWS = 4000


class NoChance(Random):
    """A source of chance that must not be asked."""

    def random(self) -> float:
        raise AssertionError("drawn without need")


class OnlyByIndex(Sequence[EndpointLive]):
    """A sequence that counts look-ups and forbids walking through it."""

    def __init__(self, items: Sequence[EndpointLive]) -> None:
        self.items = items
        self.lookups = 0

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> EndpointLive: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[EndpointLive]: ...
    def __getitem__(self, index: int | slice) -> EndpointLive | Sequence[EndpointLive]:
        self.lookups += 1
        return self.items[index]

    def __iter__(self) -> Iterator[EndpointLive]:
        raise AssertionError("walked through all endpoints")


def cluster(weights: Iterable[int], in_flight: Iterable[int] = ()) -> tuple[ClusterLive, Sequence[EndpointLive]]:
    made = ClusterLive(KEY)
    lives = made.current(
        tuple(
            Endpoint(id=f"orders-{n}", service_port=8080, host="127.0.0.1", port=9000 + n, weight=weight)
            for n, weight in enumerate(weights)
        )
    )
    for live, busy in zip(lives, in_flight, strict=False):
        live.in_flight = busy
    return made, lives


def pick(
    passing: Sequence[EndpointLive], algorithm: Algorithm, live: ClusterLive, rng: Random, now_s: float = 100.0
) -> EndpointLive | None:
    balancing = Balancing(algorithm=algorithm, hash_key=HashKey(HashOf.PATH) if algorithm in HASHING else None)
    return balancer_of(live, balancing, "").pick(passing, live, rng, now_s, None)


def assert_share(taken: int, draws: int, share: float) -> None:
    """Within four standard deviations of a binomial; the seed is fixed, so it holds always or never."""
    assert abs(taken - draws * share) <= 4 * (draws * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("algorithm", Algorithm)
def test_nobody_passing_is_none_and_a_single_endpoint_needs_no_chance(algorithm: Algorithm) -> None:
    live, lives = cluster([1])
    assert pick([], algorithm, live, NoChance()) is None
    assert pick(lives, algorithm, live, NoChance()) is lives[0]


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    algorithm=st.sampled_from(Algorithm),
    seed=st.integers(0, 2**32),
)
def test_the_choice_is_always_one_of_those_passing(weights: list[int], algorithm: Algorithm, seed: int) -> None:
    live, lives = cluster(weights)
    rng = Random(seed)
    for _ in range(20):
        assert pick(lives, algorithm, live, rng) in lives


def test_of_two_endpoints_the_less_busy_one_is_taken() -> None:
    live, lives = cluster([1, 1], in_flight=[1, 0])
    rng = Random(1)
    assert {pick(lives, Algorithm.LEAST_REQUEST, live, rng) for _ in range(50)} == {lives[1]}


@given(busy=st.lists(st.integers(0, 5), min_size=2, max_size=8), seed=st.integers(0, 2**32))
def test_the_single_busiest_endpoint_is_never_taken(busy: list[int], seed: int) -> None:
    live, lives = cluster([1] * len(busy), in_flight=busy)
    lives[0].in_flight = 6
    rng = Random(seed)
    assert all(pick(lives, Algorithm.LEAST_REQUEST, live, rng) is not lives[0] for _ in range(20))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_idle_endpoints_of_equal_weight_share_evenly(size: int) -> None:
    live, lives = cluster([1] * size)
    rng = Random(2)
    taken = Counter(id(pick(lives, Algorithm.LEAST_REQUEST, live, rng)) for _ in range(DRAWS))
    for endpoint in lives:
        assert_share(taken[id(endpoint)], DRAWS, 1 / size)


def test_every_pair_of_endpoints_is_compared_equally_often() -> None:
    # The busiest is never taken, the idlest whenever it is drawn, the middle one when it meets the busiest.
    live, lives = cluster([1, 1, 1], in_flight=[2, 1, 0])
    rng = Random(3)
    taken = Counter(id(pick(lives, Algorithm.LEAST_REQUEST, live, rng)) for _ in range(DRAWS))
    assert taken[id(lives[0])] == 0
    assert_share(taken[id(lives[1])], DRAWS, 1 / 3)
    assert_share(taken[id(lives[2])], DRAWS, 2 / 3)


def test_equal_weights_cost_two_look_ups_however_large_the_cluster() -> None:
    live, lives = cluster([1] * 1000)
    passing = OnlyByIndex(lives)
    assert pick(passing, Algorithm.LEAST_REQUEST, live, Random(4)) is not None
    assert passing.lookups == 2


@pytest.mark.parametrize("algorithm", [Algorithm.LEAST_REQUEST, Algorithm.RANDOM])
def test_at_rest_the_shares_are_the_weights(algorithm: Algorithm) -> None:
    live, lives = cluster([6, 3, 1])
    rng = Random(5)
    taken = Counter(id(pick(lives, algorithm, live, rng)) for _ in range(DRAWS))
    for endpoint, share in zip(lives, (0.6, 0.3, 0.1), strict=True):
        assert_share(taken[id(endpoint)], DRAWS, share)


def test_under_load_weights_say_how_much_an_endpoint_may_carry() -> None:
    live, lives = cluster([3, 1], in_flight=[3, 2])
    rng = Random(6)
    taken = Counter(id(pick(lives, Algorithm.LEAST_REQUEST, live, rng)) for _ in range(DRAWS))
    # 3 of weight 3 is less than 2 of weight 1: the light one is taken only when it is drawn twice.
    assert_share(taken[id(lives[1])], DRAWS, 1 / 16)


class Scripted(Random):
    """Chance that was fixed before."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


@given(weights=st.tuples(st.integers(1, 9), st.integers(1, 9)), busy=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_of_two_unequal_endpoints_the_one_with_less_to_do_for_its_weight_is_taken(
    weights: tuple[int, int], busy: tuple[int, int]
) -> None:
    live, lives = cluster(weights, in_flight=busy)
    live.weighted = True  # equal weights are in order here too
    first_is_busier = busy[0] / weights[0] > busy[1] / weights[1] + 1e-9
    drawn_in_order = pick(lives, Algorithm.LEAST_REQUEST, live, Scripted(0.0, 0.99))
    assert drawn_in_order is lives[1 if first_is_busier else 0]


def test_random_spreads_evenly_whatever_is_in_flight() -> None:
    live, lives = cluster([1, 1, 1], in_flight=[9, 0, 0])
    rng = Random(7)
    taken = Counter(id(pick(lives, Algorithm.RANDOM, live, rng)) for _ in range(DRAWS))
    for endpoint in lives:
        assert_share(taken[id(endpoint)], DRAWS, 1 / 3)


def test_round_robin_takes_everyone_in_turn_across_calls() -> None:
    live, lives = cluster([1, 1, 1])
    assert [pick(lives, Algorithm.ROUND_ROBIN, live, NoChance()) for _ in range(6)] == [*lives, *lives]
    assert live.turn == 6


def test_round_robin_gives_as_many_turns_as_the_weight_says() -> None:
    live, (heavy, light) = cluster([3, 1])
    turns = [pick([heavy, light], Algorithm.ROUND_ROBIN, live, NoChance()) for _ in range(8)]
    assert turns == [heavy, heavy, heavy, light] * 2


def test_a_single_share_needs_no_chance() -> None:
    assert split((7,), NoChance()) == 0


@given(weights=st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any), seed=st.integers(0, 2**32))
def test_a_share_without_weight_is_never_drawn(weights: list[int], seed: int) -> None:
    cumulative = tuple(accumulate(weights))
    rng = Random(seed)
    assert all(weights[split(cumulative, rng)] > 0 for _ in range(50))


@settings(max_examples=20)
@given(weights=st.lists(st.integers(0, 100), min_size=2, max_size=4).filter(any))
def test_shares_stay_within_binomial_bounds_of_their_weights(weights: list[int]) -> None:
    cumulative = tuple(accumulate(weights))
    rng = Random(8)
    taken = Counter(split(cumulative, rng) for _ in range(DRAWS))
    for index, weight in enumerate(weights):
        assert_share(taken[index], DRAWS, weight / cumulative[-1])


class Highest(Random):
    """The largest number that `random` can give."""

    def random(self) -> float:
        return 1.0 - 2.0**-53


@pytest.mark.parametrize("weights", [(1, 1), (999, 1), (1, 0, 1), (2**31, 2**31 - 1)])
def test_the_largest_number_of_chance_stays_inside(weights: tuple[int, ...]) -> None:
    assert split(tuple(accumulate(weights)), Highest()) == len(weights) - 1
    live, lives = cluster([1, 1, 1])
    assert pick(lives, Algorithm.LEAST_REQUEST, live, Highest()) is lives[2]
    assert pick(lives, Algorithm.RANDOM, live, Highest()) is lives[2]


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_thousand_draws_of_a_split_are_within_what_chance_allows(seed: int) -> None:
    """The binomial's 99.9 % bound of 90 to 10."""
    rng, draws = Random(seed), 100_000
    canary = sum(split((90, 100), rng) for _ in range(draws))
    assert abs(canary - draws * 0.1) <= 3.29 * (draws * 0.1 * 0.9) ** 0.5
