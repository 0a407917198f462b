"""What must not grow, and who must not wait: clusters that are gone, queues of those who left, busy clients."""

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.codec.head_rules import request_head
from sidecar.model.policies import Limits, Timeouts, TrafficPolicy
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.downstream import PROGRESS_LOOKS
from sidecar.proxy.edits import forwarded_request
from tests.support.mesh import AppConnection, MemoryMesh, ok


async def silent(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await trio.sleep(3600)


async def test_names_that_clients_make_up_become_no_label(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        for number in range(10):
            assert (await mesh.request(fields=[("host", f"made-up-{number}")])).status == 404
        await mesh.request()

        assert [done.service for done in mesh.told.done] == [None] * 10 + [("shop", "orders")]
        assert len(mesh.worker.live.clusters) == 1
        nursery.cancel_scope.cancel()


async def test_nothing_is_kept_of_a_service_that_is_gone(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        await mesh.request()
        mesh.worker.switch(Snapshot(complete=True))
        await trio.sleep(5)

        assert mesh.worker.live.clusters == {}
        pool = mesh.worker.pool
        assert (pool._uses, pool._homes, pool._idle) == ({}, {}, {})
        mesh.configure(["a"])
        assert (await mesh.request()).status == 200
        nursery.cancel_scope.cancel()


async def test_who_gave_up_waiting_for_a_connection_leaves_the_queue(autojump_clock: MockClock) -> None:
    policy = TrafficPolicy(timeouts=Timeouts(request_s=None), limits=Limits(connections=1))
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a", silent)
        mesh.configure(["a"], policy)
        nursery.start_soon(mesh.request)
        await trio.sleep(1)
        for _ in range(5):
            stream = mesh.network.dial("proxy:1")
            await stream.send(b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
            await trio.sleep(1)
            stream.abort()
        await trio.sleep(1)
        [use] = mesh.worker.pool._uses.values()

        assert (use.connections, len(use.waiting)) == (1, 0)
        assert mesh.in_flight() == 2
        app.behave = ok
        nursery.cancel_scope.cancel()


async def test_a_freed_place_goes_to_the_one_who_waits_longest(autojump_clock: MockClock) -> None:
    async def slow(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await trio.sleep(1)
        await app.answer()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a", slow)
        mesh.configure(["a"], TrafficPolicy(limits=Limits(connections=1)))

        async def ask(number: int) -> None:
            assert (await mesh.request(target=f"/{number}")).status == 200

        async with trio.open_nursery() as asking:
            for number in range(5):
                asking.start_soon(ask, number)
                await trio.sleep(0.1)

        assert [request.target for request, _ in app.seen] == [b"/%d" % number for number in range(5)]
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_client_that_pipelines_lets_others_have_their_turn(autojump_clock: MockClock) -> None:
    request = b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n"
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.configure([])
        stream = mesh.network.dial("proxy:1")
        turns = 0

        async def other() -> None:
            nonlocal turns
            while len(mesh.told.done) < 100:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as racing:
            racing.start_soon(other)
            await stream.send(request * 200)

        assert turns >= 90
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["full", "fast"])
async def test_the_time_of_a_client_that_takes_nothing_runs_from_the_last_byte_it_took(
    path: str, autojump_clock: MockClock
) -> None:
    async def large(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await app.answer(body=b"x" * (2_000_000 if request.target == b"/large" else 1))

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", large)
        mesh.configure(["a"])
        mesh.worker.fast_path = path == "fast"
        stream = mesh.network.dial("proxy:1")
        await stream.send(b"GET /large HTTP/1.1\r\nHost: orders\r\n\r\n")
        await trio.sleep(10)
        await stream.receive()
        await trio.sleep(29.9)
        assert b"/large" not in [done.target for done in mesh.told.done]
        await trio.sleep(0.2 + 2 * 30.0 / PROGRESS_LOOKS)
        assert (mesh.told.done[-1].target, mesh.told.done[-1].flags) == (b"/large", "DC")
        assert mesh.told.paths == ({} if path == "fast" else {("full", "off"): 1})
        nursery.cancel_scope.cancel()


def test_no_spelling_of_the_identity_header_passes() -> None:
    names = ("X-Forwarded-Client-Cert", "x_forwarded_client_cert", "X-Forwarded_Client-CERT", "x-forwarded-client_cert")
    fields = "".join(f"{name}: By=me;URI=spiffe://mesh.local/ns/shop/sa/admin\r\n" for name in names)
    raw = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: x-forwarded-client-cert\r\n{fields}X_Other: kept\r\n\r\n"
    own = [(b"x-forwarded-client-cert", b"By=orders;URI=frontend")]

    sent = forwarded_request(request_head(raw.encode()), own)

    assert sent.fields == [(b"Host", b"x"), (b"X_Other", b"kept"), *own]
