"""A control plane as users run it: the `control-plane serve` process, and `meshctl` against it.

For end-to-end tests. Everything listens on loopback, port 0; stderr is read to its end, so that the process never
blocks on it, and kept for the failure's report.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_S = 30.0


@dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str


@dataclass
class Plane:
    """A running control plane.

    Attributes:
        listening: Listener's name -> address, as printed.
        lines: What it wrote on stderr so far.
    """

    process: "subprocess.Popen[str]"
    data: Path
    folder: Path
    listening: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def server(self) -> str:
        """Base URL of the API."""
        return f"http://{self.listening['api']}"

    @property
    def token_file(self) -> Path:
        """Where it keeps the API's token."""
        return self.data / "api.token"

    def meshctl(self, *arguments: str, stdin: str = "", status: int | None = 0) -> Done:
        """Run meshctl against this control plane; the exit status must be `status` unless that is None."""
        named = ("--server", self.server, "--token-file", str(self.token_file))
        done = command("control_plane.cli.main", *named, *arguments, folder=self.folder, stdin=stdin)
        assert status is None or done.status == status, done
        return done

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End the process; return its exit status."""
        self.process.send_signal(signal_number)
        return self.process.wait(START_S)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            word, _, rest = line.partition(" ")
            if word == "listening":
                name, _, address = rest.strip().partition(" ")
                self.listening[name] = address
            elif word == "ready:":
                self.ready.set()
        self.ready.set()  # it has ended; whoever waits finds no address


def environment() -> dict[str, str]:
    """The environment of commands: as users have it, without what would change answers."""
    dropped = ("MESHCTL_SERVER", "MESHCTL_TOKEN_FILE", "NO_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def command(module: str, *arguments: str, folder: Path, stdin: str = "") -> Done:
    """Run a command of the product in `folder`, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environment(),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(
    folder: Path, *arguments: str, program: Sequence[str] = ("-m", "control_plane.cli.serve")
) -> Iterator[Plane]:
    """`control-plane serve` with its data in `folder`/data; killed at the end if it still runs."""
    data = folder / "data"
    line = [sys.executable, *program, "serve", "--data", str(data)]
    line += ["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment())
    plane = Plane(process, data, folder)
    reader = threading.Thread(target=plane._read)
    reader.start()
    try:
        assert plane.ready.wait(START_S), "the control plane did not become ready"
        assert "api" in plane.listening, plane.lines
        yield plane
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
