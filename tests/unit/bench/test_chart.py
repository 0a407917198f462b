"""The chart shows every row that Envoy is in, good or bad, where its ratio says."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench.chart import Bar, bars_of, draw

FACTS = {"commit": "abc1234", "date": "2026-11-21T01:02:03Z", "virtual_machine": True, "cores": 2}


def spread(ratio: float) -> dict[str, float]:
    return {"median": ratio, "low": ratio * 0.9, "high": ratio * 1.1}


def cpu(name: str, kind: str = "http1", **ratios: dict[str, float]) -> dict[str, Any]:
    encoded = {
        ours.replace("_", "-"): {theirs: spread(value) for theirs, value in of.items()} for ours, of in ratios.items()
    }
    return {"table": "cpu", "scenario": {"name": name, "kind": kind}, "ratio": encoded}


def test_both_paths_have_a_bar_and_minimal_envoy_a_mark_in_it() -> None:
    row = cpu("Host only", sidecar={"envoy": 0.8, "envoy-minimal": 0.9, "nginx": 2.0}, sidecar_full_path={"envoy": 4.0})
    fast, full = bars_of([row])

    assert (fast.label, fast.ratio, fast.minimal) == ("Host only", 0.8, 0.9)
    assert (full.label, full.ratio, full.minimal) == ("Host only, full path", 4.0, None)


def test_rows_of_one_heading_stand_together() -> None:
    rows = [
        cpu("a", sidecar={"envoy": 1.0}),
        cpu("b", "mesh", sidecar={"envoy": 1.0}),
        cpu("c", sidecar={"envoy": 1.0}),
    ]

    assert [bar.label for bar in bars_of(rows)] == ["a", "c", "b"]


def test_latency_and_memory_are_ratios_too() -> None:
    latency = {
        "table": "latency",
        "scenario": {"name": "latency, half, 32 connections"},
        "added_us": {"sidecar": {"p99": 200.0}, "envoy": {"p99": 400.0}},
    }
    idle = {
        "table": "idle",
        "scenario": {"name": "1,000 idle connections"},
        "proxies": {"sidecar": {"each_kib": 30.0}, "envoy": {"each_kib": 10.0}},
    }
    assert [(bar.label, bar.ratio) for bar in bars_of([latency, idle])] == [
        ("half, 32 connections", 0.5),
        ("1,000 idle connections, each", 3.0),
    ]


@pytest.mark.parametrize("ratios", [(0.5, 20.0), (0.9, 1.1), (3.0, float("inf"))])
def test_what_is_ahead_is_left_of_the_line_and_what_is_behind_right(ratios: tuple[float, float]) -> None:
    bars = [Bar("CPU <all>", f"row {ratio}", ratio, ratio, ratio) for ratio in ratios]
    picture = draw(bars, FACTS)

    root = ET.fromstring(picture)
    line = re.search(r'class="one" d="M([0-9.]+)', picture)
    assert line is not None
    one = float(line[1])
    drawn = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") in ("less", "more")]
    for bar, rect in zip(bars, drawn, strict=True):
        left, width = float(rect.get("x", "0")), float(rect.get("width", "0"))
        assert (rect.get("class") == "less") == (bar.ratio <= 1.0)
        assert (left + width if bar.ratio <= 1.0 else left) == pytest.approx(one, abs=0.2)
    assert "abc1234" in picture
    assert "CPU &lt;all&gt;" in picture
