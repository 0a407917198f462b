"""Connections of clients on virtual time: bugs, drains, slow readers and what peers may do between requests."""

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import ProcessLimits
from sidecar.telemetry.observer import Observer, RequestDone
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import AppConnection, MemoryMesh


async def read_all(stream: MemoryStream) -> bytes:
    got = b""
    while data := await stream.receive():
        got += data
    return got


GET = b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n"


class Failing(Observer):
    def request_done(self, done: RequestDone) -> None:
        raise RuntimeError(f"a bug at {done.target!r}")


async def test_a_bug_ends_one_connection_and_nothing_else(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        observer, mesh.worker.observer = mesh.worker.observer, Failing()
        await mesh.request()
        mesh.worker.observer = observer

        assert [str(bug) for bug in mesh.bugs] == ["a bug at b'/'"]
        assert (await mesh.request()).status == 200
        await trio.sleep(0.1)
        assert mesh.worker.connections == 0
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_every_listener_that_waits_for_room_is_woken(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        worker = mesh.worker
        worker.limits = ProcessLimits(connections=1)
        let_in: list[str] = []

        async def listener(name: str) -> None:
            await worker.room()
            let_in.append(name)

        with worker.client("outbound"):
            for name in ("inbound", "outbound", "outbound stock.shop:80"):
                nursery.start_soon(listener, name)
            await trio.sleep(1)
            assert let_in == []
        await trio.sleep(1)

        assert len(let_in) == 3
        nursery.cancel_scope.cancel()


async def test_a_bug_inside_an_answer_never_looks_like_its_end(autojump_clock: MockClock) -> None:
    """A client of HTTP/1.0 takes the end of the connection for the end of the body."""

    async def breaks(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await app.stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await trio.sleep(1)
        mesh.worker.now = None  # type: ignore[assignment]
        await app.stream.send(b"4\r\nrest\r\n")

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", breaks)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(b"GET / HTTP/1.0\r\nHost: orders\r\n\r\n")
        with pytest.raises(StreamBroken):
            await read_all(stream)
        assert mesh.bugs
        nursery.cancel_scope.cancel()
