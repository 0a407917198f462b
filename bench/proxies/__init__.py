"""The proxies that can be measured. To add one: write a class with the members of `Proxy` and name it in `PROXIES`."""

from collections.abc import Callable
from typing import Protocol

from bench.proxies.envoy import Envoy
from bench.proxies.haproxy import HAProxy
from bench.proxies.nginx import Nginx
from bench.proxies.sidecar import Sidecar
from bench.proxies.site import Site
from bench.scenarios import EQUAL, FAST, FULL, MINIMAL


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


PROXIES: dict[str, Callable[[Site], Proxy]] = {
    FAST: lambda site: Sidecar(site, fast_path=True),
    FULL: lambda site: Sidecar(site, fast_path=False),
    EQUAL: lambda site: Envoy(site, minimal=False),
    MINIMAL: lambda site: Envoy(site, minimal=True),
    "haproxy": HAProxy,
    "nginx": Nginx,
}
# The program that a proxy needs, where it is not its name.
TOOLS = {EQUAL: "envoy", MINIMAL: "envoy", "haproxy": "haproxy", "nginx": "nginx"}


def start(name: str, site: Site) -> Proxy:
    """A proxy, ready to serve. Raises BenchError."""
    return PROXIES[name](site)
