"""An endpoint: takes requests, makes them wait, works, asks others, answers; and breaks as the scenario says.

It does not know who calls it or why. A caller that gave up is not noticed before the work is done, as with most
servers of HTTP/1.1; that work is wasted.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from sidecar.sim.record import Record, Worked
from sidecar.sim.scenario import Fault, Kind, Latency, ServiceSpec
from sidecar.sim.timeline import Timeline

Z99 = 2.3263478740408408  # the 99th percentile of the standard normal distribution
OVERLOADED = 503
UPSTREAM_FAILED = 503


class Arrival:
    """A request at an endpoint; the caller's end of it.

    Attributes:
        answer: Called with a status, at the endpoint; None: it was reset. At most once.
        ends_at_s: What its caller allows (`x-mesh-timeout-ms`); None: no limit.
        left: The caller waits no more.
    """

    __slots__ = ("answer", "ends_at_s", "left")

    def __init__(self, answer: Callable[[int | None], None], ends_at_s: float | None) -> None:
        self.answer = answer
        self.ends_at_s = ends_at_s
        self.left = False


Ask = Callable[[str, float | None, Callable[[int], None]], None]


class Server:
    """See the module's text.

    Attributes:
        lives: How often it has crashed: connections of an earlier life are gone.
        retry_after_s: What a 503 of it says of when to ask again; None: nothing.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        name: str,
        zone: str,
        faults: Sequence[Fault],
        duration_s: float,
        timeline: Timeline,
        rng: Random,
        ask: Ask,
        record: Record,
    ) -> None:
        """`ask`: another service, with the end that the request under way has, through its own sidecar."""
        self.name = name
        self.zone = zone
        self.lives = 0
        self.retry_after_s = spec.retry_after_s
        self._spec = spec
        self._faults = [fault for fault in faults if name in fault.whom]
        self._timeline = timeline
        self._rng = rng
        self._ask = ask
        self._record = record
        self._busy: dict[Arrival, float] = {}
        self._waiting: deque[Arrival] = deque()
        self._median_s, self._sigma = log_normal(spec.latency)
        for fault in self._faults:
            if fault.kind is Kind.CRASH:
                self._plan_crashes(fault, duration_s)

    def _plan_crashes(self, fault: Fault, duration_s: float) -> None:
        at_s = fault.from_s
        while at_s < min(fault.until_s, duration_s):
            self._timeline.at(at_s, self._crash)
            if not fault.period_s:
                return
            at_s += 2 * fault.period_s

    def _now(self, kind: Kind) -> Fault | None:
        """The fault of that kind that is there now."""
        now_s = self._timeline.now_s
        return next((fault for fault in self._faults if fault.kind is kind and fault.holds(now_s)), None)

    @property
    def refuses(self) -> bool:
        """Nobody listens."""
        return bool(self._faults) and self._now(Kind.CRASH) is not None

    @property
    def unreachable(self) -> bool:
        """Nothing comes through, in either direction."""
        return bool(self._faults) and self._now(Kind.PARTITION) is not None

    def take(self, arrival: Arrival) -> None:
        """A request came."""
        if self._faults:
            errors = self._now(Kind.ERRORS)
            if errors is not None and self._rng.random() < errors.amount:
                arrival.answer(errors.status)
                return
        if len(self._busy) < self._spec.capacity:
            self._begin(arrival)
        elif len(self._waiting) < self._spec.queue:
            self._waiting.append(arrival)
        else:
            arrival.answer(OVERLOADED)

    def _begin(self, arrival: Arrival) -> None:
        for_s = self._median_s
        if self._sigma:
            for_s *= math.exp(self._sigma * self._rng.gauss(0.0, 1.0))
        if self._faults:
            slow = self._now(Kind.SLOW)
            if slow is not None:
                for_s *= slow.amount
        self._busy[arrival] = self._timeline.now_s
        self._timeline.after(for_s, partial(self._worked, arrival, 0))

    def _worked(self, arrival: Arrival, asked: int, status: int = 200) -> None:
        """The work is done, and so many of `calls` have answered, the last one `status`."""
        if arrival not in self._busy:
            return  # it crashed meanwhile
        if status >= 500:
            self._answer(arrival, UPSTREAM_FAILED)
        elif asked < len(self._spec.calls):
            self._ask(self._spec.calls[asked], arrival.ends_at_s, partial(self._worked, arrival, asked + 1))
        else:
            self._answer(arrival, 200)

    def _answer(self, arrival: Arrival, status: int) -> None:
        now_s = self._timeline.now_s
        began_s = self._busy.pop(arrival)
        self._record.on_work(Worked(self.name, now_s, now_s - began_s, arrival.left))
        resets = self._now(Kind.RESETS) if self._faults else None
        arrival.answer(None if resets is not None and self._rng.random() < resets.amount else status)
        while self._waiting and len(self._busy) < self._spec.capacity:
            self._begin(self._waiting.popleft())

    def _crash(self) -> None:
        self.lives += 1
        lost = [*self._busy, *self._waiting]
        self._busy.clear()
        self._waiting.clear()
        for arrival in lost:
            arrival.answer(None)


def log_normal(latency: Latency) -> tuple[float, float]:
    """Median, and sigma of the logarithm."""
    return latency.p50_s, math.log(latency.p99_s / latency.p50_s) / Z99 if latency.p50_s else 0.0
