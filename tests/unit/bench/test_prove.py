"""Long runs: they can be stopped and go on, they end at a failure, and each leaves one line."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from random import Random

import pytest

from bench import prove
from bench.ledger import Ledger
from bench.progress import Say
from bench.prove import BLOCK, PROOFS, FoundFailureError, InParts, Proof, Runner, Stop, StoppedError, Whole

COMMIT = "abc1234"
NAME = "module:test_something"
PROOF = Proof("some-fuzz", "something holds", ((NAME, 3),))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(proof=tmp_path / "proof.json", results=tmp_path / "results")


class Inputs:
    """A target that counts, and may stop the run or fail at a number."""

    def __init__(self, stop: Stop, *, stop_at: int = 0, fail_at: int = 0) -> None:
        self.seen: list[bytes] = []
        self._stop, self._stop_at, self._fail_at = stop, stop_at, fail_at

    def __call__(self, data: bytes) -> None:
        self.seen.append(data)
        if len(self.seen) == self._stop_at:
            self._stop.asked = True
        if len(self.seen) == self._fail_at:
            raise AssertionError("does not hold")


def play(ledger: Ledger, target: Inputs, stop: Stop) -> None:
    Runner(PROOF, COMMIT, ledger, stop, lambda _: None).run({NAME: (target, 3)}, ledger.done(PROOF.name, COMMIT))


def test_a_stopped_run_goes_on_with_the_block_that_was_under_way(ledger: Ledger) -> None:
    stop = Stop()
    whole, first, rest = Inputs(stop), Inputs(stop, stop_at=BLOCK + 10), Inputs(stop)
    play(Ledger(ledger.proof, ledger.results / "other"), whole, stop)
    with pytest.raises(StoppedError):
        play(ledger, first, stop)
    stop.asked = False
    play(ledger, rest, stop)

    assert len(rest.seen) == 2 * BLOCK
    assert first.seen[:BLOCK] + rest.seen == whole.seen


def test_another_commit_and_a_changed_tree_start_afresh(ledger: Ledger) -> None:
    ledger.save(PROOF.name, COMMIT, {NAME: 2})

    assert ledger.done(PROOF.name, COMMIT) == {NAME: 2}
    assert ledger.done(PROOF.name, "def5678") == {}
    ledger.save(PROOF.name, "abc+changes", {NAME: 2})
    assert ledger.done(PROOF.name, "abc+changes") == {}


def test_a_failure_names_its_input_and_keeps_it(ledger: Ledger) -> None:
    stop = Stop()
    target = Inputs(stop, fail_at=BLOCK + 5)
    with pytest.raises(FoundFailureError, match="test_something, block 1, input 4 fails") as caught:
        play(ledger, target, stop)

    assert isinstance(caught.value.__cause__, AssertionError)
    assert (ledger.results / "some-fuzz-failure.bin").read_bytes() == target.seen[-1]


def test_the_ledger_is_one_line_a_run(ledger: Ledger) -> None:
    ledger.record("b", "2 inputs", COMMIT, "2026-11-21")
    ledger.record("a", "1 input", COMMIT, "2026-11-21")
    ledger.record("b", "3 inputs", COMMIT, "2026-11-22")

    lines = ledger.proof.read_text().splitlines()
    assert len(lines) == 4
    assert json.loads(ledger.proof.read_text())["b"] == {"figure": "3 inputs", "commit": COMMIT, "date": "2026-11-22"}
    assert lines[1].startswith('"a"')


@pytest.mark.parametrize("name", [name for proof in PROOFS if isinstance(proof, Proof) for name, _ in proof.targets])
def test_every_target_is_a_fuzz_test_that_takes_bytes(name: str) -> None:
    target = prove.fuzz_target(name)

    for data in (b"", b"\0" * 64, bytes(range(256)) * 4):
        target(data)


def whole(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, figure: str) -> tuple[int, dict[str, str]]:
    """Play a run without blocks; exit status and the line it left."""
    run = prove.Whole("some-load", "nothing fails", f"{__name__}:{figure}", "1 run")
    monkeypatch.setattr(prove, "PROOFS", (run,))
    monkeypatch.setattr(prove, "Ledger", lambda: ledger)
    return prove.main(["--again"]), ledger.proven()["some-load"]


def good_figure(say: Say) -> str:
    say("under way")
    return "7 requests, 0 failed"


def bad_figure(say: Say) -> str:
    raise AssertionError("3 requests failed\nand a long story")


def test_a_run_without_blocks_leaves_its_figure(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    status, line = whole(monkeypatch, ledger, "good_figure")
    assert (status, line["figure"]) == (0, "7 requests, 0 failed")


def test_a_run_without_blocks_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    status, line = whole(monkeypatch, ledger, "bad_figure")
    assert (status, line["figure"]) == (1, "FAILED: 3 requests failed")


class Parts:
    """A player of three parts; `fail_at` is the one that fails."""

    parts = ("one", "two", "three")

    def __init__(self, fail_at: str = "") -> None:
        self.played: list[tuple[str, float]] = []
        self._fail_at = fail_at

    def play(self, part: str, rng: Random) -> Mapping[str, int]:
        self.played.append((part, rng.random()))
        if part == self._fail_at:
            raise AssertionError(f"{part} does not hold")
        return {"inputs": 5}

    def figure(self, counts: Mapping[str, int]) -> str:
        return f"{counts['inputs']} inputs"


def play_three(ledger: Ledger, player: Parts) -> str:
    return prove.play_parts("in-parts", player, COMMIT, ledger, ledger.done("in-parts", COMMIT))


def test_a_run_in_parts_goes_on_with_the_part_that_was_under_way(ledger: Ledger) -> None:
    whole, first, rest = Parts(), Parts(fail_at="two"), Parts()
    with pytest.raises(AssertionError, match="two does not hold"):
        play_three(ledger, first)
    figure = play_three(ledger, rest)

    assert figure == play_three(Ledger(ledger.proof, ledger.results / "other"), whole) == "15 inputs"
    assert first.played[:1] + rest.played == whole.played
    assert [part for part, _ in rest.played] == ["two", "three"]


@pytest.mark.parametrize(
    "run", [proof for proof in PROOFS if isinstance(proof, Whole | InParts)], ids=lambda run: run.name
)
def test_every_run_without_blocks_is_there(run: Whole | InParts) -> None:
    module, _, function = run.target.partition(":")
    assert callable(getattr(import_module(module), function))


def test_an_unknown_run_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--only", "nothing"]) == 2
    assert "no run has 'nothing' in its name" in capsys.readouterr().err


def test_the_runs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--list"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[::2]] == [p.name for p in PROOFS]
