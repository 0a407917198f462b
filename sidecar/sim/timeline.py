"""Virtual time: what is due when, in one heap. Of two things of one moment, the one that was asked first is first."""

from collections.abc import Callable
from heapq import heappop, heappush

Act = Callable[[], None]


class Due:
    """Something that is going to happen, unless it is dropped."""

    __slots__ = ("act",)

    def __init__(self, act: Act) -> None:
        self.act: Act | None = act

    def drop(self) -> None:
        """It does not happen; afterwards nothing holds what it would have done."""
        self.act = None


class Timeline:
    """See the module's text.

    Attributes:
        now_s: Seconds since the start.
    """

    __slots__ = ("_heap", "_number", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Due]] = []
        self._number = 0

    def after(self, delay_s: float, act: Act) -> Due:
        """`act` in so many seconds."""
        return self.at(self.now_s + delay_s, act)

    def at(self, at_s: float, act: Act) -> Due:
        """`act` at a moment; one that has passed is now."""
        due = Due(act)
        self._number += 1
        heappush(self._heap, (max(at_s, self.now_s), self._number, due))
        return due

    def run(self, until_s: float) -> None:
        """Let happen what is due up to a moment; what is due later stays."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            at_s, _, due = heappop(heap)
            act = due.act
            if act is not None:
                self.now_s = at_s
                due.act = None
                act()
        self.now_s = max(self.now_s, until_s)

    def run_out(self) -> None:
        """Let everything happen; what makes more of itself for ever is never done."""
        heap = self._heap
        while heap:
            self.run(heap[0][0])
