"""What the simulator says beside what happened: which figures are compared, and which differences count."""

import math

import pytest

from bench.agree.compare import Line, compare, questions
from bench.agree.endpoint import turns_s
from bench.agree.proof import Both, line_of
from sidecar.sim import world
from sidecar.sim.measures import judge
from sidecar.sim.read import read_scenario
from sidecar.sim.record import Record
from sidecar.sim.scenario import Expectation, Fault, Kind, Measure, Scenario

SCENARIO = """
scenario: small
about: One of three fails for a while.
duration: 10s
services:
  stock: {endpoints: 3, latency: {p50: 10ms, p99: 20ms}, policy: {balancing: {algorithm: round-robin}}}
clients: {web: {calls: stock, rate: 500}}
faults: [{kind: errors, whom: [stock-1], from: 2s, until: 6s, percent: 100}]
expect: [{measure: success, of: web, atLeast: 99}]
"""


def _scenario(text: str = SCENARIO) -> Scenario:
    return read_scenario(text, "small.yaml")[0]


@pytest.mark.parametrize(
    ("kind", "simulated", "real", "agrees"),
    [
        (Measure.SUCCESS, 99.0, 99.5, True),
        (Measure.SUCCESS, 99.0, 98.4, False),
        (Measure.AMPLIFICATION, 1.2, 1.25, True),
        (Measure.AMPLIFICATION, 1.2, 1.13, False),
        (Measure.P99, 0.100, 0.129, True),
        (Measure.P99, 0.100, 0.131, False),
        (Measure.P99, 0.100, math.nan, False),
        (Measure.EJECT, 0.1, 0.6, True),
        (Measure.EJECT, 0.1, 0.7, False),
        (Measure.EJECT, math.inf, math.inf, True),
        (Measure.EJECT, 0.1, math.inf, False),
        (Measure.EJECT, math.inf, 0.1, False),
    ],
)
def test_a_difference_within_the_bound_is_agreement(kind: Measure, simulated: float, real: float, agrees: bool) -> None:
    line = Line(Expectation(measure=kind, of="x", from_s=0, until_s=1), simulated, real)
    assert line.agrees is agrees
    assert line_of(line).startswith("agrees" if agrees else "DIFFERS")


def test_the_time_of_the_fault_is_looked_at_by_itself() -> None:
    asked = [(each.measure, each.of, each.from_s, each.until_s) for each in questions(_scenario())]
    assert asked == [
        (Measure.SUCCESS, "web", 0.0, 10.0),
        (Measure.SUCCESS, "web", 2.0, 6.0),
        (Measure.AMPLIFICATION, "stock", 0.0, 10.0),
        (Measure.AMPLIFICATION, "stock", 2.0, 6.0),
        (Measure.P99, "web", 0.0, 10.0),
        (Measure.P99, "web", 2.0, 6.0),
        (Measure.EJECT, "stock-1", 0.0, 10.0),
    ]


def test_which_endpoint_of_many_goes_first_is_no_question() -> None:
    scenario = _scenario(SCENARIO.replace("[stock-1]", "[stock-1, stock-2]"))
    assert all(each.measure is not Measure.EJECT for each in questions(scenario))


def test_a_run_agrees_with_itself_and_not_with_another_world() -> None:
    scenario = _scenario()
    runs = [world.play(scenario, seed=seed) for seed in range(4)]
    assert all(line.agrees for line in compare(scenario, runs[:3], runs[3]))
    slow = world.play(_scenario(SCENARIO.replace("p50: 10ms, p99: 20ms", "p50: 20ms, p99: 40ms")))
    differ = {line.what.measure for line in compare(scenario, runs, slow) if not line.agrees}
    assert differ == {Measure.P99}


def test_a_run_in_which_nothing_happened_agrees_with_nothing() -> None:
    scenario = _scenario()
    lines = compare(scenario, [world.play(scenario)], Record())
    assert not any(line.agrees for line in lines)
    told = [*Both(scenario, lines, judge(scenario, Record())).told()]
    assert len(told) == len(lines) + 1
    assert not any(good for good, _ in told)


@pytest.mark.parametrize(
    ("fault", "turns"),
    [
        (Fault(kind=Kind.CRASH, whom=("a-1",), from_s=2, until_s=5), [2, 5]),
        (Fault(kind=Kind.CRASH, whom=("a-1",), from_s=2, until_s=math.inf), [2, 10]),
        (Fault(kind=Kind.CRASH, whom=("a-1",), from_s=2, until_s=5, period_s=1), [2, 3, 4, 5]),
        (Fault(kind=Kind.CRASH, whom=("a-1",), from_s=8, until_s=math.inf, period_s=1), [8, 9, 10]),
    ],
)
def test_an_endpoint_knows_when_it_comes_and_goes(fault: Fault, turns: list[float]) -> None:
    assert [*turns_s(fault, 10.0)] == turns
