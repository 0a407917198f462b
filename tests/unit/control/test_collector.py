"""The garbage collector is out of the way while a push is read, and back afterwards as it was."""

import gc

import pytest

from sidecar.control.collector import BIG_PUSH, collector_at_rest


def test_the_collector_rests_and_a_big_push_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: seen.append("frozen"))
    for resources in (1, BIG_PUSH):
        with collector_at_rest(resources):
            assert not gc.isenabled()
        assert gc.isenabled()
    assert seen == ["frozen"]


def test_a_collector_that_somebody_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest(1):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
