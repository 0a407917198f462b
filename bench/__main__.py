"""`python -m bench`: measure the rows, write the result file, print the tables.

Exit status: 0 measured, whatever the figures are; 1 something did not work or requests failed; 2 usage or a missing
tool. `make bench` calls this.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import machine, measure, memory, progress, report, setups, tools
from bench.cores import pick_cores
from bench.process import BenchError
from bench.proxies import TOOLS
from bench.rows import BENCH, full
from bench.scenarios import MemoryScenario, Scenario, smoke

RESULTS = machine.ROOT / "bench" / "results"
WIDTH = 130  # of tables that go into a file
GOOD, FAILED, USAGE = 0, 1, 2
_SMOKE_REQUESTS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = _parser().parse_args(arguments)
    scenarios = _chosen(options)
    memories = _memories(options)
    if not scenarios and not memories:
        known = [row.name for row in (full() if options.full else BENCH)] + [MemoryScenario().name]
        names = ", ".join(map(repr, known))
        print(f"bench: no row has {options.only!r} in its name (rows: {names})", file=sys.stderr)
        return USAGE
    try:
        tools.need(_tools(scenarios))
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return USAGE
    try:
        results = _measure(scenarios, memories)
    except BenchError as exc:
        progress.clear()
        print(f"bench: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        progress.clear()
        print("bench: interrupted; nothing was written", file=sys.stderr)
        return FAILED
    return _tell(results, written=not options.smoke)


def _tools(scenarios: Sequence[Scenario]) -> set[str]:
    needed = {"nginx", "wrk"}
    for row in scenarios:
        needed |= {TOOLS[name] for name in row.opponents} | {*setups.TOOLS.get(row.kind, ())}
    return needed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="CPU per request and memory beside Envoy.")
    parser.add_argument("--full", action="store_true", help="all rows, longer")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows with TEXT in their name")
    parser.add_argument("--pairs", type=_positive, help="measurements of each proxy (default: as the row says, 5)")
    parser.add_argument("--seconds", type=_positive, help="length of one measurement (default: as the row says)")
    parser.add_argument("--smoke", action="store_true", help="one second each, to see that all works; writes nothing")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    rows = [row for row in (full() if options.full else BENCH) if options.only in row.name]
    if options.smoke:
        return [smoke(row) for row in rows]
    return [
        replace(row, pairs=options.pairs or row.pairs, seconds=float(options.seconds or row.seconds)) for row in rows
    ]


def _memories(options: argparse.Namespace) -> list[MemoryScenario]:
    row = MemoryScenario()
    if options.only not in row.name:
        return []
    return [replace(row, requests=_SMOKE_REQUESTS) if options.smoke else row]


def _measure(scenarios: Sequence[Scenario], memories: Sequence[MemoryScenario]) -> report.Results:
    cores = pick_cores(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, {cores.load})  # our own work must not fall onto the proxy's core
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        rows = []
        for number, scenario in enumerate(scenarios):
            rows.append(measure.measure(scenario, _folder(folder, f"row{number}"), cores, progress.to_stderr))
        remembered = []
        for number, row in enumerate(memories):
            remembered.append(memory.measure(row, _folder(folder, f"memory{number}"), cores, progress.to_stderr))
    progress.clear()
    return report.Results(facts, rows, remembered)


def _folder(parent: str, name: str) -> Path:
    made = Path(parent) / name
    made.mkdir()
    return made


def _tell(results: report.Results, *, written: bool) -> int:
    report.show(results, Console(width=None if sys.stdout.isatty() else WIDTH))
    if written:
        print(f"written to {report.write(results, RESULTS).relative_to(machine.ROOT)}")
    else:
        print("smoke run: the figures above mean nothing")
    if results.errors:
        print(f"bench: {results.errors} requests failed, so the figures are worthless", file=sys.stderr)
        return FAILED
    return GOOD


if __name__ == "__main__":
    sys.exit(main())
