"""Look-ups on virtual time: at most a second of waiting, and not twice in five."""

import pytest
import trio
from trio.testing import MockClock

from sidecar.control import lookups
from sidecar.control.lookups import Lookups
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known

A, B = ServiceKey("shop", "a"), ServiceKey("shop", "b")


class Fixture:
    def __init__(self) -> None:
        self.known: dict[ServiceKey, Known] = {}
        self.changes = 0
        self.lookups = Lookups([], lambda key: self.known.get(key, Known.UNKNOWN), self.changed)

    def changed(self) -> None:
        self.changes += 1

    async def answer(self, after_s: float, key: ServiceKey, known: Known) -> None:
        await trio.sleep(after_s)
        self.known[key] = known
        self.lookups.snapshot_changed()


async def test_what_is_known_is_answered_at_once_and_noted_as_used(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.known[A] = Known.FOUND
    start_s = trio.current_time()
    assert await here.lookups.wait_known(A, 1.0) is Known.FOUND
    assert trio.current_time() == start_s
    assert A in here.lookups.table
    assert here.changes == 1
    here.lookups.want(A)
    assert here.changes == 1


async def test_everybody_who_waits_is_woken_by_the_answer(autojump_clock: MockClock) -> None:
    here = Fixture()
    start_s = trio.current_time()
    answers: list[Known] = []

    async def wait() -> None:
        answers.append(await here.lookups.wait_known(A, 1.0))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        nursery.start_soon(here.answer, 0.25, B, Known.FOUND)
        nursery.start_soon(here.answer, 0.5, A, Known.ABSENT)
    assert answers == [Known.ABSENT] * 3
    assert trio.current_time() - start_s == 0.5


async def test_without_an_answer_it_waits_a_second_and_then_not_for_five(autojump_clock: MockClock) -> None:
    here = Fixture()
    start_s = trio.current_time()
    assert await here.lookups.wait_known(A, 1.0) is Known.UNKNOWN
    assert trio.current_time() - start_s == 1.0
    assert await here.lookups.wait_known(A, 1.0) is Known.UNKNOWN
    assert trio.current_time() - start_s == 1.0
    await trio.sleep(5.0)
    assert await here.lookups.wait_known(A, 1.0) is Known.UNKNOWN
    assert trio.current_time() - start_s == 7.0


async def test_the_number_of_names_waited_for_is_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_WAITED_FOR", 1)
    here = Fixture()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.lookups.wait_known, A, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        start_s = trio.current_time()
        assert await here.lookups.wait_known(B, 1.0) is Known.UNKNOWN
        assert trio.current_time() == start_s
