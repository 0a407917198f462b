"""Results as tables that a person can read."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.scenarios import DIRECT
from bench.store import Entry

QUANTILES = ("p50", "p90", "p99", "p99.9")


def show(entries: Sequence[Entry], facts: dict[str, Any], console: Console) -> None:
    """Print a table for each kind of row that there is."""
    for kind, table in _TABLES.items():
        if chosen := [entry for entry in entries if entry["table"] == kind]:
            console.print(table(chosen))
    for entry in entries:
        if entry.get("marks"):
            console.print(f"marks, {entry['scenario']['name']}: {entry['marks']}", highlight=False)
    virtual = "a virtual machine" if facts["virtual_machine"] else "a machine"
    console.print(
        f"Loopback of {virtual} with {facts['cores']} cores ({facts['cpu']}), kernel {facts['kernel']}, "
        f"Python {facts['python']}, commit {facts['commit']}. bench/README.md says how to read this.",
        style="dim",
        highlight=False,
    )


def _table(title: str, *columns: str) -> Table:
    """The first two columns are words, the others figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=number > 0)
    return table


def _cpu(entries: Sequence[Entry]) -> Table:
    ours = list(dict.fromkeys(name for entry in entries for name in entry["ratio"]))
    title = "CPU of the proxy, microseconds a request (one stream: a MB), and ours to theirs: median (lowest-highest)"
    table = _table(title, "row", "proxy", "us", "each second", *(f"{name} to it" for name in ours))
    for entry in entries:
        row = entry["scenario"]["name"]
        for proxy, cpu in entry["cpu_us"].items():
            ratios = [shown(entry["ratio"].get(name, {}).get(proxy), 2) for name in ours]
            table.add_row(row, proxy, shown(cpu, 1), f"{entry['per_s'][proxy]:,.0f}", *ratios)
            row = ""
    return table


def shown(spread: dict[str, float] | None, digits: int) -> str:
    """`2.50 (2.31-2.80)`; nothing for None."""
    if spread is None:
        return ""
    return f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f}-{spread['high']:.{digits}f})"


def _latency(entries: Sequence[Entry]) -> Table:
    title = "Latency at a fixed rate, from the time a request was meant for, added over direct, microseconds"
    table = _table(title, "row", "proxy", "each second", *QUANTILES, "CPU us")
    for entry in entries:
        row = entry["scenario"]["name"]
        for proxy, latency in entry["latency_us"].items():
            added = latency if proxy == DIRECT else entry["added_us"][proxy]
            figures = [f"{added[quantile]:,.0f}" for quantile in QUANTILES]
            cpu = "" if proxy == DIRECT else f"{entry['cpu_us'][proxy]['median']:.1f}"
            name = "direct, itself" if proxy == DIRECT else proxy
            table.add_row(row, name, f"{entry['per_s'][proxy]:,.0f}", *figures, cpu)
            row = ""
    return table


def _memory(entries: Sequence[Entry]) -> Table:
    table = _table("Resident memory of each sidecar (VmRSS)", "row", "sidecar", "MiB", "goal")
    for entry in entries:
        scenario = entry["scenario"]
        name = f"{scenario['requests']:,} requests, {scenario['routes']} routes, all on"
        for service, mib in entry["rss_mib"].items():
            verdict = "met" if mib <= scenario["goal_mib"] else "missed"
            table.add_row(name, service, f"{mib:.1f}", f"{scenario['goal_mib']:g}: {verdict}")
            name = ""
    return table


def _routes(entries: Sequence[Entry]) -> Table:
    title = "Memory by routes, MiB, and what finding a route costs, microseconds"
    table = _table(title, "row", "proxy", "RSS at rest", "RSS loaded", "PSS loaded", "CPU us/request", "lookup us")
    for entry in entries:
        row = entry["scenario"]["name"]
        for proxy, got in entry["proxies"].items():
            memory = (got["rest"]["rss_mib"], got["loaded"]["rss_mib"], got["loaded"]["pss_mib"], got["cpu_us"])
            lookup = f"{got['lookup_us']:.2f}" if "lookup_us" in got else ""
            table.add_row(row, proxy, *(f"{figure:.1f}" for figure in memory), lookup)
            row = ""
    return table


def _idle(entries: Sequence[Entry]) -> Table:
    table = _table("Memory of idle connections (VmRSS)", "row", "proxy", "KiB each", "MiB before", "MiB after")
    for entry in entries:
        row = entry["scenario"]["name"]
        for proxy, got in entry["proxies"].items():
            memory = (got["each_kib"], got["before"]["rss_mib"], got["after"]["rss_mib"])
            table.add_row(row, proxy, *(f"{figure:.1f}" for figure in memory))
            row = ""
    return table


_TABLES: dict[str, Callable[[Sequence[Entry]], Table]] = {
    "cpu": _cpu,
    "latency": _latency,
    "memory": _memory,
    "routes": _routes,
    "idle": _idle,
}
