"""What users ask for when an endpoint is to be chosen: the algorithm, whom it chooses among, and how gently.

Frozen values; `balance/` carries them out. The part of a TrafficPolicy that belongs to a destination and not to a
request.
"""

from dataclasses import dataclass
from enum import StrEnum


class Algorithm(StrEnum):
    """How an endpoint is chosen among those that may be asked."""

    EWMA = "ewma"  # of two drawn, the one that is expected to answer first: latency, load and recent failures
    LEAST_REQUEST = "least-request"  # of two drawn, the one with fewer requests under way
    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    RING_HASH = "ring-hash"  # the same key to the same endpoint; one that leaves moves its own keys only
    MAGLEV = "maglev"  # the same, with more even shares; one that leaves moves a few others' too


HASHING = (Algorithm.RING_HASH, Algorithm.MAGLEV)


class HashOf(StrEnum):
    """What of a request is its key."""

    HEADER = "header"
    COOKIE = "cookie"
    SOURCE = "source"  # who asks: the identity of its certificate, else its IP address
    PATH = "path"  # without the query


@dataclass(frozen=True, slots=True)
class HashKey:
    """Where a request's key is. `name`: of the header (lower case) or the cookie; "" for the others."""

    of: HashOf
    name: str = ""


class ZoneRule(StrEnum):
    """What the zone of an endpoint means to its callers."""

    FIRST = "first"  # their own zone, as far as it can carry them; see balance/zones.py
    ANY = "any"  # nothing


class Otherwise(StrEnum):
    """Who is asked when no endpoint at all has the labels of a subset."""

    NONE = "none"  # nobody: 503. Who names labels may mean them
    ANY = "any"  # everybody


@dataclass(frozen=True, slots=True)
class Subset:
    """Only endpoints with these labels, all of them; `version` is a label too."""

    labels: tuple[tuple[str, str], ...]
    otherwise: Otherwise = Otherwise.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """How endpoints are chosen.

    Attributes:
        hash_key: For RING_HASH and MAGLEV, and only for them.
        slow_start_s: An endpoint that is new, or back, gets its whole share only after so long; 0: at once. Envoy's
            and Istio's default, too: who is new has no samples, which alone makes ewma careful.
        panic_percent: When fewer than so many of the ready endpoints pass, all of them are asked: what is wrong then
            is not they, and the few would not carry it. Envoy's. 0: never.
    """

    algorithm: Algorithm = Algorithm.EWMA
    hash_key: HashKey | None = None
    subset: Subset | None = None
    zone: ZoneRule = ZoneRule.FIRST
    slow_start_s: float = 0.0
    panic_percent: int = 50


DEFAULT_BALANCING = Balancing()
