"""The coverage-guided fuzzer finds what was planted, and every target survives its seeds.

The long run, ten minutes, is `make prove ARGS="--only guided"`.
"""

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.guided import Guided, drive
from tests.fuzz.targets import PLANTED, TARGETS

SEED = 1
SECONDS = 60  # found after one or two; the rest is patience with a busy machine


@pytest.mark.parametrize("name", [*TARGETS, "planted"])
def test_a_target_survives_what_real_programs_send_and_what_was_found(name: str) -> None:
    target = {**TARGETS, "planted": PLANTED}[name]
    seeds = [*target.seeds(), *corpus.kept(name)]

    assert len(seeds) >= 10
    for data in seeds:
        target.play(data)


@pytest.mark.slow
def test_a_planted_crash_is_found(tmp_path: Path) -> None:
    outcome = drive("planted", tmp_path, SECONDS, SEED)

    assert outcome.failure == "RuntimeError: planted"
    assert b"%2F" in outcome.input.upper()
    assert outcome.edges > 0


def test_what_was_found_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "kept")
    found = tmp_path / "found"
    found.mkdir()
    for number, data in enumerate((b"", b"b", b"a", b"\x00\n", b"l" * (corpus.INPUT_MAX_BYTES + 1))):
        (found / str(number)).write_bytes(data)

    corpus.keep("t", found)
    assert corpus.kept("t") == [b"a", b"b", b"\x00\n"]
    for number in range(corpus.INPUTS_MAX + 10):
        (found / str(number)).write_bytes(b"%04d" % number)
    corpus.keep("t", found)

    assert len(corpus.kept("t")) == corpus.INPUTS_MAX
    assert corpus.kept("t")[:3] == [b"a", b"b", b"\x00\n"]
    assert corpus.kept("other") == []


def test_the_long_run_says_what_each_target_took() -> None:
    counts = {f"{part} {what}": number for part in TARGETS for what, number in (("executions", 1_000), ("edges", 10))}

    sums = f"{len(TARGETS)},000 executions, {len(TARGETS)}0 edges"
    assert Guided().figure(counts).startswith(f"{sums}, 0 failures (h1-server 1,000/10, ")
