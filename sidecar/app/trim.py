"""Give back what a rush has left behind: memory that the process holds and does not use.

glibc returns what lies at the top of its heap; buffers freed between pieces that are still in use stay with the process
for ever, 20 MiB and more after some hundred slow clients. `malloc_trim` gives those pages back, in 0.1 ms when there is
nothing to do and about 2 ms after such a rush (measured). Other C libraries have no such call, and need none.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import trio

LOOK_S = 10.0  # memory is back within half a minute of the rush that took it
SPARE_BYTES = 4 << 20  # above the lowest so far; below, there is nothing worth the call

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Memory of this process in RAM; 0 where /proc is hidden."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def trimmer() -> Callable[[], None] | None:
    """What gives free memory back; None where the C library cannot."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return lambda: trim(0)


async def give_back_memory(
    trim: Callable[[], None] | None = None, resident: Callable[[], int] = resident_bytes
) -> None:
    """Trim now and then, while the process holds more than it ever did with; for ever."""
    trim = trim or trimmer()
    if trim is None:
        return
    lowest = resident()
    while True:
        await trio.sleep(LOOK_S)
        if resident() > lowest + SPARE_BYTES:
            trim()
        lowest = min(lowest, resident())
