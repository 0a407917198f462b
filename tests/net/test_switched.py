"""Tunnels that a request asks for: CONNECT to the explicit proxy, upgrades of HTTP/1.1, extended CONNECT of HTTP/2."""

import contextlib
from collections import deque

import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)

from sidecar.model.clusters import Protocol
from tests.support import tunnels
from tests.support.tunnels import PORT, mesh, tcp_server, told

HTTP2_CODECS = True  # each test runs with both

both_ways = pytest.mark.parametrize("way", ["plain", "mesh"])
CONNECT = b"CONNECT orders.shop:8080 HTTP/1.1\r\nHost: orders.shop:8080\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def head(stream: trio.SocketStream) -> bytes:
    """An answer's head, not a byte more."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        more = await stream.receive_some(1)
        assert more, got
        got += more
    return got


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = await stream.receive_some(size - len(got))
        assert more, got
        got += more
    return got


@both_ways
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO])
async def test_a_client_may_ask_the_proxy_for_bytes(way: str, protocol: Protocol) -> None:
    async with tcp_server(tunnels.echo) as server, mesh(way, server, protocol=protocol) as world:
        client = await world.dial_proxy()
        await client.send_all(CONNECT + b"early")
        assert (await head(client)).startswith(b"HTTP/1.1 200 ")
        assert await exactly(client, 5) == b"early"
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await exactly(client, 18) == b"GET / HTTP/1.1\r\n\r\n"
        await client.send_eof()
        assert await client.receive_some() == b""
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
            assert plane.told.done[0].protocol == "TCP"


async def test_a_tunnel_to_nowhere_is_answered() -> None:
    async with tunnels.nobody() as dead, mesh("plain", dead) as world:
        for name, status in ((b"orders.shop:8080", 503), (b"orders.shop:9", 404), (b"example.com:443", 404)):
            client = await world.dial_proxy()
            await client.send_all(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (name, name))
            assert (await head(client)).startswith(b"HTTP/1.1 %d " % status)
        assert await told(world.calling, 3) == ["URX,UF", "NR", "NR"]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.GRPC])
async def test_a_port_that_carries_requests_answers_405(protocol: Protocol) -> None:
    async with tcp_server(tunnels.echo) as server, mesh("mesh", server, protocol=protocol) as world:
        client = await world.dial_proxy()
        await client.send_all(CONNECT)
        answer = await head(client)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nallow: GET, HEAD" in answer.lower().replace(b"get, head", b"GET, HEAD")
        assert b"x-mesh-flags: NR" in answer
        assert world.called[0].told.dials == []


async def switch(stream: trio.SocketStream) -> None:
    """A server that agrees to switch to an echo, byte by byte and with its first words in the same write."""
    asked = await head(stream)
    assert b"echo" in asked
    assert b"traceparent" in asked
    await stream.send_all(SWITCHED + b"hello")
    with contextlib.suppress(trio.BrokenResourceError):
        await tunnels.echo(stream)


@both_ways
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_an_upgrade_becomes_a_tunnel(way: str, protocol: Protocol) -> None:
    async with tcp_server(switch) as server, mesh(way, server, protocol=protocol) as world:
        client = await world.dial()
        await client.send_all(UPGRADE)
        answer = await head(client)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: echo" in answer.lower()
        assert await exactly(client, 5) == b"hello"
        await client.send_all(b"\x00\xffGET / HTTP/1.1\r\n\r\n")
        assert await exactly(client, 20) == b"\x00\xffGET / HTTP/1.1\r\n\r\n"
        await client.send_eof()
        assert await client.receive_some() == b""
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
            assert (plane.told.done[0].status, plane.told.done[0].protocol) == (101, "HTTP/1.1")


class Http2:
    """A client of HTTP/2 with prior knowledge."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._events: deque[Event] = deque()
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()

    async def flush(self) -> None:
        await self._stream.send_all(self.h2.data_to_send())

    async def until(self, *kinds: type[Event]) -> Event:
        """The next event of one of these kinds; everything before it is let go, and credited."""
        with trio.fail_after(5):
            while True:
                while self._events:
                    event = self._events.popleft()
                    assert not isinstance(event, ConnectionTerminated)
                    if isinstance(event, DataReceived):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
                    if isinstance(event, kinds):
                        return event
                await self.flush()
                self._events.extend(self.h2.receive_data(await self._stream.receive_some()))


@both_ways
@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        (Protocol.AUTO, [(":protocol", "echo"), (":scheme", "http"), (":path", "/chat")]),
        (Protocol.HTTP, [(":protocol", "echo"), (":scheme", "http"), (":path", "/chat")]),
    ],
)
async def test_an_extended_connect_reaches_a_server_of_http1(
    way: str, protocol: Protocol, more: list[tuple[str, str]]
) -> None:
    async with tcp_server(switch) as server, mesh(way, server, protocol=protocol) as world:
        client = Http2(await world.dial())
        settings = await client.until(RemoteSettingsChanged)
        assert isinstance(settings, RemoteSettingsChanged)
        assert client.h2.remote_settings.enable_connect_protocol == 1
        client.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "orders.shop:8080"), *more])
        response = await client.until(ResponseReceived)
        assert isinstance(response, ResponseReceived)
        assert [str(value) for name, value in response.headers if str(name) == ":status"] == ["200"]
        client.h2.send_data(1, b"over there")
        got = b""
        while len(got) < 15:
            data = await client.until(DataReceived)
            assert isinstance(data, DataReceived)
            got += data.data
        assert got == b"helloover there"
        client.h2.end_stream(1)
        # Between sidecars an upgrade goes by HTTP/1.1 over TLS, which cannot half-close: there an end ends both.
        await client.until(StreamEnded, StreamReset)
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
            assert (plane.told.done[0].bytes_received, plane.told.done[0].bytes_sent) == (10, 15)


@both_ways
async def test_a_stream_of_http2_may_ask_the_proxy_for_bytes(way: str) -> None:
    async with tcp_server(tunnels.echo) as server, mesh(way, server) as world:
        client = Http2(await world.dial_proxy())
        client.h2.send_headers(1, [(":method", "CONNECT"), (":authority", f"orders.shop:{PORT}")])
        await client.until(ResponseReceived)
        client.h2.send_data(1, b"over there", end_stream=True)
        data = await client.until(DataReceived)
        assert isinstance(data, DataReceived)
        assert data.data == b"over there"
        assert await told(world.calling) == ["-"]
        assert world.calling.told.done[0].protocol == "TCP"
