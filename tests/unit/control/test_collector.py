"""The garbage collector is out of the way while configuration is read, and back afterwards as it was."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from sidecar.control import collector
from sidecar.control.collector import BIG, LOOK_THROUGH_EVERY, collector_at_rest


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_collector_rests_and_much_is_set_aside() -> None:
    kept: list[list[object]] = []
    gc.collect()
    with collector_at_rest():
        assert not gc.isenabled()
        kept += [[] for _ in range(100)]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    with collector_at_rest():
        kept += [[] for _ in range(BIG)]
    assert gc.get_freeze_count() > BIG


def test_what_was_made_meanwhile_and_is_gone_is_not_much() -> None:
    gc.collect()
    with collector_at_rest():
        assert len([[] for _ in range(BIG)]) == BIG
    assert gc.get_freeze_count() == 0


def test_a_cycle_that_was_set_aside_is_found_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr(collector, "_set_aside", 1)
    node = Node()
    seen = weakref.ref(node)
    collector.set_aside()
    del node
    for _ in range(LOOK_THROUGH_EVERY - 2):
        gc.collect()
        collector.set_aside()
    assert seen() is not None
    collector.set_aside()
    assert seen() is None


def test_a_collector_that_somebody_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
