"""`meshctl sim`: play a scenario with the mesh's own policies on virtual time, and say what came of it. Offline."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.output import Column, print_json, print_table

if TYPE_CHECKING:
    from sidecar.sim.report import Played
    from sidecar.sim.scenario import Scenario

MAX_SEEDS = 10_000


class Form(StrEnum):
    """How a run is told."""

    TABLE = "table"
    JSON = "json"


def sim(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="The scenario's file; see examples/sim.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's own.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=MAX_SEEDS, help="Play so many seeds, and say for which something did not hold.")
    ] = 1,
    own_only: Annotated[bool, typer.Option("--own-only", help="Without the variants.")] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it too.")] = None,
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print one run.")] = Form.TABLE,
) -> None:
    """Play a scenario: the real policies, simulated services, one seed for one run.

    Status 1 when something that the scenario expects did not hold.
    """
    if seeds > 1 and (svg is not None or output is Form.JSON):
        raise Complaint("--svg and -o json are of one run", hint="leave --seeds out", status=USAGE)
    made = _read(scenario)
    first = made.seed if seed is None else seed
    if seeds > 1:
        _play_many(made, first, seeds)
        return
    played = _play(made, first, own_only=own_only)
    if svg is not None:
        _write(svg, played)
    if output is Form.JSON:
        print_json(_document(played))
    else:
        _tell(played)
    _complain(sum(not finding.holds for finding in played.findings()), len(made.expectations))


def _read(path: Path) -> "Scenario":
    from sidecar.config.files import read_text
    from sidecar.errors import ConfigError, UnreadableError
    from sidecar.sim.read import read_scenario

    try:
        made, warnings = read_scenario(read_text(path), str(path))
    except UnreadableError as unreadable:
        raise Complaint(str(unreadable), status=USAGE) from None
    except ConfigError as wrong:
        for line in wrong.problems:
            print(line, file=sys.stderr)
        count = len(wrong.problems)
        raise Complaint(f"{path} has {count} {'problem' if count == 1 else 'problems'}") from None
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    return made


def _play(scenario: "Scenario", seed: int, *, own_only: bool) -> "Played":
    from sidecar.sim.report import OWN, Played
    from sidecar.sim.world import play

    records = {OWN: play(scenario, seed=seed)}
    if not own_only:
        records |= {name: play(scenario, name, seed) for name in scenario.variants}
    return Played(scenario, seed, records)


def _play_many(scenario: "Scenario", first: int, count: int) -> None:
    from sidecar.sim.report import sentence

    broken = 0
    for seed in range(first, first + count):
        wrong = [each for each in _play(scenario, seed, own_only=True).findings() if not each.holds]
        broken += bool(wrong)
        for finding in wrong:
            print(f"seed {seed}: {sentence(scenario, finding)}")
    if broken:
        raise Complaint(f"{broken} of {count} seeds did not hold", hint="look at one of them: --seed N")
    print(f"{scenario.name}: everything holds with {count} seeds, {first} to {first + count - 1}")


def _tell(played: "Played") -> None:
    from sidecar.sim.report import curves, rows, sentence

    scenario = played.scenario
    print(f"{scenario.name}, seed {played.seed}, {scenario.duration_s:g} s")
    if scenario.about:
        print(scenario.about)
    print()
    columns = [Column("WHOSE"), Column("WHAT"), *(Column(name.upper(), right=True) for name in played.records)]
    print_table(columns, [(whose, what, *figures) for whose, what, figures in rows(played)])
    print()
    for client, what, line, top in curves(played):
        print(f"{client} {what}".ljust(34), f"{line}  top is {top}")
    if scenario.expectations:
        print()
    for finding in played.findings():
        print(f"{'holds ' if finding.holds else 'FAILED'}  {sentence(scenario, finding)}")


def _document(played: "Played") -> dict[str, object]:
    from sidecar.sim.report import sentence, values

    return {
        "scenario": played.scenario.name,
        "seed": played.seed,
        "variants": values(played),
        "expectations": [{"holds": each.holds, "what": sentence(played.scenario, each)} for each in played.findings()],
    }


def _write(path: Path, played: "Played") -> None:
    from sidecar.sim.picture import draw

    try:
        path.write_text(draw(played), encoding="utf-8")
    except OSError as refusal:
        raise Complaint(f"{path}: {refusal.strerror or refusal}", status=USAGE) from None


def _complain(failed: int, expected: int) -> None:
    if failed:
        raise Complaint(f"{failed} of {expected} expectations did not hold")
