"""Permissive mode and captured connections: who was redirected here knows of no sidecar, whatever it sends."""

import socket
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio

from sidecar.model.bootstrap import HostPort, InboundPort, MtlsMode, NodeInfo
from sidecar.model.clusters import Protocol
from sidecar.proxy.captured import ToApp
from sidecar.proxy.inbound import targets
from sidecar.proxy.listener import Listeners
from sidecar.proxy.worker import Worker
from sidecar.transport.dial import SocketDialer
from sidecar.transport.listen import bind
from sidecar.transport.reactor import Reactor
from sidecar.transport.tls import Contexts
from tests.support import pki
from tests.support.mesh import Told
from tests.support.tunnels import PORT, tcp_server


class Redirected:
    """A kernel that redirected every connection."""

    def outbound(self, sock: socket.socket) -> None:
        raise AssertionError(f"no outbound listener is here, and {sock} is none")

    def inbound(self, sock: socket.socket, declared: Collection[int]) -> ToApp:
        assert sock.getpeername()
        assert set(declared) == {PORT}
        return ToApp(PORT)


@asynccontextmanager
async def captured(app: HostPort, protocol: Protocol) -> AsyncIterator[HostPort]:
    """An inbound listener in permissive mode; where it is."""
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    contexts = Contexts(pki.identity("orders"))
    node = NodeInfo(service="orders", namespace="shop", id="orders-1", account="orders")
    dialer = SocketDialer(reactor, lambda _: None)
    worker = Worker(node, dialer, Told(), Random(1), trio.current_time, on_bug=bugs.append)
    known = targets(node, (InboundPort(port=PORT, protocol=protocol, app=app),), 100)
    sock = bind("inbound.listen", "127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        nursery.start_soon(worker.run)
        listeners = Listeners(worker, reactor, nursery, Redirected())
        nursery.start_soon(listeners.inbound, sock, known, MtlsMode.PERMISSIVE, lambda: contexts)
        yield HostPort(*sock.getsockname())
        nursery.cancel_scope.cancel()
    assert bugs == []


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO])
async def test_a_server_speaks_first_without_delay(protocol: Protocol) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")

    async with tcp_server(serve) as app, captured(app, protocol) as address:
        began_s = trio.current_time()
        async with await trio.open_tcp_stream(*address) as client:
            assert await client.receive_some() == b"220 ready"
        assert trio.current_time() - began_s < 1.0  # 0.2 of them detection's


@pytest.mark.parametrize("protocol", [Protocol.TLS, Protocol.AUTO])
async def test_an_apps_own_tls_is_the_apps(protocol: Protocol) -> None:
    context = Contexts(pki.identity("database")).server(("http/1.1",))

    async def serve(plain: trio.SocketStream) -> None:
        secure = trio.SSLStream(plain, context, server_side=True)
        await secure.send_all(await secure.receive_some())
        await secure.aclose()

    async with tcp_server(serve) as app, captured(app, protocol) as address:
        client: ssl.SSLContext = Contexts(pki.identity("frontend")).client(("http/1.1",))
        async with await trio.open_tcp_stream(*address) as plain:
            secure = trio.SSLStream(plain, client, server_hostname="database.example")
            await secure.send_all(b"hello")
            assert await secure.receive_some() == b"hello"
            certificate: Any = secure.getpeercert()
    assert dict(certificate["subjectAltName"])["URI"] == "spiffe://mesh.local/ns/shop/sa/database"
