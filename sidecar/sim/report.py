"""A run in words: a table whose columns are the policies that were played, small curves, what held and what did not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.sim.measures import Finding, by_second, judge, measure
from sidecar.sim.record import Record
from sidecar.sim.scenario import Expectation, Measure, Scenario

OWN = "own policies"
_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60  # marks of a curve; of a longer run a mark stands for several seconds
_PERCENT = frozenset({Measure.SUCCESS, Measure.SHARE, Measure.WASTED})
_SECONDS = frozenset({Measure.P50, Measure.P99, Measure.EJECT, Measure.RECOVER})


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario that was played with its own policies and its variants'.

    Attributes:
        records: By variant; OWN is the first.
    """

    scenario: Scenario
    seed: int
    records: Mapping[str, Record]

    def findings(self, variant: str = OWN) -> list[Finding]:
        """What became of the expectations."""
        return judge(self.scenario, self.records[variant])


def rows(played: Played) -> list[tuple[str, str, list[str]]]:
    """Whose, what, and the figure under each of the variants."""
    return [
        (
            whose,
            kind.value,
            [figure(kind, measure(played.scenario, record, wanted)) for record in played.records.values()],
        )
        for whose, kind, wanted in _measured(played.scenario)
    ]


def values(played: Played) -> dict[str, dict[str, dict[str, float | None]]]:
    """The same for programs: by variant, whose, and measure. What never happened is null."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for variant, record in played.records.items():
        mine = found.setdefault(variant, {})
        for whose, kind, wanted in _measured(played.scenario):
            value = measure(played.scenario, record, wanted)
            mine.setdefault(whose, {})[kind.value] = None if value is None or math.isinf(value) else round(value, 6)
    return found


def _measured(scenario: Scenario) -> list[tuple[str, Measure, Expectation]]:
    """Everything that a report shows: clients, services, and the endpoints that something befell."""
    befallen = dict.fromkeys(name for fault in scenario.faults for name in fault.whom if name not in scenario.clients)
    chosen = [
        *((name, kind) for name in scenario.clients for kind in (Measure.SUCCESS, Measure.P50, Measure.P99)),
        *((name, kind) for name in scenario.services for kind in (Measure.AMPLIFICATION, Measure.WASTED)),
        *((name, kind) for name in befallen for kind in (Measure.SHARE, Measure.EJECT, Measure.RECOVER)),
    ]
    return [
        (name, kind, Expectation(measure=kind, of=name, from_s=0.0, until_s=scenario.duration_s))
        for name, kind in chosen
    ]


def figure(kind: Measure, value: float | None) -> str:
    """A value with its unit; `-` for nothing to measure."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "never"
    if kind in _PERCENT:
        return f"{value:.2f} %"
    return seconds(value) if kind in _SECONDS else f"{value:.2f}"


def seconds(value_s: float) -> str:
    """`85 ms`, `2.4 s`."""
    return f"{value_s * 1e3:.3g} ms" if value_s < 0.9995 else f"{value_s:.3g} s"


def sentence(scenario: Scenario, finding: Finding) -> str:
    """`success of web from 10 s: 99.95 %, at least 99.90 % wanted`."""
    wanted = finding.expectation
    kind = wanted.measure
    bounds = [
        f"{word} {figure(kind, bound)}"
        for word, bound in (("at least", wanted.at_least), ("at most", wanted.at_most))
        if bound is not None
    ]
    span = f" from {wanted.from_s:g} s" if wanted.from_s else ""
    span += f" until {wanted.until_s:g} s" if wanted.until_s < scenario.duration_s else ""
    return f"{kind.value} of {wanted.of}{span}: {figure(kind, finding.value)}, {' and '.join(bounds)} wanted"


def curves(played: Played) -> list[tuple[str, str, str, str]]:
    """For each client and variant: who, which, a curve over time, and what its highest mark is."""
    found = []
    for client in played.scenario.clients:
        told = {name: by_second(played.scenario, record, client) for name, record in played.records.items()}
        highest = max((each.p99_s or 0.0 for one in told.values() for each in one), default=0.0)  # to be compared
        for variant, one in told.items():
            failed = [each.failed / each.requests if each.requests else 0.0 for each in one]
            slowest = [each.p99_s or 0.0 for each in one]
            found.append((client, f"failed, {variant}", curve(failed, 1.0), "100 %"))
            found.append((client, f"p99, {variant}", curve(slowest, highest), seconds(highest)))
    return found


def curve(marks: Sequence[float], highest: float) -> str:
    """A line of bars; each is the largest of its seconds, an empty one is nothing."""
    step = math.ceil(len(marks) / _WIDEST)
    largest = [max(marks[at : at + step]) for at in range(0, len(marks), step)]
    if highest <= 0:
        return " " * len(largest)
    return "".join(_bar(mark / highest) for mark in largest)


def _bar(share: float) -> str:
    return " " if share <= 0 else _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
