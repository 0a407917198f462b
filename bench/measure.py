"""One row: our proxy and its opponents in turn, each measured by the CPU time that a request costs it.

The proxies stay up through the row and are checked before it: every request of the load must be answered, by the
version that the routes ask for. No run is discarded; what disturbed a run is written beside it as a mark.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import client, load, mesh, procfs
from bench.backend import Backend
from bench.load import Load
from bench.process import BenchError
from bench.procfs import CoreTicks
from bench.progress import Say
from bench.proxies import Proxy, start_opponent, start_ours
from bench.scenarios import Scenario
from bench.traffic import Request, make_requests

WARM_UP_S = 1.0
CHECKED = 1_000  # requests that a proxy answers rightly before it is measured
# The split is 90/10; the bounds are far outside of chance for CHECKED requests, and well inside of "not split".
_V2_SHARE = (0.05, 0.20)
BUSY_LOAD_CORE = 0.80  # above: the load may have been the bottleneck
STEAL = 0.02  # above: the hypervisor took part of the time
NEIGHBOUR = 0.05  # above: somebody else worked on the proxy's core, and took its caches


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is whose."""

    proxy: int
    load: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of one proxy.

    Attributes:
        cpu_us: CPU time of all the proxy's processes, microseconds a request; the headline.
        load_core: Busy share of the core of load and backend; `generator` is wrk's part of it.
        steal: Larger share of the two cores that the hypervisor took.
        neighbour: Share of the proxy's core that processes other than the proxy used.
        marks: What makes the run doubtful.
    """

    proxy: str
    requests: int
    errors: int
    seconds: float
    cpu_us: float
    requests_per_s: float
    load_core: float
    generator: float
    steal: float
    neighbour: float
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of a scenario, in the order in which they were made."""

    scenario: Scenario
    runs: tuple[Run, ...]

    def of(self, proxy: str) -> list[Run]:
        """The runs of one proxy."""
        return [run for run in self.runs if run.proxy == proxy]

    def ratios(self, opponent: str) -> list[float]:
        """Ours to theirs, pair by pair; below 1.0 ours is cheaper."""
        pairs = zip(self.of("sidecar"), self.of(opponent), strict=True)
        return [ours.cpu_us / theirs.cpu_us for ours, theirs in pairs]

    def cpu_us(self, proxy: str) -> float:
        """Median of a proxy's runs."""
        return median(run.cpu_us for run in self.of(proxy))

    @property
    def errors(self) -> int:
        """Failed requests in all runs."""
        return sum(run.errors for run in self.runs)


def measure(scenario: Scenario, folder: Path, cores: Cores, say: Say) -> Row:
    """Run the row. Raises BenchError when something does not start or a proxy does not do its work."""
    requests = make_requests(scenario.heads, fresh=scenario.fresh)
    file = folder / "requests.bin"
    with ExitStack() as running:
        backend = Backend(folder, cores.load, scenario.body_bytes)
        running.callback(backend.stop)
        load.write_requests(file, requests, f"{mesh.HOST}:{backend.port}")
        proxies = _start(scenario, folder, cores.proxy, backend.port, running)
        for proxy in proxies:
            check(proxy, scenario, backend.port)
            _load(proxy, scenario, file, WARM_UP_S, cores)
        runs = []
        for pair in range(scenario.pairs):
            for proxy in proxies:
                say(f"{scenario.name}: {proxy.name} {pair + 1}/{scenario.pairs}")
                runs.append(_run(proxy, scenario, file, cores))
    return Row(scenario, tuple(runs))


def _start(scenario: Scenario, folder: Path, core: int, port: int, running: ExitStack) -> list[Proxy]:
    proxies = [start_ours(scenario, folder / "sidecar", core, port)]
    running.callback(proxies[0].stop)
    for name in scenario.opponents:
        proxies.append(start_opponent(name, folder / name, core, port))
        running.callback(proxies[-1].stop)
    return proxies


def check(proxy: Proxy, scenario: Scenario, port: int) -> None:
    """Raise BenchError unless `proxy` answers and routes as the mesh of mesh.py says."""
    requests: Sequence[Request] = make_requests(scenario.heads)
    host = f"{mesh.HOST}:{port}"
    answers = client.send(proxy.address, host, requests, total=CHECKED, connections=scenario.connections)
    v2 = answers.versions["v2"] / CHECKED
    low, high = _V2_SHARE
    if answers.statuses != {200: CHECKED}:
        raise BenchError(f"{proxy.name} answered {dict(answers.statuses)} to {CHECKED} requests; all should be 200")
    if answers.misrouted or not low <= v2 <= high:
        raise BenchError(
            f"{proxy.name} sent {v2:.1%} to v2 ({low:.0%} to {high:.0%} is right) and {answers.misrouted} canary "
            "requests elsewhere: it does not do the work that is to be measured"
        )
    if answers.body_bytes != {scenario.body_bytes}:
        raise BenchError(f"{proxy.name} gave bodies of {answers.body_bytes} bytes; {scenario.body_bytes} is right")


def _load(proxy: Proxy, scenario: Scenario, file: Path, seconds: float, cores: Cores) -> Load:
    return load.run(
        proxy.address,
        file,
        connections=scenario.connections,
        fresh=scenario.fresh,
        seconds=seconds,
        core=cores.load,
    )


def _run(proxy: Proxy, scenario: Scenario, file: Path, cores: Cores) -> Run:
    before, cpu_before = procfs.cores(), procfs.cpu_ticks(proxy.pids)
    done = _load(proxy, scenario, file, scenario.seconds, cores)
    cpu = procfs.cpu_ticks(proxy.pids) - cpu_before
    after = procfs.cores()
    proxy_core, load_core = (after[core].since(before[core]) for core in (cores.proxy, cores.load))
    return judge(proxy.name, done, cpu, proxy_core, load_core)


def judge(proxy: str, done: Load, cpu_ticks: int, proxy_core: CoreTicks, load_core: CoreTicks) -> Run:
    """The figures of a run and what is doubtful about it.

    Raises:
        BenchError: No request was answered, so there is no figure.
    """
    if done.requests <= done.errors:
        raise BenchError(f"{proxy}: none of {done.requests} requests succeeded")
    neighbour = max(0.0, (proxy_core.busy - cpu_ticks) / proxy_core.total) if proxy_core.total else 0.0
    steal = max(proxy_core.steal_ratio, load_core.steal_ratio)
    reasons = {
        "errors": done.errors > 0,
        "load core busy": load_core.busy_ratio > BUSY_LOAD_CORE,
        "steal": steal > STEAL,
        "neighbour": neighbour > NEIGHBOUR,
    }
    return Run(
        proxy=proxy,
        requests=done.requests,
        errors=done.errors,
        seconds=done.seconds,
        cpu_us=cpu_ticks / procfs.TICKS_PER_S / done.requests * 1e6,
        requests_per_s=done.requests / done.seconds,
        load_core=load_core.busy_ratio,
        generator=done.cpu_s / done.seconds,
        steal=steal,
        neighbour=neighbour,
        marks=tuple(reason for reason, holds in reasons.items() if holds),
    )
