"""Results survive a stop: what a commit has measured is not measured again, unless the row or the tree differs."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench import compare
from bench.process import BenchError
from bench.scenarios import FAST, AnyScenario, IdleScenario, Kind, Scenario
from bench.store import Store, slug

ROW = Scenario(name="Host + 12, unseen")
FACTS = {"commit": "abc1234", "date": "2026-11-21T01:02:03Z"}


def saved(folder: Path, facts: dict[str, Any] = FACTS) -> Store:
    store = Store(folder)
    store.save({"scenario": asdict(ROW), "errors": 0}, facts)
    return store


def test_a_row_of_this_commit_is_done(tmp_path: Path) -> None:
    entry = saved(tmp_path).done(asdict(ROW), "abc1234")

    assert entry is not None
    assert entry["scenario"]["name"] == ROW.name


@pytest.mark.parametrize(
    ("row", "commit"), [(ROW, "def5678"), (replace(ROW, seconds=9.0), "abc1234"), (replace(ROW, name="new"), "abc1234")]
)
def test_another_commit_or_another_row_is_not(tmp_path: Path, row: Scenario, commit: str) -> None:
    assert saved(tmp_path).done(asdict(row), commit) is None


def test_a_tree_with_changes_is_always_measured(tmp_path: Path) -> None:
    facts = {**FACTS, "commit": "abc1234+changes"}

    assert saved(tmp_path, facts).done(asdict(ROW), "abc1234+changes") is None


def test_the_newest_run_is_found_by_its_kind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for day in ("20", "22", "21"):
        store.write([], {**FACTS, "date": f"2026-11-{day}T01:02:03Z"}, "full")
    store.write([], {**FACTS, "date": "2026-11-23T01:02:03Z"}, "bench")

    newest = store.newest("full")
    assert newest is not None
    assert newest.name == "20261122T010203Z-abc1234-full.json"
    assert Store(tmp_path / "none").newest("full") is None


def test_configurations_are_kept_without_keys(tmp_path: Path) -> None:
    made = tmp_path / "made" / "envoy"
    made.mkdir(parents=True)
    for name in ("envoy.json", "svid.key", "svid.pem", "access.log"):
        (made / name).write_text("text")

    Store(tmp_path).keep_configurations("Host + 12", tmp_path / "made")
    kept = tmp_path / "configurations" / "host-12"
    assert [str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()] == ["envoy/envoy.json"]


def test_file_names() -> None:
    assert slug("latency, half of Envoy's saturation") == "latency-half-of-envoy-s-saturation"


def test_two_commits_take_turns_and_the_second_is_compared_with_the_first() -> None:
    row = compare.of(ROW, "aaa1111", "bbb2222")

    assert isinstance(row, Scenario)
    assert row.proxies == (f"{FAST}@aaa1111", f"{FAST}@bbb2222")
    assert (row.ours, row.opponents) == ((f"{FAST}@bbb2222",), (f"{FAST}@aaa1111",))
    assert row.pairs == 2 * ROW.pairs
    assert compare.checkout(FAST) is None


@pytest.mark.parametrize(
    ("row", "possible"),
    [
        (ROW, True),
        (replace(ROW, kind=Kind.GRPC), True),
        (replace(ROW, kind=Kind.MESH), False),
        (replace(ROW, load_percent=50), False),
        (IdleScenario(name="idle", connections=1), False),
    ],
)
def test_what_commits_can_be_compared_by(row: AnyScenario, possible: bool) -> None:
    assert compare.can(row) is possible


def test_an_unknown_commit_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="rev-parse"):
        compare.short("no-such-commit")
    assert command.main(["--compare", "no-such-commit", "HEAD"]) == 2
    assert "no-such-commit" in capsys.readouterr().err
