"""A connection that the fast path dials itself: what clients and observers hear is the same as on the full path."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
import trio

from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import Protocol
from sidecar.model.policies import Limits, Timeouts, TrafficPolicy
from tests.support import tunnels
from tests.support.planes import answer_heads, ask, raw_app
from tests.support.tunnels import Tunnels, mesh

GET = b"GET /x HTTP/1.1\r\nHost: orders.shop\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 2\r\n\r\nhi"
PATIENCE_S = 5.0


@dataclass
class Outcome:
    """What is to be the same on both paths."""

    statuses: list[bytes]
    told: list[tuple[int, str, int]]
    dials: list[str]


@contextmanager
def refusing() -> Iterator[HostPort]:
    """An address at which nobody listens, and nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield HostPort(*bound.getsockname())


@contextmanager
def full_listener() -> Iterator[socket.socket]:
    """A listener whose queue is full: the kernel drops what asks for a connection."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (one, other):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener


@contextmanager
def deaf() -> Iterator[HostPort]:
    """The address of one."""
    with full_listener() as listener:
        yield HostPort(*listener.getsockname())


@asynccontextmanager
async def world(fast: bool, *servers: HostPort, policy: TrafficPolicy | None = None) -> AsyncIterator[Tunnels]:
    async with mesh("plain", *servers, protocol=Protocol.HTTP, policy=policy) as made:
        made.calling.plane.worker.fast_path = fast
        yield made
        worker = made.calling.plane.worker
        with trio.fail_after(PATIENCE_S):
            while any(worker.pool.in_use(key) for key in list(worker.pool._uses)):  # noqa: ASYNC110
                await trio.sleep(0.01)


async def outcome(made: Tunnels, count: int) -> Outcome:
    told = made.calling.told
    with trio.fail_after(PATIENCE_S):
        while len(told.done) < count:  # noqa: ASYNC110 - observers wake nobody
            await trio.sleep(0.01)
    return Outcome([], [(done.status, done.flags, done.attempts) for done in told.done], told.dials)


async def both(play: Callable[[bool], Awaitable[Outcome]]) -> Outcome:
    """The outcome of both paths, which is the same."""
    fast, full = await play(True), await play(False)
    assert fast == full
    return fast


async def test_the_first_request_dials_and_stays_on_the_fast_path() -> None:
    async with raw_app() as app, world(True, app.address) as made:
        got, _ = await ask(made.calling.addresses[1], POST)
        assert got.startswith(b"HTTP/1.1 200")
        assert made.calling.plane.fast_requests() == 1
        assert made.calling.told.dials == ["orders.shop:8080 ok"]
        got, _ = await ask(made.calling.addresses[1], GET)
        assert made.calling.plane.fast_requests() == 1
        assert app.connections == 1


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
async def test_who_refuses_is_told_and_another_endpoint_is_asked(request_bytes: bytes) -> None:
    async def play(fast: bool) -> Outcome:
        async with raw_app() as app:
            with refusing() as gone:
                async with world(fast, gone, app.address) as made:
                    answers = [await ask(made.calling.addresses[1], request_bytes) for _ in range(6)]
                    found = await outcome(made, 6)
                    statuses = [got[9:12] for got, _ in answers]
                    # Which endpoint a request meets first is drawn.
                    return Outcome(statuses, sorted(set(found.told)), sorted(set(found.dials)))

    got = await both(play)
    assert got.statuses == [b"200"] * 6
    assert (200, "-", 2) in got.told
    assert got.dials == ["orders.shop:8080 UF", "orders.shop:8080 ok"]


async def test_nobody_there() -> None:
    async def play(fast: bool) -> Outcome:
        with refusing() as gone:
            async with world(fast, gone) as made:
                answer, _ = await ask(made.calling.addresses[1], GET)
                found = await outcome(made, 1)
                found.statuses = [answer[9:12]]
                return found

    got = await both(play)
    assert got.statuses == [b"503"]


@pytest.mark.parametrize("timeouts", [Timeouts(connect_s=0.05), Timeouts(per_try_s=0.05), Timeouts(request_s=0.05)])
async def test_who_does_not_accept_in_time(timeouts: Timeouts) -> None:
    async def play(fast: bool) -> Outcome:
        with deaf() as address:
            async with world(fast, address, policy=TrafficPolicy(timeouts=timeouts)) as made:
                answer, _ = await ask(made.calling.addresses[1], POST)
                found = await outcome(made, 1)
                found.statuses = [answer[9:12]]
                return found

    got = await both(play)
    assert got.statuses in ([b"503"], [b"504"])


async def accept_later(listener: socket.socket) -> None:
    await trio.sleep(0.1)
    sock = trio.socket.from_stdlib_socket(listener.dup())
    await trio.serve_listeners(answer_each, [trio.SocketListener(sock)])


async def answer_each(stream: trio.SocketStream) -> None:
    async for data in stream:
        await answer_heads(stream, bytes(data))


async def test_who_accepts_late_is_asked() -> None:
    """The kernel asks again after a second; until then there is room."""

    async def play(fast: bool) -> Outcome:
        with full_listener() as listener:
            address = HostPort(*listener.getsockname())
            async with world(fast, address, policy=TrafficPolicy(timeouts=Timeouts(connect_s=4.0))) as made:
                with trio.fail_after(PATIENCE_S):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(accept_later, listener)
                        answer, _ = await ask(made.calling.addresses[1], POST)
                        nursery.cancel_scope.cancel()
                assert made.calling.plane.fast_requests() == fast
                found = await outcome(made, 1)
                found.statuses = [answer[9:12]]
                return found

    got = await both(play)
    assert got.statuses == [b"200"]


async def test_a_client_that_leaves_meanwhile() -> None:
    async def play(fast: bool) -> Outcome:
        with deaf() as address:
            async with world(fast, address, policy=TrafficPolicy(timeouts=Timeouts(connect_s=30.0))) as made:
                client = await made.connect(made.calling.addresses[1])
                await client.send_all(POST)
                await trio.sleep(0.05)
                tunnels.reset(client)
                return await outcome(made, 1)

    got = await both(play)
    assert [flags for _, flags, _ in got.told] == ["DC"]


async def test_who_waits_for_a_place_gets_the_one_of_a_dial_that_failed() -> None:
    async def play(fast: bool) -> Outcome:
        policy = TrafficPolicy(timeouts=Timeouts(connect_s=0.05), limits=Limits(connections=1, pending=5))
        with deaf() as address:
            async with world(fast, address, policy=policy) as made:
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(ask, made.calling.addresses[1], POST)
                return await outcome(made, 3)

    got = await both(play)
    assert len(got.told) == 3


async def test_the_end_of_the_process_while_it_is_dialled() -> None:
    with deaf() as address:
        async with mesh("plain", address, protocol=Protocol.HTTP) as made:
            client = await made.connect(made.calling.addresses[1])
            await client.send_all(POST)
            await trio.sleep(0.05)
