"""The product's commands as real processes: started, their listeners learned from what they print, always stopped."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sidecar.model.bootstrap import HostPort

START_S = 15.0
STOP_S = 10.0
BIN = Path(sys.executable).parent


@dataclass
class Running:
    """A command that runs.

    Attributes:
        listening: Address by listener name, as printed.
        said: Lines of stderr so far.
        out: Standard output so far.
    """

    process: trio.Process
    listening: dict[str, HostPort] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    out: bytearray = field(default_factory=bytearray)
    heard: trio.Condition = field(default_factory=trio.Condition)

    async def until(self, text: str, timeout_s: float = START_S) -> str:
        """Wait for a line of stderr that contains `text`; return it."""
        with trio.move_on_after(timeout_s):
            async with self.heard:
                while True:
                    for line in self.said:
                        if text in line:
                            return line
                    await self.heard.wait()
        raise AssertionError(f"no line with {text!r} among {self.said}")

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(number)
        with trio.move_on_after(STOP_S):
            return await self.process.wait()
        self.process.kill()
        raise AssertionError(f"it did not end within {STOP_S:g}s; it said {self.said}")


@asynccontextmanager
async def running(
    *command: str, until: str, env: Mapping[str, str] | None = None, inside: Sequence[str] = ()
) -> AsyncIterator[Running]:
    """Run `sidecar`, `control-plane` or `meshctl` with arguments until the block ends; ready at a line with `until`.

    Args:
        inside: Words to put before the command, such as `Namespace.command()` of tests/support/netns.py.
    """
    process = await trio.lowlevel.open_process(
        [*inside, str(BIN / command[0]), *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    made = Running(process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_said, made)
        nursery.start_soon(_read_out, made)
        try:
            await made.until(until)
            yield made
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
                if process.returncode is None:
                    process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()


async def _read_said(made: Running) -> None:
    assert made.process.stderr is not None
    rest = b""
    async with made.process.stderr as pipe:
        async for data in pipe:
            *lines, rest = (rest + data).split(b"\n")
            async with made.heard:
                for raw in lines:
                    line = raw.decode("utf-8", "replace")
                    made.said.append(line)
                    if line.startswith("listening "):
                        name, _, address = line.removeprefix("listening ").rpartition(" ")
                        host, _, port = address.rpartition(":")
                        made.listening[name] = HostPort(host.strip("[]"), int(port))
                made.heard.notify_all()


async def _read_out(made: Running) -> None:
    assert made.process.stdout is not None
    async with made.process.stdout as pipe:
        async for data in pipe:
            made.out += data


async def finished(*command: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    done = await trio.run_process(
        [str(BIN / command[0]), *command[1:]], capture_stdout=True, capture_stderr=True, check=False, env=env
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
