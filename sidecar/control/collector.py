"""Keep the garbage collector away from configuration, of which there is much and which holds no cycles.

A full collection looks through everything that lives: 40 ms with a thousand routes, during which nothing is served, and
reading them brings it on (ten thousand are read in 0.2 s without it instead of 0.5 to 1.1). So it rests while they are
read, and never looks at them again; reference counting frees them when a later push replaces them. What else lives at
that moment is set aside with them, and a cycle in it would stay for ever: so once in a while all is looked through.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

BIG = 10_000  # objects: of 200 routes
LOOK_THROUGH_EVERY = 64  # big pushes: 40 ms then

_set_aside = 0


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Switch the collector off while configuration is read; when it was much, set aside what lives afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        much = gc.get_count()[0] >= BIG
        if was_on:
            gc.enable()
        if much:
            set_aside()


def set_aside() -> None:
    """What lives now lives long: the collector need not look at it again, but for once in a while."""
    global _set_aside
    if _set_aside % LOOK_THROUGH_EVERY == 0:
        gc.unfreeze()
        gc.collect()
    _set_aside += 1
    gc.freeze()
