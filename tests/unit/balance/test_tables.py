"""Consistent hashing: shares, who moves when an endpoint leaves, and who stands in for one that may not be asked."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.balance.hashing import hash64
from sidecar.balance.tables import MAX_POINTS, POINTS, SLOTS, Consistent, maglev, ring
from sidecar.model.clusters import Endpoint
from sidecar.model.live import EndpointLive
from tests.unit.balance.lives import cluster, endpoint, names

MAKES = {"ring": ring, "maglev": maglev}
KEYS = [hash64(b"user-%d" % number) for number in range(20_000)]


class Table:
    """One cluster with one table."""

    def __init__(self, make: str, *endpoints: Endpoint) -> None:
        self.cluster, self.lives = cluster(*endpoints)
        self.choice = Consistent(MAKES[make], lambda live: live.present)

    def ask(self, key: int | None, passing: Sequence[EndpointLive] | None = None, rng: Random | None = None) -> str:
        may = self.cluster.present if passing is None else passing
        found = self.choice.pick(may, self.cluster, rng or Random(1), 0.0, key)
        assert found is not None
        return found.endpoint.id

    def all(self, keys: Sequence[int] = KEYS) -> list[str]:
        return [self.ask(key) for key in keys]

    def now(self, *endpoints: Endpoint) -> None:
        self.cluster.current(endpoints)


def some(count: int) -> list[Endpoint]:
    return [endpoint(f"orders-{number}") for number in range(count)]


@pytest.mark.parametrize(("make", "within"), [("ring", 0.35), ("maglev", 0.06)])
def test_shares_are_equal_within_bounds(make: str, within: float) -> None:
    counts = Counter(Table(make, *some(10)).all())
    assert len(counts) == 10
    assert all(abs(count - 2000) < 2000 * within for count in counts.values()), counts


@pytest.mark.parametrize("make", MAKES)
def test_shares_follow_weights(make: str) -> None:
    counts = Counter(Table(make, endpoint("a", 6), endpoint("b", 3), endpoint("c", 1)).all())
    for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert abs(counts[name] / len(KEYS) - share) < 0.04


@pytest.mark.parametrize(("make", "others"), [("ring", 0.0), ("maglev", 0.1)])
def test_an_endpoint_that_leaves_moves_its_own_keys_and_few_others(make: str, others: float) -> None:
    endpoints = some(10)
    table = Table(make, *endpoints)
    before = table.all()
    table.now(*endpoints[:4], *endpoints[5:])
    moved = [old for old, new in zip(before, table.all(), strict=True) if old != new]
    theirs = sum(name != "orders-4" for name in moved)
    assert sum(name == "orders-4" for name in moved) == before.count("orders-4")
    assert theirs <= others * len(KEYS)
    table.now(*endpoints)
    assert table.all() == before  # and all come back with it


@pytest.mark.parametrize("make", MAKES)
def test_one_that_may_not_be_asked_moves_nobody_elses_keys_and_its_own_spread(make: str) -> None:
    table = Table(make, *some(5))
    may = [live for live in table.cluster.present if live.endpoint.id != "orders-2"]
    before = table.all()
    after = [table.ask(key, may) for key in KEYS]
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "orders-2")
    heirs = Counter(new for old, new in zip(before, after, strict=True) if old == "orders-2")
    assert set(heirs) == {"orders-0", "orders-1", "orders-3", "orders-4"}


@pytest.mark.parametrize("make", MAKES)
def test_order_and_readiness_are_no_matter_of_the_table(make: str) -> None:
    endpoints = some(4)
    before = Table(make, *endpoints).all(KEYS[:500])
    unready = [endpoint("orders-3", ready=False), *endpoints[:3]]
    assert Table(make, *unready).all(KEYS[:500]) == before


@pytest.mark.parametrize("make", MAKES)
def test_without_a_key_a_place_is_drawn(make: str) -> None:
    table, rng = Table(make, *some(3)), Random(3)
    counts = Counter(table.ask(None, rng=rng) for _ in range(3000))
    assert min(counts.values()) > 600


@pytest.mark.parametrize("make", MAKES)
def test_who_is_alone_is_asked_and_of_nobody_none(make: str) -> None:
    table = Table(make, *some(3))
    assert table.ask(7, table.cluster.present[1:2]) == "orders-1"
    assert table.choice.pick([], table.cluster, Random(1), 0.0, 7) is None


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.integers(1, 50), min_size=2, max_size=12),
    make=st.sampled_from(sorted(MAKES)),
    out=st.sets(st.integers(0, 11), max_size=5),
    keys=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30),
)
def test_the_choice_may_be_asked_and_is_the_same_each_time(
    weights: list[int], make: str, out: set[int], keys: list[int]
) -> None:
    table = Table(make, *(endpoint(f"orders-{number}", weight) for number, weight in enumerate(weights)))
    may = [live for number, live in enumerate(table.cluster.present) if number not in out] or table.cluster.present
    for key in keys:
        first = table.ask(key, may)
        assert first in names(may)
        assert table.ask(key, may) == first


def test_tables_are_bounded() -> None:
    for count, weights in ((2, (1, 1_000_000)), (300, (1, 1)), (1000, (1, 1000))):
        named = [(f"orders-{number}", weights[number % 2]) for number in range(count)]
        points, owners = ring(named)
        assert len(points) == len(owners) <= MAX_POINTS + count
        assert len(maglev(named)[1]) == SLOTS
    assert len(ring([("a", 5), ("b", 5)])[0]) == 2 * POINTS


def test_more_endpoints_than_slots_are_served_all_the_same() -> None:
    table = Table("maglev", *some(SLOTS + 2))
    owners = set(table.choice._owners) if table.ask(1) else set()
    without = [live for number, live in enumerate(table.choice._lives) if number not in owners]
    assert len(without) == 2
    assert table.ask(1, without) in names(without)


def test_a_live_endpoint_that_was_replaced_is_not_kept() -> None:
    table = Table("ring", *some(2))
    table.all(KEYS[:10])
    table.now(endpoint("orders-0"))
    table.now(*some(2))
    live = table.cluster.endpoints["orders-1"]
    chosen = [table.choice.pick(table.cluster.present, table.cluster, Random(1), 0.0, key) for key in KEYS[:200]]
    assert {each for each in chosen if each and each.endpoint.id == "orders-1"} == {live}
