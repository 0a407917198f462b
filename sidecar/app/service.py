"""The service that this sidecar starts itself: `sidecar run -c FILE -- COMMAND ...`.

It has our standard input and output, and a process group of its own: a signal for the sidecar's group does not end it
before its callers were led away. On a terminal it stays in ours, or it could not read there; Ctrl-C then reaches it
directly and is not sent a second time. Signals go to the command alone, which decides about its own children; the last
one, KILL, goes to its whole group, so that nothing is left behind.
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import trio

from sidecar.errors import ConfigError

KILLED_S = 1.0  # a killed process is gone as soon as the kernel gets to it
# What systemd tells its own child; the service is not it.
_NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def check_command(command: Sequence[str]) -> None:
    """Raise ConfigError when there is no such program; told before anything is opened."""
    if shutil.which(command[0]) is None:
        raise ConfigError([f"{command[0]}: no such program, or it may not be run; give a path or a name on PATH"])


class Service:
    """One run of a command.

    Args:
        open_files: The limit of open files that it gets: ours was raised for connections that it does not have.

    Attributes:
        status: What a shell would show: the exit status, or 128 and the signal; None until it has ended.
        gone: Set when it has ended.
    """

    def __init__(self, command: Sequence[str], open_files: tuple[int, int], say: Callable[[str], None]) -> None:
        self.status: int | None = None
        self.gone = trio.Event()
        self._command = list(command)
        self._open_files = open_files
        self._say = say
        self._process: trio.Process | None = None
        self._shares_terminal = _on_terminal()

    @property
    def pid(self) -> int | None:
        """Of the process; None before it started."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Start it and wait for its end; when cancelled, kill it. A start that fails has status 127, as in a shell."""
        ours = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._open_files)
        try:
            self._process = await trio.lowlevel.open_process(
                self._command,
                env=_environment(os.environ),
                process_group=None if self._shares_terminal else 0,
            )
        except OSError as exc:
            self._say(f"{self._command[0]}: {(exc.strerror or str(exc)).lower()}")
            self._ended(127)
            return
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, ours)
        self._say(f"started {self._command[0]}, process {self._process.pid}")
        try:
            self._ended(_status(await self._process.wait()))
        finally:
            if self.status is None:
                await self._kill(self._process)

    def tell(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self._process is not None and self.status is None:
            self._process.send_signal(signal.Signals(number))

    async def end(self, number: int, grace_s: float) -> None:
        """Ask it to end with a signal, and kill it when it has not within `grace_s`."""
        process = self._process
        if process is None or self.status is not None:
            return
        if not (self._shares_terminal and number == signal.SIGINT):
            self.tell(number)
        with trio.move_on_after(grace_s):
            await self.gone.wait()
            return
        self._say(f"{self._command[0]} did not end within {grace_s:g} s of {signal.Signals(number).name}: killed")
        await self._kill(process)

    async def _kill(self, process: trio.Process) -> None:
        try:
            if self._shares_terminal:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended meanwhile
        with trio.CancelScope(deadline=trio.current_time() + KILLED_S, shield=True):
            self._ended(_status(await process.wait()))

    def _ended(self, status: int) -> None:
        if self.status is None:
            self.status = status
            self.gone.set()


def _status(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in ours.items() if name not in _NOT_FOR_CHILDREN}


def _on_terminal() -> bool:
    try:
        return os.isatty(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or something else in its place
        return False
