"""One row of any kind -> its result as plain values: what is saved, shown and drawn.

Results are JSON from here on, so that one that was read back from a file is shown like one that was just measured.
`table` says which table of report.py a result stands in.
"""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench import footprint, measure, memory
from bench.cores import Cores
from bench.measure import Row, spread
from bench.progress import Say
from bench.scenarios import DIRECT, AnyScenario, IdleScenario, Kind, MemoryScenario, RoutesScenario
from bench.store import Entry


def play(row: AnyScenario, folder: Path, cores: Cores, say: Say) -> Entry:
    """Measure a row. Raises BenchError."""
    if isinstance(row, MemoryScenario):
        found = memory.measure(row, folder, cores, say)
        return {"table": "memory", **asdict(found), "goal_met": found.met, "errors": 0}
    if isinstance(row, RoutesScenario):
        return {"table": "routes", "errors": 0, **footprint.measure_routes(row, folder, cores, say)}
    if isinstance(row, IdleScenario):
        return {"table": "idle", "errors": 0, **footprint.measure_idle(row, folder, cores, say)}
    return encode(measure.measure(row, folder, cores, say))


def encode(row: Row) -> Entry:
    """A row of runs: every run, and the figures drawn from them."""
    scenario = row.scenario
    latency = {name: _latency(row, name) for name in scenario.proxies if row.of(name)[0].latency_us}
    entry: Entry = {
        "table": "latency" if DIRECT in latency else "cpu",
        "scenario": asdict(scenario),
        "unit": "MB" if scenario.kind is Kind.BULK else "request",
        "cpu_us": {name: spread([run.cpu_us for run in row.of(name)]) for name in scenario.proxies},
        "per_s": {name: median(run.requests_per_s for run in row.of(name)) for name in scenario.proxies},
        "ratio": {
            ours: {theirs: spread(row.ratios(ours, theirs)) for theirs in scenario.opponents} for ours in scenario.ours
        },
        "marks": marks(row),
        "errors": row.errors,
        "runs": [asdict(run) for run in row.runs],
    }
    if latency:
        entry["latency_us"] = latency
    if DIRECT in latency:
        entry["added_us"] = {
            name: {quantile: value - latency[DIRECT][quantile] for quantile, value in of.items()}
            for name, of in latency.items()
            if name != DIRECT
        }
    return entry


def _latency(row: Row, proxy: str) -> dict[str, float]:
    """Of each quantile the median over the runs."""
    runs = [run.latency_us for run in row.of(proxy)]
    return {quantile: median(run[quantile] for run in runs) for quantile in runs[0]}


def marks(row: Row) -> str:
    """What was doubtful and in how many runs: `steal 2/10, neighbour 10/10`."""
    counts = Counter(mark for run in row.runs for mark in run.marks)
    return ", ".join(f"{mark} {count}/{len(row.runs)}" for mark, count in counts.items())
