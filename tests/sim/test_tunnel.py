"""Tunnels on virtual time: what may take long, what may not, and what observers hear of a connection that stays."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.clusters import EndpointSet, Protocol, Service, ServicePort
from sidecar.model.policies import TargetRef, Timeouts, TrafficPolicy, TrafficPolicyResource
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.proxy import entry
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import ORDERS, PORT, MemoryMesh, Told

Serve = Callable[[MemoryStream], Awaitable[None]]


@asynccontextmanager
async def mesh(
    serve: Serve, protocol: Protocol = Protocol.TCP, policy: TrafficPolicy | None = None
) -> AsyncIterator[MemoryMesh]:
    """A sidecar with a listener `tcp:1` for `orders`, which is one server."""
    async with trio.open_nursery() as nursery:
        made = MemoryMesh(nursery)

        async def relay(stream: MemoryStream) -> None:
            with made.worker.client("tcp"):
                await (await entry.outbound(stream, made.worker, "tcp", (ORDERS, PORT)))

        made.network.listen("tcp:1", lambda stream: nursery.start_soon(relay, stream))
        made.network.listen(f"a:{PORT}", lambda stream: nursery.start_soon(serve, stream))
        resources = [
            Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(PORT, protocol),))),
            Resource("Endpoints/shop/orders", 1, EndpointSet(ORDERS, (made.endpoint("a"),))),
        ]
        if policy is not None:
            body = TrafficPolicyResource(
                namespace="shop", name="orders", targets=(TargetRef("Service", "orders"),), policy=policy
            )
            resources.append(Resource("TrafficPolicy/shop/orders", 1, body))
        made.worker.switch(Snapshot(complete=True).changed(resources, version=1))
        yield made
        nursery.cancel_scope.cancel()
    assert made.bugs == []


async def everything(stream: MemoryStream) -> int:
    """How many bytes come until the end."""
    size = 0
    while data := await stream.receive():
        size += len(data)
    return size


MEGABYTE = 1_000_000


async def test_a_client_may_rest_for_minutes(autojump_clock: MockClock) -> None:
    """A cursor that is read row by row is no slow attacker: only the idle time of tunnels ends it."""

    async def serve(stream: MemoryStream) -> None:
        await stream.send(bytes(MEGABYTE))
        await stream.flush()
        stream.send_eof()
        await everything(stream)
        stream.close()

    async with mesh(serve) as made:
        client = made.network.dial("tcp:1")
        await trio.sleep(600)
        assert await everything(client) == MEGABYTE
        client.send_eof()
        await trio.sleep(1)
        assert [done.flags for done in made.told.done] == ["-"]


async def test_a_server_may_rest_for_minutes(autojump_clock: MockClock) -> None:
    got: list[int] = []

    async def serve(stream: MemoryStream) -> None:
        await trio.sleep(600)
        got.append(await everything(stream))
        stream.close()

    async with mesh(serve) as made:
        client = made.network.dial("tcp:1")
        await client.send(bytes(MEGABYTE))
        await client.flush()
        client.send_eof()
        await everything(client)
        await trio.sleep(1)
        assert [done.flags for done in made.told.done] == ["-"]
    assert got == [MEGABYTE]


async def test_rest_does_end_in_the_end(autojump_clock: MockClock) -> None:
    """Both directions are stuck: nothing moves, whatever waits to be written."""

    async def serve(stream: MemoryStream) -> None:
        stream.write(bytes(MEGABYTE))
        with pytest.raises(StreamBroken):
            await stream.flush()

    policy = TrafficPolicy(timeouts=Timeouts(tunnel_idle_s=900))
    async with mesh(serve, policy=policy) as made:
        client = made.network.dial("tcp:1")
        client.write(bytes(MEGABYTE))
        await trio.sleep(899)
        assert made.told.done == []
        await trio.sleep(2)
        assert [done.flags for done in made.told.done] == ["SI"]
        with pytest.raises(StreamBroken):
            await everything(client)


async def test_one_direction_in_use_keeps_the_other(autojump_clock: MockClock) -> None:
    async def serve(stream: MemoryStream) -> None:
        for _ in range(5):
            await trio.sleep(60)
            await stream.send(b"tick")
        stream.close()

    policy = TrafficPolicy(timeouts=Timeouts(tunnel_idle_s=90))
    async with mesh(serve, policy=policy) as made:
        client = made.network.dial("tcp:1")
        assert await everything(client) == 20


class Moving(Told):
    """Keeps what was told of bytes under way."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[tuple[float, int, int]] = []

    def tcp_progress(self, done: RequestDone, received_bytes: int, sent_bytes: int) -> None:
        self.moved.append((done.ended_s - done.started_s, received_bytes, sent_bytes))


async def test_a_connection_that_stays_is_told_of_every_fifteen_seconds(autojump_clock: MockClock) -> None:
    async def serve(stream: MemoryStream) -> None:
        await stream.send(b"hello")
        await trio.sleep(20)
        await stream.send(b"again")
        await everything(stream)
        stream.close()

    async with mesh(serve) as made:
        told = made.worker.observer = Moving()
        client = made.network.dial("tcp:1")
        await client.send(b"hi")
        await trio.sleep(40)
        client.send_eof()
        await everything(client)
        await trio.sleep(1)

        assert told.tcp == ["source"]
        assert [(round(at_s), *sizes) for at_s, *sizes in told.moved] == [(15, 2, 5), (30, 0, 5)]
        [done] = told.done
        assert (done.bytes_received, done.bytes_sent, done.tcp_told) == (2, 10, (2, 10))


@pytest.mark.parametrize("speaks_after_s", [0.0, 0.19, 5.0])
async def test_a_greeting_comes_as_soon_as_detection_gives_up(autojump_clock: MockClock, speaks_after_s: float) -> None:
    async def serve(stream: MemoryStream) -> None:
        await stream.send(b"220 ready")
        await everything(stream)
        stream.close()

    async with mesh(serve, Protocol.AUTO) as made:
        client = made.network.dial("tcp:1")
        began_s = trio.current_time()
        if speaks_after_s < 0.2:
            await trio.sleep(speaks_after_s)
            await client.send(b"\x00binary")
        assert await client.receive() == b"220 ready"
        assert trio.current_time() - began_s <= 0.201
        client.abort()


async def test_a_reset_is_seen_behind_bytes_that_nobody_takes(autojump_clock: MockClock) -> None:
    reset_s: list[float] = []

    async def serve(stream: MemoryStream) -> None:
        stream.watch_hangup(lambda: reset_s.append(trio.current_time()))
        await trio.sleep_forever()

    async with mesh(serve) as made:
        client = made.network.dial("tcp:1")
        client.write(bytes(MEGABYTE))
        await trio.sleep(60)
        client.abort()
        began_s = trio.current_time()
        await trio.sleep(1)
        assert [done.flags for done in made.told.done] == ["DC"]
        assert reset_s[0] - began_s < 0.1
