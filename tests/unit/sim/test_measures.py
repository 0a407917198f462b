"""Figures from records that are written down here."""

import math

import pytest

from sidecar.sim.measures import Finding, by_second, measure, percentile, time_to_eject, time_to_recover
from sidecar.sim.record import Asked, Out, Record, Tried, Worked
from sidecar.sim.scenario import ClientSpec, Expectation, Fault, Kind, Latency, Measure, Scenario, ServiceSpec

SCENARIO = Scenario(
    name="s",
    about="",
    seed=1,
    duration_s=4.0,
    network_s=0.001,
    services={"stock": ServiceSpec(name="stock", endpoints=2, latency=Latency(0.1, 0.1))},
    clients={"web": ClientSpec(name="web", calls="stock", rate_per_s=1.0)},
    faults=(Fault(kind=Kind.CRASH, whom=("stock-1",), from_s=1.0, until_s=2.0),),
)
RECORD = Record(
    asked=[
        Asked("web", 0.5, 0.1, 200, 1, ""),
        Asked("web", 1.5, 0.3, 503, 3, "attempts"),
        Asked("web", 1.6, 0.2, 404, 1, ""),
        Asked("other", 1.7, 9.0, 503, 1, ""),
    ],
    tried=[
        Tried("web-1", "stock-1", 1.5, 0.1, ok=False),
        Tried("web-1", "stock-2", 1.6, 0.1, ok=True),
        Tried("web-1", "stock-1", 1.7, 0.1, ok=True),
        Tried("web-1", "stock-1", 2.4, 0.1, ok=True),
    ],
    out=[Out("web-1", "stock-1", 0.5, 1.0), Out("web-1", "stock-1", 1.25, 1.0)],
    worked=[Worked("stock-1", 1.0, 0.3, wasted=True), Worked("stock-2", 1.0, 0.9, wasted=False)],
    requests={"stock": [0.5, 1.5]},
)


def value(kind: Measure, of: str, from_s: float = 0.0, until_s: float = 4.0) -> float | None:
    return measure(SCENARIO, RECORD, Expectation(measure=kind, of=of, from_s=from_s, until_s=until_s))


@pytest.mark.parametrize(
    ("kind", "of", "wanted"),
    [
        (Measure.SUCCESS, "web", 100 * 2 / 3),
        (Measure.P50, "web", 0.2),
        (Measure.P99, "web", 0.3),
        (Measure.AMPLIFICATION, "stock", 2.0),
        (Measure.SHARE, "stock-2", 25.0),
        (Measure.WASTED, "stock", 25.0),
        (Measure.EJECT, "stock-1", 0.25),
        (Measure.RECOVER, "stock-1", 0.5),
    ],
)
def test_a_figure(kind: Measure, of: str, wanted: float) -> None:
    assert value(kind, of) == pytest.approx(wanted)


def test_only_what_began_in_time_counts() -> None:
    assert value(Measure.SUCCESS, "web", 1.0, 2.0) == 50.0
    assert value(Measure.SUCCESS, "web", 2.0, 3.0) is None


def test_what_never_happened_is_infinite() -> None:
    assert time_to_eject(SCENARIO, Record(), "stock-1") == math.inf
    assert time_to_recover(SCENARIO, Record(), "stock-1") == math.inf


@pytest.mark.parametrize(
    ("at_least", "at_most", "value", "holds"),
    [
        (1.0, None, 1.0, True),
        (1.0, None, 0.9, False),
        (None, 1.0, 1.0, True),
        (None, 1.0, math.inf, False),
        (None, 1.0, None, False),
    ],
)
def test_bounds_include_themselves(
    at_least: float | None, at_most: float | None, value: float | None, holds: bool
) -> None:
    wanted = Expectation(measure=Measure.P50, of="web", from_s=0.0, until_s=1.0, at_least=at_least, at_most=at_most)
    assert Finding(wanted, value).holds is holds


def test_second_by_second() -> None:
    told = by_second(SCENARIO, RECORD, "web")
    assert [(each.requests, each.failed) for each in told] == [(1, 0), (2, 1), (0, 0), (0, 0)]
    assert told[1].p99_s == 0.3
    assert told[2].p99_s is None


def test_percentiles_are_values_that_there_were() -> None:
    ordered = [float(each) for each in range(1, 101)]
    assert [percentile(ordered, percent) for percent in (0, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
