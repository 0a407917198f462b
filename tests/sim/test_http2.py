"""HTTP/2 through the whole sidecar on virtual time: windows, slow peers, tries that fail, shared limits."""

from functools import partial

import trio
from trio.testing import MockClock

from sidecar.model.policies import Limits, Retries, TrafficPolicy
from tests.support.http2 import PREFACE, Wire, data, settings, window
from tests.support.http2_peers import WIDE, Call, Client, Http2Mesh, ok

HTTP2_CODECS = True  # each test runs with both

GET = ((":method", "GET"), (":scheme", "http"), (":authority", "orders"), (":path", "/big"))
POST = ((":method", "POST"), (":scheme", "http"), (":authority", "orders"), (":path", "/"))
WIDE_OPEN = PREFACE + settings((4, WIDE)) + window(0, WIDE - 65_535)


async def big_or_ok(call: Call) -> None:
    if call.message.get(":path") == "/big":
        await call.answer(body=b"x" * 2_000_000)
    else:
        await ok(call)


async def test_a_body_goes_through_whole(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a")
        mesh.configure(["a"])
        got = await Client(mesh).request("POST", body=b"x" * 200_000)
        assert (got.status, got.body) == (200, b"ok")
        assert app.calls[0].message.body == b"x" * 200_000
        nursery.cancel_scope.cancel()


async def test_a_client_that_breaks_the_protocol_while_it_reads_nothing_is_let_go(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", big_or_ok)
        mesh.configure(["a"])
        stream, wire = mesh.network.dial("proxy:1"), Wire()
        await stream.send(WIDE_OPEN + b"".join(wire.headers(number, GET, end=True) for number in (1, 3, 5)))
        await trio.sleep(1)
        await stream.send(data(0, b"x"))
        await trio.sleep(60)
        assert mesh.bugs == []
        assert (mesh.in_flight(), mesh.worker.connections) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_what_a_failed_try_had_in_hand_is_credited_when_another_took_it(autojump_clock: MockClock) -> None:
    async def fails(call: Call) -> None:
        await trio.sleep(1)
        call.reset(7)

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("bad", fails, credits=False)
        good = mesh.http2("good")
        policy = TrafficPolicy(retries=Retries(attempts=5, max_body_bytes=1_000_000))
        mesh.configure(["bad"], policy)
        client = Client(mesh)
        number = client.begin("PUT", end=False)
        nursery.start_soon(partial(client.send_body, number, b"x" * 100_000, end=False))
        await trio.sleep(0.5)
        mesh.configure(["bad", "good"], policy)
        await trio.sleep(1.5)
        assert len(good.calls[0].message.body) == 100_000
        assert client.http.local_flow_control_window(number) >= 32_767  # python-h2 gives back half a window at a time
        client.http.end_stream(number)
        client.send()
        assert (await client.answer(number)).status == 200
        nursery.cancel_scope.cancel()


async def test_a_client_that_only_writes_is_read_while_answers_wait_for_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", big_or_ok)
        mesh.configure(["a"])
        stream, wire = mesh.network.dial("proxy:1"), Wire()
        await stream.send(WIDE_OPEN + wire.headers(1, GET, end=True))
        await trio.sleep(1)
        began_s = trio.current_time()
        for number in (3, 5, 7, 9):
            body = b"".join(data(number, b"x" * 16_000) for _ in range(4))
            await stream.send(wire.headers(number, POST) + body + data(number, end=True))
            await stream.flush()
        assert trio.current_time() - began_s < 1
        await trio.sleep(1)
        assert [len(call.message.body) for call in app.calls[1:]] == [64_000] * 4

        await trio.sleep(60)  # it still reads nothing
        assert (mesh.in_flight(), mesh.worker.connections, mesh.bugs) == (0, 0, [])
        nursery.cancel_scope.cancel()


async def test_a_slow_reader_of_many_streams_is_not_given_up(autojump_clock: MockClock) -> None:
    async def long(call: Call) -> None:
        await call.answer(body=b"x" * 300_000)

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", long)
        mesh.configure(["a"])
        client = Client(mesh, window=WIDE // 2)
        client.pause_s = 2.0  # 8 KiB/s for all of them: ten minutes, and no frame of the client's for most of it
        for number in [client.begin() for _ in range(16)]:
            got = await client.answer(number)
            assert (len(got.body), got.whole) == (300_000, True)
        nursery.cancel_scope.cancel()


async def test_at_the_limit_of_connections_requests_wait_for_streams(autojump_clock: MockClock) -> None:
    async def slow(call: Call) -> None:
        await trio.sleep(1)
        await call.answer()

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", slow)
        mesh.configure(["a"], TrafficPolicy(limits=Limits(connections=1, pending=30)))
        clients = [Client(mesh), Client(mesh)]
        got: list[int] = []

        async def one(number: int) -> None:
            got.append((await clients[number % 2].request()).status)

        async with trio.open_nursery() as requests:
            for number in range(120):
                requests.start_soon(one, number)
        assert got == [200] * 120
        assert trio.current_time() < 3

        got.clear()
        async with trio.open_nursery() as requests:
            for number in range(180):
                requests.start_soon(one, number)
        assert sorted(got) == [200] * 130 + [503] * 50
        assert len(app.connections) == 1
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()
