"""How often a service may be asked; frozen values, carried out by `policy/rates.py`."""

from dataclasses import dataclass

from sidecar.model.balancing import HashKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """So many requests in so long, and so many at once.

    Attributes:
        requests, interval_s: The rate; evenly, not a new quota with each interval.
        burst: How many may come at once after a rest.
        key: Each value of this has the rate for itself; None: all requests share it.
        path: Only of requests at or below this path; "": of all.
    """

    requests: int
    interval_s: float
    burst: int
    key: HashKey | None = None
    path: str = ""
