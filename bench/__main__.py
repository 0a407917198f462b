"""`python -m bench`: measure the rows, keep each one's result, print the tables.

Exit status: 0 measured, whatever the figures are; 1 something did not work or requests failed; 2 usage or a missing
tool. `make bench` and `make bench-full` call this.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import compare, machine, play, progress, report, setups, tools
from bench.cores import pick_cores
from bench.process import BenchError
from bench.proxies import TOOLS
from bench.rows import BENCH, full, of_each_kind
from bench.scenarios import AnyScenario, Scenario, smoke
from bench.store import Entry, Store

WIDTH = 130  # of tables that go into a file
GOOD, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = options_of(arguments)
    try:
        rows = chosen(options)
        tools.need(_tools(rows))
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return USAGE
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what runs is ended then, as by Ctrl-C
    facts, entries = machine.facts(), list[Entry]()
    status = GOOD
    try:
        _measure(rows, facts, entries, options)
    except (BenchError, KeyboardInterrupt) as exc:
        progress.clear()
        why = str(exc) or "interrupted"
        kept = "" if options.smoke else "; what was measured is kept, and the same command goes on"
        print(f"bench: {why}{kept if options.full else ''}", file=sys.stderr)
        status = FAILED
    if not entries:
        return status
    return max(status, _tell(entries, facts, options, whole=status == GOOD))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says; ends the process with 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="make bench", description="CPU, latency and memory beside Envoy.")
    parser.add_argument("--full", action="store_true", help="all rows; those that this commit has are not repeated")
    parser.add_argument("--again", action="store_true", help="with --full: repeat them")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows with TEXT in their name")
    parser.add_argument("--pairs", type=_positive, help="measurements of each proxy (default: as the row says, 5)")
    parser.add_argument("--seconds", type=_positive, help="length of one measurement (default: as the row says)")
    parser.add_argument(
        "--compare", nargs=2, metavar="COMMIT", help="the second commit of ours to the first; no other proxy"
    )
    parser.add_argument("--against", metavar="COMMIT", help="the same for this checkout's commit to COMMIT")
    parser.add_argument("--smoke", action="store_true", help="one second each, to see that all works; writes nothing")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _known(options: argparse.Namespace) -> tuple[AnyScenario, ...]:
    """The rows that --only chooses from."""
    if options.full:
        return full()
    if options.smoke:
        return of_each_kind()
    headlines = {row.name for row in BENCH}
    return (*BENCH, *(row for row in full() if row.name not in headlines)) if options.only else BENCH


def chosen(options: argparse.Namespace) -> list[AnyScenario]:
    """The rows that the options ask for, as they will be played. Raises BenchError when there are none."""
    rows = [row for row in _known(options) if options.only in row.name]
    commits = options.compare or ([options.against, "HEAD"] if options.against else None)
    if commits is not None:
        rows = [compare.of(row, *map(compare.short, commits)) for row in rows if compare.can(row)]
    if not rows:
        names = ", ".join(repr(row.name) for row in _known(options))
        raise BenchError(f"no row has {options.only!r} in its name (rows: {names})")
    if options.smoke:
        return [smoke(row) for row in rows]
    return [_stretched(row, options) for row in rows]


def _stretched(row: AnyScenario, options: argparse.Namespace) -> AnyScenario:
    if not isinstance(row, Scenario):
        return row
    return replace(row, pairs=options.pairs or row.pairs, seconds=float(options.seconds or row.seconds))


def _tools(rows: Sequence[AnyScenario]) -> set[str]:
    needed = {"nginx", "wrk"}
    for row in rows:
        if isinstance(row, Scenario):
            needed |= {TOOLS[name] for name in row.proxies if name in TOOLS} | {*setups.TOOLS.get(row.kind, ())}
    return needed


def _measure(
    rows: Sequence[AnyScenario], facts: dict[str, Any], entries: list[Entry], options: argparse.Namespace
) -> None:
    """Play the rows and append their results to `entries`. Raises BenchError."""
    cores, store = pick_cores(sorted(os.sched_getaffinity(0))), Store()
    os.sched_setaffinity(0, {cores.load})  # our own work must not fall onto the proxy's core
    skips = options.full and not options.again and not options.smoke
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="mesh-bench-")))
        for number, row in enumerate(rows):
            if skips and (kept := store.done(asdict(row), str(facts["commit"]))) is not None:
                entries.append(kept)
                continue
            if isinstance(row, Scenario):
                compare.check_out(row, ending)
            place = folder / f"row{number}"
            place.mkdir()
            entries.append(play.play(row, place, cores, progress.to_stderr))
            if not options.smoke:
                store.save(entries[-1], facts)
                store.keep_configurations(row.name, place)
    progress.clear()


def _tell(entries: Sequence[Entry], facts: dict[str, Any], options: argparse.Namespace, *, whole: bool) -> int:
    report.show(entries, facts, Console(width=None if sys.stdout.isatty() else WIDTH))
    if options.smoke:
        print("smoke run: the figures above mean nothing")
    elif whole:
        kind = "full" if options.full and not options.only else "bench"
        print(f"written to {Store().write(entries, facts, kind).relative_to(machine.ROOT)}")
    errors = sum(entry["errors"] for entry in entries)
    if errors:
        print(f"bench: {errors} requests failed, so the figures are worthless", file=sys.stderr)
        return FAILED
    return GOOD


if __name__ == "__main__":
    sys.exit(main())
