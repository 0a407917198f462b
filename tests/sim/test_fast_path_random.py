"""Requests and faults of the other tests in any order and company, on both paths. A seed is a run."""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Limits, TrafficPolicy
from tests.sim.test_fast_path import CASES, REFUSED
from tests.sim.test_fast_path_faults import FAULTS, IDLE, NO_RETRY, TRY, both, in_turn
from tests.support.two_paths import OK, Script, World, alike

POLICIES: tuple[TrafficPolicy, ...] = (in_turn(), TRY, IDLE, NO_RETRY, in_turn(limits=Limits(connections=1)))
PLAIN = [case for name, case in CASES.items() if name not in REFUSED and len(case.methods) <= 3]
SCRIPTS = [fault.script for fault in FAULTS.values()]


@pytest.mark.parametrize("seed", range(60))
async def test_any_order_of_requests_and_faults(seed: int, autojump_clock: MockClock) -> None:
    rng = Random(seed)
    scripts: list[Script] = []
    for _ in range(6):
        scripts += [rng.choice(SCRIPTS), *[(OK,)] * rng.randrange(3)]
    policy, backends = rng.choice(POLICIES), rng.choice((("a",), ("a", "b"), ("a", "b", "c")))
    asked = [(rng.choice(PLAIN), rng.choice((0.0, 0.0, 0.05, 0.5))) for _ in range(8)]

    async def ask(world: World) -> None:
        client = world.client()
        for case, pause_s in asked:
            for piece in (case.sent,) if isinstance(case.sent, bytes) else case.sent:
                await client.send(piece)
            for method in case.methods:
                if not client.end:
                    await client.answer(method)
            if client.end:
                client = world.client()
            await trio.sleep(pause_s)
        await client.leave()

    fast, full = await both(scenario=ask, scripts=(*scripts, (OK,)), backends=backends, policy=policy)
    alike(fast, full)
