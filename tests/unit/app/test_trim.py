"""Memory that a rush leaves behind goes back to the kernel, and nothing is done where nothing was left."""

import pytest
import trio
from trio.testing import MockClock

from sidecar.app.trim import LOOK_S, SPARE_BYTES, give_back_memory, resident_bytes, trimmer

MIB = 1 << 20


def test_what_lies_between_pieces_in_use_is_given_back() -> None:
    trim = trimmer()
    if trim is None:
        pytest.skip("this C library has no malloc_trim")
    held = [(bytes(64 * 1024), bytes(1024)) for _ in range(1000)]
    kept = [small for _, small in held]
    del held
    before = resident_bytes()
    trim()

    assert resident_bytes() < before - 40 * MIB
    assert len(kept) == 1000


async def test_it_trims_while_more_is_held_than_ever_was(autojump_clock: MockClock) -> None:
    held = [30 * MIB]
    trimmed: list[float] = []

    def trim() -> None:
        trimmed.append(trio.current_time())
        held[0] = 31 * MIB

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_back_memory, trim, lambda: held[0])
        await trio.sleep(2.5 * LOOK_S)
        assert not trimmed
        held[0] += SPARE_BYTES
        await trio.sleep(LOOK_S)
        assert not trimmed
        held[0] += 1
        await trio.sleep(3 * LOOK_S)
        assert len(trimmed) == 1
        nursery.cancel_scope.cancel()
