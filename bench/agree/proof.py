"""The agreement of the simulator with real processes as one long run of `make prove`; a scenario is a part."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from bench.agree import play as reality
from bench.agree.compare import Line, compare
from bench.machine import ROOT
from sidecar.sim import world
from sidecar.sim.measures import Finding, judge
from sidecar.sim.read import read_scenario
from sidecar.sim.report import figure, sentence
from sidecar.sim.scenario import Scenario

SCENARIOS = ("retry-storm", "gray-failure", "fast-failure", "bad-canary", "flapping")
SEEDS = 10  # simulated runs, of which the mean is taken


@dataclass(frozen=True, slots=True)
class Both:
    """A scenario that was played both ways.

    Attributes:
        lines: What the simulator says, beside what happened.
        findings: What became of the scenario's own expectations, for real.
    """

    scenario: Scenario
    lines: list[Line]
    findings: list[Finding]

    def told(self) -> Iterator[tuple[bool, str]]:
        """Every figure in words, and whether it is as wanted."""
        yield from ((line.agrees, line_of(line)) for line in self.lines)
        for finding in self.findings:
            verdict = "holds" if finding.holds else "DOES NOT HOLD"
            yield finding.holds, f"{verdict} for real: {sentence(self.scenario, finding)}"


def both(name: str) -> Both:
    """Play a scenario of examples/sim both ways. Takes as long as it lasts."""
    file = ROOT / "examples" / "sim" / f"{name}.yaml"
    scenario, _ = read_scenario(file.read_text(), str(file))
    simulated = [world.play(scenario, seed=seed) for seed in range(SEEDS)]
    real = reality.play(scenario, scenario.seed)
    return Both(scenario, compare(scenario, simulated, real), judge(scenario, real))


def line_of(line: Line) -> str:
    """`success of web from 5 s: simulated 99.9 %, real 99.8 % (0.5 points allowed)`."""
    what = line.what
    span = f"{what.from_s:g} to {what.until_s:g} s"
    simulated, real = figure(what.measure, line.simulated), figure(what.measure, line.real)
    verdict = "agrees" if line.agrees else "DIFFERS"
    return f"{verdict}: {what.measure.value} of {what.of}, {span}: simulated {simulated}, real {real} ({line.bound})"


class Player:
    """See `bench.prove.Player`."""

    parts = SCENARIOS

    def play(self, part: str, rng: Random) -> Mapping[str, int]:
        """Play one both ways. Raises AssertionError with the figures that differ."""
        del rng  # a scenario has its own seed
        played = both(part)
        wrong = [words for good, words in played.told() if not good]
        assert not wrong, f"{part}: {'; '.join(wrong)}"
        return {"figures": len(played.lines), "expectations": len(played.findings)}

    def figure(self, counts: Mapping[str, int]) -> str:
        """How much agreed."""
        return (
            f"{len(self.parts)} scenarios, {counts['figures']} figures, each within its bound; "
            f"their {counts['expectations']} expectations hold for real"
        )


@contextmanager
def prove() -> Iterator[Player]:
    """For `make prove`."""
    yield Player()
