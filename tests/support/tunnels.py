"""Worlds for what is carried unread: TCP servers with a script, and sidecars in front of them.

`mesh` is one sidecar (`plain`) or a mutual TLS pair for each server (`mesh`), on loopback in the test's own process.
"""

import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from sidecar.model.bootstrap import Bootstrap, HostPort, InboundPort, MtlsMode, OutboundConfig, ProcessLimits
from sidecar.model.clusters import PLAIN, Endpoint, EndpointSet, Hop, Mesh, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.policies import TargetRef, TrafficPolicy, TrafficPolicyResource
from sidecar.model.snapshot import Resource, Snapshot
from tests.support import pki
from tests.support.planes import ANY, Plane, inbound_bootstrap, outbound_bootstrap, running

ORDERS = ServiceKey("shop", "orders")
ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/orders"
PORT = 8080
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero time: close() sends RST
BLOCK = os.urandom(1 << 20)
LIMIT_S = 20.0
SERVED_S = 1.0  # after the end of a test

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@dataclass
class Tunnels:
    """A caller's sidecar, and beside each server one of its own if the way is `mesh`."""

    calling: Plane
    called: list[Plane]
    clients: ExitStack

    async def dial(self, receives_bytes: int = 0) -> trio.SocketStream:
        """A connection of the app to the listener for `orders`; closed with the world.

        Args:
            receives_bytes: How much its kernel may take ahead of it; 0: as usual, which is megabytes.
        """
        return await self.connect(self.calling.addresses[1], receives_bytes)

    async def dial_proxy(self) -> trio.SocketStream:
        """A connection of the app to the explicit proxy; closed with the world."""
        return await self.connect(self.calling.addresses[0])

    async def connect(self, address: tuple[str, int], receives_bytes: int = 0) -> trio.SocketStream:
        """A connection to any address; closed with the world."""
        made = trio.socket.socket()
        self.clients.callback(made.close)
        if receives_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
        await made.connect(address)
        return trio.SocketStream(made)


def endpoints(service: ServiceKey, addresses: Sequence[tuple[HostPort, Hop]]) -> Resource:
    """The endpoints of a service's only port: `NAME-1` and so on."""
    made = tuple(
        Endpoint(id=f"{service.name}-{index}", service_port=PORT, host=host, port=port, hop=hop)
        for index, ((host, port), hop) in enumerate(addresses, 1)
    )
    return Resource(f"Endpoints/shop/{service.name}", 1, EndpointSet(service, made))


def service(key: ServiceKey, protocol: Protocol) -> Resource:
    """A service with one port."""
    return Resource(f"Service/shop/{key.name}", 1, Service(key, (ServicePort(PORT, protocol),)))


def inbound(app: HostPort, protocol: Protocol, mtls: MtlsMode = MtlsMode.STRICT) -> Bootstrap:
    """A called service's sidecar that knows what its port speaks."""
    made = inbound_bootstrap("orders", app, mtls=mtls)
    assert made.inbound is not None
    return replace(made, inbound=replace(made.inbound, ports=(InboundPort(port=PORT, protocol=protocol, app=app),)))


@asynccontextmanager
async def mesh(
    way: str,
    *servers: HostPort,
    protocol: Protocol = Protocol.TCP,
    declared: Protocol | None = None,
    policy: TrafficPolicy | None = None,
    access: Snapshot | None = None,
    limits: ProcessLimits | None = None,
    called_limits: ProcessLimits | None = None,
    more: Sequence[Resource] = (),
    name: str = f"{PORT}.orders.shop.mesh",
    sends_bytes: int = 0,
) -> AsyncIterator[Tunnels]:
    """Sidecars in front of the servers. The caller's has two listeners: one for `orders`, and the explicit proxy.

    Args:
        declared: What the called side's port declares, where that is something else than `protocol`.
        name: The ServerName that the caller's side asks for.
        sends_bytes: See `planes.running`, of the caller's sidecar.
    """
    async with AsyncExitStack() as stack:
        called: list[Plane] = []
        addresses: list[tuple[HostPort, Hop]] = []
        for server in servers:
            address: HostPort = server
            hop: Hop = PLAIN
            if way == "mesh":
                bootstrap = replace(inbound(server, declared or protocol), limits=called_limits or ProcessLimits())
                plane = await stack.enter_async_context(
                    running(bootstrap, access or Snapshot(complete=True), pki.identity("orders"))
                )
                called.append(plane)
                address = HostPort(*plane.addresses[0])
                hop = Mesh(name, frozenset({ORDERS_ID}), ("h2", "http/1.1"))
            addresses.append((address, hop))
        resources = [service(ORDERS, protocol), endpoints(ORDERS, addresses)]
        if policy is not None:
            target = (TargetRef("Service", "orders"),)
            body = TrafficPolicyResource(namespace="shop", name="orders", targets=target, policy=policy)
            resources.append(Resource("TrafficPolicy/shop/orders", 1, body))
        snapshot = Snapshot(complete=True).changed([*resources, *more], version=1)
        outbound = outbound_bootstrap("frontend", {ORDERS: PORT}, limits)
        upstreams = outbound.outbound.upstreams
        outbound = replace(outbound, outbound=OutboundConfig(listen=(ANY,), upstreams=upstreams))
        calling = await stack.enter_async_context(
            running(outbound, snapshot, pki.identity("frontend"), sends_bytes=sends_bytes)
        )
        with ExitStack() as clients:
            yield Tunnels(calling, called, clients)


@asynccontextmanager
async def tcp_server(serve: Serve) -> AsyncIterator[HostPort]:
    """A server that runs `serve` for each connection and closes it afterwards; broken connections are no bugs.

    What it serves when the block ends may come to its end: the proxies between are gone or have told theirs.
    """
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def one(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as connections, trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, one, listeners, handler_nursery=connections))
        yield HostPort(*listeners[0].socket.getsockname()[:2])
        nursery.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + SERVED_S


@asynccontextmanager
async def nobody() -> AsyncIterator[HostPort]:
    """An address that refuses connections, and that nobody else is given meanwhile."""
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))
        yield HostPort(*bound.getsockname())


async def echo(stream: trio.SocketStream) -> None:
    """Send back everything, and the end."""
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def send(stream: trio.SocketStream, size: int) -> str:
    """Send `size` random bytes and the end; their hash."""
    digest = hashlib.sha256()
    while size:
        piece = BLOCK[: min(size, len(BLOCK))]
        size -= len(piece)
        digest.update(piece)
        await stream.send_all(piece)
    await stream.send_eof()
    return digest.hexdigest()


async def receive(stream: trio.SocketStream) -> str:
    """The hash of everything until the end."""
    digest = hashlib.sha256()
    async for data in stream:
        digest.update(data)
    return digest.hexdigest()


async def everything(stream: trio.SocketStream) -> bytes:
    """All bytes until the end."""
    return b"".join([bytes(data) async for data in stream])


def reset(stream: trio.SocketStream) -> None:
    """End the connection with a RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.socket.close()


async def is_cut(stream: trio.SocketStream) -> bool:
    """Whether it ends in a reset, without an orderly end and without a byte."""
    try:
        data = await stream.receive_some()
    except trio.BrokenResourceError:
        return True
    assert data == b"", data
    return False


async def told(plane: Plane, count: int = 1) -> list[str]:
    """The flags of everything that the sidecar told of, once it has of `count`: after its client saw the end."""
    with trio.fail_after(5):
        while len(plane.told.done) < count:  # noqa: ASYNC110 - what observers are told wakes nobody
            await trio.sleep(0.005)
    return [done.flags for done in plane.told.done]
