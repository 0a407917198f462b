"""Bulk TCP through `sidecar run`: the kernel moves it, and the sidecar's counts are right all the same."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.support import tunnels
from tests.support.planes import ask
from tests.support.processes import Running, running
from tests.support.tunnels import tcp_server

SIZE = 100_000_000
FILE = """
node: {service: frontend, namespace: shop}
static: ./mesh.d
outbound: {listen: [], upstreams: [{service: store, port: 80, listen: "127.0.0.1:0"}]}
access_log: {when: all}
metrics: {listen: "127.0.0.1:0"}
"""
STORE = """
kind: Workload
metadata: {name: store-1, namespace: shop}
spec: {service: store, address: 127.0.0.1, ports: [{port: PORT, protocol: tcp}]}
"""
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def sidecar(folder: Path, server: HostPort) -> AsyncIterator[Running]:
    (folder / "mesh.d").mkdir()
    (folder / "mesh.d/store.yaml").write_text(STORE.replace("PORT", str(server.port)))
    (folder / "sidecar.yaml").write_text(FILE.replace("port: 80", f"port: {server.port}"))
    async with running("sidecar", "run", "-c", str(folder / "sidecar.yaml"), until="listening metrics") as made:
        await made.until("listening outbound")
        yield made


def listener(made: Running) -> HostPort:
    """The address of the upstream's listener."""
    return next(address for name, address in made.listening.items() if name.startswith("outbound"))


def open_pipes(made: Running) -> int:
    """Pipes beside those of its outputs: what spliced flows go through."""
    links = []
    for each in Path(f"/proc/{made.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            links.append(str(each.readlink()))
    return sum(link.startswith("pipe:") for link in links)


async def logged(made: Running) -> dict[str, Any]:
    """The first line of the access log."""
    with trio.fail_after(5):
        while b"\n" not in made.out:  # noqa: ASYNC110 - a process's output wakes nobody
            await trio.sleep(0.01)
    return dict(json.loads(made.out.split(b"\n")[0]))


async def metric(made: Running, name: str) -> int:
    """The sum of a metric's series."""
    page, _ = await ask(made.listening["metrics"], METRICS)
    return sum(int(float(line.split()[-1])) for line in page.decode().splitlines() if line.startswith(f"{name}{{"))


async def test_bulk_goes_through_the_kernel_and_is_counted(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def serve(stream: trio.SocketStream) -> None:
        seen["server got"] = await tunnels.receive(stream)
        seen["server sent"] = await tunnels.send(stream, 1_000)

    async with tcp_server(serve) as server, sidecar(tmp_path, server) as made:
        before = open_pipes(made)
        digest = hashlib.sha256()
        client = await trio.open_tcp_stream(*listener(made))
        async with client:
            left = SIZE
            while left > 0:
                piece = tunnels.BLOCK[: min(left, len(tunnels.BLOCK))]
                left -= len(piece)
                digest.update(piece)
                await client.send_all(piece)
                seen["pipes"] = max(seen.get("pipes", 0), open_pipes(made) - before)
            await client.send_eof()
            got = await tunnels.receive(client)
        assert seen["server got"] == digest.hexdigest()
        assert got == seen["server sent"]
        assert seen["pipes"] == 2  # both ends of one
        line = await logged(made)
        assert (line["protocol"], line["bytes_received"], line["bytes_sent"]) == ("TCP", SIZE, 1_000)
        assert line["response_flags"] == "-"
        assert open_pipes(made) == before
        assert await metric(made, "istio_tcp_received_bytes_total") == SIZE
        assert await metric(made, "istio_tcp_sent_bytes_total") == 1_000
        assert await metric(made, "istio_tcp_connections_opened_total") == 1
        assert await metric(made, "istio_tcp_connections_closed_total") == 1


@pytest.mark.parametrize("size", [100_000, 5_000_000])
async def test_a_client_that_has_ended_gets_bulk_too(tmp_path: Path, size: int) -> None:
    """By copy: the kernel takes over while both directions are open only."""

    async def serve(stream: trio.SocketStream) -> None:
        assert await tunnels.everything(stream) == b"all of it"
        sent.append(await tunnels.send(stream, size))

    sent: list[str] = []
    async with tcp_server(serve) as server, sidecar(tmp_path, server) as made:
        async with await trio.open_tcp_stream(*listener(made)) as client:
            await client.send_all(b"all of it")
            await client.send_eof()
            assert [await tunnels.receive(client)] == sent
        line = await logged(made)
        assert (line["bytes_received"], line["bytes_sent"], line["response_flags"]) == (9, size, "-")
