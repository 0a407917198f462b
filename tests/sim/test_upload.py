"""Request bodies under way on virtual time: tries that fail while the client is still sending."""

import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from trio.testing import MockClock

from sidecar.model.clusters import Protocol, Service, ServicePort
from sidecar.model.policies import Retries, Timeouts, TrafficPolicy
from sidecar.model.snapshot import Resource
from sidecar.proxy.fast_request import BODY_WAIT_S
from sidecar.proxy.upload import LOOK_S
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import ORDERS, PORT, MemoryMesh

HEAD = b"PUT / HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_all(stream: MemoryStream) -> bytes:
    got = b""
    try:
        while data := await stream.receive():
            got += data
    except StreamBroken:
        pass
    return got


async def test_a_body_that_outgrew_its_copy_while_the_try_failed_is_never_sent_in_part(
    autojump_clock: MockClock,
) -> None:
    """The try's failure and the client's next bytes come in the same turn; either may be seen first."""
    parts = [bytes([letter]) * 600 for letter in b"abc"]
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        dying: list[MemoryStream] = []
        mesh.network.listen("a:8080", dying.append)
        good = mesh.app("b")
        mesh.configure(["a"], TrafficPolicy(retries=Retries(max_body_bytes=1000)))
        answers: list[bytes] = []
        for _ in range(30):
            mesh.configure(["a"], TrafficPolicy(retries=Retries(max_body_bytes=1000)))
            stream = mesh.network.dial("proxy:1")
            await stream.send(HEAD + chunk(parts[0]))
            await trio.sleep(0.1)
            mesh.configure(["a", "b"], TrafficPolicy(retries=Retries(max_body_bytes=1000)))
            stream.write(chunk(parts[1]))
            dying.pop().abort()
            await trio.sleep(0.1)
            stream.write(chunk(parts[2]) + b"0\r\n\r\n")
            answers.append(await read_all(stream))

        assert {body for _, body in good.seen} <= {b"".join(parts)}
        assert {answer.split(b" ")[1] for answer in answers} <= {b"200", b"503"}
        assert mesh.bugs == []
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_an_early_answer_waits_while_the_upload_makes_progress(autojump_clock: MockClock) -> None:
    async def early(stream: MemoryStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"begun"))
        while not (await stream.receive()).endswith(b"0\r\n\r\n"):
            pass
        await stream.send(chunk(b"done") + b"0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(early, stream))
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(stream_idle_s=5.0)))
        stream = mesh.network.dial("proxy:1")
        await stream.send(HEAD)
        for _ in range(10):
            await trio.sleep(2)
            await stream.send(chunk(b"piece"))
        await stream.send(b"0\r\n\r\n")

        assert b"done" in await read_all(stream)
        nursery.cancel_scope.cancel()


async def test_an_early_answer_to_an_upload_that_stopped_is_cut(autojump_clock: MockClock) -> None:
    async def early(stream: MemoryStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"begun"))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(early, stream))
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(stream_idle_s=5.0)))
        stream = mesh.network.dial("proxy:1")
        await stream.send(HEAD)
        start = trio.current_time()

        assert not (await read_all(stream)).endswith(b"0\r\n\r\n")
        assert 5.0 <= trio.current_time() - start <= 5.0 + BODY_WAIT_S
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def upload(mesh: MemoryMesh, pieces: int, every_s: float) -> bytes:
    """Send a chunked body piece by piece; what came back."""
    stream = mesh.network.dial("proxy:1")
    await stream.send(HEAD)
    for _ in range(pieces):
        await trio.sleep(every_s)
        stream.write(chunk(b"x" * 1000))
    stream.write(b"0\r\n\r\n")
    return await read_all(stream)


async def test_an_upload_may_take_longer_than_the_time_for_an_answer(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(request_s=5.5)))
        answer = await upload(mesh, 20, 2.0)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(app.seen[0][1]) == 20_000
        nursery.cancel_scope.cancel()


async def test_the_time_for_an_answer_begins_when_the_upload_is_complete(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(swallow, stream))
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(request_s=5.5)))
        start = trio.current_time()
        answer = await upload(mesh, 20, 2.0)

        assert answer.startswith(b"HTTP/1.1 504 ")
        assert trio.current_time() - start == 45.5
        nursery.cancel_scope.cancel()


async def swallow(stream: MemoryStream) -> None:
    """Take everything, say nothing."""
    await read_all(stream)


async def test_an_endpoint_that_takes_nothing_of_a_body_ends_the_try(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        kept: list[MemoryStream] = []
        mesh.network.listen("a:8080", kept.append)
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(stream_idle_s=7.5), retries=Retries(attempts=0)))
        stream = mesh.network.dial("proxy:1")
        await stream.send(HEAD)

        async def push() -> None:
            try:
                while True:
                    await stream.send(chunk(b"x" * 50_000))
            except StreamBroken:
                pass

        nursery.start_soon(push)
        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert trio.current_time() < 20
        nursery.cancel_scope.cancel()


LARGE = 1 << 20
FRAMINGS = {
    "length": (b"PUT / HTTP/1.1\r\nHost: orders\r\nContent-Length: %d\r\n\r\n" % LARGE, b""),
    "chunk": (HEAD + b"%x\r\n" % LARGE, b"\r\n0\r\n\r\n"),
}


async def blocked(stream: MemoryStream, head: bytes, end: bytes, size: int) -> None:
    """Send as much of a request as is taken, and leave the rest queued."""
    stream.write(head + bytes(size) + end)
    await trio.sleep(5)
    assert stream.queued_bytes


@pytest.mark.parametrize("how", ["ended", "reset"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_client_that_left_inside_a_blocked_upload_is_noticed(
    framing: str, how: str, autojump_clock: MockClock
) -> None:
    """Nobody reads it, and what it sent before is in front of its end: only that this cannot be all of it tells."""
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        kept: list[MemoryStream] = []
        mesh.network.listen("a:8080", kept.append)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await blocked(stream, FRAMINGS[framing][0], b"", LARGE - 1)
        if how == "ended":
            stream.close()
            await trio.sleep(LOOK_S + 0.1)
        else:
            stream.abort()
            await trio.sleep(0.1)

        assert [done.flags for done in mesh.told.done] == ["DC"]
        assert [stream.twin is None or stream.twin.closed for stream in kept] == [True]
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_client_that_sent_all_and_half_closed_waits_as_long_as_any(
    framing: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        kept: list[MemoryStream] = []
        mesh.network.listen("a:8080", kept.append)
        mesh.configure(["a"])
        head, end = FRAMINGS[framing]
        stream = mesh.network.dial("proxy:1")
        await blocked(stream, head, end, LARGE)
        stream.send_eof()
        nursery.start_soon(answer_late, kept[0], LARGE)

        assert b" 200 OK" in await read_all(stream)
        assert [done.flags for done in mesh.told.done] == ["-"]
        nursery.cancel_scope.cancel()


async def answer_late(stream: MemoryStream, size: int) -> None:
    """Read nothing for a minute, then slowly, and answer."""
    await trio.sleep(60)
    got = b""
    while len(got) < size:
        await trio.sleep(0.1)
        got += await stream.receive()
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def test_the_end_of_a_request_leaves_with_its_last_bytes(autojump_clock: MockClock) -> None:
    """A server that answers between the two may cut the request off; Envoy does when its answer is whole."""
    reads: list[bytes] = []

    async def reader(stream: MemoryStream) -> None:
        while data := await stream.receive():
            reads.append(data)
            if data.endswith(b"0\r\n\r\n"):
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(reader, stream))
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(HEAD)
        await trio.sleep(1)
        await stream.send(chunk(b"first"))
        await trio.sleep(1)
        await stream.send(chunk(b"middle") + chunk(b"last") + b"0\r\n\r\n")
        assert b"200 OK" in await read_all(stream)
        nursery.cancel_scope.cancel()

    assert reads[1:] == [chunk(b"first"), chunk(b"middlelast") + b"0\r\n\r\n"]


async def test_the_end_of_a_request_leaves_with_its_last_bytes_over_http2(autojump_clock: MockClock) -> None:
    reads: list[list[str]] = []

    async def reader(stream: MemoryStream) -> None:
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        while True:
            if out := h2.data_to_send():
                stream.write(out)
            try:
                events = h2.receive_data(await stream.receive())
            except StreamBroken:
                return  # the sidecar ended first
            reads.append([type(event).__name__ for event in events if isinstance(event, DataReceived | StreamEnded)])
            if any(isinstance(event, StreamEnded) for event in events):
                h2.send_headers(1, [(":status", "200")], end_stream=True)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(reader, stream))
        service = Service(ORDERS, (ServicePort(PORT, protocol=Protocol.HTTP2),))
        mesh.configure(["a"], None, Resource("Service/shop/orders", 2, service))
        stream = mesh.network.dial("proxy:1")
        await stream.send(HEAD)
        await trio.sleep(1)
        await stream.send(chunk(b"all of it") + b"0\r\n\r\n")
        assert b"200 OK" in await read_all(stream)
        nursery.cancel_scope.cancel()

    [read] = [read for read in reads if read]
    assert read[0] == "DataReceived"
    assert read[-1] == "StreamEnded"
