"""A child process of the benchmark: started on one core, watched, stopped with everything below it.

What it prints goes to a file; when it dies early or does not get ready, the last lines of that file are the error.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bench import procfs

READY_S = 20.0  # for a proxy to listen; a cold start on a busy machine takes a few
STOP_S = 8.0
_POLL_S = 0.02
_Found = TypeVar("_Found")


class BenchError(Exception):
    """The benchmark cannot go on; str() says what to do."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Children that are started inside run on this core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A running child. `stop` is safe to call twice."""

    def __init__(
        self,
        name: str,
        argv: Sequence[object],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out, pinned(core):
            self._child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pids(self) -> list[int]:
        """The process and all below it."""
        return procfs.tree(self._child.pid)

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text("utf-8", errors="replace")

    def wait_for(self, what: str, probe: Callable[[], _Found | None]) -> _Found:
        """Ask `probe` until it finds something. Raises BenchError when the process ends first, or after READY_S."""
        until = time.monotonic() + READY_S
        while (found := probe()) is None:
            status = self._child.poll()
            if status is not None:
                raise BenchError(f"{self.name} ended with status {status} before {what}:\n{self._last_lines()}")
            if time.monotonic() > until:
                raise BenchError(f"{self.name}: no {what} within {READY_S:g}s:\n{self._last_lines()}")
            time.sleep(_POLL_S)
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        self._child.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, then make it."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(number)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _last_lines(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])
