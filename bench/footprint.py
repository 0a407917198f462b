"""Memory: at rest, after load, with so many routes, and for each idle connection.

VmRSS and Pss as the kernel has them, of all of a proxy's processes. Routes also cost a lookup: CPU per request with
requests to all of them, and for ours the time of the lookup alone.
"""

import os
import resource
import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import mesh, procfs, setups
from bench.backend import Backend
from bench.cores import Cores
from bench.identities import Door
from bench.process import BenchError
from bench.progress import Say
from bench.proxies import Proxy, start_all
from bench.scenarios import EQUAL, FAST, Heads, IdleScenario, RoutesScenario, Scenario
from bench.setups.beside import Disturbed
from bench.traffic import make_requests
from sidecar.config.files import load_static_folder
from sidecar.model.clusters import ServiceKey
from sidecar.model.messages import RequestHead
from sidecar.routing.table import Router

Entry = dict[str, Any]
_PROXIES = (FAST, EQUAL)
_SETTLED_S = 2.0  # after the last request: buffers go back, timers run
_WAIT_S = 10.0
_LOOKUPS = 20_000


def measure_routes(row: RoutesScenario, folder: Path, cores: Cores, say: Say) -> Entry:
    """Memory and the price of a lookup with `row.routes` routes. Raises BenchError."""
    scenario = Scenario(name=row.name, routes=row.routes, proxies=_PROXIES)
    found: Entry = {}
    with ExitStack() as running:
        setup = setups.prepare(scenario, folder, cores, running)
        for proxy in setup.proxies:
            say(f"{row.name}: {proxy.name}")
            time.sleep(_SETTLED_S)
            rest = memory_of(proxy)
            setup.check(proxy)
            setup.load(proxy, 1.0)
            cpu_before = procfs.cpu_s(proxy.pids)
            done = setup.load(proxy, row.seconds)
            cpu_us = (procfs.cpu_s(proxy.pids) - cpu_before) / done.requests * 1e6
            time.sleep(_SETTLED_S)
            found[proxy.name] = {"rest": rest, "loaded": memory_of(proxy), "cpu_us": cpu_us, "errors": done.errors}
    found[FAST]["lookup_us"] = lookup_us(folder / FAST / "mesh.d", row.routes)
    return {"scenario": asdict(row), "proxies": found}


def memory_of(proxy: Proxy) -> dict[str, float]:
    """Resident and proportional memory, MiB."""
    pids = proxy.pids
    return {"rss_mib": procfs.rss_kib(pids) / 1024, "pss_mib": procfs.pss_kib(pids) / 1024}


def lookup_us(documents: Path, routes: int) -> float:
    """Time from a request's head to its route, microseconds, in this process; the requests of the load in turn."""
    snapshot, _ = load_static_folder(documents, mesh=False)
    router, key = Router(), ServiceKey(mesh.NAMESPACE, mesh.SERVICE)
    service = snapshot.service(key)
    assert service is not None
    port = service.ports[0].port
    heads = []
    for request in make_requests(Heads.TWELVE, routes=routes):
        fields = [(name.lower().encode(), value.encode()) for name, value in request.headers]
        heads.append(RequestHead(b"GET", request.target.encode(), f"{mesh.HOST}:{port}".encode(), fields))
    start = time.process_time()
    for turn in range(_LOOKUPS):
        table = router.table(snapshot, key, port)
        if table is None or table.match(heads[turn % len(heads)]) is None:
            raise BenchError("a request of the load has no route")
    return (time.process_time() - start) / _LOOKUPS * 1e6


def measure_idle(row: IdleScenario, folder: Path, cores: Cores, say: Say) -> Entry:
    """Memory of each of `row.connections` connections that had one request and wait. Raises BenchError."""
    _allow_descriptors(2 * row.connections)  # ours keeps half of its descriptors for the other side
    scenario = Scenario(name=row.name, proxies=_PROXIES, door=row.mtls)
    found: Entry = {}
    with ExitStack() as running:
        backend = Backend(folder, cores.load, scenario.body_bytes)
        running.callback(backend.stop)
        for proxy in start_all(scenario, folder, cores.proxy, backend.port, running):
            say(f"{row.name}: {proxy.name}")
            door = proxy.door if row.mtls and isinstance(proxy, Disturbed) else None
            with _Clients(proxy.address, f"{mesh.HOST}:{backend.port}", door) as clients:
                first = row.connections // 10  # pools and caches are not what is measured
                clients.open(first)
                time.sleep(_SETTLED_S)
                before = memory_of(proxy)
                taken = clients.open(row.connections - first)
                time.sleep(_SETTLED_S)
                after = memory_of(proxy)
            each = (after["rss_mib"] - before["rss_mib"]) * 1024 / taken
            found[proxy.name] = {"before": before, "after": after, "each_kib": each, "connections": first + taken}
    few = (f"{name} took {got['connections']:,}" for name, got in found.items() if got["connections"] < row.connections)
    return {"scenario": asdict(row), "proxies": found, "marks": ", ".join(few)}


class _Clients:
    """Connections that are kept, each after one answered request."""

    def __init__(self, address: str, host: str, door: Door | None) -> None:
        where = address if door is None else door.address
        name, _, port = where.rpartition(":")
        self._address, self._door = (name, int(port)), door
        self._request = f"GET {mesh.area(5)}/idle HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._context = None if door is None else client_context(door)
        self._open: list[socket.socket] = []

    def __enter__(self) -> "_Clients":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            one.close()

    def open(self, count: int) -> int:
        """Open so many more, or as many as are served; how many. Raises BenchError when that is less than half."""
        for number in range(count):
            try:
                self._open.append(self._connect())
            except OSError as exc:
                if number < count / 2:
                    raise BenchError(f"of {count} connections {number} were served: {exc}") from None
                return number
        return count

    def _connect(self) -> socket.socket:
        made = socket.create_connection(self._address, timeout=_WAIT_S)
        try:
            if self._context is not None and self._door is not None:
                made = self._context.wrap_socket(made, server_hostname=self._door.server_name)
            made.sendall(self._request)
            answer = made.recv(65_536)
        except OSError:
            made.close()
            raise
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"an idle connection was answered {answer[:60]!r}")
        return made


def client_context(door: Door) -> ssl.SSLContext:
    """For another sidecar's way in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(door.roots)
    context.load_cert_chain(door.cert, door.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _allow_descriptors(count: int) -> None:
    """Raise our limit, which the proxies inherit. Raises BenchError when it cannot be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count) if os.geteuid() == 0 else hard))
    except (ValueError, OSError):
        raise BenchError(f"this row needs {count} descriptors; the limit is {soft} (ulimit -n)") from None
