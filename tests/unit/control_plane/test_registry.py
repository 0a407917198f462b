"""Leases with plain times: renewed by beats, ended by silence or bye, guarded against mass loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry import GUARD_FREE, GUARD_FROM, GUARD_RATIO, LEASE_S, Registry, Sweep


def many(count: int, now_s: float = 0.0) -> Registry:
    registry = Registry()
    for number in range(count):
        registry.hello(f"shop/n{number:03}", "i", now_s)
    return registry


def test_a_lease_lives_30_s_beyond_its_last_beat() -> None:
    registry = Registry()
    registry.hello("shop/orders-1", "a", 0.0)
    assert registry.beat("shop/orders-1", "a", 10.0)
    assert registry.sweep(39.9) == Sweep()
    assert registry.left_s("shop/orders-1", 25.0) == 15.0
    assert registry.sweep(40.0) == Sweep(ended=("shop/orders-1",))
    assert registry.left_s("shop/orders-1", 40.0) is None
    assert registry.sweep(41.0) == Sweep()


def test_bye_ends_the_lease_at_once() -> None:
    registry = many(1)
    assert registry.bye("shop/n000", "i")
    assert registry.nodes() == ()
    assert not registry.bye("shop/n000", "i")


def test_the_newest_instance_wins_and_the_old_one_cannot_renew_or_end_it() -> None:
    registry = Registry()
    assert registry.hello("shop/orders-1", "old", 0.0) == ""
    assert registry.hello("shop/orders-1", "new", 5.0) == "old"
    assert not registry.beat("shop/orders-1", "old", 6.0)
    assert not registry.bye("shop/orders-1", "old")
    assert registry.instance("shop/orders-1") == "new"
    assert registry.left_s("shop/orders-1", 6.0) == LEASE_S - 1.0


def test_a_sidecar_that_reconnects_keeps_its_lease() -> None:
    registry = Registry()
    registry.hello("shop/orders-1", "a", 0.0)
    assert registry.hello("shop/orders-1", "a", 25.0) == ""
    assert registry.sweep(50.0) == Sweep()


def test_after_a_start_every_lease_gets_a_full_period() -> None:
    registry = Registry()
    registry.restore(["shop/a", "shop/b"], 1_000.0)
    assert registry.sweep(1_029.9) == Sweep()
    assert registry.hello("shop/a", "x", 1_010.0) == ""
    assert registry.sweep(1_030.0) == Sweep(ended=("shop/b",))


def test_a_small_mesh_is_never_held_back() -> None:
    registry = many(5)
    assert registry.sweep(30.0).ended == tuple(f"shop/n{number:03}" for number in range(5))


def test_a_single_loss_is_never_held_back() -> None:
    registry = many(GUARD_FROM)
    for number in range(1, GUARD_FROM):
        registry.beat(f"shop/n{number:03}", "i", 10.0)
    assert registry.sweep(30.0) == Sweep(ended=("shop/n000",))


def test_a_mass_loss_is_held_shown_and_forgiven() -> None:
    registry = many(40)
    for number in range(10, 40):
        registry.beat(f"shop/n{number:03}", "i", 20.0)
    lost = tuple(f"shop/n{number:03}" for number in range(10))
    assert registry.sweep(30.0) == Sweep(held=lost)  # 10 of 40 are more than 15 %
    assert registry.sweep(31.0) == Sweep()
    assert registry.held() == lost
    assert registry.left_s("shop/n000", 31.0) == 0.0

    for number in range(5):
        assert registry.beat(f"shop/n{number:03}", "i", 32.0)
    assert registry.sweep(32.0) == Sweep(ended=lost[5:])  # 5 of 40 are not too many
    assert registry.held() == ()


def test_losses_that_trickle_in_are_counted_together_for_one_period() -> None:
    registry = many(40)
    for number in range(40):
        registry.beat(f"shop/n{number:03}", "i", float(number) if number < 10 else 60.0)
    ended = sum(len(registry.sweep(30.0 + second).ended) for second in range(12))
    assert ended == 6  # 15 % of 40
    assert len(registry.held()) == 4
    assert len(registry.sweep(65.0).ended) == 4  # a period later, the four that are missing are not too many


def test_a_held_workload_that_is_deleted_is_forgotten() -> None:
    registry = many(20)
    registry.sweep(30.0)
    registry.drop("shop/n000")
    assert "shop/n000" not in registry.held()
    registry.drop("shop/unknown")


def test_pure_callers_neither_count_nor_are_held() -> None:
    registry = many(10)
    for number in range(20):
        registry.hello(f"shop/c{number:03}", "i", 0.0, workload=False)
    swept = registry.sweep(30.0)
    assert len(swept.ended) == 20
    assert len(swept.held) == 10


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.sampled_from(["beat", "sweep", "bye", "hello"]), st.integers(0, 59), st.floats(0, 20))),
)
def test_whatever_happens_no_more_than_the_share_vanishes_within_a_period(
    count: int, steps: list[tuple[str, int, float]]
) -> None:
    registry = many(count)
    now_s = 0.0
    ended: list[float] = []
    for step, number, passed_s in steps:
        now_s += passed_s
        node = f"shop/n{number % count:03}"
        if step == "beat":
            registry.beat(node, "i", now_s)
        elif step == "bye":
            registry.bye(node, "i")
        elif step == "hello":
            registry.hello(node, "i", now_s)
        else:
            alive = len(registry)
            recent = sum(1 for at_s in ended if at_s > now_s - LEASE_S)
            swept = registry.sweep(now_s)
            ended += [now_s] * len(swept.ended)
            if alive + recent >= GUARD_FROM and swept.ended:
                assert len(swept.ended) + recent <= max(GUARD_FREE, GUARD_RATIO * (alive + recent))
            assert set(registry.held()) <= set(registry.nodes())


@pytest.mark.parametrize("count", [GUARD_FROM - 1, GUARD_FROM])
def test_the_guard_begins_at_ten(count: int) -> None:
    swept = many(count).sweep(30.0)
    assert (len(swept.ended), len(swept.held)) == ((count, 0) if count < GUARD_FROM else (0, count))
