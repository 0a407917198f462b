"""A whole sidecar beside an app that knows nothing of it: both directions, both families, redirected by the kernel.

The sidecar runs as root and its rules leave root alone; the app is user 1000. Other machines are the second namespace.
"""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.needs import find
from tests.support.netns import Namespace, pair
from tests.support.processes import BIN, Running, running

pytestmark = pytest.mark.needs("ip", "nft")

APP = 1000
LIMIT_S = 10.0
FILE = """
node: {service: orders, namespace: shop}
static: ./mesh.d
inbound: {mtls: off, ports: [{port: 8080, app: "127.0.0.1:8080"}], capture: true}
outbound: {capture: {proxyUid: 0}, unknown: UNKNOWN}
access_log: {when: all}
"""
STOCK = """
kind: Workload
metadata: {name: stock-1, namespace: shop}
spec: {service: stock, address: "ADDRESS", ports: [{port: 80, protocol: http}]}
"""
GET = b"GET / HTTP/1.1\r\nHost: stock\r\nConnection: close\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    with pair() as ends:
        yield ends


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def address(machine: Namespace, family: int) -> str:
    return machine.ipv4 if family == 4 else machine.ipv6


@asynccontextmanager
async def captured(machine: Namespace, folder: Path, stock: str, unknown: str = "pass") -> AsyncIterator[Running]:
    """A sidecar on `machine`, and the rules that its file asks for."""
    (folder / "mesh.d").mkdir()
    (folder / "mesh.d/stock.yaml").write_text(STOCK.replace("ADDRESS", stock))
    file = folder / "sidecar.yaml"
    file.write_text(FILE.replace("UNKNOWN", unknown))
    async with running("sidecar", "run", "-c", str(file), until="listening", inside=machine.command()) as made:
        await made.until("listening outbound")
        done = machine.run(str(BIN / "sidecar"), "capture", "apply", "-c", str(file))
        assert done.returncode == 0, done.stderr
        yield made


async def in_thread(sock: socket.socket, data: bytes) -> bytes:
    """Send, then read to the end, without standing in the way of the sidecar's own output."""

    def talk() -> bytes:
        sock.settimeout(LIMIT_S)
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(4096), b""))

    return await trio.to_thread.run_sync(talk)


async def is_refused(machine: Namespace, host: str, port: int) -> bool:
    """Whether a connection of the app is closed or reset without a byte; a reset may come before connect() returns."""
    try:
        with machine.connect(host, port, uid=APP) as client:
            return await in_thread(client, b"") == b""
    except ConnectionResetError:
        return True


async def serve_once(listener: socket.socket, answer: bytes, heard: list[bytes]) -> None:
    """Answer one request on one connection."""

    def talk() -> None:
        listener.settimeout(LIMIT_S)
        with listener.accept()[0] as made:
            made.settimeout(LIMIT_S)
            heard.append(made.recv(4096))
            made.sendall(answer)

    await trio.to_thread.run_sync(talk)


@pytest.mark.parametrize("family", [4, 6])
async def test_a_call_to_a_services_address_is_a_call_through_the_mesh(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path, family: int
) -> None:
    here, there = machines
    stock = stack.enter_context(there.listen(address(there, family), 80))
    heard: list[bytes] = []
    async with captured(here, tmp_path, address(there, family)), trio.open_nursery() as nursery:
        nursery.start_soon(serve_once, stock, ANSWER, heard)
        client = stack.enter_context(here.connect(address(there, family), 80, uid=APP))
        answer = await in_thread(client, GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"traceparent: " in heard[0].lower()  # whatever the app wrote, the sidecar had it in hand


@pytest.mark.parametrize("family", [4, 6])
async def test_an_address_outside_the_mesh_gets_every_byte_also_when_the_server_speaks_first(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path, family: int
) -> None:
    here, there = machines
    database = stack.enter_context(there.listen(address(there, family), 5432))

    def greet() -> bytes:
        with database.accept()[0] as made:
            made.settimeout(LIMIT_S)
            made.sendall(b"\x00ready")
            return b"".join(iter(lambda: made.recv(4096), b""))  # the client's half-close ends it

    def ask(client: socket.socket) -> bytes:
        client.settimeout(LIMIT_S)
        greeting = client.recv(100)
        client.sendall(b"GET not http \xff")
        client.shutdown(socket.SHUT_WR)
        return greeting

    got: list[bytes] = []

    async def server() -> None:
        got.append(await trio.to_thread.run_sync(greet))

    async with captured(here, tmp_path, address(there, family)), trio.open_nursery() as nursery:
        nursery.start_soon(server)
        client = stack.enter_context(here.connect(address(there, family), 5432, uid=APP))
        assert await trio.to_thread.run_sync(ask, client) == b"\x00ready"
    assert got == [b"GET not http \xff"]


async def test_refuse_closes_what_the_mesh_does_not_know(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path
) -> None:
    here, there = machines
    async with captured(here, tmp_path, there.ipv4, "refuse") as proxy:
        assert await is_refused(here, there.ipv4, 5432)
        page = await in_thread(stack.enter_context(metrics(here, proxy)), METRICS)
    assert b'reason="unknown-destination"' in page


def metrics(machine: Namespace, proxy: Running) -> socket.socket:
    return machine.connect("127.0.0.1", proxy.listening["metrics"].port)


@pytest.mark.parametrize("family", [4, 6])
async def test_callers_of_the_apps_own_address_enter_through_the_sidecar(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path, family: int
) -> None:
    here, there = machines
    app = stack.enter_context(here.listen("127.0.0.1", 8080))
    heard: list[bytes] = []
    async with captured(here, tmp_path, there.ipv4), trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, app, heard)
        client = stack.enter_context(there.connect(address(here, family), 8080))
        answer = await in_thread(client, GET)
        nursery.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"traceparent: " in heard[0].lower()


async def serve_http(listener: socket.socket, heard: list[bytes]) -> None:
    """Answer requests until cancelled; connections that say nothing are the sidecar's health checks."""
    listener.setblocking(False)
    waiting = trio.socket.from_stdlib_socket(listener)
    while True:
        made, _ = await waiting.accept()
        with made:
            data = await made.recv(4096)
            if data:
                heard.append(data)
                await made.send(ANSWER)


async def test_a_sidecar_that_is_sent_its_own_connections_stops_at_the_first(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path
) -> None:
    """Rules applied for another user than the sidecar's: the app's connection is passed on, comes back, and ends."""
    here, there = machines
    async with captured(here, tmp_path, there.ipv4) as proxy:
        assert here.run(str(BIN / "sidecar"), "capture", "apply", "--proxy-uid", "4321").returncode == 0
        assert await is_refused(here, there.ipv4, 5432)
        page = await in_thread(stack.enter_context(metrics(here, proxy)), METRICS)
    (line,) = [line for line in page.splitlines() if b'reason="loop"' in line]
    assert line.endswith(b" 1")


async def test_a_connection_that_leads_back_to_a_listener_is_a_loop(
    machines: tuple[Namespace, Namespace], stack: ExitStack, tmp_path: Path
) -> None:
    """Rules that somebody else made: calls of this machine's own inbound port are sent to the outbound one."""
    here, there = machines
    theirs = tmp_path / "theirs.nft"
    theirs.write_text(
        "table inet theirs {\n chain output {\n  type nat hook output priority -120;\n"
        f"  meta skuid {APP} tcp dport 15006 redirect to :15001\n }}\n}}\n"
    )
    async with captured(here, tmp_path, there.ipv4) as proxy:
        done = here.run(str(find("nft")), "-f", str(theirs))
        assert done.returncode == 0, done.stderr
        assert await is_refused(here, here.ipv4, 15006)
        page = await in_thread(stack.enter_context(metrics(here, proxy)), METRICS)
    (line,) = [line for line in page.splitlines() if b'reason="loop"' in line]
    assert line.endswith(b" 1")
