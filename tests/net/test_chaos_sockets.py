"""Random clients and apps through two sidecars on real sockets and TLS: nothing leaks, nothing spins, nothing stops."""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest
import trio
import trio.testing

from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Worker
from tests.net.test_mesh_hop import ORDERS, to_orders
from tests.support import pki
from tests.support.planes import inbound_bootstrap, outbound_bootstrap, raw_app, running

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


HEAD = b" / HTTP/1.1\r\nHost: orders\r\nx-mesh-timeout-ms: 300\r\n"  # an app that says nothing is not waited for long
GET = b"GET" + HEAD + b"\r\n"


def post(size: int) -> bytes:
    return b"POST" + HEAD + b"Content-Length: %d\r\n\r\n" % size + b"y" * size


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


@pytest.mark.parametrize("seed", range(2))
async def test_random_behaviour_leaves_nothing_behind(seed: int) -> None:
    rng = Random(seed)

    async def app(stream: trio.SocketStream, data: bytes) -> None:
        answer = rng.choice((SMALL, SMALL, BIG, BIG[:100_000], b"garbage\r\n\r\n", SMALL + b"extra", b""))
        await stream.send_all(answer)
        if len(answer) == 100_000 or rng.random() < 0.3:
            if rng.random() < 0.5:
                reset(stream)
            await stream.aclose()

    async def client(address: tuple[str, int]) -> None:
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            with suppress(trio.BrokenResourceError), trio.move_on_after(0.2):
                await stream.send_all(rng.choice((GET, GET * 3, post(10), post(200_000), post(500)[:300], b"GET ")))
                if rng.random() < 0.2:
                    await stream.send_eof()
                for _ in range(rng.choice((0, 1, 100))):
                    if not await stream.receive_some():
                        break
            if rng.random() < 0.5:
                reset(stream)

    async with raw_app(app) as recorder:
        inbound, outbound = inbound_bootstrap("orders", recorder.address), outbound_bootstrap("front", {ORDERS: 8080})
        async with running(inbound, Snapshot(complete=True), pki.identity("orders")) as called:
            snapshot = to_orders(called.addresses[0])
            async with running(outbound, snapshot, pki.identity("frontend")) as calling:
                for _ in range(3):
                    async with trio.open_nursery() as clients:
                        for _ in range(12):
                            clients.start_soon(client, calling.addresses[0])
                caller, callee = calling.plane.worker, called.plane.worker
                await until(lambda: not (caller.connections or in_flight(caller) or in_flight(callee)))
                caller.pool.close()
                callee.inbound_pool.close()
                await until(lambda: not callee.connections)
                assert len(calling.plane._reactor) == len(called.plane._reactor) == 0


async def until(settled: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not settled():
            await trio.testing.wait_all_tasks_blocked(0.01)


def in_flight(worker: Worker) -> int:
    clusters = [*worker.live.clusters.values(), *worker.inbound_live.clusters.values()]
    return sum(cluster.in_flight + cluster.pending for cluster in clusters)
