"""Work beside the loop: what it gives, what it raises, and that it stands back."""

import os
import threading

import pytest
import trio

from sidecar.app.aside import NICE, aside


async def test_it_gives_what_the_work_returns() -> None:
    assert await aside(lambda: 42) == 42


async def test_it_raises_what_the_work_raises() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await aside(fail)


async def test_the_thread_stands_back_and_the_loop_does_not() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = priority()
    assert await aside(priority) == max(here, NICE)
    assert priority() == here
    assert await trio.to_thread.run_sync(priority) == here


async def test_a_cancelled_wait_leaves_the_work_alone() -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(5)
        ended.set()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(aside, work)
            await trio.to_thread.run_sync(begun.wait)
            scope.cancel()
    assert not ended.is_set()
    go.set()
    assert await trio.to_thread.run_sync(ended.wait, 5)
