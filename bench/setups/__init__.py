"""What stands around the proxies of a row: backend, requests, the check of equal work, the load."""

from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from bench.cores import Cores
from bench.load import Load
from bench.proxies import Proxy
from bench.scenarios import Scenario
from bench.setups.http1 import Http1


class Setup(Protocol):
    """A row's stage. Made with backend and proxies running; who gave the ExitStack ends them."""

    proxies: list[Proxy]

    def check(self, proxy: Proxy) -> None:
        """Raise BenchError unless the proxy does the work that is to be measured."""

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """Load it for so long."""


def prepare(scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> Setup:
    """Start everything that the row needs. Raises BenchError."""
    return Http1(scenario, folder, cores, running)
