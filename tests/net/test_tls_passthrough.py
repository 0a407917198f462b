"""A client's own TLS goes through unread: routed by its ServerName, ended by the backend and nobody else."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import PLAIN, Protocol, ServiceKey
from sidecar.model.routes import BackendRef, L4Rule, ParentRef, TlsRoute
from sidecar.model.snapshot import Resource
from sidecar.transport.tls import Contexts
from tests.support import pki, tunnels
from tests.support.tunnels import ORDERS, PORT, is_cut, mesh, tcp_server, told

GREEN, BLUE = ServiceKey("shop", "green"), ServiceKey("shop", "blue")


def spiffe_id(account: str) -> str:
    return f"spiffe://mesh.local/ns/shop/sa/{account}"


@asynccontextmanager
async def backend(account: str) -> AsyncIterator[HostPort]:
    """A server that does TLS itself, as `account`, and says who it is."""
    context = Contexts(pki.identity(account)).server(("http/1.1",))

    async def serve(plain: trio.SocketStream) -> None:
        secure = trio.SSLStream(plain, context, server_side=True)
        await secure.send_all(account.encode() + b": " + await secure.receive_some())
        await secure.aclose()

    async with tcp_server(serve) as address:
        yield address


def route(name: str, hostname: str, to: ServiceKey) -> Resource:
    rules = (L4Rule(backends=(BackendRef(to, PORT),)),)
    made = TlsRoute(namespace="shop", name=name, parents=(ParentRef(ORDERS, PORT),), hostnames=(hostname,), rules=rules)
    return Resource(f"TLSRoute/shop/{name}", 1, made)


@asynccontextmanager
async def two_backends(protocol: Protocol = Protocol.TLS) -> AsyncIterator[tunnels.Tunnels]:
    """`green.example` leads to one backend, every name below `blue.example` to another; the port itself nowhere."""
    async with AsyncExitStack() as stack:
        more = []
        for key, name in ((GREEN, "green.example"), (BLUE, "*.blue.example")):
            address = await stack.enter_async_context(backend(key.name))
            more += [
                tunnels.service(key, Protocol.TLS),
                tunnels.endpoints(key, [(address, PLAIN)]),
                route(key.name, name, key),
            ]
        yield await stack.enter_async_context(mesh("plain", protocol=protocol, more=more))


def uri(certificate: Any) -> str:
    """The identity in a certificate, as ssl gives it."""
    return dict(certificate["subjectAltName"])["URI"]  # type: ignore[no-any-return]


async def ask(stream: trio.SocketStream, name: str | None) -> tuple[bytes, str]:
    """What a TLS client that asks for `name` is told, and the identity in the certificate that it was shown."""
    context = Contexts(pki.identity("frontend")).client(("http/1.1",))
    secure = trio.SSLStream(stream, context, server_hostname=name)
    await secure.do_handshake()
    shown = uri(secure.getpeercert())
    await secure.send_all(b"who is it?")
    answer = bytes(await secure.receive_some())
    assert await secure.receive_some() == b""
    await secure.aclose()
    return answer, shown


@pytest.mark.parametrize("protocol", [Protocol.TLS, Protocol.AUTO])
@pytest.mark.parametrize(
    ("name", "account"),
    [("green.example", "green"), ("GREEN.example", "green"), ("a.blue.example", "blue"), ("a.b.blue.example", "blue")],
)
async def test_a_name_leads_to_its_backend_whose_certificate_the_client_sees(
    protocol: Protocol, name: str, account: str
) -> None:
    async with two_backends(protocol) as world:
        answer, shown = await ask(await world.dial(), name)
        assert answer == f"{account}: who is it?".encode()
        assert shown == spiffe_id(account)
        assert await told(world.calling) == ["-"]
        [done] = world.calling.told.done
        assert (done.protocol, done.route) == ("TCP", f"TLSRoute/shop/{account}/rule-0")
        assert str(done.cluster) == f"{account}.shop:{PORT}"


@pytest.mark.parametrize("name", ["red.example", "blue.example", "green.example.org", None])
async def test_another_name_leads_nowhere(name: str | None) -> None:
    async with two_backends() as world:
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
            await ask(await world.dial(), name)
        assert await told(world.calling) == ["NR"]
        assert world.calling.told.dials == []


async def test_what_is_no_tls_has_no_name() -> None:
    async with two_backends() as world:
        client = await world.dial()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: green.example\r\n\r\n")
        with trio.fail_after(5):
            assert await is_cut(client)
        assert await told(world.calling) == ["NR"]


async def test_a_hello_may_come_byte_by_byte() -> None:
    async with two_backends() as world:
        client = await world.dial()
        client.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        context = Contexts(pki.identity("frontend")).client(("http/1.1",))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="green.example")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        for byte in outgoing.read():
            await client.send_all(bytes((byte,)))
        incoming.write(await client.receive_some())  # the backend's answer
        tls.do_handshake()
        assert uri(tls.getpeercert()) == spiffe_id("green")


@pytest.mark.parametrize("way", ["plain", "mesh"])
async def test_without_a_route_the_port_leads_to_its_service(way: str) -> None:
    """Over the mesh too: the client's TLS inside the sidecars' own."""
    async with backend("green") as server, mesh(way, server, protocol=Protocol.TLS) as world:
        answer, shown = await ask(await world.dial(), "anything.example")
        assert (answer, shown) == (b"green: who is it?", spiffe_id("green"))
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
