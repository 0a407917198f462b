"""Child processes of the interop tests: started with a log file, ready when they listen, always stopped.

Synchronous on purpose: they live as long as the test session, and pytest's session fixtures run outside of trio.
Every wait is bounded; when a child dies early, or never listens, the end of its log is the error.
"""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

READY_S = 30.0  # a cold start of nine servers on two busy cores
_DRAIN_S = 0.3  # nobody uses it any more: do not wait for its drain
STOP_S = 10.0
_POLL_S = 0.02


@dataclass
class Child:
    """A running process."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text("utf-8", "replace")

    def until_listening(self, port: int) -> None:
        """Wait until somebody accepts on the port of 127.0.0.1."""
        self._wait(f"listener on port {port}", lambda: _accepts(port))

    def until_said(self, pattern: str) -> None:
        """Wait for a line that matches."""
        self._wait(f"line like {pattern!r}", lambda: re.search(pattern, self.said(), re.MULTILINE) is not None)

    def listening(self) -> dict[str, int]:
        """Port by listener name, as our own commands print it."""
        lines = re.findall(r"^listening (.+) \S+:(\d+)$", self.said(), re.MULTILINE)
        return {name: int(port) for name, port in lines}

    def stop(self) -> None:
        """End it. May be called twice."""
        for patience_s in (_DRAIN_S, STOP_S):  # a second signal ends those at once that would drain
            if self.process.poll() is not None:
                return
            self.process.terminate()
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                pass
        self.process.kill()
        self.process.wait()

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        until = time.monotonic() + READY_S
        while not there():
            status = self.process.poll()
            late = time.monotonic() > until
            if status is not None or late:
                why = f"no {what} within {READY_S:g}s" if late else f"it ended with status {status} before its {what}"
                raise AssertionError(f"{self.name}: {why}:\n" + "\n".join(self.said().splitlines()[-20:]))
            time.sleep(_POLL_S)


def start(name: str, argv: Sequence[object], folder: Path, env: Mapping[str, str] | None = None) -> Child:
    """Start a process in a folder; what it prints goes to NAME.log there."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Child(name, process, log)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
