"""How connections of HTTP/2 end that nobody used for too long: with two GOAWAYs, and not under a request."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import ProcessLimits
from tests.sim.test_http2_windows import GET, SPEAKS_HTTP1, Client
from tests.support.http2 import PREFACE, ping, settings
from tests.support.mesh import MemoryMesh

HTTP2_CODECS = True  # each test runs with both

IDLE_S = 10.0


@pytest.mark.parametrize("crosses", [False, True])
async def test_a_request_that_crosses_the_end_of_an_idle_connection_is_answered(
    crosses: bool, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.worker.limits = replace(ProcessLimits(), idle_s=IDLE_S)
        mesh.app("a")
        mesh.configure(["a"], None, SPEAKS_HTTP1)
        client = Client(mesh)
        nursery.start_soon(client.read)
        await client.stream.send(PREFACE + settings() + client.wire.headers(1, GET, end=True))
        await trio.sleep(IDLE_S + 0.1)
        assert [frame.last for frame in client.seen if frame.name == "GoAway"] == [2**31 - 1]

        if crosses:
            await client.stream.send(client.wire.headers(3, GET, end=True))
        [asked] = [frame.body for frame in client.seen if frame.name == "Ping"]
        await client.stream.send(ping(asked, ack=True))
        await trio.sleep(0.1)
        assert client.names(3)[:2] == (["Headers", "Data"] if crosses else [])
        assert [frame.last for frame in client.seen if frame.name == "GoAway"][1:] == [3 if crosses else 1]
        client.stream.close()
        await trio.sleep(0.1)
        assert mesh.bugs == []
        nursery.cancel_scope.cancel()


async def test_a_client_that_never_answers_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.worker.limits = replace(ProcessLimits(), first_request_s=IDLE_S)
        mesh.configure([], None, SPEAKS_HTTP1)
        client = Client(mesh)
        with trio.fail_after(IDLE_S + 2.0):
            await client.read()
        assert [frame.last for frame in client.seen if frame.name == "GoAway"] == [2**31 - 1, 0]
        nursery.cancel_scope.cancel()
