"""Wrong configurations and the exact text that users read about them.

Cases are found by listing: `resources/NAME.yaml` with `NAME.txt`, and folders `check/NAME` with a bootstrap file
`sidecar.yaml`, optionally `environment.txt`, and what `sidecar check` answers in `expected.txt`. To add a case, add the
input and run with GOLDEN_WRITE=1; then read the expected text as a user would, and commit both.
"""

import os
from pathlib import Path

import pytest

from sidecar.config.check import check_references
from sidecar.config.problems import Problems
from sidecar.config.report import check
from sidecar.config.resources import complain_of_repeats, read_documents

HERE = Path(__file__).parent
RESOURCES = sorted(path.stem for path in (HERE / "resources").glob("*.yaml"))
CHECKS = sorted(path.name for path in (HERE / "check").iterdir() if path.is_dir())


def compare(path: Path, actual: str) -> None:
    """`actual` is what the golden file says, or becomes it when GOLDEN_WRITE is set."""
    if os.environ.get("GOLDEN_WRITE"):
        path.write_text(actual, "utf-8")
    assert actual == path.read_text("utf-8")


@pytest.mark.parametrize("name", RESOURCES)
def test_documents_are_answered_with_the_expected_lines(name: str) -> None:
    path = HERE / "resources" / f"{name}.yaml"
    problems = Problems()
    documents = read_documents(path.read_text("utf-8"), path.name, problems)
    complain_of_repeats(documents)
    if not problems.errors:
        check_references(documents, problems)
    warnings = [f"warning: {line}" for line in problems.warning_lines()]
    compare(path.with_suffix(".txt"), "".join(f"{line}\n" for line in problems.lines() + warnings))


@pytest.mark.parametrize("name", CHECKS)
def test_sidecar_check_answers_as_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = HERE / "check" / name
    monkeypatch.chdir(folder)
    given = folder / "environment.txt"
    lines = given.read_text("utf-8").splitlines() if given.exists() else []
    status, answer, complaints = check("sidecar.yaml", dict(line.split("=", 1) for line in lines))
    said = [f"stdout: {line}" for line in answer] + [f"stderr: {line}" for line in complaints]
    compare(folder / "expected.txt", "".join(f"{line}\n" for line in [*said, f"status: {status}"]))


def test_there_are_enough_wrong_configurations() -> None:
    assert len(RESOURCES) + len(CHECKS) >= 25
