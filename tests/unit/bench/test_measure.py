"""From counts to figures, and what makes a run doubtful."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from bench import load, report
from bench.load import Load
from bench.measure import Row, Run, judge
from bench.play import encode
from bench.process import BenchError
from bench.procfs import TICKS_PER_S, CoreTicks
from bench.rows import BENCH, full, of_each_kind
from bench.scenarios import AnyScenario, Heads, MemoryScenario, Scenario, smoke
from bench.store import Entry, slug

LOAD = Load(requests=100_000, errors=0, seconds=5.0, cpu_s=1.0)
HALF = CoreTicks(5 * TICKS_PER_S // 2, 5 * TICKS_PER_S // 2, 0)  # five seconds, half of them busy


def run(proxy: str = "sidecar", cpu_us: float = 100.0, *marks: str, errors: int = 0) -> Run:
    found = judge(proxy, LOAD, 0, HALF, HALF)
    return replace(found, cpu_us=cpu_us, marks=marks, errors=errors)


def row(*runs: Run) -> Row:
    return Row(Scenario(name="Host only", heads=Heads.HOST, proxies=("sidecar", "envoy")), runs)


def test_the_headline_is_cpu_time_by_requests() -> None:
    found = judge("sidecar", LOAD, 2.5, HALF, HALF)

    assert found.cpu_us == pytest.approx(25.0)
    assert found.requests_per_s == pytest.approx(20_000)
    assert found.generator == pytest.approx(0.2)
    assert found.marks == ()


@pytest.mark.parametrize(
    ("changed", "proxy_core", "load_core", "cpu_s", "mark"),
    [
        ({"late_us": {"p99": 501.0}}, HALF, HALF, 2.5, "generator late"),
        ({"errors": 1}, HALF, HALF, 2.5, "errors"),
        ({}, HALF, CoreTicks(81, 19, 0), 2.5, "load core busy"),
        ({}, CoreTicks(50, 47, 3), HALF, 0.5, "steal"),
        ({}, HALF, CoreTicks(50, 47, 3), 2.5, "steal"),
        ({}, CoreTicks(60, 40, 0), HALF, 0.5, "neighbour"),
    ],
)
def test_marks(changed: dict[str, Any], proxy_core: CoreTicks, load_core: CoreTicks, cpu_s: float, mark: str) -> None:
    assert judge("envoy", replace(LOAD, **changed), cpu_s, proxy_core, load_core).marks == (mark,)


def test_at_the_bounds_a_run_is_not_marked() -> None:
    assert judge("envoy", LOAD, 0.55, CoreTicks(60, 38, 2), CoreTicks(80, 20, 0)).marks == ()


def test_a_run_without_a_good_answer_has_no_figure() -> None:
    with pytest.raises(BenchError, match="none of 5 requests succeeded"):
        judge("sidecar", replace(LOAD, requests=5, errors=5), 0.1, HALF, HALF)


def test_ratios_are_pair_by_pair() -> None:
    found = row(run("sidecar", 100), run("envoy", 50), run("sidecar", 90), run("envoy", 30))

    assert found.ratios("sidecar", "envoy") == [2.0, 3.0]
    assert found.cpu_us("sidecar") == 95.0
    assert found.errors == 0


def test_the_line_of_the_load_generator() -> None:
    output = 'Running 1s test\nBENCH {"requests": 10, "microseconds": 2000000, "errors": 1}\nDone\n'

    assert load.parse(output, 0.5) == Load(10, 1, 2.0, 0.5)
    with pytest.raises(BenchError, match="wrk printed no result"):
        load.parse("unable to connect", 0.0)


FACTS: dict[str, Any] = {
    **dict.fromkeys(("cpu", "kernel", "python"), "some"),
    "date": "2026-11-21T01:02:03Z",
    "commit": "abc1234",
    "cores": 2,
    "virtual_machine": True,
}


def entries() -> list[Entry]:
    found = row(
        run("sidecar", 150, "steal"), run("envoy", 30, "steal"), run("sidecar", 120), run("envoy", 30, errors=2)
    )
    memory = {"scenario": asdict(MemoryScenario()), "rss_mib": {"orders": 40.0, "frontend": 46.5}}
    return [encode(found), {"table": "memory", "errors": 0, **memory}]


def test_results_hold_every_run_and_what_is_drawn_from_them() -> None:
    found = json.loads(json.dumps(entries()))[0]

    assert [entry["cpu_us"] for entry in found["runs"]] == [150, 30, 120, 30]
    assert found["ratio"]["sidecar"]["envoy"] == {"median": 4.5, "low": 4.0, "high": 5.0}
    assert found["scenario"]["heads"] == "host"
    assert (found["errors"], found["marks"]) == (2, "steal 2/4")


def shown(*found: Entry) -> str:
    out = io.StringIO()
    report.show(found, FACTS, Console(width=130, file=out))
    return out.getvalue()


def test_the_tables_show_bad_rows_and_marks() -> None:
    text = shown(*entries())

    for part in ("135.0 (120.0-150.0)", "4.50 (4.00-5.00)", "steal 2/4", "45: missed", "45: met", "virtual machine"):
        assert part in text


def test_latency_is_what_is_added_over_direct() -> None:
    quantiles = ("p50", "p90", "p99", "p99.9")

    def at(proxy: str, *latency_us: float) -> Run:
        return replace(run(proxy), latency_us=dict(zip(quantiles, latency_us, strict=True)))

    proxies = ("direct", "sidecar", "envoy")
    runs = (at("direct", 50, 60, 70, 80), at("sidecar", 90, 110, 130, 1150), at("envoy", 150, 160, 270, 280))
    found = encode(Row(Scenario(name="latency", proxies=proxies), runs))

    assert found["table"] == "latency"
    assert found["added_us"]["sidecar"] == {"p50": 40, "p90": 50, "p99": 60, "p99.9": 1070}
    assert "direct" not in found["added_us"]
    assert "1,070" in shown(found)


def test_rows_have_names_of_their_own_and_full_contains_more_connections() -> None:
    rows = full()
    timed = [row for row in (*rows, *BENCH) if isinstance(row, Scenario)]

    assert len({slug(row.name) for row in rows}) == len(rows)
    assert {row.connections for row in timed} >= {1, 32, 256}
    assert all(row.pairs >= 5 for row in timed)


def test_a_row_of_each_kind_is_smoked_with_every_proxy() -> None:
    def kinds(rows: Sequence[AnyScenario]) -> set[str]:
        return {row.kind if isinstance(row, Scenario) else type(row).__name__ for row in rows}

    def proxies(rows: Sequence[AnyScenario]) -> set[str]:
        return {name for row in rows if isinstance(row, Scenario) for name in row.proxies}

    assert kinds(of_each_kind()) == kinds(full())
    assert proxies(of_each_kind()) == proxies(full())


def test_a_full_run_ends_within_an_hour_and_a_half() -> None:
    measured_s = sum(len(row.proxies) * row.pairs * row.seconds for row in full() if isinstance(row, Scenario))

    assert measured_s <= 5400


def test_the_default_rows_end_within_five_minutes() -> None:
    rows = [row for row in BENCH if isinstance(row, Scenario)]
    measured_s = sum(len(row.proxies) * row.pairs * row.seconds for row in rows)

    assert measured_s <= 200  # what is left is for starts, checks, warming up, memory
    for smoked in map(smoke, rows):
        assert isinstance(smoked, Scenario)
        assert smoked.seconds * smoked.pairs == 1
