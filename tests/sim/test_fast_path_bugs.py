"""Where the fast path once differed from the full one, or left work to it that it could do."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sidecar.model.bootstrap import ProcessLimits
from sidecar.proxy.fast_path import FastPath
from sidecar.proxy.fast_state import Left
from sidecar.proxy.outbound import Outbound
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.memory import MemoryStream
from tests.sim.test_fast_path import CHUNKED, answer, get
from tests.sim.test_fast_path_faults import TRY, both
from tests.support.mesh import MemoryMesh
from tests.support.two_paths import OK, Then, World, alike, play


@pytest.mark.parametrize("chunks", [b"hello\r\n", b"1\r\na\r\nxyz\r\n"], ids=["at once", "behind good ones"])
async def test_bad_chunks_that_come_with_the_head_fail_the_try(chunks: bytes, autojump_clock: MockClock) -> None:
    """Nothing of the answer was sent: the full path asks again, and so must a client of the fast path get an answer."""

    async def ask(world: World) -> None:
        client = world.client()
        await client.send(get())
        await client.answer()
        await client.leave()

    alike(*await both(scenario=ask, scripts=((answer(CHUNKED, body=chunks),), (OK,))))


async def test_a_connection_that_was_idle_is_counted_as_idle(autojump_clock: MockClock) -> None:
    """Its first request was long ago: `firstRequest` in the counter sends operators to the wrong setting."""

    def set_up(mesh: MemoryMesh) -> None:
        mesh.worker.limits = ProcessLimits(idle_s=30.0, first_request_s=60.0)

    async def ask(world: World) -> None:
        client = world.client()
        await client.send(get())
        await client.answer()
        await trio.sleep(40)
        await client.leave()

    fast, full = await both(scenario=ask, set_up=set_up)
    assert full.limits == ["idle"]
    assert fast.limits == ["idle"]


async def test_a_bug_in_an_observer_leaks_nothing(autojump_clock: MockClock) -> None:
    """It ends that connection, as on the full path (test_connection.py), and the request is not in flight any more."""

    def bug(done: RequestDone) -> None:
        raise RuntimeError(f"a bug at {done.target!r}")

    async def ask(world: World) -> None:
        told, client = world.mesh.told, world.client()
        told.request_done = bug  # type: ignore[method-assign]
        await client.send(get())
        await client.answer()
        del told.request_done
        await client.leave()

    await play(ask, fast=True, bugs=True)


async def test_a_kept_connection_is_used_without_a_task_after_a_pause(autojump_clock: MockClock) -> None:
    """The pool's sweep forgets a cluster that is not in use at that moment, and with it that connections are kept."""

    async def ask(world: World) -> None:
        client = world.client()
        for _ in range(5):
            await trio.sleep(1.5)
            await client.send(get())
            assert (await client.answer()).complete
        await client.leave()

    outcome = await play(ask, fast=True)
    assert outcome.full == {}
    assert outcome.fast == 5


async def test_a_bug_in_a_turn_of_the_timer_ends_its_connection(autojump_clock: MockClock) -> None:
    """As one in a turn of the reactor does; else the request stays under way until somebody leaves."""

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    async def ask(world: World) -> None:
        client = world.client()
        world.mesh.worker.pool.lease_of = bug  # type: ignore[assignment,method-assign]
        await client.send(get())
        with trio.move_on_after(60):
            await client.answer()
        assert [str(each) for each in world.mesh.bugs] == ["a bug"]
        assert client.end == "reset"
        await client.leave()

    await play(ask, fast=True, scripts=((Then.HANG,),), policy=TRY, bugs=True)


async def test_what_comes_after_it_left_is_not_read_by_it(autojump_clock: MockClock) -> None:
    """Over TLS a head comes in pieces of 16 KiB, all in one turn: those behind the first were lost, limits and all."""
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        accepted: list[MemoryStream] = []
        mesh.network.listen("lane:1", accepted.append)
        client = mesh.network.dial("lane:1")
        stream = accepted[0]
        fast = FastPath(stream, Outbound(mesh.worker), mesh.worker, math.inf)
        left: list[Left] = []

        async def serve() -> None:
            left.append(await fast.serve(b"", 60.0))

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        client.write(b"GET / HT")
        client.write(b"TP/1.1")
        stream.on_turn()
        stream.on_turn()
        await wait_all_tasks_blocked()

        assert left[0].data == b"GET / HT"
        assert stream.try_read() == b"TP/1.1"
        nursery.cancel_scope.cancel()
