"""What is measured and compared: one class for each proxy, each with the same few members.

A proxy is started by its constructor and gives its address and processes until `stop`. Another opponent is another
class and a line in `OPPONENTS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bench.proxies.envoy import Envoy
from bench.proxies.sidecar import Sidecar
from bench.scenarios import Scenario


class Proxy(Protocol):
    """A running proxy in front of the backend."""

    @property
    def name(self) -> str:
        """As it stands in tables and results."""

    @property
    def address(self) -> str:
        """host:port where clients connect."""

    @property
    def pids(self) -> list[int]:
        """All its processes."""

    def stop(self) -> None:
        """End it; may be called twice."""


# Each is called with a folder of its own to make, the core to run on, and the backend's port.
OPPONENTS: dict[str, Callable[[Path, int, int], Proxy]] = {"envoy": Envoy}


def start_ours(scenario: Scenario, folder: Path, core: int, backend_port: int) -> Proxy:
    """The sidecar, ready to serve."""
    return Sidecar(folder, core, backend_port, fast_path=scenario.fast_path)


def start_opponent(name: str, folder: Path, core: int, backend_port: int) -> Proxy:
    """An opponent, ready to serve."""
    return OPPONENTS[name](folder, core, backend_port)
