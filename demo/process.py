"""A child process of the demo: started, stopped, killed and started again under one name; its output goes to a file.

Each is its own process group and dies with us (child.py). Waiting costs nothing: the kernel's pidfd tells.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

STOP_S = 8.0  # a sidecar drains in less with the demo's settings
_CHILD = Path(__file__).with_name("child.py")
_ROOT = Path(__file__).parents[1]
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()  # by free_ports, to this process


class DemoError(Exception):
    """The demo cannot go on; str() is for the person at the terminal."""


class Process:
    """One command. Start, stop and kill may be called in any order; each is a no-op when there is nothing to do.

    Must be used from the main thread: the kernel counts the thread that starts a child as its parent.
    """

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process, or of the last one; 0 before the first start."""
        return self._child.pid if self._child else 0

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it, unless it runs. What it prints is added to `log`."""
        if self.running:
            return
        argv = [sys.executable, "-IS", str(_CHILD), str(os.getpid()), *self.command]
        # Settings of another sidecar on this machine are none of ours; the apps are found in this repository.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        environment["PYTHONPATH"] = str(_ROOT)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group."""
        if self._child is not None and self.running:
            os.killpg(self._child.pid, number)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._child is not None, self.name
        if self._child.poll() is None:
            ended = os.pidfd_open(self._child.pid)
            try:
                await trio.lowlevel.wait_readable(ended)
            finally:
                os.close(ended)
        return self._child.wait()

    async def stop(self, within_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL to what is left after `within_s`."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        with trio.move_on_after(within_s):
            await self.wait()
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as the machine's out-of-memory killer would."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
                await self.wait()

    def last_lines(self, count: int = 12) -> str:
        """The end of what it printed."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])
        except OSError:
            return ""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now, that the kernel gives to nobody by itself, and that no call gave before.

    Below the range of outgoing connections: a port from it could be taken as soon as its owner is killed, or before
    its owner has begun.
    """
    lowest = int(_RANGE.read_text("ascii").split()[0]) if _RANGE.exists() else 32_768
    start = 10_000 + os.getpid() * 37 % max(lowest - 14_000, 1)  # two demos at a time meet rarely
    found: list[int] = []
    for port in (*range(start, lowest), *range(10_000, start)):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            _given.update(found)
            return found
    raise DemoError(f"no {count} free ports between 10000 and {lowest} on 127.0.0.1")
