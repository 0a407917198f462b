"""The proxies that can be measured. To add one: write a class with the members of `Proxy` and name it in `PROXIES`."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from bench import mesh
from bench.process import BenchError
from bench.proxies.direct import Direct
from bench.proxies.envoy import Envoy
from bench.proxies.haproxy import HAProxy
from bench.proxies.nginx import Nginx
from bench.proxies.opaque import OpaqueEnvoy, OpaqueHAProxy, OpaqueSidecar
from bench.proxies.pair import EnvoyPair, SidecarPair
from bench.proxies.sidecar import Sidecar
from bench.proxies.site import Site
from bench.scenarios import DIRECT, EQUAL, EQUAL_H2, FAST, FULL, MINIMAL, POLICIES_OFF, POLICIES_ON, Kind, Scenario


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


Makers = Mapping[str, Callable[[Site], Proxy]]
_ONE: Makers = {
    FAST: lambda site: Sidecar(site, fast_path=True),
    FULL: lambda site: Sidecar(site, fast_path=False),
    POLICIES_OFF: lambda site: Sidecar(site, fast_path=True, called=POLICIES_OFF),
    POLICIES_ON: lambda site: Sidecar(site, fast_path=True, called=POLICIES_ON, policy=mesh.COMMON_POLICIES),
    EQUAL: lambda site: Envoy(site, minimal=False),
    MINIMAL: lambda site: Envoy(site, minimal=True),
    "haproxy": HAProxy,
    "nginx": Nginx,
    DIRECT: Direct,
}
_PAIRS: Makers = {
    FAST: lambda site: SidecarPair(site, fast_path=True),
    FULL: lambda site: SidecarPair(site, fast_path=False),
    EQUAL: lambda site: EnvoyPair(site, alpn="http/1.1"),
    EQUAL_H2: lambda site: EnvoyPair(site, alpn="h2"),
}
_OPAQUE: Makers = {
    FAST: lambda site: OpaqueSidecar(site, fast_path=True),
    FULL: lambda site: OpaqueSidecar(site, fast_path=False),
    EQUAL: OpaqueEnvoy,
    "haproxy": OpaqueHAProxy,
    DIRECT: Direct,
}
PROXIES: dict[Kind, Makers] = {
    Kind.HTTP1: _ONE,
    Kind.HTTP2: _ONE,
    Kind.GRPC: _ONE,
    Kind.MESH: _PAIRS,
    Kind.EXCHANGE: _OPAQUE,
    Kind.BULK: _OPAQUE,
}
# The program that a proxy needs.
TOOLS = {EQUAL: "envoy", EQUAL_H2: "envoy", MINIMAL: "envoy", "haproxy": "haproxy", "nginx": "nginx"}


def start(name: str, site: Site) -> Proxy:
    """A proxy, ready to serve. Raises BenchError."""
    if "@" in name:
        return Sidecar(site, fast_path=True, called=name)
    maker = PROXIES[site.scenario.kind].get(name)
    if maker is None:
        raise BenchError(f"{site.scenario.name}: no {name} for {site.scenario.kind.value}")
    return maker(site)


def start_all(scenario: Scenario, folder: Path, core: int, port: int, running: ExitStack) -> list[Proxy]:
    """All proxies of a row, each in a folder of its own below `folder`. Raises BenchError."""
    started = []
    for name in scenario.proxies:
        place = folder / name
        place.mkdir()
        started.append(start(name, Site(place, core, port, scenario)))
        running.callback(started[-1].stop)
    return started
