"""`make demo`: a whole mesh on this machine, a little traffic, and a table that shows both.

    make demo                               until Ctrl-C
    make demo ARGS="--seconds 20"           ends by itself; status 0 if every request succeeded

The mesh is mesh.py; the traffic is load.py, from outside: client -> frontend -> its sidecar -> mutual TLS -> orders ...
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import trio
from rich.console import Console
from rich.live import Live

from demo import screen
from demo.http1 import NoAnswer
from demo.load import Load, Summary
from demo.mesh import NAMESPACE, DemoMesh
from demo.process import DemoError
from demo.watch import Watch, binomial_bound

RATE = 110.0  # 20 s give more than 2 000 requests: enough to judge a 10 % share
LOOK_S = 1.0
LINE_S = 5.0
ANSWER_S = 2.0  # for the control plane, which may have been killed for fun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description="A service mesh on this machine.")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself after N seconds of traffic")
    parser.add_argument("--rate", type=float, default=RATE, metavar="R", help=f"requests a second ({RATE:g})")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live table")
    parser.add_argument("--keep", action="store_true", help="keep the folder with files and logs")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="mesh-demo-"))  # 0700: keys and the API's token are in it
    status = 1
    try:
        status = trio.run(_run, options, folder)
    finally:
        if status == 0 and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs and files: {folder}", flush=True)
    return status


async def _run(options: argparse.Namespace, folder: Path) -> int:
    """Until the time is over or somebody says stop; then everything is stopped and summed up."""
    demo = Demo(options, folder, screen.console())
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as work:
                nursery.start_soon(_interrupt, received, demo, work)
                try:
                    await demo.run()
                except DemoError as exc:
                    print(f"demo: {exc}", file=sys.stderr)
                    demo.broken = True
            nursery.cancel_scope.cancel()
    return demo.end()


async def _interrupt(received: AsyncIterator[int], demo: "Demo", work: trio.CancelScope) -> None:
    await anext(received)
    demo.interrupted = True
    work.cancel()
    await anext(received)
    os._exit(1)  # said twice; the kernel kills the children with us


class Demo:
    """One run: mesh, load, and what is shown of them."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        self.interrupted = self.broken = False
        self._options = options
        self._folder = folder
        self._console = console
        self._watch = Watch()
        self._load: Load | None = None
        self._begun_s = 0.0
        self._wanted: list[dict[str, float]] = []  # every split that held during the run

    async def run(self) -> None:
        """Start the mesh, send, show; return when `--seconds` are over and every answer is there."""
        self._begun_s = trio.current_time()
        self._console.print(f"logs and files: {self._folder}", soft_wrap=True)
        async with DemoMesh(self._folder, tell=self._console.print) as mesh:
            load = self._load = Load(mesh.door, self._options.rate, on_done=self._watch.done)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._show, mesh)
                if self._options.seconds is not None:
                    nursery.start_soon(_stop_after, load, self._options.seconds)
                await load.run()
                self._note(await look(mesh))
                nursery.cancel_scope.cancel()

    def end(self) -> int:
        """Print the summary; 0 when every request succeeded, or when a person ended the run."""
        if self._load is not None:
            summary = self._load.summary()
            for text in self._summary(summary):
                self._console.print(text, soft_wrap=True)
            self.broken |= summary.failed > 0 or not summary.sent
        return 1 if self.broken and not self.interrupted else 0

    async def _show(self, mesh: DemoMesh) -> None:
        commands = self._commands(mesh)
        if self._options.plain or not self._console.is_terminal:
            self._console.print("\n".join(commands), soft_wrap=True)
            while True:
                await trio.sleep(LINE_S)
                seen = self._note(await look(mesh))
                text = screen.line(seen, self._watch, self._watch.recent(trio.current_time()), self._head())
                self._console.print(text, soft_wrap=True)
        with Live(console=self._console, auto_refresh=False) as view:
            while True:
                seen, recent = self._note(await look(mesh)), self._watch.recent(trio.current_time())
                view.update(screen.live(seen, self._watch, recent, self._head(), commands), refresh=True)
                await trio.sleep(LOOK_S)

    def _note(self, seen: screen.Seen) -> screen.Seen:
        if (wanted := seen.wanted()) and wanted not in self._wanted:
            self._wanted.append(wanted)
        return seen

    def _head(self) -> str:
        assert self._load is not None
        running_s = trio.current_time() - self._begun_s
        return f"{running_s:.0f} s: {self._load.sent} requests, {self._load.failed} failed"

    def _commands(self, mesh: DemoMesh) -> list[str]:
        meshctl = _as_typed(Path(sys.executable).with_name("meshctl"))
        own = ["--server", mesh.server, "--token-file", str(mesh.token_file)]
        width = self._console.width
        move = [meshctl, "traffic", "set", "orders", "v1=50", "v2=50", "-n", NAMESPACE, "--wait"]
        return [
            screen.pasteable([*move, *own], width),
            screen.pasteable([meshctl, "status", *own], width),
            f"  kill -9 {mesh.processes['orders-1'].pid}   # the app orders-1, with requests in it",
            f"API: {mesh.server}/v1/status, with the bearer token in that file",
        ]

    def _summary(self, summary: Summary) -> list[str]:
        first_s = (self._watch.first_s or 0.0) - self._begun_s
        times = f"p50 {summary.p50_ms or 0:.0f} ms, p99 {summary.p99_ms or 0:.0f} ms"
        made = [
            f"{summary.sent} requests, {summary.failed} failed, {times}; first answer {first_s:.1f} s after the start"
        ]
        made += [f"  {count} x {problem}" for problem, count in summary.problems.most_common(5)]
        made += split(self._watch, self._wanted)
        for service, callers in self._watch.callers.items():
            made += [f"{service} was called by {name or 'the client, from outside the mesh'}" for name in callers]
        return made


def split(watch: Watch, wanted: list[dict[str, float]]) -> list[str]:
    """How the versions shared the answers, and whether chance explains the difference from what the route says."""
    total = sum(watch.versions.values())
    if not total or not wanted:
        return []
    if len(wanted) > 1:
        counts = ", ".join(f"{version} {count}" for version, count in sorted(watch.versions.items()))
        return [f"split of {watch.service}: {counts}; not judged, because the weights were changed during the run"]
    made = []
    for version, part in sorted(wanted[0].items()):
        got = watch.versions[version]
        low, high = binomial_bound(total, part)
        verdict = "inside" if low <= got <= high else "OUTSIDE"
        made.append(
            f"split of {watch.service}: {version} {got} of {total} = {got / total:.2%} (wanted {part:.0%}), "
            f"{verdict} the 99.9 % bound {low / total:.2%} to {high / total:.2%}"
        )
    return made


async def look(mesh: DemoMesh) -> screen.Seen:
    """Ask the control plane; NOTHING when it does not answer."""
    with trio.move_on_after(ANSWER_S):
        try:
            stats, status = await mesh.api("GET", "/v1/stats"), await mesh.api("GET", "/v1/status")
            return screen.Seen(stats, status, await mesh.api("GET", f"/v1/traffic/{NAMESPACE}/orders"))
        except (NoAnswer, DemoError, ValueError):
            pass
    return screen.NOTHING


async def _stop_after(load: Load, seconds: float) -> None:
    await trio.sleep(seconds)
    load.stop()


def _as_typed(command: Path) -> str:
    """As short as it can be typed from here."""
    if shutil.which(command.name) == str(command):
        return command.name
    here = Path.cwd()
    return str(command.relative_to(here)) if command.is_relative_to(here) else str(command)


if __name__ == "__main__":
    sys.exit(main())
