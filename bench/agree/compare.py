"""What the simulator says of a scenario beside what real processes did, with the difference that is allowed.

The bounds are those of the product's promise: success within half a point, load within 5 %, the 99th percentile within
30 %, the time to an ejection within half a second. A simulated figure is the mean of several seeds, a real one that of
one run: its own chance is inside the bounds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sidecar.sim.measures import measure
from sidecar.sim.record import Record
from sidecar.sim.scenario import Expectation, Measure, Scenario

Within = Callable[[float, float], bool]


def _points(allowed: float, simulated: float, real: float) -> bool:
    return abs(simulated - real) <= allowed


def _ratio(allowed: float, simulated: float, real: float) -> bool:
    return abs(real - simulated) <= allowed * simulated


BOUNDS: dict[Measure, tuple[str, Within]] = {
    Measure.SUCCESS: ("0.5 points", partial(_points, 0.5)),
    Measure.AMPLIFICATION: ("5 %", partial(_ratio, 0.05)),
    Measure.P99: ("30 %", partial(_ratio, 0.3)),
    Measure.EJECT: ("0.5 s", partial(_points, 0.5)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, both ways. `inf`: it never happened."""

    what: Expectation
    simulated: float
    real: float

    @property
    def bound(self) -> str:
        """The allowed difference in words."""
        return BOUNDS[self.what.measure][0]

    @property
    def agrees(self) -> bool:
        """Whether the difference is allowed; that both say never is agreement."""
        if math.isinf(self.simulated) or math.isinf(self.real):
            return self.simulated == self.real
        return BOUNDS[self.what.measure][1](self.simulated, self.real)


def questions(scenario: Scenario) -> list[Expectation]:
    """What is compared: success and load while it is broken and over all, the slowest answers, and ejections."""
    [client], [service] = scenario.clients, scenario.services
    broken = [(fault.from_s, min(fault.until_s, scenario.duration_s)) for fault in scenario.faults]
    from_s, until_s = min(span[0] for span in broken), max(span[1] for span in broken)
    spans = dict.fromkeys(((0.0, scenario.duration_s), (from_s, until_s)))
    found = [
        Expectation(measure=kind, of=service if kind is Measure.AMPLIFICATION else client, from_s=since_s, until_s=to_s)
        for kind in (Measure.SUCCESS, Measure.AMPLIFICATION, Measure.P99)
        for since_s, to_s in spans
    ]
    # Of a whole service only the first endpoint to go is a figure: which one that is, is chance.
    alone = [name for fault in scenario.faults for name in fault.whom if len(fault.whom) == 1 and name != client]
    found += [
        Expectation(measure=Measure.EJECT, of=name, from_s=0.0, until_s=scenario.duration_s)
        for name in dict.fromkeys(alone)
    ]
    return found


def compare(scenario: Scenario, simulated: Sequence[Record], real: Record) -> list[Line]:
    """Every question, answered by both."""
    return [
        Line(each, _mean([_figure(scenario, record, each) for record in simulated]), _figure(scenario, real, each))
        for each in questions(scenario)
    ]


def _figure(scenario: Scenario, record: Record, wanted: Expectation) -> float:
    value = measure(scenario, record, wanted)
    return math.nan if value is None else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
