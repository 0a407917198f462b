"""HTTP/1.1 through proxies to nginx, checked for equal work before it is measured."""

from contextlib import ExitStack
from dataclasses import replace
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
# Far outside of chance for CHECKED requests (six standard deviations of a split 90/10), well inside of "not split".
_SHARE_OFF = 0.06
_SPLIT = 0.1  # of what no header decides, to v2


class Http1:
    """`Setup`: see bench/setups/__init__.py."""

    def __init__(self, scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> None:
        self._scenario, self._core, self._folder = scenario, cores.load, folder
        self._found = scenario.rate
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
        canary = sum(request.canary for request in requests[:CHECKED]) / CHECKED
        judge(proxy.name, answers, scenario, canary + (1 - canary) * _SPLIT)

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """wrk, or the open loop when the row has a rate. A share of a saturation is found before the first load."""
        scenario, rate = self._scenario, self._rate()
        with beside(proxy, scenario, self._folder, self._core) as notes:
            if rate is None:
                done = load.closed(proxy.address, self._file, scenario, seconds, self._core)
            else:
                done = load.paced(proxy.address, self._file, scenario, rate, seconds, self._core)
        return replace(done, notes=tuple(notes))

    def _rate(self) -> float | None:
        scenario = self._scenario
        if self._found is None and scenario.load_percent:
            asked = [proxy for proxy in self.proxies if scenario.load_of in ("slower", proxy.name) and proxy.pids]
            saturated = min(self._saturation(proxy) for proxy in asked)
            self._found = float(round(saturated * scenario.load_percent / 100))
        return self._found

    def _saturation(self, proxy: Proxy) -> float:
        load.closed(proxy.address, self._file, self._scenario, 1.0, self._core)
        done = load.closed(proxy.address, self._file, self._scenario, min(3.0, self._scenario.seconds), self._core)
        return done.requests / done.seconds


def judge(name: str, answers: client.Answers, scenario: Scenario, v2_share: float) -> None:
    """Raise BenchError unless CHECKED answers are what the mesh of mesh.py says, `v2_share` of them from v2."""
    v2 = answers.versions["v2"] / CHECKED
    if answers.statuses != {200: CHECKED}:
        raise BenchError(f"{name} answered {dict(answers.statuses)} to {CHECKED} requests; all should be 200")
    if answers.body_bytes != {scenario.body_bytes}:
        raise BenchError(f"{name} gave bodies of {answers.body_bytes} bytes; {scenario.body_bytes} is right")
    if scenario.kind is not Kind.HTTP1 or name == DIRECT or not scenario.routes:
        return  # one endpoint answers for all, or there is no split
    if answers.misrouted or abs(v2 - v2_share) > _SHARE_OFF:
        raise BenchError(
            f"{name} sent {v2:.1%} to v2 ({v2_share:.0%} is right) and {answers.misrouted} canary "
            "requests elsewhere: it does not do the work that is to be measured"
        )
