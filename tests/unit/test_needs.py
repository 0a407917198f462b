"""The `needs` marker: a missing tool skips with a hint, and fails under CI."""

from pathlib import Path

import pytest

from tests.support import needs


class Item:
    """As much of a pytest item as `enforce` reads."""

    def __init__(self, *tools: str) -> None:
        self.marker = pytest.mark.needs(*tools).mark

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [self.marker] if name == "needs" else []


def test_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(needs, "_SYSTEM_FOLDERS", ())
    assert needs.missing(["promtool", "nft"]) == "needs promtool, nft: apt-get install prometheus nftables"


def test_present_tool_is_not_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "curl"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needs.missing(["curl"]) == ""


def test_absence_skips_here_and_fails_under_ci() -> None:
    item = Item("no-such-tool")
    with pytest.raises(pytest.skip.Exception, match="needs no-such-tool: apt-get install no-such-tool"):
        needs.enforce(item, ci=False)  # type: ignore[arg-type]  # a fake with what is read of it
    with pytest.raises(pytest.fail.Exception, match="needs no-such-tool"):
        needs.enforce(item, ci=True)  # type: ignore[arg-type]  # a fake with what is read of it
