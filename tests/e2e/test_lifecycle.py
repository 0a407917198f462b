"""One sidecar process from its start to its end: what it waits for, what it tells, in which order its sides close."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.e2e.test_sidecar import free_port
from tests.support.planes import answer_heads, ask, raw_app
from tests.support.processes import Running, running

GET = b"GET /x HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n"


def bootstrap(folder: Path, app_port: int, stock: HostPort, drain: str = "drainDelay: 0s, drainTimeout: 5s") -> str:
    (folder / "mesh.d").mkdir()
    write_stock(folder, stock, ready=True)
    path = folder / "orders.yaml"
    path.write_text(
        "node: {service: orders, namespace: shop}\nstatic: ./mesh.d\n"
        f"inbound: {{listen: ['127.0.0.1:0'], mtls: 'off', app: '127.0.0.1:{app_port}'}}\n"
        f"outbound: {{listen: [], upstreams: [{{service: stock, port: {stock.port}, listen: '127.0.0.1:0'}}]}}\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
        f"limits: {{{drain}}}\n"
    )
    return str(path)


def write_stock(folder: Path, stock: HostPort, *, ready: bool) -> None:
    (folder / "mesh.d/stock.yaml").write_text(
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: stock-1, namespace: shop}\nspec:\n"
        f"  {{service: stock, address: 127.0.0.1, ready: {str(ready).lower()}, "
        f"ports: [{{port: {stock.port}, protocol: http}}]}}\n"
    )


async def get(made: Running, listener: str, path: str) -> tuple[int, Any]:
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
    answer, _ = await ask(made.listening[listener], request)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_it_is_started_without_its_app_and_ready_with_it(tmp_path: Path) -> None:
    async with raw_app() as stock:
        file = bootstrap(tmp_path, free_port(), stock.address)
        async with running("sidecar", "run", "-c", file, until="app: nobody accepts") as made:
            assert await get(made, "metrics", "/started") == (200, {"started": True, "reasons": []})
            assert (await get(made, "metrics", "/ready"))[0] == 503


async def test_the_outbound_side_outlives_the_answers_under_way(tmp_path: Path) -> None:
    arrived, go = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream, data: bytes) -> None:
        arrived.set()
        await go.wait()
        await answer_heads(stream, data)

    async with raw_app(slow) as app, raw_app() as stock:
        file = bootstrap(tmp_path, app.address.port, stock.address)
        async with running("sidecar", "run", "-c", file, until="app: accepts") as made:
            answers: list[bytes] = []

            async def one() -> None:
                answers.append((await ask(made.listening["inbound"], GET))[0])

            stock_listener = made.listening[f"outbound stock.shop:{stock.address.port}"]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                await arrived.wait()
                made.process.send_signal(signal.SIGTERM)
                await made.until("SIGTERM: draining")
                with trio.fail_after(5):
                    while await connects(made.listening["inbound"]):
                        pass
                # Nobody comes in any more, but the app that works on its last answer can still ask others.
                for _ in range(3):
                    assert (await ask(stock_listener, GET))[0].startswith(b"HTTP/1.1 200 ")
                assert (await get(made, "admin", "/ready"))[0] == 503
                go.set()
                assert await made.process.wait() == 0
            assert answers[0].startswith(b"HTTP/1.1 200 ")


async def connects(address: HostPort) -> bool:
    try:
        stream = await trio.open_tcp_stream(*address)
    except OSError:
        return False
    await stream.aclose()
    return True


@pytest.mark.parametrize("drain", ["drainDelay: 30s, drainTimeout: 5s", "drainDelay: 0s, drainTimeout: 30s"])
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, drain: str) -> None:
    arrived = trio.Event()

    async def never(stream: trio.SocketStream, data: bytes) -> None:
        arrived.set()
        await trio.sleep_forever()

    async with raw_app(never) as app, raw_app() as stock:
        file = bootstrap(tmp_path, app.address.port, stock.address, drain)
        async with running("sidecar", "run", "-c", file, until="app: accepts") as made, trio.open_nursery() as nursery:
            nursery.start_soon(ask, made.listening["inbound"], GET)
            await arrived.wait()
            made.process.send_signal(signal.SIGTERM)
            await made.until("SIGTERM: draining")
            since_s = trio.current_time()
            assert await made.end(signal.SIGTERM) == 0
            assert trio.current_time() - since_s < 1.0
            nursery.cancel_scope.cancel()


async def test_what_outlives_the_drain_is_cut_off_and_told(tmp_path: Path) -> None:
    arrived = trio.Event()

    async def never(stream: trio.SocketStream, data: bytes) -> None:
        arrived.set()
        await trio.sleep_forever()

    async with raw_app(never) as app, raw_app() as stock:
        file = bootstrap(tmp_path, app.address.port, stock.address, "drainDelay: 0s, drainTimeout: 200ms")
        async with running("sidecar", "run", "-c", file, until="app: accepts") as made, trio.open_nursery() as nursery:
            nursery.start_soon(ask, made.listening["inbound"], GET)
            await arrived.wait()
            assert await made.end(signal.SIGTERM) == 0
            await made.until("drainTimeout of 0.2 s is over")
            nursery.cancel_scope.cancel()


async def test_a_changed_folder_is_taken_and_a_broken_one_is_told(tmp_path: Path) -> None:
    async with raw_app() as stock:
        file = bootstrap(tmp_path, free_port(), stock.address)
        async with running("sidecar", "run", "-c", file, until="listening metrics") as made:
            await made.until("listening outbound")
            listener = made.listening[f"outbound stock.shop:{stock.address.port}"]
            assert (await ask(listener, GET))[0].startswith(b"HTTP/1.1 200 ")
            write_stock(tmp_path, stock.address, ready=False)  # nobody is told: it looks by itself
            await made.until("configuration reloaded")
            assert (await ask(listener, GET))[0].startswith(b"HTTP/1.1 503 ")
            (tmp_path / "mesh.d/stock.yaml").write_text("kind: Workload\n")
            made.process.send_signal(signal.SIGHUP)
            await made.until("was not reloaded; the configuration in force stays")
            shown = (await get(made, "admin", "/config"))[1]
            assert shown["version"] == 1
            assert "stock.yaml:1:1" in shown["rejected"][0]["reason"]
            reloads = (await get(made, "admin", "/stats"))[1]["values"]["sidecar_config_reloads_total"]
            assert {row["labels"]["result"]: row["value"] for row in reloads} == {"applied": 1, "rejected": 1}


async def test_systemd_hears_of_it(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(path)
        told: list[str] = []

        async def hear(word: str) -> None:
            with trio.fail_after(15):
                while not any(word in line for line in told):
                    await trio.lowlevel.wait_readable(manager)
                    told.extend(manager.recv(4096).decode().splitlines())

        environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}
        async with raw_app() as stock:
            file = bootstrap(tmp_path, free_port(), stock.address)
            async with running("sidecar", "run", "-c", file, until="listening outbound", env=environment) as made:
                for word in ("READY=1", "STATUS=serving", "WATCHDOG=1"):
                    await hear(word)
                assert "RELOADING=1" not in told
                told.clear()
                made.process.send_signal(signal.SIGHUP)
                await hear("RELOADING=1")
                await hear("READY=1")
                assert await made.end() == 0
                await hear("STOPPING=1")
