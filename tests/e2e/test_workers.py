"""`workers: 2`: processes of a real sidecar that serve together, are killed, hear of changes, and end together."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from tests.e2e.test_lifecycle import connects
from tests.e2e.test_sidecar import free_port, static_mesh
from tests.e2e.test_sidecar_in_mesh import control_plane, put_stock, write_bootstrap
from tests.support.planes import answer_heads, ask, raw_app
from tests.support.processes import Running, running

GET = b"GET /x HTTP/1.1\r\nHost: stock\r\nConnection: close\r\n\r\n"


def write_stock(folder: Path, app: HostPort, *, ready: bool) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "stock.yaml").write_text(
        "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: stock-1, namespace: shop}\nspec:\n"
        f"  {{service: stock, address: {app.host}, ready: {str(ready).lower()}, "
        f"ports: [{{port: {app.port}, protocol: http}}]}}\n"
    )


class Load:
    """Calls without end, one after the other; `more` waits for a number of good ones."""

    def __init__(self, address: HostPort) -> None:
        self.address = address
        self.good = self.bad = 0
        self.called = trio.Event()

    async def run(self) -> None:
        while True:
            try:
                answer, _ = await ask(self.address, GET)
            except OSError:
                answer = b""
            self.good += answer.startswith(b"HTTP/1.1 200 ")
            self.bad += not answer.startswith(b"HTTP/1.1 200 ")
            self.called.set()

    async def more(self, count: int) -> None:
        goal = self.good + count
        with trio.fail_after(30):
            while self.good < goal:
                self.called = trio.Event()
                await self.called.wait()


def bootstrap(folder: Path, app: HostPort, more: str = "") -> str:
    write_stock(folder / "mesh.d", app, ready=True)
    path = folder / "web.yaml"
    path.write_text(
        "node: {service: web, namespace: shop}\nstatic: ./mesh.d\nworkers: 2\n"
        f"outbound: {{listen: [], upstreams: [{{service: stock, port: {app.port}, listen: '127.0.0.1:0'}}]}}\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
        "limits: {drainDelay: 0s, drainTimeout: 5s}\n" + more
    )
    return str(path)


@asynccontextmanager
async def sidecar(folder: Path, app: HostPort, more: str = "") -> AsyncIterator[Running]:
    file = bootstrap(folder, app, more)
    async with running("sidecar", "run", "-c", file, until="listening outbound") as made:
        made.listening["stock"] = made.listening[f"outbound stock.shop:{app.port}"]
        await served(made, 2)
        yield made


async def admin(made: Running, path: str) -> Any:
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
    answer, _ = await ask(made.listening["admin"], request, 10)
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def config(made: Running) -> Any:
    return await admin(made, "/config")


async def served(made: Running, count: int, but: tuple[int, ...] = ()) -> list[int]:
    """Wait until so many workers serve, none of them of `but`; their process ids."""
    with trio.fail_after(15):
        while True:
            pids = [row["pid"] for row in (await config(made))["workers"] if row["serving"]]
            if len(pids) == count and not set(pids) & set(but):
                return pids


async def counted(made: Running) -> tuple[int, int]:
    """Requests and restarts so far."""
    stats = await admin(made, "/stats")
    requests = sum(row["requests"] for row in stats["requests"])
    [restarts] = stats["values"]["sidecar_worker_restarts_total"]
    return requests, restarts["value"]


async def test_one_killed_under_load_is_back_within_a_second_and_counts_never_go_down(tmp_path: Path) -> None:
    async with raw_app() as app, sidecar(tmp_path, app.address) as made:
        load = Load(made.listening["stock"])
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(load.run)
            victim, survivor = await served(made, 2)
            await load.more(200)
            before, _ = await counted(made)
            killed_s = trio.current_time()
            os.kill(victim, signal.SIGKILL)
            after_kill, _ = await counted(made)
            pids = await served(made, 2, but=(victim,))
            assert trio.current_time() - killed_s < 1.0
            assert survivor in pids
            await load.more(200)
            later, restarts = await counted(made)
            nursery.cancel_scope.cancel()
        assert 0 < before <= after_kill <= later
        assert restarts == 1
        assert load.bad <= 4  # what was in the hands of the one that was killed
        assert any(f"process {victim}, ended (SIGKILL)" in line for line in made.said)
        assert await made.end() == 0


async def test_one_that_dies_again_and_again_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async with raw_app() as app, sidecar(tmp_path, app.address) as made:
        dead: list[int] = []
        for _ in range(4):
            pids = await served(made, 2, but=tuple(dead))
            dead.append(pids[-1])
            os.kill(dead[-1], signal.SIGKILL)
        await made.until("worker 1 ended 4 times soon after its start")
        for _ in range(20):  # the kernel sends nobody to the one that is away
            answer, _ = await ask(made.listening["stock"], GET, 1.0)
            assert answer.startswith(b"HTTP/1.1 200 ")
        dead.append((await served(made, 2, but=tuple(dead)))[-1])
        os.kill(dead[-1], signal.SIGKILL)
        await made.until("worker 1 ended 5 times soon after its start")
        since_s = trio.current_time()
        assert await made.end() == 0  # nobody waits for it now
        assert trio.current_time() - since_s < 1.5


async def test_a_changed_folder_reaches_every_worker(tmp_path: Path) -> None:
    async with raw_app() as app, sidecar(tmp_path, app.address) as made:
        write_stock(tmp_path / "mesh.d", app.address, ready=False)
        made.process.send_signal(signal.SIGHUP)
        await made.until("configuration reloaded")
        assert (await config(made))["version"] == 1
        await counted(made)  # asks the workers, behind what they have to hear before
        answers = {(await ask(made.listening["stock"], GET))[0][:13] for _ in range(20)}
        assert answers == {b"HTTP/1.1 503 "}


async def test_answers_under_way_finish_in_every_worker(tmp_path: Path) -> None:
    arrived = 0
    all_arrived, go = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream, data: bytes) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 12:
            all_arrived.set()
        await go.wait()
        await answer_heads(stream, data)

    async with raw_app(slow) as app, sidecar(tmp_path, app.address) as made:
        answers: list[bytes] = []

        async def one() -> None:
            answers.append((await ask(made.listening["stock"], GET, 10))[0])

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(one)
            await all_arrived.wait()
            made.process.send_signal(signal.SIGTERM)
            await made.until("SIGTERM: draining")
            with trio.fail_after(5):  # no process that has the sockets, and accepts nobody, lets callers in
                while await connects(made.listening["stock"]):
                    pass
            go.set()
            assert await made.process.wait() == 0
        assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * 12
        assert made.said[-1] == "stopped"


@pytest.mark.parametrize("victim", ["holder", "spawner"])
async def test_nobody_is_left_when_the_holder_goes_and_it_says_so_when_the_spawner_does(
    tmp_path: Path, victim: str
) -> None:
    async with raw_app() as app, sidecar(tmp_path, app.address) as made:
        pids = await served(made, 2)
        spawner = parent_of(pids[0])
        if victim == "spawner":
            os.kill(spawner, signal.SIGKILL)
            await made.until("the process that starts workers is gone")
            answer, _ = await ask(made.listening["admin"], b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert (await ask(made.listening["stock"], GET))[0].startswith(b"HTTP/1.1 200 ")
        ends = [os.pidfd_open(pid) for pid in pids]
        made.process.kill()
        with trio.fail_after(5):
            for end in ends:
                await trio.lowlevel.wait_readable(end)
                os.close(end)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])


async def test_a_service_that_no_worker_knows_yet_is_asked_for_by_the_holder(tmp_path: Path) -> None:
    async with raw_app() as app, control_plane() as (control, _):
        put_stock(control, app.address)
        file = write_bootstrap(tmp_path, control)
        file.write_text(file.read_text() + "workers: 2\nlimits: {drainDelay: 0s}\n")
        async with running("sidecar", "run", "-c", str(file), until="identity spiffe://") as made:
            await served(made, 2)
            for _ in range(8):
                answer, _ = await ask(made.listening["outbound"], GET.replace(b"stock", b"stock:80"))
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert (await counted(made))[0] == 8
            assert await made.end() == 0


async def test_identities_reach_the_workers(tmp_path: Path) -> None:
    async with raw_app() as app:
        called_file, calling_file = static_mesh(tmp_path, free_port(), app.address, "127.0.0.1:9")
        for file in (called_file, calling_file):
            file.write_text(file.read_text() + "workers: 2\nlimits: {drainDelay: 0s}\n")
        async with (
            running("sidecar", "run", "-c", str(called_file), until="listening inbound") as called,
            running("sidecar", "run", "-c", str(calling_file), until="listening outbound") as calling,
        ):
            await served(called, 2)
            await served(calling, 2)
            for _ in range(6):
                answer, _ = await ask(calling.listening["outbound"], GET.replace(b"stock", b"orders"))
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert await calling.end() == 0
            logged = [json.loads(line) for line in calling.out.splitlines()]
            assert [line["principal"] for line in logged] == ["spiffe://mesh.local/ns/shop/sa/orders"] * 6
