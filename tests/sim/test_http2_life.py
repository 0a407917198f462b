"""From the first to the last moment of a client's HTTP/2 connection: silence, age, drain, and bugs of our own."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import Protocol
from sidecar.model.messages import ResponseHead
from sidecar.proxy.fast_relay import FastRelay
from sidecar.proxy.mux_server import Http2Downstream
from sidecar.transport.memory import MemoryStream
from tests.support.http2 import PREFACE, Wire, data, settings
from tests.support.http2_peers import Call, Client, Http2Mesh

HTTP2_CODECS = True  # each test runs with both

HELD_S = 5.0
GET = ((":method", "GET"), (":scheme", "http"), (":authority", "orders"), (":path", "/"))


async def held(call: Call) -> None:
    """Answer after a while."""
    await call.arrived()
    await trio.sleep(HELD_S)
    await call.answer()


async def test_a_client_that_never_asks_is_led_away(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.configure([])
        client = Client(mesh)
        await client.closed.wait()
        await trio.sleep(0.1)
        assert 59 < trio.current_time() < 65
        assert client.went_away[-1] == (0, 0)
        nursery.cancel_scope.cancel()


async def test_an_idle_client_is_led_away_with_the_last_stream_that_we_took(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery, limits=ProcessLimits(idle_s=100.0))
        mesh.http2("a")
        mesh.configure(["a"])
        client = Client(mesh)
        for _ in range(3):
            assert (await client.request()).status == 200
        await client.closed.wait()
        await trio.sleep(0.1)
        assert 99 < trio.current_time() < 105
        assert client.went_away[-1] == (5, 0)
        assert client.pings == 1  # the goodbye's: nothing is open, so nobody need be asked before
        assert mesh.worker.connections == 0
        nursery.cancel_scope.cancel()


async def test_a_silent_client_is_asked_and_given_up(autojump_clock: MockClock) -> None:
    async def never(call: Call) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", never)
        mesh.configure(["a"])
        client = Client(mesh)
        client.begin("POST", fields=[("content-type", "application/grpc"), ("te", "trailers")], end=False)
        await trio.sleep(65)  # an honest one is asked, and answers
        assert client.pings == 2
        assert not client.closed.is_set()
        client.silent = True
        await client.closed.wait()
        await trio.sleep(0.1)
        assert 99 < trio.current_time() < 102
        assert (mesh.in_flight(), mesh.worker.connections) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_a_drain_serves_what_was_on_its_way(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", held)
        mesh.configure(["a"])
        client = Client(mesh)
        early = client.begin()
        await trio.sleep(1)
        mesh.worker.drain()
        late = client.begin()  # sent before it heard of the GOAWAY
        assert [(await client.answer(each)).status for each in (early, late)] == [200, 200]
        await client.closed.wait()
        await trio.sleep(0.1)
        assert trio.current_time() < 1 + HELD_S + 5
        assert mesh.worker.connections == 0
        nursery.cancel_scope.cancel()


async def test_streams_that_come_long_after_the_goodbye_are_refused(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held)
        mesh.configure(["a"])
        stream, wire = mesh.network.dial("proxy:1"), Wire()
        await stream.send(PREFACE + settings() + settings(ack=True) + wire.headers(1, GET, end=True))
        await trio.sleep(1)
        mesh.worker.drain()
        await trio.sleep(2)  # it does not answer the PING that says that it heard
        await stream.send(wire.headers(3, GET, end=True))
        await trio.sleep(0.5)
        await stream.send(wire.headers(5, GET, end=True))
        await trio.sleep(0.5)
        got = b""
        with trio.move_on_after(0.1):
            while True:
                got += await stream.receive()
        seen = wire.read(got)
        assert len(app.calls) <= 2
        assert [each.code for each in seen if each.name == "RstStream" and each.stream == 5] == [7]
        await trio.sleep(20)
        assert mesh.worker.connections == 0
        nursery.cancel_scope.cancel()


async def test_an_old_connection_of_a_peer_with_an_identity_is_led_away(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery, limits=replace(ProcessLimits(), connection_age_s=100.0))
        mesh.http2("a")
        mesh.configure(["a"])
        client = Client(mesh, principal="spiffe://d/ns/shop/sa/frontend")
        answered = 0
        while not client.went_away:
            answered += (await client.request()).status == 200
            await trio.sleep(1)
        assert 89 < answered < 112
        await client.closed.wait()
        await trio.sleep(0.1)
        assert trio.current_time() < 115

        plain = Client(mesh)
        for _ in range(150):
            assert (await plain.request()).status == 200
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def test_a_bug_in_one_exchange_ends_no_other(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    put_head = Http2Downstream.put_head

    def broken(end: Http2Downstream, head: ResponseHead) -> None:
        if head.get(b"x-break") is not None:
            raise LookupError("planted")
        put_head(end, head)

    answered = FastRelay.answered

    def broken_too(call: FastRelay, head: ResponseHead, end: bool) -> None:
        if head.get(b"x-break") is not None:
            raise LookupError("planted")
        answered(call, head, end)

    monkeypatch.setattr(Http2Downstream, "put_head", broken)
    monkeypatch.setattr(FastRelay, "answered", broken_too)

    async def answers(call: Call) -> None:
        await call.arrived()
        await trio.sleep(1)
        await call.answer(fields=[("x-break", "1")] if call.message.get(":path") == "/break" else [])

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", answers)
        mesh.configure(["a"])
        client = Client(mesh)
        good, bad, also = client.begin(), client.begin("GET", "/break"), client.begin()
        assert (await client.answer(bad)).reset == 2
        assert [(await client.answer(each)).status for each in (good, also)] == [200, 200]
        assert [type(bug) for bug in mesh.bugs] == [LookupError]
        assert (len(app.connections), mesh.in_flight()) == (1, 0)
        assert (await client.request()).status == 200
        nursery.cancel_scope.cancel()


async def test_a_call_of_grpc_that_breaks_off_inside_its_length_is_cut(autojump_clock: MockClock) -> None:
    async def breaks(call: Call) -> None:
        await call.arrived()
        call.head(200, [("content-type", "application/grpc"), ("content-length", "100")])
        await call.peer.send_body(call.number, b"x" * 10, end=False)
        await trio.sleep(1)
        call.reset(2)

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", breaks)
        mesh.configure(["a"])
        got = await Client(mesh).request("POST", "/a.B/C", b"x", [("content-type", "application/grpc")])
        assert (got.status, got.body, got.whole, got.reset) == (200, b"x" * 10, False, 2)
        assert mesh.bugs == []
        nursery.cancel_scope.cancel()


async def test_trailers_that_nobody_may_send_do_no_harm(autojump_clock: MockClock) -> None:
    async def chunked(stream: object) -> None:
        await stream.receive()  # type: ignore[attr-defined]
        await stream.send(  # type: ignore[attr-defined]
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
            b"X-Upper: 1\r\nAuthorization: y\r\nTe: gzip\r\n\r\n"
        )

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery, protocol=Protocol.HTTP)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(chunked, stream))
        mesh.configure(["a"])
        got = await Client(mesh).request(fields=[("te", "trailers")])
        assert (got.status, got.body, got.whole, got.trailers) == (200, b"ok", True, [("x-upper", "1")]), got.body
        assert mesh.bugs == []
        nursery.cancel_scope.cancel()


async def test_half_closed_tunnels_hold_nothing_of_the_connections_window(autojump_clock: MockClock) -> None:
    async def takes(stream: MemoryStream) -> None:
        while await stream.receive():
            pass
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery, protocol=Protocol.TCP)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(takes, stream))
        mesh.configure(["a"])
        stream, wire = mesh.network.dial("proxy:1"), Wire()
        await stream.send(PREFACE + settings())
        opened = 0
        for number in range(1, 41, 2):
            head = wire.headers(number, [(":method", "CONNECT"), (":authority", "orders.shop:8080")])
            body = b"".join(data(number, b"x" * 15_000, end=last) for last in (False, False, False, True))
            await stream.send(head + body)
            with trio.move_on_after(0.1):
                while True:
                    got = await stream.receive()
                    assert got
                    for frame in wire.read(got):
                        if frame.name == "WindowUpdate" and not frame.stream:
                            opened += int.from_bytes(frame.body, "big")
        assert opened - (1024 * 1024 - 65_535) > 20 * 60_000 - 512 * 1024  # what was sent is given back by halves
        assert mesh.bugs == []
        nursery.cancel_scope.cancel()
