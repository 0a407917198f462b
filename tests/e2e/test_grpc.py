"""The official gRPC interoperability cases through the `sidecar` command: one sidecar, and a pair over mutual TLS.

Two endpoints are behind it each time. Their servers say GOAWAY on every connection again and again while the cases run,
and over the pair one endpoint's sidecar drains and leaves: nobody notices. The cases are fetched from Debian's source
package (tests/support/grpc_source.py); where there is no mirror to fetch them from, the tests are skipped, but never in
CI.
"""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.e2e.test_sidecar import write_identity
from tests.support.grpc_interop import CASES
from tests.support.grpc_source import FetchError, interop_tree
from tests.support.processes import Running, running

RUNNER = Path(__file__).resolve().parents[1] / "support/grpc_interop.py"
ROUNDS = 8
GOAWAY_MS = 100  # a round takes about 200
CASES_S = 60.0  # all rounds together take three seconds


@pytest.fixture(scope="module")
def tree() -> Path:
    try:
        return interop_tree()
    except FetchError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))


class Official:
    """One of the official programs, run to print lines."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._rest = b""

    async def line(self) -> str:
        """Its next line; "" at its end."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            data = await self.process.stdout.receive_some()
            if not data:
                return ""
            self._rest += data
        raw, _, self._rest = self._rest.partition(b"\n")
        self.lines.append(raw.decode())
        return self.lines[-1]


@asynccontextmanager
async def official(tree: Path, *arguments: str) -> AsyncIterator[Official]:
    process = await trio.lowlevel.open_process(
        [sys.executable, str(RUNNER), str(tree), *arguments], stdout=subprocess.PIPE
    )
    try:
        yield Official(process)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10.0):
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def two_servers(tree: Path, goaway_ms: int = GOAWAY_MS) -> AsyncIterator[list[HostPort]]:
    serve = ("serve", "--goaway-ms", str(goaway_ms))
    async with official(tree, *serve) as one, official(tree, *serve) as two:
        with trio.fail_after(CASES_S):
            yield [HostPort("127.0.0.1", int((await made.line()).split()[1])) for made in (one, two)]


async def all_cases(tree: Path, address: HostPort, leaving: Running | None = None) -> None:
    """Every case in every round passes, though `leaving` is told to end after the second round."""
    async with official(tree, "run", str(address), "--rounds", str(ROUNDS)) as client:
        with trio.fail_after(CASES_S):
            while line := await client.line():
                if line == "round 2" and leaving is not None:
                    leaving.process.send_signal(signal.SIGTERM)
            status = await client.process.wait()
    passed = Counter(line.split()[1] for line in client.lines if line.startswith("pass "))
    assert [line for line in client.lines if line.startswith("fail ")] == []
    assert passed == dict.fromkeys(CASES, ROUNDS)
    assert status == 0


async def dials(sidecar: Running) -> int:
    """How many connections it has made to endpoints."""
    page = bytearray()
    async with await trio.open_tcp_stream(*sidecar.listening["metrics"]) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with trio.fail_after(CASES_S):
            async for data in stream:
                page += data
    return sum(map(int, re.findall(rb'(?m)^sidecar_upstream_dials_total\{[^}]*result="ok"\} (\d+)$', page)))


@pytest.mark.needs("apt-get")
async def test_every_case_passes_without_us(tree: Path) -> None:
    # No GOAWAY: now and then grpcio's client takes one for the failure of a call that times out at that moment.
    async with two_servers(tree, goaway_ms=0) as servers:
        await all_cases(tree, servers[0])


@pytest.mark.needs("apt-get")
async def test_every_case_passes_through_one_sidecar(tree: Path) -> None:
    async with two_servers(tree) as servers:
        to = ",".join(map(str, servers))
        command = ("sidecar", "run", "--listen", "127.0.0.1:0", "--to", to)
        async with running(*command, until="listening outbound") as proxy:
            await all_cases(tree, proxy.listening["outbound upstream.local:80"])
            assert await dials(proxy) > 2  # connections did end


@pytest.mark.needs("apt-get")
async def test_every_case_passes_over_a_mutual_tls_pair(tree: Path, tmp_path: Path) -> None:
    async with two_servers(tree) as servers, AsyncExitStack() as stack:
        for folder in ("called.d", "mesh.d"):
            (tmp_path / folder).mkdir()
        (tmp_path / "called.d/frontend.yaml").write_text(  # a folder may not be empty
            "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: frontend-1, namespace: shop}\n"
            "spec: {service: frontend, address: 127.0.0.1, ports: [{port: 8080}]}\n"
        )
        common = "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
        called_sidecars = []
        for number, app in enumerate(servers, 1):
            called = tmp_path / f"called-{number}.yaml"
            called.write_text(
                f"node: {{service: orders, namespace: shop, id: orders-{number}}}\nstatic: ./called.d\n"
                + common
                + write_identity(tmp_path, "orders")
                + f"inbound: {{listen: ['127.0.0.1:0'], ports: [{{port: 8080, protocol: grpc, app: '{app}'}}]}}\n"
                "outbound: {listen: []}\n"
            )
            sidecar = await stack.enter_async_context(
                running("sidecar", "run", "-c", str(called), until="listening inbound")
            )
            called_sidecars.append(sidecar)
            (tmp_path / f"mesh.d/orders-{number}.yaml").write_text(
                "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\n"
                f"metadata: {{name: orders-{number}, namespace: shop}}\n"
                "spec: {service: orders, address: 127.0.0.1, ports: [{port: 8080, protocol: grpc}], account: orders, "
                f"inbound: {sidecar.listening['inbound'].port}}}\n"
            )
        (tmp_path / "mesh.d/in-turn.yaml").write_text(  # whoever answers first would get nearly all calls
            "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: in-turn, namespace: shop}\n"
            "spec: {targetRefs: [{kind: Service, name: orders}], balancing: {algorithm: round-robin}}\n"
        )
        calling = tmp_path / "calling.yaml"
        calling.write_text(
            "node: {service: frontend, namespace: shop}\nstatic: ./mesh.d\n"
            + common
            + write_identity(tmp_path, "frontend")
            + "outbound: {listen: [], upstreams: [{service: orders.shop, port: 8080, listen: '127.0.0.1:0'}]}\n"
        )
        caller = await stack.enter_async_context(
            running("sidecar", "run", "-c", str(calling), until="listening outbound")
        )
        await all_cases(tree, caller.listening["outbound orders.shop:8080"], called_sidecars[0])
        with trio.fail_after(CASES_S):
            assert await called_sidecars[0].process.wait() == 0
        assert await dials(called_sidecars[1]) > 2
