"""What bounds a task's waits, on virtual time: bytes of a stream, and anything else."""

import math
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from sidecar.proxy.patience import Patience
from sidecar.proxy.timer import GRAIN_S, Timer
from sidecar.transport.memory import MemoryNetwork, MemoryStream
from sidecar.transport.stream import Interrupted


class World:
    """A timer, and both ends of a connection."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.bugs: list[BaseException] = []
        self.timer = Timer(trio.current_time, self.bugs.append)
        network = MemoryNetwork()
        accepted: list[MemoryStream] = []
        network.listen("here:1", accepted.append)
        self.there = network.dial("here:1")
        self.here = accepted[0]
        nursery.start_soon(self.timer.run)
        nursery.start_soon(network.run)


async def test_what_comes_in_time_is_received(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        patience = Patience(world.timer)
        for turn in range(3):
            patience.until(trio.current_time() + 5)
            world.there.write(b"%d" % turn)
            assert await patience.receive(world.here) == b"%d" % turn
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_time_breaks_a_wait_off_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        patience = Patience(world.timer)
        for _ in range(2):  # a wait can follow one that was broken off
            start = trio.current_time()
            patience.until(start + 5)
            with pytest.raises(Interrupted):
                await patience.receive(world.here)
            assert 5 <= trio.current_time() - start <= 5 + 2 * GRAIN_S
            with pytest.raises(Interrupted):  # it is over until somebody gives more time
                await patience.receive(world.here)

        world.there.write(b"late")
        patience.until(math.inf)
        assert await patience.receive(world.here) == b"late"
        assert not world.bugs
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ended", [False, True])
async def test_another_task_breaks_a_wait_off(ended: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        patience = Patience(world.timer)

        async def break_off() -> None:
            await trio.sleep(2)
            (patience.end if ended else patience.cancel)()

        waits = (partial(patience.receive, world.here), partial(patience.bounded, trio.sleep_forever))
        for wait in waits:
            patience.begin()
            nursery.start_soon(break_off)
            start = trio.current_time()
            with pytest.raises(Interrupted):
                await wait()
            assert trio.current_time() - start == 2
            patience.until(math.inf)
            assert patience.ended is ended
            if ended:
                with pytest.raises(Interrupted):
                    await wait()
        nursery.cancel_scope.cancel()


async def test_any_other_wait_has_its_bound_to_the_moment_also_one_that_changes(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        patience = Patience(world.timer)

        async def shorten() -> None:
            await trio.sleep(1)
            patience.until(3)

        patience.until(60)
        nursery.start_soon(shorten)
        with pytest.raises(Interrupted):
            await patience.bounded(trio.sleep_forever)
        assert trio.current_time() == 3

        patience.until(60)
        assert await patience.bounded(partial(answer, 7)) == 7
        nursery.cancel_scope.cancel()


async def answer(number: int) -> int:
    await trio.sleep(1)
    return number


async def test_cancelling_the_task_is_no_interruption(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        patience = Patience(world.timer)
        with trio.move_on_after(1) as scope:
            await patience.receive(world.here)
        assert scope.cancelled_caught
        patience.cancel()  # nobody waits: for the next one
        with pytest.raises(Interrupted):
            await patience.receive(world.here)
        patience.leave()
        assert len(world.timer) == 0
        nursery.cancel_scope.cancel()
