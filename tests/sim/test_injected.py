"""Faults that a policy asks for, through the whole proxy on virtual time: below retries and ejection, and marked."""

import trio
from trio.testing import MockClock

from sidecar.model.clusters import ServiceKey
from sidecar.model.faults import InjectedFault
from sidecar.model.policies import Ejection, Retries, Timeouts, TrafficPolicy
from tests.support.mesh import MemoryMesh


async def _asked(mesh: MemoryMesh, count: int, method: str = "GET") -> list[tuple[int, str, int]]:
    """Status, flags and tries of so many requests."""
    for _ in range(count):
        await mesh.request(method)
    return [(done.status, done.flags, done.attempts) for done in mesh.told.done[-count:]]


async def test_the_first_try_fails_and_the_second_reaches_the_app(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        once = (InjectedFault(status=503, tries=1),)
        mesh.configure(["a"], TrafficPolicy(faults=once, ejection=Ejection(max_percent=0)))
        assert await _asked(mesh, 5) == [(200, "-", 2)] * 5
        assert len(app.seen) == 5
        assert await _asked(mesh, 1, "POST") == [(503, "FI", 1)]  # it might have been taken
        assert len(app.seen) == 5
        nursery.cancel_scope.cancel()


async def test_who_is_answered_so_is_told_that_it_was_on_purpose(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"], TrafficPolicy(faults=(InjectedFault(status=404),)))
        answer = await mesh.request()
        assert (answer.status, answer.fields["x-mesh-flags"]) == (404, "FI")
        assert answer.body.endswith(b"(meshctl explain flag FI)\n")
        assert not app.seen
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_injected_failures_count_against_the_endpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        for name in ("a", "b"):
            mesh.app(name)
        policy = TrafficPolicy(faults=(InjectedFault(reset=True),), retries=Retries(attempts=0))
        mesh.configure(["a", "b"], policy)
        assert await _asked(mesh, 12) == [(503, "URX,UR,FI", 1)] * 12
        assert mesh.told.ejections
        nursery.cancel_scope.cancel()


async def test_a_delay_makes_it_late_and_nothing_else(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a"], TrafficPolicy(faults=(InjectedFault(delay_s=0.5),)))
        begun_s = trio.current_time()
        assert await _asked(mesh, 1) == [(200, "DI", 1)]
        assert trio.current_time() - begun_s == 0.5
        nursery.cancel_scope.cancel()


async def test_a_delay_beyond_a_try_is_a_slow_endpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        policy = TrafficPolicy(
            faults=(InjectedFault(delay_s=3.0),),
            timeouts=Timeouts(request_s=5.0, per_try_s=1.0),
            retries=Retries(attempts=1),
            ejection=Ejection(max_percent=0),
        )
        mesh.configure(["a"], policy)
        [(status, flags, tries)] = await _asked(mesh, 1)
        assert (status, tries) == (504, 2)
        assert flags == "UT,DI"
        assert not app.seen
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_other_callers_are_left_alone(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        elsewhere = InjectedFault(status=503, callers=frozenset({ServiceKey("shop", "nobody")}))
        mesh.configure(["a"], TrafficPolicy(faults=(elsewhere,)))
        assert await _asked(mesh, 3) == [(200, "-", 1)] * 3
        nursery.cancel_scope.cancel()
