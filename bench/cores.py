"""Which core is whose."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy has one for itself; load and backend share the other."""

    proxy: int
    load: int


def pick_cores(allowed: Sequence[int]) -> Cores:
    """The highest core for the proxy (interrupts tend to go to the lowest), another for everything else.

    With one core alone both share it, and every run is marked for it.
    """
    return Cores(proxy=max(allowed), load=min(allowed))
