"""Windows that a client keeps shut: its answer's head comes all the same, and no trick makes us wait for ever."""

import trio
from trio.testing import MockClock

from sidecar.model.clusters import Protocol, Service, ServicePort
from sidecar.model.snapshot import Resource
from sidecar.proxy import mux_server
from sidecar.proxy.outbound import Outbound
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.http2 import PREFACE, Seen, Wire, data, settings, window
from tests.support.mesh import ORDERS, PORT, MemoryMesh

HTTP2_CODECS = True  # each test runs with both

GET = ((":method", "GET"), (":scheme", "http"), (":authority", "orders"), (":path", "/"))
POST = ((":method", "POST"), *GET[1:])
NO_WINDOW = settings((4, 0))
PROGRESS_S = 30.0
SPEAKS_HTTP1 = Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(PORT, Protocol.HTTP),)))


class Client:
    """A client of raw frames on a memory network."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.wire = Wire()
        self.seen: list[Seen] = []
        self.ended_s: float | None = None
        self._mesh = mesh
        mesh.network.listen("proxy:2", lambda stream: mesh.nursery.start_soon(self._served, stream))
        self.stream = mesh.network.dial("proxy:2")

    async def _served(self, stream: MemoryStream) -> None:
        worker = self._mesh.worker
        await mux_server.serve(stream, lambda: Outbound(worker), worker)

    async def read(self) -> None:
        """Keep what comes; a task of its own."""
        try:
            while piece := await self.stream.receive():
                self.seen += self.wire.read(piece)
        except StreamBroken:
            pass

    def names(self, stream: int) -> list[str]:
        return [frame.name for frame in self.seen if frame.stream == stream]


async def test_a_head_comes_through_a_window_of_0(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"], None, SPEAKS_HTTP1)
        client = Client(mesh)
        nursery.start_soon(client.read)
        await client.stream.send(PREFACE + NO_WINDOW + client.wire.headers(1, GET, end=True))
        await trio.sleep(1)
        assert client.names(1) == ["Headers"]

        await client.stream.send(window(1, 10))
        await trio.sleep(1)
        assert client.names(1)[:2] == ["Headers", "Data"]
        assert "END_STREAM" in client.seen[-1].flags
        nursery.cancel_scope.cancel()


async def test_a_body_that_trickles_in_does_not_excuse_a_shut_window(autojump_clock: MockClock) -> None:
    async def answers_early(stream: MemoryStream) -> None:
        answered = False
        try:
            while await stream.receive():
                if not answered:
                    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    answered = True
        except StreamBroken:
            pass
        finally:
            stream.close()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(answers_early, stream))
        mesh.configure(["a"], None, SPEAKS_HTTP1)
        client = Client(mesh)
        nursery.start_soon(client.read)
        await client.stream.send(PREFACE + NO_WINDOW + client.wire.headers(1, POST))
        began_s = trio.current_time()
        while "RstStream" not in client.names(1) and trio.current_time() < began_s + 3 * PROGRESS_S:
            await trio.sleep(5)
            await client.stream.send(data(1, b"x"))
        assert client.names(1) == ["Headers", "RstStream"]
        assert trio.current_time() <= began_s + PROGRESS_S + 6
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()
