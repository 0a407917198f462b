"""Memory that a rush leaves behind goes back to the kernel, and nothing is done where nothing was left."""

import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from sidecar.app.trim import LOOK_S, SPARE_BYTES, give_back_memory

MIB = 1 << 20


# In a process of its own: what other tests have left in the heap decides where the pieces come to lie.
RUSH = """
from sidecar.app.trim import resident_bytes, trimmer

trim = trimmer()
held = [(bytes(64 * 1024), bytes(1024)) for _ in range(1000)]
kept = [small for _, small in held]
del held
before = resident_bytes()
if trim is not None:
    trim()
print("no trim" if trim is None else before - resident_bytes(), len(kept))
"""


def test_what_lies_between_pieces_in_use_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", RUSH], capture_output=True, text=True, check=True, timeout=60).stdout
    if said.startswith("no trim"):
        pytest.skip("this C library has no malloc_trim")
    given_back, kept = map(int, said.split())

    assert given_back > 40 * MIB
    assert kept == 1000


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
