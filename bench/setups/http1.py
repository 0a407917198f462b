"""HTTP/1.1 through proxies to nginx, checked for equal work before it is measured."""

from contextlib import ExitStack
from pathlib import Path

from bench import client, load, mesh
from bench.backend import Backend
from bench.cores import Cores
from bench.load import Load
from bench.process import BenchError
from bench.proxies import Proxy, start_all
from bench.scenarios import DIRECT, Kind, Scenario
from bench.setups.beside import beside
from bench.traffic import make_requests

CHECKED = 1_000  # requests that a proxy answers rightly before it is measured
# The split is 90/10; the bounds are far outside of chance for CHECKED requests, and well inside of "not split".
_V2_SHARE = (0.05, 0.20)


class Http1:
    """`Setup`: see bench/setups/__init__.py."""

    def __init__(self, scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> None:
        self._scenario, self._core, self._folder = scenario, cores.load, folder
        self.rate = scenario.rate
        backend = Backend(folder, cores.load, scenario.body_bytes)
        running.callback(backend.stop)
        self._host = f"{mesh.HOST}:{backend.port}"
        self._file = folder / "requests.bin"
        requests = make_requests(
            scenario.heads,
            fresh=scenario.fresh,
            eligible_percent=scenario.eligible_percent,
            closing=scenario.new_connections,
            routes=scenario.routes,
        )
        load.write_requests(self._file, requests, self._host)
        self.proxies = start_all(scenario, folder, cores.proxy, backend.port, running)

    def check(self, proxy: Proxy) -> None:
        """Every request is answered by the version that the routes ask for."""
        scenario = self._scenario
        requests = make_requests(scenario.heads, eligible_percent=scenario.eligible_percent, routes=scenario.routes)
        connections = min(scenario.connections, CHECKED)
        answers = client.send(proxy.address, self._host, requests, total=CHECKED, connections=connections)
        judge(proxy.name, answers, scenario)

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """wrk, or the open loop when the row has a rate."""
        scenario = self._scenario
        with beside(proxy, scenario, self._folder, self._core):
            if self.rate is None:
                return load.closed(proxy.address, self._file, scenario, seconds, self._core)
            return load.paced(proxy.address, self._file, scenario, self.rate, seconds, self._core)


def judge(name: str, answers: client.Answers, scenario: Scenario) -> None:
    """Raise BenchError unless CHECKED answers are what the mesh of mesh.py says."""
    v2 = answers.versions["v2"] / CHECKED
    low, high = _V2_SHARE
    if answers.statuses != {200: CHECKED}:
        raise BenchError(f"{name} answered {dict(answers.statuses)} to {CHECKED} requests; all should be 200")
    if answers.body_bytes != {scenario.body_bytes}:
        raise BenchError(f"{name} gave bodies of {answers.body_bytes} bytes; {scenario.body_bytes} is right")
    if scenario.kind is not Kind.HTTP1 or name == DIRECT:
        return  # one endpoint answers for all
    if answers.misrouted or not low <= v2 <= high:
        raise BenchError(
            f"{name} sent {v2:.1%} to v2 ({low:.0%} to {high:.0%} is right) and {answers.misrouted} canary "
            "requests elsewhere: it does not do the work that is to be measured"
        )
