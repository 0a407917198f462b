"""What a policy asks for is put together once: members, panic, and what is not asked for is not there."""

from random import Random

import pytest

from sidecar.balance.balancer import MAX_KEPT, Balancer, balancer_of
from sidecar.balance.ewma import observe
from sidecar.model.balancing import (
    DEFAULT_BALANCING,
    Algorithm,
    Balancing,
    HashKey,
    HashOf,
    Otherwise,
    Subset,
)
from tests.unit.balance.lives import cluster, endpoint, names

GOLD = Subset((("tier", "gold"),))


def test_a_balancer_is_made_once_for_a_policy_and_few_are_kept() -> None:
    made, _ = cluster(endpoint("a"))
    first = balancer_of(made, DEFAULT_BALANCING, "")
    assert balancer_of(made, Balancing(), "") is first
    for percent in range(2 * MAX_KEPT):
        balancer_of(made, Balancing(panic_percent=percent), "")
        assert len(made.balancers) <= MAX_KEPT


def test_what_is_not_asked_for_is_not_there() -> None:
    usual = Balancer(DEFAULT_BALANCING, "")
    assert (usual.members, usual.notice, usual.hash_key) == (None, None, None)
    assert usual.observe is observe
    assert Balancer(Balancing(algorithm=Algorithm.LEAST_REQUEST), "").observe is None


def test_a_subset_is_the_endpoints_with_all_of_its_labels() -> None:
    made, _ = cluster(
        endpoint("a", tier="gold", team="core"), endpoint("b", version="v2", tier="gold"), endpoint("c", tier="lead")
    )
    for labels, found in (
        ((("tier", "gold"),), ["a", "b"]),
        ((("team", "core"), ("tier", "gold")), ["a"]),
        ((("version", "v2"),), ["b"]),
        ((("tier", "tin"),), []),
    ):
        members = Balancer(Balancing(subset=Subset(labels)), "").members
        assert members is not None
        assert names(members(made)) == found
        assert members(made) is members(made)


def test_a_subset_that_nobody_is_of_is_everybody_if_the_policy_says_so() -> None:
    made, lives = cluster(endpoint("a"), endpoint("b"))
    members = Balancer(Balancing(subset=Subset((("tier", "gold"),), Otherwise.ANY)), "").members
    assert members is not None
    assert members(made) is lives
    later = made.current((endpoint("a"), endpoint("g", tier="gold")))
    assert names(members(made)) == ["g"]
    assert len(later) == 2


def test_a_table_is_of_the_subset() -> None:
    made, _ = cluster(endpoint("a", tier="gold"), endpoint("b"), endpoint("c", tier="gold"))
    policy = Balancing(algorithm=Algorithm.MAGLEV, hash_key=HashKey(HashOf.PATH), subset=GOLD)
    balancer = Balancer(policy, "")
    assert balancer.members is not None
    members = balancer.members(made)
    chosen = {balancer.pick(members, made, Random(1), 0.0, key) for key in range(100)}
    assert chosen == set(members)
    assert balancer.labels == "tier=gold"


@pytest.mark.parametrize(
    ("passing", "percent", "panic"),
    [(2, 50, False), (1, 50, True), (1, 25, False), (0, 25, True), (1, 0, False), (3, 100, True)],
)
def test_too_few_that_pass_are_a_panic(passing: int, percent: int, panic: bool) -> None:
    _, lives = cluster(*(endpoint(name) for name in "abcd"), endpoint("e", ready=False))
    few = lives[:passing]
    asked = Balancer(Balancing(panic_percent=percent), "").unless_panic(few, lives)
    assert names(asked) == (list("abcd") if panic else names(few))
