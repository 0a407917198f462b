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
from bench.process import BenchError
from bench.progress import Say
from bench.proxies.pair import SidecarPair
from bench.proxies.sidecar import RunningSidecar
from bench.proxies.site import Site
from bench.scenarios import Heads, MemoryScenario, Scenario
from bench.sink import Sink
from bench.traffic import make_requests

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
        site = Site(folder, cores.proxy, backend.port, Scenario(name=scenario.name, routes=scenario.routes))
        pair = SidecarPair(site, fast_path=scenario.fast_path, sections={"tracing": {"otlp": sink.url, "sample": 1}})
        running.callback(pair.stop)
        say(f"{scenario.name}: {scenario.requests} requests")
        _send(scenario, pair.address, backend.port)
        for sidecar in pair.sidecars.values():
            _scrape(sidecar)
        rss = {name: procfs.rss_kib(sidecar.pids) / 1024 for name, sidecar in pair.sidecars.items()}
    if not sink.posts:
        raise BenchError("no spans were sent, so tracing was not on")
    return MemoryRow(scenario=scenario, rss_mib=rss, span_posts=sink.posts)


def _send(scenario: MemoryScenario, address: str, port: int) -> None:
    requests = make_requests(Heads.TWELVE, sampled=True, routes=scenario.routes)
    host = f"{mesh.HOST}:{port}"
    answers = client.send(address, host, requests, total=scenario.requests, connections=scenario.connections)
    if answers.statuses != {200: scenario.requests}:
        raise BenchError(f"the sidecars answered {dict(answers.statuses)}; all should be 200")


def _scrape(sidecar: RunningSidecar) -> None:
    with urllib.request.urlopen(f"http://{sidecar.listening('metrics')}/metrics", timeout=_HTTP_S) as answer:
        if b"istio_requests_total" not in answer.read():
            raise BenchError("the metrics say nothing of the requests")
