"""What a policy answers in the place of a failure, and when it does not; virtual time."""

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.model.fallback import Fallback
from sidecar.model.policies import (
    Ejection,
    Retries,
    TargetRef,
    Timeouts,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteRule
from sidecar.model.snapshot import Resource
from tests.support.mesh import ORDERS, PORT, SHOP, AppConnection, Behaviour, MemoryMesh, exchange

NOTHING = Fallback(body="[]")


async def busy(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(503, b"busy " * 10_000)


async def broken(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(500, b"bug")


async def reset(app: AppConnection, request: h11.Request, body: bytes) -> None:
    app.stream.abort()


async def silent(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await trio.sleep(3600)


@pytest.mark.parametrize(
    ("behave", "flags", "tries"),
    [(busy, "URX,FB", 3), (reset, "URX,UR,FB", 3), (silent, "UT,FB", 1), (None, "URX,UF,FB", 3)],
    ids=["answers 503", "resets", "says nothing", "is not there"],
)
async def test_a_failure_that_is_left_after_all_tries_is_answered(
    behave: Behaviour | None, flags: str, tries: int, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        if behave is not None:
            mesh.app("a", behave)
        policy = TrafficPolicy(fallback=NOTHING, timeouts=Timeouts(request_s=2.0), ejection=Ejection(max_percent=0))
        mesh.configure(["a"], policy)
        for _ in range(3):
            answer = await mesh.request()
            assert (answer.status, answer.body, answer.complete) == (200, b"[]", True)
            assert answer.fields["content-type"] == "application/json"
            assert answer.fields["x-mesh-flags"] == "FB"
            done = mesh.told.done[-1]
            assert (done.status, done.flags, done.attempts) == (200, flags, tries)
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_failure_that_it_does_not_name_goes_to_the_client(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", broken)
        mesh.configure(["a"], TrafficPolicy(fallback=NOTHING))
        answer = await mesh.request()
        assert (answer.status, answer.body) == (500, b"bug")
        mesh.configure(["a"], TrafficPolicy(fallback=Fallback(statuses=frozenset({500}), status=404, body="gone")))
        answer = await mesh.request()
        assert (answer.status, answer.body) == (404, b"gone")
        nursery.cancel_scope.cancel()


async def test_no_endpoint_and_too_many_requests_are_failures_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.configure([], TrafficPolicy(fallback=NOTHING))
        assert (await mesh.request()).status == 200
        assert mesh.told.done[-1].flags == "UH,FB"
        nursery.cancel_scope.cancel()


async def test_a_connection_is_kept_after_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a", busy)
        mesh.configure(["a"], TrafficPolicy(fallback=NOTHING, retries=Retries(attempts=0)))
        stream, http = mesh.network.dial("proxy:1"), h11.Connection(h11.CLIENT)
        for _ in range(4):
            assert (await exchange(stream, http)).body == b"[]"
            http.start_next_cycle()
        assert len(app.seen) == 4
        nursery.cancel_scope.cancel()


async def not_found(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(404, b"who?")


async def test_a_status_that_is_no_failure_to_others_is_answered_on_both_paths(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", not_found)
        mesh.configure(["a"], TrafficPolicy(fallback=Fallback(statuses=frozenset({404}), body="[]")))
        for fast in (True, False):
            mesh.worker.fast_path = fast
            assert (await mesh.request()).body == b"[]"
        nursery.cancel_scope.cancel()


async def test_a_policy_of_a_route_has_a_fallback_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", busy)
        rule = RouteRule(backends=(BackendRef(ORDERS, PORT),))
        route = HttpRoute(namespace=SHOP, name="orders", parents=(ParentRef(ORDERS),), rules=(rule,))
        body = TrafficPolicyResource(
            namespace=SHOP,
            name="route",
            targets=(TargetRef("HTTPRoute", "orders"),),
            policy=TrafficPolicy(fallback=NOTHING),
        )
        more = Resource("HTTPRoute/shop/orders", 1, route), Resource("TrafficPolicy/shop/route", 1, body)
        mesh.configure(["a"], None, *more)
        assert (await mesh.request()).body == b"[]"
        nursery.cancel_scope.cancel()
