"""Two proxies with mutual TLS between them, as beside a caller and beside the service it calls; counted as one."""

from bench import mesh
from bench.identities import Authority
from bench.ports import free_port
from bench.proxies.documents import write_folder
from bench.proxies.envoy import RunningEnvoy
from bench.proxies.envoy_mesh import inbound, outbound
from bench.proxies.sidecar import RunningSidecar, Sections, bootstrap_of
from bench.proxies.site import Site
from bench.scenarios import EQUAL, EQUAL_H2, FAST, FULL


class SidecarPair:
    """Ours. HTTP/1.1 stays HTTP/1.1 between them. `sidecars` is each by its service; `sections` are for both."""

    def __init__(self, site: Site, *, fast_path: bool, sections: Sections | None = None) -> None:
        self.name = FAST if fast_path else FULL
        # The port stands in the caller's resources, so it must be known before the sidecar can choose one.
        called_port, authority = free_port(), Authority()
        app = f"{mesh.ENDPOINTS['v1'][0]}:{site.port}"
        listening = {"listen": [f"0.0.0.0:{called_port}"], "ports": [{"port": site.port, "app": app}]}
        self.sidecars: dict[str, RunningSidecar] = {}
        sides: dict[str, Sections] = {mesh.SERVICE: {"inbound": listening}, mesh.CALLER: {}}
        for service, side in sides.items():
            folder = site.folder / service
            folder.mkdir()
            write_folder(folder / "mesh.d", site.port, routes=site.scenario.routes, inbound=called_port)
            identity = authority.write(folder, mesh.NAMESPACE, service)
            bootstrap = bootstrap_of(
                service,
                fast_path=fast_path,
                log=site.scenario.log,
                sections={"identity": identity, **side, **(sections or {})},
            )
            self.sidecars[service] = RunningSidecar(f"{self.name} of {service}", folder, site.core, bootstrap)
        self.sidecars[mesh.SERVICE].listening("inbound")
        self.address = self.sidecars[mesh.CALLER].listening("outbound")

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return [pid for one in self.sidecars.values() for pid in one.pids]

    def stop(self) -> None:
        """End both."""
        for one in reversed(self.sidecars.values()):
            one.stop()


class EnvoyPair:
    """Envoy's, with HTTP/1.1 or HTTP/2 between them."""

    def __init__(self, site: Site, *, alpn: str) -> None:
        self.name = EQUAL_H2 if alpn == "h2" else EQUAL
        authority = Authority()
        called, calling = site.below(mesh.SERVICE), site.below(mesh.CALLER)
        self._running = [
            RunningEnvoy(f"{self.name} of {mesh.SERVICE}", called.folder, site.core, inbound(called, authority))
        ]
        port = int(self._running[0].listening("inbound").rpartition(":")[2])
        config = outbound(calling, authority, port, alpn)
        self._running.append(RunningEnvoy(f"{self.name} of {mesh.CALLER}", calling.folder, site.core, config))
        self.address = self._running[1].listening("bench")

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return [pid for one in self._running for pid in one.process.pids]

    def stop(self) -> None:
        """End both."""
        for one in reversed(self._running):
            one.process.stop()
