"""Read a big configuration without the garbage collector looking through it again and again.

Ten thousand routes are parsed in 0.2 s instead of 0.5 to 1.1. Used by client.py around each push. What was parsed holds
no cycles, so reference counting frees it when a later push replaces it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

BIG_PUSH = 1_000  # resources


@contextmanager
def collector_at_rest(resources: int) -> Iterator[None]:
    """Switch the collector off while a push of so many resources is applied; a big one it never looks at again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        if resources >= BIG_PUSH:
            gc.freeze()
