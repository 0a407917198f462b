"""One coarse timer for everything of a worker that waits without a task of its own.

A cancel scope for each wait costs more than a plain request does. Here a wait is a number, `due_s`, that its owner
changes as often as it likes; the timer looks again when the earliest number that it knew of is over. So a connection
that is busy costs one entry in as many seconds as its shortest wait has, however many requests it carries.

Coarse: something is told at most `GRAIN_S` late. Ticks only while something waits.
"""

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

import trio

GRAIN_S = 0.01
_DEAD_MIN = 64  # entries of those that left are dropped together, when they are the greater part


class Timed(Protocol):
    """Something that waits. `due_s`: until when, `math.inf` for nothing; its owner's to set, then `watch`."""

    due_s: float

    def on_due(self, now_s: float) -> None:
        """`due_s` is over. May set another one."""

    def on_crashed(self) -> None:
        """A bug ended `on_due`."""


class Entry:
    """A place in the timer: when it looks at `timed` again, at the latest when that is due."""

    __slots__ = ("check_s", "timed")

    def __init__(self, timed: Timed) -> None:
        self.timed: Timed | None = timed
        self.check_s = math.inf


class Timer:
    """See the module's text. One per worker; `run` is its task."""

    __slots__ = ("_dead", "_heap", "_now", "_on_bug", "_scope", "_turn")

    def __init__(self, now: Callable[[], float], on_bug: Callable[[BaseException], None]) -> None:
        self._now = now
        self._on_bug = on_bug
        self._heap: list[tuple[float, int, Entry]] = []
        self._turn = 0  # makes tuples of one time comparable
        self._dead = 0
        self._scope = trio.CancelScope()  # of the sleep under way

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def join(self, timed: Timed) -> Entry:
        """A place for `timed`; give it back by `leave`."""
        return Entry(timed)

    def watch(self, entry: Entry, due_s: float) -> None:
        """See that its owner hears of `due_s`; cheap when an earlier look is due anyway."""
        if due_s < entry.check_s:
            if entry.check_s != math.inf:
                self._dead += 1  # the later one is found to be void
            entry.check_s = due_s
            self._turn += 1
            heappush(self._heap, (due_s, self._turn, entry))
            if due_s < self._scope.deadline:
                self._scope.deadline = due_s

    def leave(self, entry: Entry) -> None:
        """Forget it. May be called twice."""
        if entry.timed is None:
            return
        entry.timed = None
        if entry.check_s == math.inf:
            return
        self._dead += 1
        if self._dead > _DEAD_MIN and self._dead * 2 > len(self._heap):
            self._heap = [one for one in self._heap if one[2].timed is not None and one[2].check_s == one[0]]
            heapify(self._heap)
            self._dead = 0

    async def run(self) -> None:
        """Tell everybody in time, for ever."""
        while True:
            earliest_s = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=max(earliest_s, self._now() + GRAIN_S)) as self._scope:
                await trio.sleep_forever()
            self._tell(self._now())

    def _tell(self, now_s: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            check_s, _, entry = heappop(heap)
            timed = entry.timed
            if timed is None or entry.check_s != check_s:
                self._dead -= 1
                continue
            entry.check_s = math.inf
            if timed.due_s <= now_s:
                try:
                    timed.on_due(now_s)
                except Exception as exc:
                    self._crashed(timed, exc)  # one of many: the others are to be told all the same
            if entry.timed is not None and timed.due_s != math.inf:
                self.watch(entry, max(timed.due_s, now_s + GRAIN_S))
            heap = self._heap  # `leave` may have made a new one

    def _crashed(self, timed: Timed, exc: Exception) -> None:
        self._on_bug(exc)
        try:
            timed.on_crashed()
        except Exception as worse:
            self._on_bug(worse)
