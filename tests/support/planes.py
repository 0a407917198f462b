"""Data planes on real sockets, in the test's own process: sidecars on loopback with port 0, and raw apps to call."""

import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio

from sidecar.app.data_plane import DataPlane, bind_all
from sidecar.model.bootstrap import (
    Bootstrap,
    HostPort,
    InboundConfig,
    InboundPort,
    MtlsMode,
    NodeInfo,
    OutboundConfig,
    ProcessLimits,
    TracingConfig,
    Upstream,
)
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.transport.identity import Identity
from sidecar.transport.tls import Contexts
from tests.support.mesh import Told

SHOP = "shop"
ANY = HostPort("127.0.0.1", 0)


@dataclass
class RawApp:
    """A TCP server that records every byte and answers as it is told."""

    address: HostPort
    received: bytearray = field(default_factory=bytearray)
    connections: int = 0


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answerer = Callable[[trio.SocketStream, bytes], Awaitable[None]]


async def answer_heads(stream: trio.SocketStream, data: bytes) -> None:
    """One small 200 for each end of head seen."""
    for _ in range(data.count(b"\r\n\r\n")):
        await stream.send_all(ANSWER)


@asynccontextmanager
async def raw_app(answerer: Answerer = answer_heads) -> AsyncIterator[RawApp]:
    """A recorder on a free port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    name = listeners[0].socket.getsockname()
    app = RawApp(HostPort(*name[:2]))

    async def serve(stream: trio.SocketStream) -> None:
        app.connections += 1
        try:
            async for data in stream:
                app.received += data
                await answerer(stream, bytes(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield app
        nursery.cancel_scope.cancel()


@dataclass
class Plane:
    """A running data plane and where it listens."""

    plane: DataPlane
    told: Told
    addresses: list[tuple[str, int]]


def outbound_bootstrap(
    service: str, upstreams: dict[ServiceKey, int], limits: ProcessLimits | None = None
) -> Bootstrap:
    """A caller's sidecar with one listener for each upstream."""
    return Bootstrap(
        node=NodeInfo(service=service, namespace=SHOP, id=f"{service}-1", account=service),
        outbound=OutboundConfig(
            listen=(), upstreams=tuple(Upstream(service=key, port=port, listen=ANY) for key, port in upstreams.items())
        ),
        limits=limits or ProcessLimits(),
        tracing=TracingConfig(collector=ANY, sample=1.0),
    )


def inbound_bootstrap(service: str, app: HostPort, port: int = 8080, mtls: MtlsMode = MtlsMode.STRICT) -> Bootstrap:
    """A called service's sidecar."""
    return Bootstrap(
        node=NodeInfo(service=service, namespace=SHOP, id=f"{service}-1", account=service),
        inbound=InboundConfig(listen=(ANY,), mtls=mtls, ports=(InboundPort(port=port, app=app),)),
        outbound=OutboundConfig(listen=()),
    )


@asynccontextmanager
async def running(
    bootstrap: Bootstrap,
    snapshot: Snapshot,
    identity: Identity | None = None,
    seed: int = 1,
    *,
    sends_bytes: int = 0,
) -> AsyncIterator[Plane]:
    """Run a data plane; ends with its connections.

    Args:
        sends_bytes: How much the kernel may hold for a slow client; 0: as usual, which is megabytes.
    """
    told = Told()
    bugs: list[BaseException] = []
    plane = DataPlane(bootstrap, told, Random(seed), None, bugs.append)
    plane.switch(snapshot)
    if identity is not None:
        plane.identify(Contexts(identity))
    bound = bind_all(bootstrap)
    for one in bound if sends_bytes else ():
        one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sends_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run, bound)
        yield Plane(plane, told, [one.sock.getsockname()[:2] for one in bound])
        nursery.cancel_scope.cancel()
    assert bugs == [], "".join("".join(traceback.format_exception(bug)) for bug in bugs)


async def ask(address: tuple[str, int], data: bytes, timeout_s: float = 5.0) -> tuple[bytes, bool]:
    """Send bytes on a new connection and read until the peer closes or falls silent; True when it closed."""
    stream = await trio.open_tcp_stream(*address)
    got = bytearray()
    closed = False
    async with stream:
        await stream.send_all(data)
        with trio.move_on_after(timeout_s):
            try:
                while chunk := await stream.receive_some():
                    got += chunk
                    if _whole(got):
                        with trio.move_on_after(0.05):
                            closed = not await stream.receive_some()
                        break
                else:
                    closed = True
            except trio.BrokenResourceError:
                closed = True
    return bytes(got), closed


def _whole(got: bytearray) -> bool:
    head, end, body = bytes(got).partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return True
