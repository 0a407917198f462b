"""HTTP/2 on both sides of one proxy: h2load, the proxy, nghttpd. Unary gRPC calls are POSTs with a trailer after them.

h2load is a closed loop: CPU per request and saturation only. nghttpd answers from files, one for each route, with the
same 80 bytes; it cannot say which address was asked, so that the split is not checked here.
"""

from contextlib import ExitStack
from pathlib import Path

from bench import load, mesh, tools
from bench.backend import body
from bench.cores import Cores
from bench.load import Load
from bench.ports import accepts, free_port
from bench.process import BenchError, Process
from bench.proxies import Proxy, start_all
from bench.scenarios import Heads, Kind, Scenario
from bench.traffic import make_requests

# A gRPC message: not compressed, and its length. What is in it nobody here reads.
MESSAGE = b"\0" + (75).to_bytes(4, "big") + b"\x0a\x49" + b"x" * 73
_FILE = "item.grpc"


class Http2:
    """`Setup`: see bench/setups/__init__.py."""

    def __init__(self, scenario: Scenario, folder: Path, cores: Cores, running: ExitStack) -> None:
        self._scenario, self._core, self._folder = scenario, cores.load, folder
        grpc = scenario.kind is Kind.GRPC
        content = MESSAGE if grpc else body(scenario.body_bytes).encode("ascii")
        for number in range(mesh.areas(scenario.routes)):
            place = folder / "files" / mesh.area(number)[1:]
            place.mkdir(parents=True)
            (place / _FILE).write_bytes(content)
        (folder / "message").write_bytes(MESSAGE)
        (folder / "types").write_text(f"{'application/grpc' if grpc else 'application/json'} grpc\n")
        port = free_port()
        argv = [tools.path("nghttpd"), "--no-tls", "-a", "0.0.0.0", "-d", folder / "files"]
        argv += ["--mime-types-file", folder / "types", *(("--trailer", "grpc-status: 0") if grpc else ()), str(port)]
        backend = Process("nghttpd", argv, core=cores.load, log=folder / "nghttpd.log")
        running.callback(backend.stop)
        backend.wait_for("listening", lambda: accepts("127.0.0.1", port) or None)
        self._host = f"{mesh.HOST}:{port}"
        self.proxies = start_all(scenario, folder, cores.proxy, port, running)

    def check(self, proxy: Proxy) -> None:
        """Every request is answered with 2xx."""
        done = self._run(proxy, ["-n", "1000"], 10.0)
        if done.errors or done.requests != 1000:
            raise BenchError(f"{proxy.name} failed {done.errors} of {done.requests} requests")

    def load(self, proxy: Proxy, seconds: float) -> Load:
        """h2load for so long."""
        return self._run(proxy, ["-D", f"{max(1, round(seconds))}"], seconds)

    def _run(self, proxy: Proxy, how_long: list[str], seconds: float) -> Load:
        scenario = self._scenario
        uris = self._folder / f"uris-{proxy.name}"
        lines = (f"http://{proxy.address}{mesh.area(n)}/{_FILE}" for n in range(mesh.areas(scenario.routes)))
        uris.write_text("\n".join(lines))
        argv = [str(tools.path("h2load")), *how_long, "-t", "1", "-c", str(scenario.connections)]
        argv += ["-m", str(scenario.streams), "-i", str(uris), "-H", f":authority: {self._host}"]
        if scenario.heads is Heads.TWELVE:
            for name, value in make_requests(Heads.TWELVE)[50].headers:
                argv += ["-H", f"{name.lower()}: {value}"]
        if scenario.kind is Kind.GRPC:
            argv += ["-d", str(self._folder / "message"), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        output, cpu_s = load.run("h2load", argv, seconds, self._core)
        return load.parse_h2load(output, cpu_s)
