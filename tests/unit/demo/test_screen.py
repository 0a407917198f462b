"""The demo's table and lines: what is shown with a control plane, without one, and how commands are cut for copying."""

import io
import shlex
from typing import Any

import pytest
from rich.console import Console

from demo import screen
from demo.screen import COLUMNS, NOTHING, Seen, pasteable, share
from demo.watch import Watch
from tests.unit.demo.test_watch import answered

NODE: dict[str, Any] = {"version": "", "ready": True, "connected": True, "applied": 16, "latest": 16}
V1 = {"service": "orders.shop", "backend": "orders-v1.shop:8080"}
SEEN = Seen(
    stats={
        "rows": [
            V1 | {"rate": 99.2, "success": 0.99999, "p50_ms": 75.2, "p99_ms": 175.0},
            {"service": "stock.shop", "backend": "", "rate": 110.0, "success": 1.0, "p50_ms": 38.0, "p99_ms": 95.0},
        ],
        "ejected": [{"endpoint": "shop/orders-v1/8080/orders-2", "by": ["shop/frontend-1"]}],
    },
    status={
        "sidecars": [
            NODE | {"node": "shop/orders-1", "service": "orders", "version": "v1"},
            NODE | {"node": "shop/orders-2", "service": "orders", "version": "v1", "ready": False, "applied": 15},
            NODE | {"node": "shop/orders-3", "service": "orders", "version": "v2"},
        ]
    },
    traffic={"backends": [{"label": "v1", "weight": 9}, {"label": "v2", "weight": 1}]},
)


def watched() -> Watch:
    watch = Watch()
    for number in range(10):
        watch.done(answered(number / 10, "v2" if number == 0 else "v1"))
    return watch


def cells(seen: Seen) -> dict[str, dict[str, str]]:
    watch = watched()
    rows = screen.rows(seen, watch, watch.recent(1.0))
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}


def test_the_table_shows_golden_signals_split_and_state() -> None:
    found = cells(SEEN)

    assert list(found) == ["frontend", "orders v1", "orders v2", "stock"]
    v1 = found["orders v1"]
    assert (v1["REQ/S"], v1["GOOD"], v1["P50"], v1["P99"]) == ("99", "<100", "75", "175")
    assert (v1["SPLIT"], v1["WANTED"]) == ("90", "90")
    assert (v1["READY"], v1["EJECTED"], v1["CONFIG"]) == ("1/2", "orders-2", "15/16")
    assert v1["CALLED BY"] == "shop/frontend"
    assert found["orders v2"]["EJECTED"] == "none"
    assert found["frontend"]["GOOD"] == "100"


def test_without_a_control_plane_the_client_goes_on() -> None:
    found = cells(NOTHING)

    assert found["orders v1"]["SPLIT"] == "90"
    assert found["orders v1"]["REQ/S"] == ""
    assert found["frontend"]["REQ/S"] != ""


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_live_view_fits_any_width(width: int) -> None:
    out = io.StringIO()
    watch = watched()
    command = pasteable(["meshctl", "status", "--server", "http://127.0.0.1:15010"], width)
    Console(file=out, width=width).print(screen.live(NOTHING, watch, watch.recent(1.0), "5 s: 10 requests", [command]))

    assert "The control plane does not answer" in out.getvalue()
    assert "5 s: 10 requests" in out.getvalue()
    assert command in out.getvalue()


def test_a_line_for_logs_says_the_same() -> None:
    watch = watched()

    text = screen.line(SEEN, watch, watch.recent(1.0), "1 s: 10 requests, 0 failed")
    assert "v1 9, v2 1" in text
    assert "config 15/16" in text
    assert text.endswith("ejected orders-2")
    assert "control plane away" in screen.line(NOTHING, Watch(), Watch().recent(1.0), "")


def test_a_cut_command_is_the_same_command_to_a_shell() -> None:
    arguments = [
        "meshctl",
        "traffic",
        "set",
        "orders",
        "v1=50",
        "-n",
        "shop",
        "--wait",
        "--token-file",
        "/tmp/a b/api.token",
    ]
    for width in (30, 60, 500):
        text = pasteable(arguments, width)
        assert shlex.split(text.replace("\\\n", "")) == arguments
        assert all(len(line) <= max(width, 40) for line in text.splitlines())


@pytest.mark.parametrize(("value", "text"), [(None, ""), (1.0, "100"), (0.99999, "<100"), (0.901, "90.1"), (0.0, "0")])
def test_a_share_is_never_rounded_up_to_all(value: float | None, text: str) -> None:
    assert share(value) == text
