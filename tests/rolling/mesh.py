"""The mesh under test: a caller's sidecar and two replicas, each a service beside a sidecar; mutual TLS between them.

The first replica's sidecar starts its service (`sidecar run -- COMMAND`), so that both restart together; the second
stands beside a service that stays. Static folder and identity files: nobody tells the caller that a replica leaves, so
whatever it notices it notices from connections, which is the harder case. The caller's own sidecar is replaced by one
that listens beside it (`--take-over`), because its clients have no other to go to.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.test_sidecar import write_identity
from tests.interop.children import Child, start
from tests.support.processes import BIN

DRAIN_DELAY = "500ms"
ENDS_S = 90.0  # a drain of this service takes about two seconds where nothing else runs
# Below the ports that the kernel gives to clients: a restart's port must not be taken meanwhile, by somebody's
# connection or by a dial to it that meets itself.
_FIXED_PORTS = range(20_000, 32_000)
_PORTS = (("http", 8080, "http"), ("http", 8081, "http2"), ("grpc", 8082, "grpc"))
_ENVIRONMENT_LINES = "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
# The machine starts one process after the other meanwhile, and may be busy with more: what takes long there is no sign
# of a failed endpoint. What is shown is that nothing is lost, not how long it takes.
_PATIENCE = (
    "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: orders, namespace: shop}\n"
    "spec: {targetRefs: [{kind: Service, name: orders}], timeouts: {connect: 10s, request: 60s}}\n"
)
_LIMITS = f"limits: {{drainDelay: {DRAIN_DELAY}, drainTimeout: 60s}}\n"


def steady_ports() -> Iterator[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that no client will be given."""
    for port in _FIXED_PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        yield port


@dataclass
class Part:
    """A sidecar that can be restarted, and what it is started with.

    Attributes:
        ready: Said when it serves.
        takes_over: It has a successor before it ends, at the same addresses.
    """

    name: str
    argv: tuple[str, ...]
    ready: str
    takes_over: bool = False
    starts: int = 0
    sidecar: Child | None = None


class Mesh:
    """Everything that runs; `stop` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self._children: list[Child] = []
        ports = steady_ports()
        (folder / "mesh.d").mkdir()
        (folder / "called.d").mkdir()
        (folder / "mesh.d/policy.yaml").write_text(_PATIENCE)
        (folder / "called.d/frontend.yaml").write_text(  # a folder may not be empty
            _workload("frontend", 1, "[{port: 8080}]", "")
        )
        identity = write_identity(folder, "orders")
        try:
            self.parts = [self._replica(number, ports, identity, with_service=number == 1) for number in (1, 2)]
            self.parts.append(self._caller(ports))
            for part in self.parts:
                self._begin(part, *part.argv)
        except BaseException:
            self.stop()
            raise

    def _replica(self, number: int, ports: Iterator[int], identity: str, *, with_service: bool) -> Part:
        inbound = next(ports)
        app = {"http": next(ports), "grpc": next(ports)}
        served = [(port, protocol) for _, port, protocol in _PORTS]
        declared = ", ".join(f"{{port: {port}, protocol: {protocol}}}" for port, protocol in served)
        (self.folder / f"mesh.d/orders-{number}.yaml").write_text(
            _workload("orders", number, f"[{declared}]", f", account: orders, inbound: {inbound}")
        )
        mapped = ", ".join(
            f"{{port: {port}, protocol: {protocol}, app: '127.0.0.1:{app[server]}'}}"
            for server, port, protocol in _PORTS
        )
        file = self.folder / f"called-{number}.yaml"
        file.write_text(
            f"node: {{service: orders, namespace: shop, id: orders-{number}}}\nstatic: ./called.d\n"
            + _ENVIRONMENT_LINES
            + identity
            + f"inbound: {{listen: ['127.0.0.1:{inbound}'], ports: [{mapped}]}}\noutbound: {{listen: []}}\n"
            + _LIMITS
        )
        service = (sys.executable, "-m", "tests.rolling.service", str(self.ledger), *map(str, app.values()))
        argv: tuple[str, ...] = (str(BIN / "sidecar"), "run", "-c", str(file))
        if with_service:
            argv += ("--", *service)
        else:
            beside = self._start(f"service-{number}", service)
            for port in app.values():
                beside.until_listening(port)
        return Part(f"called-{number}", argv, "app: accepts")

    def _caller(self, ports: Iterator[int]) -> Part:
        self.listeners = [next(ports) for _ in _PORTS]
        upstreams = ", ".join(
            f"{{service: orders.shop, port: {port}, listen: '127.0.0.1:{listen}'}}"
            for (_, port, _), listen in zip(_PORTS, self.listeners, strict=True)
        )
        file = self.folder / "calling.yaml"
        file.write_text(
            "node: {service: frontend, namespace: shop}\nstatic: ./mesh.d\n"
            + _ENVIRONMENT_LINES
            + write_identity(self.folder, "frontend")
            + f"outbound: {{listen: [], upstreams: [{upstreams}]}}\naccess_log: {{when: errors}}\n"
            + _LIMITS
        )
        argv = (str(BIN / "sidecar"), "run", "-c", str(file))
        return Part("calling", argv, f"listening outbound orders.shop:{_PORTS[-1][1]} ", takes_over=True)

    def _begin(self, part: Part, *argv: str) -> None:
        part.starts += 1
        part.sidecar = self._start(f"{part.name}-{part.starts}", argv)
        part.sidecar.until_said(part.ready)

    def restart(self, part: Part) -> None:
        """As an orchestrator does it: SIGTERM, the end of the process, the same command again, ready."""
        old = part.sidecar
        assert old is not None
        if part.takes_over:
            sidecar, run, *rest = part.argv
            self._begin(part, sidecar, run, "--take-over", *rest)
        old.process.terminate()
        try:
            status = old.process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{part.name} did not end within {ENDS_S:g}s of SIGTERM") from None
        assert status == 0, f"{part.name} ended with status {status}:\n{old.said()}"
        if not part.takes_over:
            self._begin(part, *part.argv)

    def taken(self) -> list[str]:
        """Names of all requests that a service took."""
        return self.ledger.read_text("ascii").splitlines()

    def stop(self) -> None:
        """End all processes."""
        for child in reversed(self._children):
            child.stop()

    def _start(self, name: str, argv: tuple[str, ...]) -> Child:
        child = start(name, argv, self.folder)
        self._children.append(child)
        return child


def _workload(service: str, number: int, ports: str, more: str) -> str:
    return (
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\n"
        f"metadata: {{name: {service}-{number}, namespace: shop}}\n"
        f"spec: {{service: {service}, address: 127.0.0.1, ports: {ports}{more}}}\n"
    )
