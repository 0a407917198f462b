"""Figures of a run, and whether they are what was expected.

`inf` stands for what never happened: an endpoint that was not ejected, or gave no good answer any more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.sim.record import Asked, Record
from sidecar.sim.scenario import Expectation, Measure, Scenario


@dataclass(frozen=True, slots=True)
class Finding:
    """What an expectation found; `value` None: there was nothing to measure, which is as bad."""

    expectation: Expectation
    value: float | None

    @property
    def holds(self) -> bool:
        """Whether the value is in bounds."""
        value, wanted = self.value, self.expectation
        if value is None:
            return False
        return (wanted.at_least is None or value >= wanted.at_least) and (
            wanted.at_most is None or value <= wanted.at_most
        )


@dataclass(frozen=True, slots=True)
class Second:
    """What a client got of the requests that it began in one second; the latencies are None without any."""

    requests: int
    failed: int
    p50_s: float | None
    p99_s: float | None


def judge(scenario: Scenario, record: Record) -> list[Finding]:
    """Every expectation of a scenario, in its order."""
    return [Finding(each, measure(scenario, record, each)) for each in scenario.expectations]


def measure(scenario: Scenario, record: Record, wanted: Expectation) -> float | None:
    """One figure; None when nothing of the kind happened in its time."""
    kind, whose, span = wanted.measure, wanted.of, (wanted.from_s, wanted.until_s)
    if kind in (Measure.SUCCESS, Measure.P50, Measure.P99):
        asked = [each for each in record.asked if each.client == whose and _within(each.at_s, span)]
        if not asked:
            return None
        if kind is Measure.SUCCESS:
            return 100.0 * sum(map(succeeded, asked)) / len(asked)
        return percentile(sorted(each.took_s for each in asked), 50.0 if kind is Measure.P50 else 99.0)
    if kind is Measure.AMPLIFICATION:
        tries = sum(_service(each.endpoint) == whose and _within(each.at_s, span) for each in record.tried)
        requests = sum(_within(at_s, span) for at_s in record.requests.get(whose, ()))
        return tries / requests if requests else None
    if kind is Measure.SHARE:
        tried = [each for each in record.tried if _service(each.endpoint) == _service(whose)]
        in_time = [each for each in tried if _within(each.at_s, span)]
        return 100.0 * sum(each.endpoint == whose for each in in_time) / len(in_time) if in_time else None
    if kind is Measure.WASTED:
        worked = [each for each in record.worked if _service(each.endpoint) == whose and _within(each.at_s, span)]
        total_s = sum(each.for_s for each in worked)
        return 100.0 * sum(each.for_s for each in worked if each.wasted) / total_s if total_s else None
    return time_to_eject(scenario, record, whose) if kind is Measure.EJECT else time_to_recover(scenario, record, whose)


def time_to_eject(scenario: Scenario, record: Record, endpoint: str) -> float:
    """Seconds from the start of an endpoint's first fault to its first ejection by anybody; `inf`: there was none."""
    began_s = min((fault.from_s for fault in scenario.faults if endpoint in fault.whom), default=0.0)
    return min(
        (out.at_s - began_s for out in record.out if out.endpoint == endpoint and out.at_s >= began_s), default=math.inf
    )


def time_to_recover(scenario: Scenario, record: Record, endpoint: str) -> float:
    """Seconds from the end of an endpoint's last fault to its next good answer; `inf`: there was none."""
    ended_s = max((fault.until_s for fault in scenario.faults if endpoint in fault.whom), default=0.0)
    good = (each.at_s + each.took_s for each in record.tried if each.ok and each.endpoint == endpoint)
    return min((at_s - ended_s for at_s in good if at_s >= ended_s), default=math.inf)


def by_second(scenario: Scenario, record: Record, client: str) -> list[Second]:
    """What became of a client's requests, second by second of when they began."""
    seconds: list[list[Asked]] = [[] for _ in range(math.ceil(scenario.duration_s))]
    for each in record.asked:
        if each.client == client:
            seconds[int(each.at_s)].append(each)
    return [_second(each) for each in seconds]


def _second(asked: list[Asked]) -> Second:
    if not asked:
        return Second(0, 0, None, None)
    took_s = sorted(each.took_s for each in asked)
    failed = len(asked) - sum(map(succeeded, asked))
    return Second(len(asked), failed, percentile(took_s, 50.0), percentile(took_s, 99.0))


def succeeded(asked: Asked) -> bool:
    """Whether a client got an answer of its service, and none of 5xx."""
    return 0 < asked.status < 500


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100.0) - 1)]


def _within(at_s: float, span: tuple[float, float]) -> bool:
    return span[0] <= at_s < span[1]


def _service(endpoint: str) -> str:
    return endpoint.rpartition("-")[0]
