"""Two commits of ours in interleaved pairs: each is checked out beside this one and runs from there.

A proxy called `sidecar@COMMIT` is ours from that checkout, with this environment's libraries. The harness is this
checkout's for both.
"""

import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import machine
from bench.process import BenchError
from bench.scenarios import OURS, AnyScenario, Kind, Scenario

_KINDS = (Kind.HTTP1, Kind.HTTP2, Kind.GRPC)
_CHECKOUTS = Path(tempfile.gettempdir()) / "mesh-bench-checkouts"


def short(commit: str) -> str:
    """The commit's abbreviated hash. Raises BenchError when git knows none."""
    return _git("rev-parse", "--short", f"{commit}^{{commit}}").strip()


def can(row: AnyScenario) -> bool:
    """Whether commits can be compared by this row."""
    return isinstance(row, Scenario) and row.kind in _KINDS and not row.load_percent


def of(row: AnyScenario, before: str, after: str) -> AnyScenario:
    """The row with two commits as its proxies, both with the fast path as they have it. Raises BenchError."""
    assert isinstance(row, Scenario)
    if before == after:
        raise BenchError(f"both commits are {after}")
    name = f"{row.name}, {after} to {before}"
    return replace(row, name=name, proxies=(f"{OURS[0]}@{before}", f"{OURS[0]}@{after}"), pairs=2 * row.pairs)


def checkout(proxy: str) -> Path | None:
    """Where the source of a proxy with a commit in its name is; None for this checkout's."""
    _, _, commit = proxy.partition("@")
    return _CHECKOUTS / commit if commit else None


def check_out(row: Scenario, ending: ExitStack) -> None:
    """Make the worktrees that the row needs; they go when `ending` does. Raises BenchError."""
    for proxy in row.proxies:
        where = checkout(proxy)
        if where is not None and not where.exists():
            _CHECKOUTS.mkdir(exist_ok=True)
            _git("worktree", "add", "--detach", "--quiet", str(where), where.name)
            ending.callback(_git, "worktree", "remove", "--force", str(where))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", machine.ROOT, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
