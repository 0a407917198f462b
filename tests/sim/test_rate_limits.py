"""A rate limit beside the app: the same on both paths, for whom it is meant, over pushes, and in shadow."""

import pytest
from trio.testing import MockClock

from sidecar.model.balancing import HashKey, HashOf
from sidecar.model.policies import Mode, TargetRef, TrafficPolicy, TrafficPolicyResource
from sidecar.model.rates import RateLimit
from sidecar.model.snapshot import Resource
from tests.sim.test_fast_path import get
from tests.sim.test_fast_path_faults import both
from tests.sim.test_fast_path_life import CALLER, inbound
from tests.support.mesh import SHOP
from tests.support.two_paths import World, alike

OTHER = "spiffe://mesh.local/ns/shop/sa/other"
THREE = RateLimit(requests=3, interval_s=60.0, burst=3)
EACH = RateLimit(requests=3, interval_s=60.0, burst=3, key=HashKey(HashOf.SOURCE))
BY_USER = RateLimit(requests=1, interval_s=60.0, burst=1, key=HashKey(HashOf.HEADER, "x-user"))


def limited(*limits: RateLimit, mode: Mode = Mode.ENFORCE, version: int = 1) -> Resource:
    policy = TrafficPolicy(rate_limits=limits, mode=mode)
    targets = (TargetRef("Service", "frontend"),)
    body = TrafficPolicyResource(namespace=SHOP, name="rates", targets=targets, policy=policy)
    return Resource("TrafficPolicy/shop/rates", version, body)


async def statuses(world: World, count: int, fields: bytes = b"", principal: str = CALLER) -> list[int]:
    """Of so many requests on a connection of its own."""
    client = world.client("proxy:2", principal)
    found = []
    for _ in range(count):
        await client.send(get(fields))
        found.append((await client.answer()).status)
    await client.leave()
    return found


async def test_what_is_too_much_is_refused_with_a_time_to_come_back(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        world.mesh.configure(["a"])
        await world.warm("proxy:2", CALLER)
        world.mesh.configure(["a"], None, limited(THREE))
        assert await statuses(world, 3) == [200] * 3
        client = world.client("proxy:2", CALLER)
        await client.send(get())
        refused = await client.answer()
        assert refused.status == 429
        await client.leave()
        assert await statuses(world, 1, principal=OTHER) == [429]  # all callers share it
        world.mesh.configure(["a"], None, limited(THREE, version=2))
        assert await statuses(world, 1) == [429]  # a push forgives nothing
        world.mesh.configure(["a"], None)
        assert await statuses(world, 5) == [200] * 5

    fast, full = await both(scenario=ask, set_up=inbound)
    alike(fast, full)
    told = [(told["status"], told["flags"]) for told in fast.told]
    assert told.count((429, "RL")) == 3
    assert fast.fast == 8
    assert fast.full == {"route": 3}


@pytest.mark.parametrize(
    ("limit", "asked", "wanted"),
    [
        (EACH, (b"", b""), ([200, 200, 200, 429], [200, 200, 200, 429])),
        (BY_USER, (b"X-User: ada\r\n", b"X-User: bob\r\n"), ([200, 429, 429, 429], [200, 429, 429, 429])),
        (BY_USER, (b"", b""), ([200, 429, 429, 429], [429, 429, 429, 429])),
    ],
    ids=["each caller", "each user", "who has no key"],
)
async def test_keys_have_a_rate_each(
    limit: RateLimit, asked: tuple[bytes, bytes], wanted: tuple[list[int], list[int]], autojump_clock: MockClock
) -> None:
    async def ask(world: World) -> None:
        world.mesh.configure(["a"], None, limited(limit))
        assert await statuses(world, 4, asked[0]) == wanted[0]
        assert await statuses(world, 4, asked[1], OTHER) == wanted[1]

    fast, full = await both(scenario=ask, set_up=inbound)
    alike(fast, full)


async def test_shadow_counts_and_refuses_nothing(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        world.mesh.configure(["a"], None, limited(THREE, mode=Mode.SHADOW))
        assert await statuses(world, 7) == [200] * 7
        assert len(world.mesh.told.shadow) == 4

    fast, full = await both(scenario=ask, set_up=inbound)
    alike(fast, full)
