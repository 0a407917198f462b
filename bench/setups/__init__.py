"""What stands around the proxies of a row: backend, requests, the check of equal work, the load."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from bench.cores import Cores
from bench.load import Load
from bench.proxies import Proxy
from bench.scenarios import Kind, Scenario
from bench.setups.bulk import Bulk
from bench.setups.http1 import Http1
from bench.setups.http2 import Http2


class Setup(Protocol):
    """A row's stage, with backend and proxies running; who gave the ExitStack ends them."""

    @property
    def proxies(self) -> list[Proxy]:
        """In the order in which they take turns."""

    def check(self, proxy: Proxy) -> None:
        """Raise BenchError unless the proxy does the work that is to be measured."""

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """Load it for so long."""


_MAKERS: Mapping[Kind, Callable[[Scenario, Path, Cores, ExitStack], Setup]] = {
    Kind.HTTP1: Http1,
    Kind.MESH: Http1,
    Kind.EXCHANGE: Http1,
    Kind.BULK: Bulk,
    Kind.HTTP2: Http2,
    Kind.GRPC: Http2,
}
# Programs that a row needs besides its proxies.
TOOLS = {Kind.BULK: (), Kind.HTTP2: ("h2load", "nghttpd"), Kind.GRPC: ("h2load", "nghttpd")}


def prepare(scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> Setup:
    """Start everything that the row needs. Raises BenchError."""
    return _MAKERS[scenario.kind](scenario, folder, cores, running)
