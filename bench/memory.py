"""The memory row: client -> sidecar -> mTLS -> sidecar -> nginx, with metrics and tracing on.

Every request asks for its spans to be kept, so that the exporters work; metrics are scraped before the reading, because
rendering them takes memory too. The figure is VmRSS as the kernel has it: shared libraries count in each process.
"""

import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import client, mesh, procfs
from bench.backend import Backend
from bench.cores import Cores
from bench.identities import Authority
from bench.ports import free_port
from bench.process import BenchError
from bench.progress import Say
from bench.proxies.documents import write_folder
from bench.proxies.sidecar import RunningSidecar, Sections, bootstrap_of
from bench.scenarios import Heads, MemoryScenario
from bench.sink import Sink
from bench.traffic import make_requests

SERVICE_PORT = 8080
_HTTP_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """Resident memory of each sidecar, MiB, by the name of its service."""

    scenario: MemoryScenario
    rss_mib: dict[str, float]
    span_posts: int

    @property
    def worst_mib(self) -> float:
        """The larger one."""
        return max(self.rss_mib.values())

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.worst_mib <= self.scenario.goal_mib


def measure(scenario: MemoryScenario, folder: Path, cores: Cores, say: Say) -> MemoryRow:
    """Run the row. Raises BenchError when something does not start or requests fail."""
    with ExitStack() as running:
        backend = Backend(folder, cores.load, 80)
        running.callback(backend.stop)
        sink = Sink()
        running.callback(sink.stop)
        pair = _Pair(scenario, folder, cores, backend.port, sink.url, running)
        say(f"{scenario.name}: {scenario.requests} requests")
        _send(scenario, pair.address)
        for sidecar in pair.sidecars.values():
            _scrape(sidecar)
        rss = {name: procfs.rss_kib(sidecar.pids) / 1024 for name, sidecar in pair.sidecars.items()}
    if not sink.posts:
        raise BenchError("no spans were sent, so tracing was not on")
    return MemoryRow(scenario=scenario, rss_mib=rss, span_posts=sink.posts)


class _Pair:
    """The two sidecars, each with its own identity and the same folder of resources."""

    def __init__(
        self, scenario: MemoryScenario, folder: Path, cores: Cores, app_port: int, otlp: str, running: ExitStack
    ) -> None:
        self._folder, self._core, self._authority = folder, cores.proxy, Authority()
        self._scenario, self._inbound = (
            scenario,
            free_port(),
        )  # it stands in the callers' resources, so it must be known first
        tracing: Sections = {"tracing": {"otlp": otlp, "sample": 1}}
        app = f"{mesh.ENDPOINTS['v1'][0]}:{app_port}"
        inbound = {"listen": [f"127.0.0.1:{self._inbound}"], "ports": [{"port": SERVICE_PORT, "app": app}]}
        called: Sections = {"inbound": inbound}
        caller: Sections = {}
        self.sidecars: dict[str, RunningSidecar] = {}
        for service, sections in ((mesh.SERVICE, called), (mesh.CALLER, caller)):
            sidecar = self._start(service, tracing | sections)
            running.callback(sidecar.stop)
            self.sidecars[service] = sidecar
        self.sidecars[mesh.SERVICE].listening("inbound")
        self.address = self.sidecars[mesh.CALLER].listening("outbound")

    def _start(self, service: str, sections: Sections) -> RunningSidecar:
        folder = self._folder / service
        folder.mkdir()
        write_folder(folder / "mesh.d", SERVICE_PORT, routes=self._scenario.routes, inbound=self._inbound)
        identity = self._authority.write(folder, mesh.NAMESPACE, service)
        bootstrap = bootstrap_of(
            service, fast_path=self._scenario.fast_path, sections={"identity": identity, **sections}
        )
        return RunningSidecar(f"sidecar of {service}", folder, self._core, bootstrap)


def _send(scenario: MemoryScenario, address: str) -> None:
    requests = make_requests(Heads.TWELVE, sampled=True, routes=scenario.routes)
    host = f"{mesh.HOST}:{SERVICE_PORT}"
    answers = client.send(address, host, requests, total=scenario.requests, connections=scenario.connections)
    if answers.statuses != {200: scenario.requests}:
        raise BenchError(f"the sidecars answered {dict(answers.statuses)}; all should be 200")


def _scrape(sidecar: RunningSidecar) -> None:
    with urllib.request.urlopen(f"http://{sidecar.listening('metrics')}/metrics", timeout=_HTTP_S) as answer:
        if b"istio_requests_total" not in answer.read():
            raise BenchError("the metrics say nothing of the requests")
