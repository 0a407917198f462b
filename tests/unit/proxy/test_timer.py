"""The worker's coarse timer on virtual time: in order, never early, at most a grain late, one entry for many waits."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from sidecar.proxy.timer import GRAIN_S, Entry, Timer


class Waiter:
    """Something that waits, and remembers when it was told."""

    def __init__(self, timer: Timer, told: list[tuple[str, float]], name: str = "") -> None:
        self.timer = timer
        self.name = name
        self.told = told
        self.due_s = math.inf
        self.entry: Entry = timer.join(self)
        self.then: Callable[[], None] = lambda: None
        self.crashed = False

    def wait(self, due_s: float) -> None:
        """As the fast path does it."""
        self.due_s = due_s
        if due_s < self.entry.check_s:
            self.timer.watch(self.entry, due_s)

    def on_due(self, now_s: float) -> None:
        self.told.append((self.name, now_s))
        self.due_s = math.inf
        self.then()

    def on_crashed(self) -> None:
        self.crashed = True


class World:
    """A timer that runs, and what it told."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.bugs: list[BaseException] = []
        self.told: list[tuple[str, float]] = []
        self.timer = Timer(trio.current_time, self.bugs.append)
        self.start_s = trio.current_time()
        nursery.start_soon(self.timer.run)

    def waiter(self, name: str, after_s: float = math.inf) -> Waiter:
        made = Waiter(self.timer, self.told, name)
        if after_s != math.inf:
            made.wait(self.start_s + after_s)
        return made


async def test_told_in_order_never_early_and_at_most_a_grain_late(autojump_clock: MockClock) -> None:
    times = [0.5, 0.001, 3.0, 0.0, 0.5005, 0.0095, 60.0, 0.02, 1.0]
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        for after_s in times:
            world.waiter(str(after_s), after_s)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()

    assert [name for name, _ in world.told] == [str(after_s) for after_s in sorted(times)]
    for name, at_s in world.told:
        assert 0 <= at_s - world.start_s - float(name) <= GRAIN_S + 1e-9
    assert len(world.timer) == 0


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.3, 2.0])
async def test_who_comes_while_it_sleeps_is_told_in_time(pause_s: float, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        world.waiter("long", 1000.0)
        await trio.sleep(pause_s)
        late = world.waiter("soon")
        due_s = trio.current_time() + 0.25
        late.wait(due_s)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    ((name, at_s),) = world.told
    assert name == "soon"
    assert 0 <= at_s - due_s <= GRAIN_S + 1e-9


async def test_a_wait_that_is_put_off_again_and_again_is_one_entry(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        busy = world.waiter("busy")
        most = 0
        for _ in range(10_000):
            busy.wait(trio.current_time() + 15.0)
            busy.wait(trio.current_time() + 300.0)
            most = max(most, len(world.timer._heap))
            await trio.sleep(0.001)
        last_s = busy.due_s
        assert world.told == []
        await trio.sleep(400)
        nursery.cancel_scope.cancel()

    assert most <= 3
    ((_, at_s),) = world.told
    assert 0 <= at_s - last_s <= GRAIN_S + 1e-9


async def test_who_leaves_hears_nothing_and_takes_no_room(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        stays = world.waiter("stays", 2.0)
        for _ in range(10_000):
            gone = world.waiter("gone", 1.0)
            world.timer.leave(gone.entry)
            world.timer.leave(gone.entry)
        held = len(world.timer._heap)
        assert len(world.timer) == 1
        await trio.sleep(10)
        nursery.cancel_scope.cancel()

    assert held < 200
    assert [name for name, _ in world.told] == ["stays"]
    assert stays.due_s == math.inf
    assert len(world.timer) == 0


async def test_one_that_fails_does_not_stop_the_others(autojump_clock: MockClock) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    async with trio.open_nursery() as nursery:
        world = World(nursery)
        for name in ("a", "b", "c"):
            world.waiter(name, 1.0).then = fail if name == "b" else lambda: None
        world.waiter("later", 2.0)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert [name for name, _ in world.told] == ["a", "b", "c", "later"]
    assert [str(each) for each in world.bugs] == ["a bug"]


async def test_who_is_told_may_wait_again_leave_and_make_others_leave(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        again, leaver, other = (world.waiter(name, 1.0) for name in ("again", "leaver", "other"))
        again.then = lambda: again.wait(trio.current_time() + 1.0) if len(world.told) < 8 else None

        def leave_all() -> None:
            for each in (leaver, other):
                world.timer.leave(each.entry)

        leaver.then = leave_all
        await trio.sleep(20)
        nursery.cancel_scope.cancel()

    names = [name for name, _ in world.told]
    assert names.count("again") == 7
    assert names.count("leaver") == 1
    assert "other" not in names
    steps = [at_s for name, at_s in world.told if name == "again"]
    assert all(1.0 <= after - before <= 1.0 + GRAIN_S + 1e-9 for before, after in pairwise(steps))


async def test_it_sleeps_while_nobody_waits(autojump_clock: MockClock) -> None:
    ticks = 0

    def now() -> float:
        nonlocal ticks
        ticks += 1
        return trio.current_time()

    async with trio.open_nursery() as nursery:
        timer = Timer(now, lambda _: None)
        nursery.start_soon(timer.run)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert ticks <= 3


class Clock:
    """Time by hand, for the order of many calls without a task."""

    def __init__(self) -> None:
        self.now_s = 0.0


Move = tuple[str, int, float]
moves = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "leave", "tick"]),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.005, 0.01, 1.0, 5.0]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(moves)
def test_any_calls_keep_the_promise(script: list[Move]) -> None:
    """Told at the first tick at which it is due, and only then; the count of entries is never off."""
    clock = Clock()
    told: list[tuple[str, float]] = []
    timer = Timer(lambda: clock.now_s, lambda _: None)
    waiters = [Waiter(timer, told, str(number)) for number in range(6)]
    for what, number, value_s in script:
        waiter = waiters[number]
        if what == "wait":
            waiter.wait(clock.now_s + value_s)
        elif what == "leave":
            timer.leave(waiter.entry)
            waiters[number] = Waiter(timer, told, str(number))
        else:
            clock.now_s += value_s + GRAIN_S
            due = {each.name for each in waiters if each.due_s <= clock.now_s}
            told.clear()
            timer._tell(clock.now_s)
            assert {name for name, _ in told} == due
            assert len(told) == len(due)
        assert 0 <= len(timer) <= len(timer._heap)
        assert len(timer) >= sum(each.due_s != math.inf for each in waiters)
