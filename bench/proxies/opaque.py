"""Proxies that carry connections and read nothing: ours by a port of `tcp`, Envoy's tcp_proxy, HAProxy's mode tcp.

One local port leads to the endpoints of the service, chosen for each connection.
"""

from bench import mesh, tools
from bench.ports import accepts, free_port
from bench.process import Process
from bench.proxies.documents import FILE, opaque_text
from bench.proxies.envoy import RunningEnvoy
from bench.proxies.envoy_config import TYPE, Config, address, cluster
from bench.proxies.sidecar import RunningSidecar, Sections, bootstrap_of
from bench.proxies.site import Site
from bench.scenarios import EQUAL, FAST, FULL

_ADDRESSES = tuple(address for version in mesh.VERSIONS for address in mesh.ENDPOINTS[version])


class OpaqueSidecar:
    """Ours."""

    def __init__(self, site: Site, *, fast_path: bool) -> None:
        self.name, port = FAST if fast_path else FULL, free_port()
        self.address = f"127.0.0.1:{port}"
        (site.folder / "mesh.d").mkdir()
        (site.folder / "mesh.d" / FILE).write_text(opaque_text(site.port))
        upstream = {"service": mesh.SERVICE, "port": site.port, "listen": self.address}
        outbound: Sections = {"outbound": {"listen": [], "upstreams": [upstream]}}
        bootstrap = bootstrap_of(mesh.CALLER, fast_path=fast_path, sections=outbound)
        self._running = RunningSidecar(self.name, site.folder, site.core, bootstrap)
        self._running.process.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._running.pids

    def stop(self) -> None:
        """End it."""
        self._running.stop()


class OpaqueEnvoy:
    """Envoy."""

    name = EQUAL

    def __init__(self, site: Site) -> None:
        self._running = RunningEnvoy(self.name, site.folder, site.core, envoy_configuration(site))
        self.address = self._running.listening("bench")

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._running.process.pids

    def stop(self) -> None:
        """End it."""
        self._running.process.stop()


def envoy_configuration(site: Site) -> Config:
    """Envoy's bootstrap."""
    proxy = {"@type": f"{TYPE}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bench", "cluster": "all"}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    listener = {"name": "bench", "address": address("127.0.0.1", 0), "filter_chains": [chain]}
    return {
        "admin": {"address": address("127.0.0.1", 0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster("all", _ADDRESSES, site.port)]},
    }


class OpaqueHAProxy:
    """HAProxy."""

    name = "haproxy"

    def __init__(self, site: Site) -> None:
        port, file = free_port(), site.folder / "haproxy.cfg"
        file.write_text(haproxy_configuration(site, port))
        argv = [tools.path("haproxy"), "-db", "-f", file]
        self._process = Process(self.name, argv, core=site.core, log=site.folder / "haproxy.log")
        self.address = f"127.0.0.1:{port}"
        self._process.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return self._process.pids

    def stop(self) -> None:
        """End it."""
        self._process.stop()


def haproxy_configuration(site: Site, port: int) -> str:
    """haproxy.cfg. With splicing, which is its best for long streams; `auto` decides when it pays."""
    servers = "".join(f"    server s{number} {host}:{site.port}\n" for number, host in enumerate(_ADDRESSES))
    return f"""global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    option splice-auto
    timeout client 1h
    timeout server 1h
    timeout connect {mesh.POLICY.timeouts.connect_s:g}s
listen bench
    bind 127.0.0.1:{port}
    balance leastconn
{servers}"""
