"""A connection without a task: found out as by a task, and its place is given back on every way out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.clusters import Protocol, ServiceKey
from sidecar.proxy.downstream import LINGER_S
from sidecar.proxy.fast_path import FastPath
from sidecar.proxy.newcomer import Newcomer
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import PORT, MemoryMesh

GET = b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n"
FIXED = (ServiceKey("shop", "orders"), PORT)


@asynccontextmanager
async def world(protocol: Protocol = Protocol.HTTP) -> AsyncIterator[MemoryMesh]:
    """A mesh with one app whose clients are newcomers on a port that declares this; at rest afterwards."""
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])

        def accept(stream: MemoryStream) -> None:
            fixed = FIXED if protocol is Protocol.AUTO else None
            newcomer = Newcomer(stream, mesh.worker, "outbound", fixed, protocol, mesh)
            mesh.newcomers.add(newcomer)
            newcomer.start()

        mesh.network.listen("proxy:2", accept)
        yield mesh
        await trio.sleep(60)
        assert mesh.newcomers == set()
        assert mesh.worker.connections == 0
        assert mesh.worker.lanes == set()
        assert len(mesh.worker.timer) == 0
        assert mesh.bugs == []
        nursery.cancel_scope.cancel()


async def ended(stream: MemoryStream) -> str:
    """How the stream ends."""
    try:
        while await stream.receive():
            pass
    except StreamBroken:
        return "reset"
    return "closed"


async def test_requests_and_a_client_that_leaves(autojump_clock: MockClock) -> None:
    async with world() as mesh:
        client = mesh.network.dial("proxy:2")
        for number in range(3):
            await client.send(GET)
            assert (await client.receive()).startswith(b"HTTP/1.1 200 "), number
        assert mesh.told.detected == ["outbound http1"]
        client.close()
    assert mesh.worker.fast_requests == [3]
    assert len(mesh.told.done) == 3


async def test_the_last_answer_arrives_and_the_client_is_waited_for(autojump_clock: MockClock) -> None:
    async with world() as mesh:
        await mesh.request()  # leaves an idle connection
        polite, silent, chatty = (mesh.network.dial("proxy:2") for _ in range(3))
        for client in (polite, silent, chatty):
            await client.send(LAST)
            assert b"Connection: close" in await client.receive()
            assert await client.receive() == b""
        assert mesh.worker.connections == 3
        polite.close()
        await chatty.send(b"x" * 1_000)
        await trio.sleep(0.1)
        assert mesh.worker.connections == 2
        await trio.sleep(LINGER_S)
        assert mesh.worker.connections == 0
    assert mesh.worker.fast_requests == [4]


@pytest.mark.parametrize("protocol", [Protocol.AUTO, Protocol.HTTP])
async def test_a_silent_client_is_for_a_task_in_time(protocol: Protocol, autojump_clock: MockClock) -> None:
    async with world(protocol) as mesh:
        limits = mesh.worker.limits
        limit_s = limits.detect_s if protocol is Protocol.AUTO else limits.first_request_s
        client = mesh.network.dial("proxy:2")
        await trio.sleep(limit_s - 0.01)
        assert (mesh.told.detected, len(mesh.newcomers)) == ([], 1)
        await trio.sleep(0.03)
        assert (mesh.told.detected, len(mesh.newcomers)) == (["outbound timeout"], 0)
        assert mesh.worker.connections == 1
        client.close()


@pytest.mark.parametrize("protocol", [Protocol.AUTO, Protocol.HTTP])
@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([b"SSH-2.0-x\r\n"], "opaque"),
        ([b"\x16\x03\x01\x00\xc8\x01"], "tls"),
        ([b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"], "http2"),
        ([b"G", b"E", b"T /"], "http1"),
        ([b"G"], "opaque"),  # and the end
    ],
)
async def test_what_a_task_is_for_goes_to_one(
    protocol: Protocol, pieces: list[bytes], kind: str, autojump_clock: MockClock
) -> None:
    async with world(protocol) as mesh:
        mesh.network.listen(f"a:{PORT}", lambda stream: stream.close())
        client = mesh.network.dial("proxy:2")
        for piece in pieces:
            await client.send(piece)
            await trio.sleep(0.01)
        client.send_eof()
        with trio.fail_after(60):
            await ended(client)
        assert mesh.told.detected == [f"outbound {kind}"]
        client.close()


async def test_a_client_that_leaves_without_a_byte_is_nobody(autojump_clock: MockClock) -> None:
    async with world() as mesh:
        mesh.network.dial("proxy:2").close()
        mesh.network.dial("proxy:2").abort()
        await trio.sleep(0.1)
        assert (mesh.worker.connections, mesh.told.detected, mesh.told.done) == (0, [], [])


async def test_a_drain_ends_who_rests_and_nobody_else(autojump_clock: MockClock) -> None:
    async with world() as mesh:
        silent, rested, asking = (mesh.network.dial("proxy:2") for _ in range(3))
        await rested.send(GET)
        assert await rested.receive()
        await asking.send(GET)  # read by nobody yet
        mesh.worker.drain()
        assert await ended(silent) == await ended(rested) == "closed"
        assert (await asking.receive()).startswith(b"HTTP/1.1 200 ")
        assert await ended(asking) == "closed"
        assert await ended(mesh.network.dial("proxy:2")) == "closed"
        for client in (silent, rested, asking):
            client.close()


async def test_the_process_ends(autojump_clock: MockClock) -> None:
    """Nothing that is under way passes for a whole answer, and all places are given back."""
    async with world() as mesh:
        await mesh.request()
        silent, half = mesh.network.dial("proxy:2"), mesh.network.dial("proxy:2")
        await half.send(b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 5\r\n\r\nab")
        await trio.sleep(0.001)
        for newcomer in list(mesh.newcomers):
            newcomer.cut()
        assert mesh.worker.connections == 0
        assert (await ended(silent), await ended(half)) == ("closed", "reset")


async def test_a_bug_ends_its_connection_only(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as mesh:
        await mesh.request()
        other, unlucky = mesh.network.dial("proxy:2"), mesh.network.dial("proxy:2")
        await other.send(GET)
        assert await other.receive()
        with monkeypatch.context() as patched:

            def broken(*_: object) -> None:
                raise ZeroDivisionError

            patched.setattr(FastPath, "_send", broken)
            await unlucky.send(GET)
            assert await ended(unlucky) == "reset"
        await other.send(GET)
        assert await other.receive()
        assert [type(bug) for bug in mesh.bugs] == [ZeroDivisionError]
        mesh.bugs.clear()
        other.close()
