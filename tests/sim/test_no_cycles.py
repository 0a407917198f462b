"""A request that breaks off is freed at once: no cycle keeps its buffers until the collector happens to come.

The collector comes when many objects were made. After a rush there is a calm, and what the rush left would stay.
"""

import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Timeouts, TrafficPolicy
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.sim.test_http2_windows import GET, NO_WINDOW, POST, SPEAKS_HTTP1, Client
from tests.support.http2 import PREFACE, data, rst, settings
from tests.support.mesh import MemoryMesh

HTTP2_CODECS = True  # each test runs with both

OURS = ("HandOver", "_Run", "Upload", "Http2Downstream", "MuxLease", "Http1Downstream", "Http1Lease", "H2Server",
        "LeanServer", "LeanClient", "LeanStream", "MuxLink", "UpstreamConnection", "H1Client", "H1Server",
        "_Connection", "_Tunnel", "RawLease", "FastPath", "Newcomer")  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
Play = Callable[[MemoryMesh], Awaitable[None]]


@asynccontextmanager
async def uncollected(found: Counter[str]) -> AsyncIterator[None]:
    """What of our own only the collector could free, of what was made inside."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(one).__name__ for one in gc.garbage if type(one).__name__ in OURS)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def begins(stream: MemoryStream) -> None:
    """Begins an answer and never ends it."""
    try:
        await stream.receive()
        await stream.send(HEAD + bytes(1000))
        while await stream.receive():
            pass
    except StreamBroken:
        pass
    finally:
        stream.close()


async def breaks(stream: MemoryStream) -> None:
    """Breaks off in the middle."""
    await stream.receive()
    await stream.send(HEAD + bytes(1000))
    stream.abort()


async def silent(stream: MemoryStream) -> None:
    """Takes everything and says nothing."""
    try:
        while await stream.receive():
            pass
    except StreamBroken:
        pass
    finally:
        stream.close()


async def closes(stream: MemoryStream) -> None:
    """Closes over the request."""
    await stream.receive()
    stream.close()


async def over_http1(mesh: MemoryMesh) -> None:
    """A client that waits for what comes, then leaves."""
    stream = mesh.network.dial("proxy:1")
    await stream.send(b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9000\r\n\r\nabc")
    await trio.sleep(5)
    stream.abort()


async def over_http2(mesh: MemoryMesh) -> None:
    """A stream that waits for what comes, then is reset; another whose window stays shut; one that is left."""
    client = Client(mesh)
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read)
            await client.stream.send(PREFACE + settings() + client.wire.headers(1, POST) + data(1, b"abc"))
            await trio.sleep(5)
            await client.stream.send(rst(1) + NO_WINDOW + client.wire.headers(3, GET, end=True))
            await trio.sleep(40)
            await client.stream.send(client.wire.headers(5, GET, end=True))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    client.stream.abort()


@pytest.mark.parametrize("app", [begins, breaks, silent, closes])
@pytest.mark.parametrize("play", [over_http1, over_http2])
async def test_nothing_of_it_waits_for_the_collector(
    play: Play, app: Callable[[MemoryStream], Awaitable[None]], autojump_clock: MockClock
) -> None:
    found: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.network.listen("a:8080", lambda stream: nursery.start_soon(app, stream))
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(request_s=10.0)), SPEAKS_HTTP1)
        await play(mesh)
        await trio.sleep(20)
        mesh.told.done.clear()
        async with uncollected(found):
            await play(mesh)
            await trio.sleep(20)
            mesh.told.done.clear()
        nursery.cancel_scope.cancel()
    assert found == Counter()
