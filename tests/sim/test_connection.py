"""Connections of clients on virtual time: bugs, drains, slow readers and what peers may do between requests."""

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import ProcessLimits
from sidecar.proxy.places import Places
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
        mesh.worker.fast_path = False
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
        mesh.worker.places = Places(1, lambda: told.append("connections"))
        told: list[str] = []
        let_in: list[str] = []

        async def listener(name: str) -> None:
            await mesh.worker.room()
            let_in.append(name)

        with mesh.worker.client("outbound"):  # what fails in here, it would keep to itself
            for name in ("inbound", "outbound", "outbound stock.shop:80"):
                nursery.start_soon(listener, name)
            await trio.sleep(1)
            before = list(let_in)
        await trio.sleep(1)

        assert before == []
        assert len(let_in) == len(told) == 3
        nursery.cancel_scope.cancel()


async def test_a_request_that_the_end_of_the_process_breaks_off_says_so(autojump_clock: MockClock) -> None:
    async def silent(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as process:
        async with trio.open_nursery() as nursery:
            mesh = MemoryMesh(nursery)
            mesh.app("a", silent)
            mesh.configure(["a"])
            nursery.start_soon(mesh.request)
            await trio.sleep(1)
            process.cancel()
    assert [(done.status, done.flags) for done in mesh.told.done] == [(0, "LR")]


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


@pytest.mark.parametrize("size", [100, 120_000, 200_000, 250_000])
@pytest.mark.parametrize("then", ["", "half-close", "half a head"])
async def test_a_slow_reader_gets_the_whole_of_the_last_answer(size: int, then: str, autojump_clock: MockClock) -> None:
    body = b"x" * size

    async def large(app: AppConnection, request: h11.Request, got: bytes) -> None:
        await app.answer(200, body)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", large)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        if then:
            await stream.send(GET + (b"GET /" if then == "half a head" else b""))
            stream.send_eof()
        else:
            await stream.send(GET.replace(b"1.1", b"1.0"))
        await trio.sleep(10)
        got = b""
        while data := await stream.receive():
            got += data
            await trio.sleep(5)

        assert got.endswith(b"\r\n\r\n" + body)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_client_that_never_reads_is_cut_in_bounded_time(version: bytes, autojump_clock: MockClock) -> None:
    async def large(app: AppConnection, request: h11.Request, got: bytes) -> None:
        await app.answer(200, b"x" * 120_000)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", large)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(GET.replace(b"1.1", version + b"\r\nConnection: close", 1))
        await trio.sleep(ProcessLimits().write_progress_s * 2 + 5)

        assert mesh.worker.connections == 0
        with pytest.raises(StreamBroken):
            await read_all(stream)
        nursery.cancel_scope.cancel()


async def test_a_drain_does_not_cut_an_answer_that_is_still_going_out(autojump_clock: MockClock) -> None:
    body = b"x" * 120_000

    async def large(app: AppConnection, request: h11.Request, got: bytes) -> None:
        await app.answer(200, body)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", large)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(GET)
        await trio.sleep(1)
        mesh.worker.drain()
        await trio.sleep(1)

        assert (await read_all(stream)).endswith(b"\r\n\r\n" + body)
        nursery.cancel_scope.cancel()


async def test_a_request_that_came_just_before_the_drain_is_answered(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(GET)
        assert (await stream.receive()).endswith(b"ok")
        await trio.sleep(1)
        stream.write(GET)
        mesh.worker.drain()

        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in answer
        nursery.cancel_scope.cancel()


async def test_idle_connections_end_at_once_with_a_drain(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await trio.sleep(1)
        mesh.worker.drain()
        start = trio.current_time()

        assert await read_all(stream) == b""
        assert trio.current_time() == start
        assert mesh.worker.connections == 0
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_led_away_goes_with_its_next_answer(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"])
        busy, idle = (mesh.network.dial("proxy:1") for _ in range(2))
        mesh.worker.lead_away()
        await trio.sleep(1)
        await busy.send(GET)

        answer = await read_all(busy)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in answer
        busy.close()
        await trio.sleep(1)
        assert mesh.worker.connections == 1
        mesh.worker.drain()
        assert await read_all(idle) == b""
        nursery.cancel_scope.cancel()


FRONTEND = "spiffe://mesh.local/ns/shop/sa/frontend"
POST = b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\npay"


async def told_to_go_elsewhere(mesh: MemoryMesh, stream: MemoryStream) -> None:
    answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nx-mesh-untouched: 1\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    stream.close()
    await trio.sleep(0.1)
    assert mesh.worker.connections == 0


@pytest.mark.parametrize("sent", [b"", POST])
async def test_a_request_of_another_sidecar_that_crosses_the_end_of_its_connection_is_not_lost(
    sent: bytes, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1", principal=FRONTEND)
        await stream.send(GET)
        assert (await stream.receive()).endswith(b"ok")
        mesh.worker.drain()
        await trio.sleep(0.1)  # it was decided before the request came
        stream.write(sent)

        await told_to_go_elsewhere(mesh, stream)
        assert len(app.seen) == 1
        nursery.cancel_scope.cancel()


async def test_another_sidecar_hears_of_the_end_though_its_last_answer_began_before_the_drain(
    autojump_clock: MockClock,
) -> None:
    go = trio.Event()

    async def slow(app: AppConnection, request: h11.Request, got: bytes) -> None:
        head = h11.Response(status_code=200, headers=[("content-length", "2")])
        await app.stream.send((app.http.send(head) or b"") + (app.http.send(h11.Data(data=b"o")) or b""))
        await go.wait()
        data = (app.http.send(h11.Data(data=b"k")) or b"") + (app.http.send(h11.EndOfMessage()) or b"")
        await app.stream.send(data)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", slow)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1", principal=FRONTEND)
        await stream.send(GET)
        assert b"Connection: close" not in await stream.receive()
        mesh.worker.drain()
        go.set()
        assert await stream.receive() == b"k"
        stream.write(POST)

        await told_to_go_elsewhere(mesh, stream)
        nursery.cancel_scope.cancel()


async def test_another_sidecar_that_leaves_by_itself_is_told_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.configure([])
        stream = mesh.network.dial("proxy:1", principal=FRONTEND)
        stream.send_eof()
        assert await read_all(stream) == b""
        nursery.cancel_scope.cancel()
