"""The coverage-guided fuzzer finds what was planted, and every target survives its seeds.

The long run, ten minutes, is `make prove ARGS="--only guided"`.
"""

from pathlib import Path

import pytest

from tests.fuzz.guided import Guided, drive
from tests.fuzz.targets import PLANTED, TARGETS

SEED = 1
SECONDS = 60  # found after one or two; the rest is patience with a busy machine


@pytest.mark.parametrize("name", [*TARGETS, "planted"])
def test_a_target_survives_what_real_programs_send(name: str) -> None:
    target = {**TARGETS, "planted": PLANTED}[name]
    seeds = list(target.seeds())

    assert len(seeds) >= 10
    for data in seeds:
        target.play(data)


@pytest.mark.slow
def test_a_planted_crash_is_found(tmp_path: Path) -> None:
    outcome = drive("planted", tmp_path, SECONDS, SEED)

    assert outcome.failure == "RuntimeError: planted"
    assert b"%2F" in outcome.input.upper()
    assert outcome.edges > 0


def test_the_long_run_says_what_each_target_took() -> None:
    counts = {f"{part} {what}": number for part in TARGETS for what, number in (("executions", 1_000), ("edges", 10))}

    sums = f"{len(TARGETS)},000 executions, {len(TARGETS)}0 edges"
    assert Guided().figure(counts).startswith(f"{sums}, 0 failures (h1-server 1,000/10, ")
