"""What else happens to a proxy while it is loaded: a push each second, handshakes at a rate."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from bench.identities import Door
from bench.process import BenchError, Process
from bench.proxies import Proxy
from bench.scenarios import Scenario

PUSH_EVERY_S = 1.0
_REACHED = 0.9  # of the rate; below, the row is not what its name says


@runtime_checkable
class Disturbed(Protocol):
    """A proxy whose configuration can be pushed, and that has a side for other sidecars."""

    door: Door | None

    def push(self, turn: int) -> None:
        """Put a configuration in force that differs from the last turn's."""

    def pushes_taken(self) -> int:
        """How many have been put in force since the start, as the proxy itself counts them."""


@contextmanager
def beside(proxy: Proxy, scenario: Scenario, folder: Path, core: int) -> Iterator[list[str]]:
    """Disturb `proxy` as the row asks, until the block ends. After it the list says what was not as asked."""
    notes: list[str] = []
    with ExitStack() as running:
        if isinstance(proxy, Disturbed):
            if scenario.pushes:
                running.enter_context(_pushes(proxy, notes))
            if scenario.handshakes_per_s and proxy.door is not None:
                running.enter_context(_storm(proxy.door, scenario.handshakes_per_s, folder, core, notes))
        yield notes


@contextmanager
def _pushes(proxy: Disturbed, notes: list[str]) -> Iterator[None]:
    ended, turns = threading.Event(), list[int]()
    before = proxy.pushes_taken()

    def push() -> None:
        while not ended.wait(PUSH_EVERY_S):
            turns.append(len(turns) + 1)
            proxy.push(turns[-1])

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if proxy.pushes_taken() - before < len(turns) - 1:  # the last one may still be on its way
        notes.append("fewer pushes")


@contextmanager
def _storm(door: Door, rate: int, folder: Path, core: int, notes: list[str]) -> Iterator[None]:
    argv = [sys.executable, "-m", "bench.storm", door.address, door.cert, door.key, door.roots, door.server_name, rate]
    process = Process("the handshakes", argv, core=core, log=folder / "storm.log")
    try:
        yield
    finally:
        process.stop()
    try:
        got = json.loads(process.output())
    except ValueError:
        raise BenchError(f"the handshakes broke:\n{process.output()}") from None
    if got["failed"]:
        notes.append("handshakes failed")
    if got["made"] < _REACHED * rate * got["seconds"]:
        notes.append("fewer handshakes")
