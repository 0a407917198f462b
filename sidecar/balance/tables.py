"""Consistent hashing: the same key to the same endpoint, as long as it is there.

Two tables from a key's hash to an endpoint, each made once per set of endpoints, on first use, and looked up in
microseconds:

- **Ring**: each endpoint has points on a circle of 64-bit hashes, as many as its weight says; a key belongs to the
  next one. An endpoint that leaves gives up its own keys and moves nobody else's. Shares vary, with POINTS each by
  about 8 %.
- **Maglev**: endpoints take slots of a table in turn, each in an order of its own. Shares are equal but for one slot,
  and one that leaves moves a few per cent of the others' keys.

An endpoint that may not be asked just now (ejected, not ready, tried by this request) keeps its place, and its keys go
where the next place leads: everybody's to the same one, and back when it returns. So readiness is no matter of
the table, only who is there and with what weight.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random

from sidecar.balance.hashing import hash64
from sidecar.model.live import ClusterLive, EndpointLive

POINTS = 160  # on the ring for an endpoint of mean weight; Dubbo's and ketama's
MAX_POINTS = 16_384  # of a ring, and one more for each endpoint: beyond a hundred endpoints each has fewer
SLOTS = 5_003  # of Maglev's table; a prime. 50 for each of a hundred endpoints: 2 %; made within 5 ms
_WORD_BYTES = 8
_WORDS = 8  # that one digest gives

Named = Sequence[tuple[str, int]]  # endpoints' ids and weights, in order of id
Table = tuple[Sequence[int], Sequence[int]]  # points in order (empty: every slot is one), and whose each is
Make = Callable[[Named], Table]


def ring(endpoints: Named) -> Table:
    """Points on the circle, in order, and the index of the endpoint that each belongs to."""
    mean = sum(weight for _, weight in endpoints) / len(endpoints)
    each = min(POINTS, MAX_POINTS / len(endpoints))
    points: dict[int, int] = {}
    for index, (name, weight) in enumerate(endpoints):
        for point in _points(name, max(1, round(each * weight / mean))):
            points.setdefault(point, index)  # two endpoints with the same point: one in 2**32 rings
    order = sorted(points)
    return array("Q", order), array("L", [points[point] for point in order])


def _points(name: str, count: int) -> list[int]:
    found: list[int] = []
    for number in range((count + _WORDS - 1) // _WORDS):
        words = blake2b(b"%d/%b" % (number, name.encode())).digest()
        found += [int.from_bytes(words[at : at + _WORD_BYTES], "big") for at in range(0, len(words), _WORD_BYTES)]
    return found[:count]


def maglev(endpoints: Named) -> Table:
    """The index of the endpoint that each slot belongs to (Eisenbud et al., NSDI 2016, section 3.4).

    In each round the heaviest take a slot, the others as often as their weight is of that.
    """
    heaviest = max(weight for _, weight in endpoints)
    orders = [_order(name) for name, _ in endpoints]
    owed = [0.0] * len(endpoints)
    slots = array("l", [-1]) * SLOTS
    taken = 0
    while True:
        for index, (_, weight) in enumerate(endpoints):
            owed[index] += weight / heaviest
            if owed[index] < 1.0:
                continue
            owed[index] -= 1.0
            at, step = orders[index]
            while slots[at] >= 0:
                at = (at + step) % SLOTS
            slots[at] = index
            orders[index] = (at + step) % SLOTS, step
            taken += 1
            if taken == SLOTS:
                return (), slots


def _order(name: str) -> tuple[int, int]:
    """Where an endpoint begins, and how far it goes from slot to slot: a walk through all of a prime number."""
    word = hash64(name.encode())
    return word % SLOTS, word // SLOTS % (SLOTS - 1) + 1


class Consistent:
    """The choice by a table, for one cluster and one policy."""

    __slots__ = ("_lives", "_make", "_members", "_named", "_owners", "_points", "_source")

    def __init__(self, make: Make, members: Callable[[ClusterLive], Sequence[EndpointLive]]) -> None:
        """`members`: all that the table is of, ready or not; the same object as long as they are the same."""
        self._make = make
        self._members = members
        self._source: Sequence[EndpointLive] | None = None
        self._named: Named = ()
        self._points: Sequence[int] = ()
        self._owners: Sequence[int] = ()
        self._lives: list[EndpointLive] = []

    def pick(
        self, passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
    ) -> EndpointLive | None:
        """The first of `passing` from the key's place on; without a key from a place that is drawn."""
        del now_s
        if len(passing) < 2:
            return passing[0] if passing else None
        members = self._members(cluster)
        if members is not self._source:
            self._of(members)
        at = self._place(rng.getrandbits(64) if key is None else key)
        owners, lives = self._owners, self._lives
        if passing is members:
            return lives[owners[at]]
        may = set(passing)
        for place in range(at, at + len(owners)):
            live = lives[owners[place % len(owners)]]
            if live in may:
                return live
        return passing[0]  # of a cluster with more endpoints than slots, those that have none

    def _place(self, key: int) -> int:
        if not self._points:
            return key % len(self._owners)
        return bisect_left(self._points, key) % len(self._points)

    def _of(self, members: Sequence[EndpointLive]) -> None:
        """Take other endpoints; the table is made anew only if they are really others, or of other weights."""
        self._source = members
        self._lives = sorted(members, key=lambda live: live.endpoint.id)
        named = [(live.endpoint.id, live.endpoint.weight) for live in self._lives]
        if named != self._named:
            self._named = named
            self._points, self._owners = self._make(named)
