"""Faults that users ask for, to see how callers bear them; frozen values, carried out by `policy/faults.py`."""

from dataclasses import dataclass

from sidecar.model.clusters import ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """What is done to a share of tries.

    Attributes:
        percent: Of the tries that the rest describes.
        tries: Only the first so many of each request; 0: all.
        headers: Only of requests with these fields, all of them; with exactly this value, if one is given.
        callers: Only of these services' sidecars; none: everybody's.
        delay_s: Wait so long before the try goes on.
        status: Then answer it with this status; 0: do not.
        reset: Then lose the connection under it.
    """

    percent: float = 100.0
    tries: int = 0
    headers: tuple[tuple[str, str | None], ...] = ()
    callers: frozenset[ServiceKey] = frozenset()
    delay_s: float = 0.0
    status: int = 0
    reset: bool = False
