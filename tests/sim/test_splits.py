"""A route's split through the whole proxy: shares are the weights, and a key stays where it is."""

import math

import trio
from trio.testing import MockClock

from sidecar.model.balancing import HashKey, HashOf
from sidecar.model.clusters import EndpointSet, Service, ServiceKey, ServicePort
from sidecar.model.policies import TrafficPolicy
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteRule
from sidecar.model.snapshot import Resource
from tests.support.mesh import ORDERS, PORT, MemoryMesh

V1, V2 = ServiceKey("shop", "orders-v1"), ServiceKey("shop", "orders-v2")
USERS = [f"user-{number}" for number in range(300)]


def _resources(mesh: MemoryMesh, weights: tuple[int, int]) -> list[Resource]:
    backends = tuple(BackendRef(key, PORT, weight) for key, weight in zip((V1, V2), weights, strict=True))
    route = HttpRoute(
        namespace="shop", name="orders", parents=(ParentRef(ORDERS),), rules=(RouteRule(backends=backends),)
    )
    made = [Resource("HTTPRoute/shop/orders", 1, route)]
    for key in (V1, V2):
        made.append(Resource(f"Service/shop/{key.name}", 1, Service(key, (ServicePort(PORT),))))
        endpoints = (mesh.endpoint(key.name),)
        made.append(Resource(f"Endpoints/shop/{key.name}", 1, EndpointSet(key, endpoints)))
    return made


async def _where(mesh: MemoryMesh, user: str) -> str:
    await mesh.request(fields=[("cookie", f"a=b; user={user}")])
    return mesh.told.done[-1].tried[0]


async def test_a_user_stays_with_a_version_and_a_growing_canary_gives_nobody_back(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        for key in (V1, V2):
            mesh.app(key.name)
        policy = TrafficPolicy(sticky=HashKey(HashOf.COOKIE, "user"))
        found = []
        for weights in ((90, 10), (90, 10), (80, 20)):
            mesh.configure([], policy, *_resources(mesh, weights))
            found.append([await _where(mesh, user) for user in USERS])
        first, again, grown = found
        assert again == first
        assert 10 <= first.count("orders-v2") <= 55
        moved = [(before, after) for before, after in zip(first, grown, strict=True) if before != after]
        assert moved
        assert set(moved) == {("orders-v1", "orders-v2")}
        nursery.cancel_scope.cancel()


async def test_who_has_no_key_is_sent_by_chance(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        for key in (V1, V2):
            mesh.app(key.name)
        mesh.configure([], TrafficPolicy(sticky=HashKey(HashOf.HEADER, "x-user")), *_resources(mesh, (1, 1)))
        found = [await _where(mesh, "") for _ in range(60)]
        assert {"orders-v1", "orders-v2"} == set(found)
        nursery.cancel_scope.cancel()


async def test_shares_are_within_what_chance_allows(autojump_clock: MockClock) -> None:
    """The binomial's 99.9 % bound; the seed is fixed, so that it holds always or never."""
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        for key in (V1, V2):
            mesh.app(key.name)
        mesh.configure([], None, *_resources(mesh, (90, 10)))
        asked = 2_000
        for _ in range(asked):
            await mesh.request()
        canary = sum(done.tried == ("orders-v2",) for done in mesh.told.done)
        assert abs(canary - asked * 0.1) <= 3.29 * math.sqrt(asked * 0.1 * 0.9)
        nursery.cancel_scope.cancel()
