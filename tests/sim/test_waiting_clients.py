"""What a client costs that waits between two requests: little, and nothing of the request before.

Clients wait by the thousand. What is kept for each is kept that often, and after a rush the allocator gives back whole
megabytes only, in which nothing is left.
"""

import gc
import tracemalloc
from collections import Counter

import h11
import trio
from trio.testing import MockClock

from tests.support.http2_peers import Http2Mesh
from tests.support.mesh import exchange

HTTP2_CODECS = True  # each test runs with both

CLIENTS = 50
BODY = b"x" * 60_000  # arrives in one read with its head
MOST_BYTES = 16_000  # of a client that waits, with both ends of its connection, which is in memory, and the test's own


def requests() -> Counter[str]:
    """Records and heads of requests that are alive."""
    return Counter(kind for each in gc.get_objects() if (kind := type(each).__name__) in ("HandOver", "RequestHead"))


async def test_a_client_that_waits_keeps_nothing_of_its_last_request(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a")
        mesh.configure(["a"])
        streams = []

        async def one() -> None:
            stream = mesh.network.dial("proxy:1")
            assert (await exchange(stream, h11.Connection(h11.CLIENT), "POST", body=BODY)).status == 200
            streams.append(stream)

        await one()
        gc.collect()
        before = requests()
        tracemalloc.start()
        try:
            for _ in range(CLIENTS):
                await one()
            await trio.sleep(1)
            app.calls.clear()
            for connection in app.connections:
                connection.messages.clear()
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert requests() <= before
        assert held / CLIENTS < MOST_BYTES
        nursery.cancel_scope.cancel()
