"""The command around the measurement, and the small parts below it."""

import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import compare, machine, tools
from bench.cores import Cores, pick_cores
from bench.process import BenchError, Process
from bench.scenarios import FAST, Scenario


def test_the_proxy_has_the_last_core_and_the_load_the_first() -> None:
    assert pick_cores([0, 1]) == Cores(proxy=1, load=0)
    assert pick_cores([2, 3, 5]) == Cores(proxy=5, load=2)
    assert pick_cores([0]) == Cores(proxy=0, load=0)


def test_an_unknown_row_is_a_usage_error_that_lists_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "nothing"]) == 2
    assert "'Host only'" in capsys.readouterr().err


def names(*arguments: str) -> list[str]:
    return [row.name for row in command.chosen(command.options_of(arguments))]


def test_only_finds_rows_of_the_full_run_too() -> None:
    assert names("--only", "Host + 12, un") == ["Host + 12, unseen"]
    assert names("--only", "access log") == ["access log of all"]
    assert "access log of all" not in names()
    assert set(names()) <= set(names("--full")) | {"Host only", "Host + 12"}


def test_pairs_and_seconds_are_of_every_timed_row() -> None:
    rows = command.chosen(command.options_of(["--full", "--pairs", "2", "--seconds", "1"]))

    assert {(row.pairs, row.seconds) for row in rows if isinstance(row, Scenario)} == {(2, 1.0)}


def test_against_compares_this_commit_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "short", {"v0.2": "aaa1111", "HEAD": "bbb2222"}.__getitem__)
    (row,) = command.chosen(command.options_of(["--against", "v0.2", "--only", "unseen"]))

    assert isinstance(row, Scenario)
    assert row.proxies == (f"{FAST}@aaa1111", f"{FAST}@bbb2222")


def test_a_commit_is_not_compared_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--compare", "HEAD", "HEAD"]) == 2
    assert "both commits are" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--pairs", "0"], ["--seconds", "x"], ["--unknown"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2


def test_missing_tools_are_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "find", lambda _: None)

    assert command.main([]) == 2
    said = capsys.readouterr().err
    assert "nginx is missing: apt-get install nginx-light" in said
    assert "wrk is missing: apt-get install wrk" in said
    assert "envoy is missing: make bench installs it" in said


def test_the_machine_is_described_by_what_proc_says() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert machine.memory_mib("MemTotal:       24576 kB\nMemFree: 1 kB\n") == 24
    assert machine.memory_mib("") == 0


def test_a_child_that_dies_before_it_is_ready_shows_its_last_words(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; print('no such port'); sys.exit(3)"]
    process = Process("proxy", argv, core=0, log=tmp_path / "log")

    with pytest.raises(BenchError, match="proxy ended with status 3 before listening:\nno such port"):
        process.wait_for("listening", lambda: None)
    process.stop()


def test_a_child_is_stopped_and_gone(tmp_path: Path) -> None:
    argv = [sys.executable, "-uc", "import time; print('up'); time.sleep(60)"]
    process = Process("proxy", argv, core=0, log=tmp_path / "log")
    process.wait_for("up", lambda: "up" in process.output() or None)
    pids = process.pids

    process.stop()
    process.stop()
    assert len(pids) == 1
    assert process.pids == []
