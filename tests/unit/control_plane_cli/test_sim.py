"""`meshctl sim`: what a person and a program see, and the scenarios that come with the product."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from control_plane.cli.main import main

EXAMPLES = Path(__file__).parents[3] / "examples" / "sim"
SMALL = """\
scenario: small
about: One of two fails.
duration: 4s
services:
  stock: {endpoints: 2, latency: {p50: 10ms}}
clients:
  web: {calls: stock, rate: 50}
faults:
  - {kind: errors, whom: [stock-1], from: 1s, percent: 100}
expect:
  - {measure: success, of: web, atLeast: 99}
variants:
  no-retries: {stock: {retries: {attempts: 0}}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_scenario_of_ours_holds(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", str(path)]) == 0
    assert path.stem in capsys.readouterr().out.splitlines()[0]


def test_there_are_ten_and_each_is_told_of() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.yaml")}
    told = (EXAMPLES / "README.md").read_text()
    assert len(names) >= 10
    assert all(f"[{name}]({name}.yaml)" in told for name in names)


def test_the_table_has_a_column_for_each_policy(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", str(small)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["small, seed 1, 4 s", "One of two fails."]
    assert lines[3].split() == ["WHOSE", "WHAT", "OWN", "POLICIES", "NO-RETRIES"]
    success = next(line for line in lines if line.startswith("web") and "success" in line).split()
    assert success[2:4] == ["100.00", "%"]
    assert float(success[4]) < 100
    assert any(line.startswith("holds   success of web: 100.00 %, at least 99.00 % wanted") for line in lines)


def test_the_same_seed_is_the_same_answer(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("3", "3", "4"):
        assert main(["sim", str(small), "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_programs_read_json(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", str(small), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["variants"]["own policies"]["web"]["success"] == 100.0
    assert told["variants"]["no-retries"]["web"]["success"] < 100.0
    assert told["variants"]["no-retries"]["stock"]["amplification"] == 1.0
    assert [each["holds"] for each in told["expectations"]] == [True]


def test_what_does_not_hold_is_a_failure(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text(SMALL.replace("atLeast: 99", "atMost: 99"))
    assert main(["sim", str(small)]) == 1
    got = capsys.readouterr()
    assert "FAILED  success of web: 100.00 %, at most 99.00 % wanted" in got.out
    assert got.err == "error: 1 of 1 expectations did not hold\n"
    assert main(["sim", str(small), "--seeds", "3"]) == 1
    got = capsys.readouterr()
    assert [line.partition(":")[0] for line in got.out.splitlines()] == ["seed 1", "seed 2", "seed 3"]
    assert got.err == "error: 3 of 3 seeds did not hold\nhint: look at one of them: --seed N\n"


def test_many_seeds_hold(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", str(small), "--seeds", "5", "--seed", "10"]) == 0
    assert capsys.readouterr().out == "small: everything holds with 5 seeds, 10 to 14\n"


def test_the_picture_has_a_line_for_each_policy(small: Path, tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    assert main(["sim", str(small), "--svg", str(picture)]) == 0
    root = ElementTree.fromstring(picture.read_text())
    lines = [each for each in root.iter("{http://www.w3.org/2000/svg}path") if each.get("class") == "line"]
    assert len(lines) == 4  # failures and latency, two policies


def test_wrong_files_are_told(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text(SMALL.replace("rate: 50", "rat: 50"))
    assert main(["sim", str(small)]) == 1
    err = capsys.readouterr().err
    assert f"{small}:7:23: clients.web.rat: unknown field 'rat' (did you mean 'rate'?" in err
    assert "Traceback" not in err
    assert main(["sim", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file or directory" in capsys.readouterr().err
    assert main(["sim", str(small), "-o", "name"]) == 2
    small.write_text(SMALL)
    assert main(["sim", str(small), "--seeds", "2", "-o", "json"]) == 2
    assert main(["sim", str(small), "--seeds", "2", "--svg", str(tmp_path / "run.svg")]) == 2
    assert main(["sim", str(small), "--svg", str(tmp_path / "no" / "where.svg")]) == 2
