"""How sidecars and checks are put into words."""

import io
import re
from typing import Any

import pytest

from control_plane.cli.commands.health import STATUS_COLUMNS, state_of, status_cells
from control_plane.cli.output import print_table


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


def sidecar_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "node": "shop/orders-1",
        "service": "orders",
        "version": "v1",
        "account": "orders",
        "address": "127.0.0.1:15106",
        "sidecar_version": "0.1.0",
        "connected": True,
        "ready": True,
        "registered": True,
        "applied": 42,
        "latest": 42,
        "in_sync": True,
        "rejected": [],
        "lease_left_s": 28.0,
        "held": False,
        "config_age_s": 3.2,
        "cert_not_after_s": 1_000_000.0 + 23.5 * 3600,
    }
    return {**row, **changes}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "SYNCED"),
        ({"in_sync": False, "applied": 41}, "STALE"),
        ({"rejected": [{"node": "a", "name": "b", "version": 1, "reason": "c"}]}, "REJECTED"),
        ({"connected": False, "in_sync": False}, "GONE"),
        ({"connected": False, "held": True}, "HELD"),
    ],
)
def test_one_word_says_how_a_sidecar_stands(changes: dict[str, Any], state: str) -> None:
    assert state_of(sidecar_row(**changes)) == state


def test_the_table_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        sidecar_row(),
        sidecar_row(node="shop/frontend-1", service="frontend", state="REJECTED", applied=1041, latest=1042),
    ]
    print_table(STATUS_COLUMNS, [status_cells(row, 1_000_000.0) for row in rows])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["shop/orders-1", "orders", "v1", "42", "SYNCED", "yes", "3s", "23h"]
    assert max(len(line) for line in lines) <= 80


def test_what_is_not_known_is_a_dash() -> None:
    row = sidecar_row(
        version="", registered=False, config_age_s=None, cert_not_after_s=None, lease_left_s=None, address=""
    )
    cells = dict(zip([column.title for column in STATUS_COLUMNS], status_cells(row, 0.0), strict=True))
    for title in ("VERSION", "READY", "AGE", "CERT", "LEASE", "ADDRESS"):
        assert cells[title] == "-", title


def test_an_expired_certificate_is_said_loudly() -> None:
    assert "EXPIRED" in status_cells(sidecar_row(cert_not_after_s=999.0), 1_000.0)


def test_a_narrow_terminal_folds_names_and_keeps_every_state_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    row = sidecar_row(node="shop/frontend-6d5f7b9c4-x2x7p", applied=1041, latest=1042, rejected=[{}])
    print_table(STATUS_COLUMNS, [status_cells(row, 1_000_000.0)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[0].split() == ["NODE", "SERVICE", "VERSION", "CONFIG", "STATE", "READY", "AGE", "CERT"]
    assert "".join(line[: lines[0].index("SERVICE")].strip() for line in lines[1:]) == "shop/frontend-6d5f7b9c4-x2x7p"
    for cell in ("1041/1042", "REJECTED", "yes", "3s", "23h"):
        assert cell in lines[1].split()
