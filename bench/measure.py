"""One row: our proxy and its opponents in turn, each measured by the CPU time that a request costs it.

The proxies stay up through the row and are checked before it (setups/). No run is discarded; what disturbed a run is
written beside it as a mark.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import procfs, setups
from bench.cores import Cores
from bench.load import Load
from bench.process import BenchError
from bench.procfs import CoreTicks
from bench.progress import Say
from bench.proxies import Proxy
from bench.scenarios import Scenario

WARM_UP_S = 1.0
BUSY_LOAD_CORE = 0.80  # above: the load may have been the bottleneck
STEAL = 0.02  # above: the hypervisor took part of the time
NEIGHBOUR = 0.05  # above: somebody else worked on the proxy's core, and took its caches
LATE_US = 500.0  # above, of one request in a hundred: the generator was late itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of one proxy.

    Attributes:
        cpu_us: CPU time of all the proxy's processes, microseconds a request; the headline.
        load_core: Busy share of the core of load and backend; `generator` is the load generator's part of it.
        steal: Larger share of the two cores that the hypervisor took.
        neighbour: Share of the proxy's core that processes other than the proxy used.
        latency_us, late_us: Quantiles of an open loop; see load.py.
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
    latency_us: dict[str, float]
    late_us: dict[str, float]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of a scenario, in the order in which they were made."""

    scenario: Scenario
    runs: tuple[Run, ...]

    def of(self, proxy: str) -> list[Run]:
        """The runs of one proxy."""
        return [run for run in self.runs if run.proxy == proxy]

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Ours to theirs, pair by pair; below 1.0 ours is cheaper."""
        pairs = zip(self.of(ours), self.of(theirs), strict=True)
        return [mine.cpu_us / other.cpu_us for mine, other in pairs]

    def cpu_us(self, proxy: str) -> float:
        """Median of a proxy's runs."""
        return median(run.cpu_us for run in self.of(proxy))

    @property
    def errors(self) -> int:
        """Failed requests in all runs."""
        return sum(run.errors for run in self.runs)


def measure(scenario: Scenario, folder: Path, cores: Cores, say: Say) -> Row:
    """Run the row. Raises BenchError when something does not start or a proxy does not do its work."""
    with ExitStack() as running:
        setup = setups.prepare(scenario, folder, cores, running)
        for proxy in setup.proxies:
            say(f"{scenario.name}: {proxy.name} is checked")
            setup.check(proxy)
            setup.load(proxy, WARM_UP_S)
        runs = []
        for pair in range(scenario.pairs):
            for proxy in setup.proxies:
                say(f"{scenario.name}: {proxy.name} {pair + 1}/{scenario.pairs}")
                runs.append(_run(proxy, setup, scenario.seconds, cores))
    return Row(scenario, tuple(runs))


def _run(proxy: Proxy, setup: setups.Setup, seconds: float, cores: Cores) -> Run:
    before, pids = procfs.cores(), proxy.pids
    cpu_before = procfs.cpu_s(pids)
    done = setup.load(proxy, seconds)
    cpu_s = procfs.cpu_s(pids) - cpu_before
    after = procfs.cores()
    proxy_core, load_core = (after[core].since(before[core]) for core in (cores.proxy, cores.load))
    return judge(proxy.name, done, cpu_s, proxy_core, load_core)


def judge(proxy: str, done: Load, cpu_s: float, proxy_core: CoreTicks, load_core: CoreTicks) -> Run:
    """The figures of a run and what is doubtful about it.

    Raises:
        BenchError: No request was answered, so there is no figure.
    """
    if done.requests <= done.errors:
        raise BenchError(f"{proxy}: none of {done.requests} requests succeeded")
    others = proxy_core.busy - cpu_s * procfs.TICKS_PER_S
    neighbour = max(0.0, others / proxy_core.total) if proxy_core.total else 0.0
    steal = max(proxy_core.steal_ratio, load_core.steal_ratio)
    reasons = {
        "errors": done.errors > 0,
        "load core busy": load_core.busy_ratio > BUSY_LOAD_CORE,
        "rate not reached": done.unanswered > 0,
        "generator late": done.late_us.get("p99", 0.0) > LATE_US,
        "steal": steal > STEAL,
        "neighbour": neighbour > NEIGHBOUR,
    }
    return Run(
        proxy=proxy,
        requests=done.requests,
        errors=done.errors,
        seconds=done.seconds,
        cpu_us=cpu_s / done.requests * 1e6,
        requests_per_s=done.requests / done.seconds,
        load_core=load_core.busy_ratio,
        generator=done.cpu_s / done.seconds,
        steal=steal,
        neighbour=neighbour,
        latency_us=done.latency_us,
        late_us=done.late_us,
        marks=(*(reason for reason, holds in reasons.items() if holds), *done.notes),
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": median(values), "low": min(values), "high": max(values)}
