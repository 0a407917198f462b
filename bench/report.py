"""Results: a JSON file with everything, and a table that a person can read."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.measure import Row, spread
from bench.memory import MemoryRow
from bench.scenarios import OURS


@dataclass(frozen=True, slots=True)
class Results:
    """One run of the benchmark. `machine` is what machine.facts() says."""

    machine: dict[str, object]
    rows: Sequence[Row]
    memory: Sequence[MemoryRow]

    @property
    def errors(self) -> int:
        """Failed requests in all rows; anything but 0 makes the figures worthless."""
        return sum(row.errors for row in self.rows)


def write(results: Results, folder: Path) -> Path:
    """Write the JSON file; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = str(results.machine["date"]).replace(":", "").replace("-", "")
    path = folder / f"{stamp}-{results.machine['commit']}.json"
    path.write_text(json.dumps(encode(results), indent=1) + "\n")
    return path


def encode(results: Results) -> dict[str, object]:
    """The JSON object: every run, and the figures drawn from them."""
    memory = [{**asdict(row), "goal_met": row.met} for row in results.memory]
    return {"machine": results.machine, "rows": [encode_row(row) for row in results.rows], "memory": memory}


def encode_row(row: Row) -> dict[str, object]:
    """One row's JSON object."""
    scenario = row.scenario
    return {
        "scenario": asdict(scenario),
        "cpu_us": {name: spread([run.cpu_us for run in row.of(name)]) for name in scenario.proxies},
        "ratio": {
            ours: {theirs: spread(row.ratios(ours, theirs)) for theirs in scenario.opponents} for ours in scenario.ours
        },
        "runs": [asdict(run) for run in row.runs],
    }


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    machine = results.machine
    if results.rows:
        console.print(_cpu_table(results.rows))
        for row in results.rows:
            if found := marks(row):
                console.print(f"marks, {row.scenario.name}: {found}", highlight=False)
    if results.memory:
        console.print(_memory_table(results.memory))
    virtual = "a virtual machine" if machine["virtual_machine"] else "a machine"
    console.print(
        f"Loopback of {virtual} with {machine['cores']} cores ({machine['cpu']}), kernel {machine['kernel']}, "
        f"Python {machine['python']}, commit {machine['commit']}. bench/README.md says how to read this.",
        style="dim",
        highlight=False,
    )


def _cpu_table(rows: Sequence[Row]) -> Table:
    title = "CPU of the proxy per request, microseconds, and ours to theirs: median (lowest-highest)"
    table = _table(title, "row", "proxy", "us", "requests/s", "fast path to it", "full path to it")
    for row in rows:
        name = row.scenario.name
        for proxy in row.scenario.proxies:
            ratios = [_ratio(row, ours, proxy) for ours in OURS]
            table.add_row(name, proxy, _cpu(row, proxy), _rate(row, proxy), *ratios)
            name = ""
    return table


def _ratio(row: Row, ours: str, theirs: str) -> str:
    if ours not in row.scenario.ours or theirs not in row.scenario.opponents:
        return ""
    return _shown(row.ratios(ours, theirs), 2)


def _table(title: str, *columns: str) -> Table:
    """The first two columns are words, the others figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=number > 0)
    return table


def _cpu(row: Row, proxy: str) -> str:
    return _shown([run.cpu_us for run in row.of(proxy)], 1)


def _shown(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _rate(row: Row, proxy: str) -> str:
    return f"{median(run.requests_per_s for run in row.of(proxy)):,.0f}"


def marks(row: Row) -> str:
    """What was doubtful and in how many runs: `steal 2/10, neighbour 10/10`."""
    counts = Counter(mark for run in row.runs for mark in run.marks)
    return ", ".join(f"{mark} {count}/{len(row.runs)}" for mark, count in counts.items())


def _memory_table(rows: Sequence[MemoryRow]) -> Table:
    table = _table("Resident memory of each sidecar (VmRSS)", "row", "sidecar", "MiB", "goal")
    for row in rows:
        name = f"{row.scenario.requests:,} requests, {row.scenario.routes} routes, all on"
        for service, mib in row.rss_mib.items():
            verdict = "met" if mib <= row.scenario.goal_mib else "missed"
            table.add_row(name, service, f"{mib:.1f}", f"{row.scenario.goal_mib:g}: {verdict}")
            name = ""
    return table
