"""A fault at every step of a plain request ends as it does on the full path: retried, answered or cut, told alike."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.policies import Ejection, Limits, Retries, Timeouts, TrafficPolicy
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteRule
from sidecar.model.snapshot import Resource
from sidecar.transport.stream import HIGH_WATER_BYTES
from tests.sim.test_fast_path import BIG, CHUNKED, answer, get, post
from tests.support.mesh import ORDERS, PORT
from tests.support.two_paths import OK, Outcome, Script, Step, Then, World, alike, play

HALF = answer(b"Content-Length: 4000\r\n", body=b"h" * 1500)
BUSY = answer(b"Content-Length: 4\r\n", b"503 Busy", b"busy")
SECOND = answer(b"Content-Length: 8\r\n", body=b"poisoned")


def in_turn(**more: object) -> TrafficPolicy:
    return TrafficPolicy(balancing=Balancing(algorithm=Algorithm.ROUND_ROBIN), **more)  # type: ignore[arg-type]


TRY = in_turn(timeouts=Timeouts(per_try_s=1.0))
NO_RETRY = in_turn(timeouts=Timeouts(request_s=2.0), retries=Retries(attempts=0))
IDLE = in_turn(timeouts=Timeouts(stream_idle_s=2.0))


@dataclass(frozen=True)
class Fault:
    """What the endpoint does at its first request (and maybe later ones); `why` the fast path left it, if it did."""

    script: Script
    why: str = ""
    sent: bytes = field(default_factory=get)
    methods: tuple[str, ...] = ("GET",)
    then: Script = (OK,)
    policy: TrafficPolicy = field(default_factory=in_turn)


FAULTS = {
    "closes": Fault((Then.CLOSE,), "closed"),
    "resets": Fault((Then.RESET,), "reset"),
    "closes under a POST": Fault((Then.CLOSE,), "closed", post(5), ("POST",)),
    "resets under a POST": Fault((Then.RESET,), "reset", post(5), ("POST",)),
    "resets under a POST with a key": Fault(
        (Then.RESET,), "reset", get(b"Idempotency-Key: k\r\nContent-Length: 1\r\n", b"POST", body=b"b"), ("POST",)
    ),
    "closes in the head": Fault((OK[:20], 0.01, Then.CLOSE), "answer-head"),
    "resets in the head": Fault((OK[:20], 0.01, Then.RESET), "answer-head"),
    "goes on with the head": Fault((OK[:20], 0.5, OK[20:]), "answer-head"),
    "head byte by byte": Fault(tuple(step for at in range(len(OK)) for step in (OK[at : at + 1], 0.01)), "answer-head"),
    "head and body apart": Fault((OK[:-2], 0.3, OK[-2:])),
    "closes in the body": Fault((HALF, 0.01, Then.CLOSE)),
    "resets in the body": Fault((HALF, 0.01, Then.RESET)),
    "closes in the chunks": Fault((answer(CHUNKED, body=b"5\r\nabcde\r\n"), 0.01, Then.CLOSE)),
    "resets in a chunk": Fault((answer(CHUNKED, body=b"5\r\nab"), 0.01, Then.RESET)),
    "closes before the last chunk's end": Fault((answer(CHUNKED, body=b"1\r\na\r\n0\r\n"), 0.01, Then.CLOSE)),
    "bad chunks, later": Fault((answer(CHUNKED, body=b"1\r\na\r\n"), 0.01, b"xyz\r\n")),
    "no HTTP": Fault((b"hello\r\n\r\n",), "answer-head"),
    "two lengths": Fault((answer(b"Content-Length: 2\r\nContent-Length: 3\r\n", body=b"ok"),), "answer-field"),
    "length and chunks": Fault((answer(b"Content-Length: 2\r\n" + CHUNKED, body=b"ok"),), "answer-framing"),
    "no answer in a try's time": Fault((3.0, OK), "timeout", policy=TRY),
    "no answer in a POST's time": Fault((3.0, OK), "timeout", post(3), ("POST",), policy=TRY),
    "no answer in the request's time": Fault((3.0, OK), "timeout", policy=NO_RETRY),
    "half a head in a try's time": Fault((OK[:20], Then.HANG), "answer-head", policy=TRY),
    "no answer in the deadline's time": Fault((3.0, OK), "timeout", get(b"X-Mesh-Timeout-Ms: 700\r\n")),
    "the body stops": Fault((HALF, Then.HANG), policy=IDLE),
    "the body dawdles": Fault((HALF, 1.5, b"x" * 1000, 1.5, b"x" * 1000, 1.5, b"x" * 500), policy=IDLE),
    "the chunks stop": Fault((answer(CHUNKED, body=b"5\r\nab"), Then.HANG), policy=IDLE),
    "503": Fault((BUSY,), "answer-status"),
    "503 for a POST": Fault((BUSY,), "answer-status", post(3), ("POST",)),
    "503 always": Fault((BUSY,), "answer-status", then=(BUSY,)),
    "502, nobody tries again": Fault((answer(b"Content-Length: 0\r\n", b"502 Bad"),), "answer-status", policy=NO_RETRY),
    "untouched": Fault(
        (answer(b"x-mesh-untouched: 1\r\nContent-Length: 0\r\n", b"503 Away"),), "answer-status", post(3), ("POST",)
    ),
    "untouched, with 200": Fault((answer(b"x-mesh-untouched: 1\r\nContent-Length: 0\r\n"),), "answer-field"),
    "100 before": Fault((b"HTTP/1.1 100 Continue\r\n\r\n" + OK,), "answer-status"),
    "103 before, and a while": Fault((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.2, OK), "answer-status"),
    "101 unasked": Fault((b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",), "answer-status"),
    "HTTP/1.0": Fault((b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",), "answer-version"),
    "HTTP/1.0 until the end": Fault((b"HTTP/1.0 200 OK\r\n\r\nok", 0.1, b"more", Then.CLOSE), "answer-version"),
    "closes behind the answer": Fault((OK, Then.CLOSE)),
    "says that it closes and does not": Fault((answer(b"Connection: close\r\nContent-Length: 1\r\n", body=b"z"),)),
    "an answer to nobody behind": Fault((OK + SECOND,)),
    "an answer to nobody behind no body": Fault((answer(status=b"204 No Content") + SECOND,)),
    "an answer to nobody behind HEAD": Fault((OK,), sent=get(method=b"HEAD"), methods=("HEAD",)),
    "an answer to nobody behind chunks": Fault((answer(CHUNKED, body=b"1\r\na\r\n0\r\n\r\n") + SECOND,)),
    "an answer to nobody in the last piece": Fault((OK[:-1], 0.01, OK[-1:] + SECOND)),
    "an answer to nobody, a moment later": Fault((OK, 0.001, SECOND)),
    "a large body cut": Fault((answer(b"Content-Length: 900000\r\n", body=BIG), 0.01, Then.RESET)),
}


async def both(**given: object) -> tuple[Outcome, Outcome]:
    return await play(fast=True, **given), await play(fast=False, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("backends", [("a",), ("a", "b")], ids=["one endpoint", "two endpoints"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_the_endpoint(name: str, backends: tuple[str, ...], autojump_clock: MockClock) -> None:
    fault = FAULTS[name]

    async def ask(world: World) -> None:
        client = world.client()
        await client.send(fault.sent)
        for method in fault.methods:
            await client.answer(method)
        await client.leave()
        for _ in backends:  # nothing of it is left for those who come later
            other = world.client()
            await other.send(get(target=b"/later"))
            later = await other.answer()
            assert (later.status, later.body) in ((200, b"ok"), (503, b"busy")), later
            await other.leave()

    scripts = (fault.script, fault.then)
    fast, full = await both(scenario=ask, scripts=scripts, backends=backends, policy=fault.policy)
    alike(fast, full)
    if fault.why:
        assert fast.full[fault.why] >= 1
    else:
        assert fast.full - Counter(connect=9, stale=9) == {}
        assert fast.fast >= 1


def a_route(**more: object) -> Resource:
    rule = RouteRule(backends=(BackendRef(ORDERS, PORT),), **more)  # type: ignore[arg-type]
    route = HttpRoute(namespace="shop", name="orders", parents=(ParentRef(ORDERS),), rules=(rule,))
    return Resource("HTTPRoute/shop/orders", 1, route)


@pytest.mark.parametrize(
    "script",
    [
        (HALF, Then.HANG),
        (HALF, *((1.0, b"x") * 9)),
        (answer(CHUNKED, body=b"1\r\na\r\n"), *((1.0, b"1\r\na\r\n") * 9)),
        (5.0, OK),
        (2.0, OK),
        (1.5, OK[:-2], 3.0, OK[-2:]),
    ],
    ids=["stops", "dawdles", "dawdles in chunks", "no head", "in time", "head in time"],
)
async def test_the_route_bounds_the_whole_answer(script: Script, autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        client = world.client()
        await client.send(get())
        await client.answer()
        await client.leave()

    fast, full = await both(scenario=ask, scripts=(script,), more=(a_route(request_s=3.0),))
    alike(fast, full)
    assert fast.fast + fast.full["timeout"] == 1


IDLE_ENDS: dict[str, Step] = {"closes": Then.CLOSE, "resets": Then.RESET, "speaks": SECOND}


@pytest.mark.parametrize("before", [True, False], ids=["a turn before", "in the same turn"])
@pytest.mark.parametrize("how", IDLE_ENDS)
async def test_an_idle_connection_that_ends_just_before_a_post(
    how: str, before: bool, autojump_clock: MockClock
) -> None:
    """Nothing was written: it goes elsewhere, whatever the method, and is no try that failed."""

    async def ask(world: World) -> None:
        client = world.client()
        await trio.sleep(0.1)
        kept = world.backends["a"].open[0]
        if not before:
            client.stream.write(post(5))
        if how == "speaks":
            kept.write(SECOND)
        elif how == "resets":
            kept.abort()
        else:
            kept.close()
        if before:
            client.stream.write(post(5))
        got = await client.answer("POST")
        assert (got.status, got.body) == (200, b"ok")
        await client.leave()

    fast, full = await both(scenario=ask)
    alike(fast, full)
    assert [told["attempts"] for told in fast.told] == [1]
    assert fast.full == ({} if before else {"stale": 1})  # before: it was gone when it was looked for


# The client's faults.

LATE = (1.0, answer(b"Content-Length: 3000\r\n", body=b"x" * 1000), 1.0, b"y" * 1000, 1.0, b"z" * 1000)
LEAVES = {
    "before anything": b"",
    "in the head": get()[:15],
    "in the body": post(5)[:-2],
    "in the chunks": get(CHUNKED, b"POST", body=b"5\r\nab"),
    "after the request": get(),
    "with half of the next": get() + get()[:9],
    "with another one": get() + get(),
}


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.5, 9.0], ids=["at once", "waiting", "in the body", "at rest"])
@pytest.mark.parametrize("how", ["resets", "closes", "ends its direction"])
@pytest.mark.parametrize("sent", LEAVES)
async def test_the_client_leaves(sent: str, how: str, at_s: float, autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        client = world.client()
        if LEAVES[sent]:
            await client.send(LEAVES[sent])
        if at_s:
            await trio.sleep(at_s)
        if how == "resets":
            client.stream.abort()
        elif how == "closes":
            client.stream.close()
        else:
            client.stream.send_eof()
            while not client.end:
                await client.answer()
        await trio.sleep(20)

    fast, full = await both(scenario=ask, scripts=(LATE,), policy=IDLE)
    alike(fast, full)


async def test_a_client_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        client = world.client()
        await client.send(get())
        await trio.sleep(200)
        client.end = "gone"

    script: Script = (answer(b"Content-Length: %d\r\n" % (len(BIG) * 9), body=BIG * 9),)
    fast, full = await both(scenario=ask, scripts=(script,))
    for outcome in (fast, full):  # who reads ahead, and how far, is each path's own
        assert int(str(outcome.told[0].pop("bytes_sent"))) < 5 * HIGH_WATER_BYTES
    alike(fast, full)
    assert fast.limits == ["writeProgress"]
    assert fast.fast == 1


# Limits and ejection.


@pytest.mark.parametrize(
    ("limits", "why"),
    [(Limits(requests=2), "no-try"), (Limits(connections=2, pending=1), "connect"), (Limits(connections=2), "connect")],
    ids=["requests", "pending", "connections"],
)
async def test_limits_hold_for_both_together(limits: Limits, why: str, autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        await world.warm()
        clients = [world.client() for _ in range(5)]
        for client in clients:
            await client.send(get())
            await trio.sleep(0.1)
        for client in clients:
            await client.answer()
            await client.leave()

    fast, full = await both(scenario=ask, scripts=((1.0, OK),), policy=in_turn(limits=limits))
    alike(fast, full)
    assert fast.fast >= 1
    assert fast.full[why] >= 1
    assert "UO" in {told["flags"] for told in fast.told} or limits.pending > 1


async def test_ejected_endpoints_get_nothing(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        client = world.client()
        for _ in range(12):
            await client.send(get())
            await client.answer()
        first = world.mesh.worker.live.clusters
        assert [live.ejected_until_s > 0 for cluster in first.values() for live in cluster.endpoints.values()]
        assert len(world.mesh.told.ejections) == 1
        await trio.sleep(7)
        for _ in range(4):
            await client.send(get())
            await client.answer()
        await client.leave()

    async def ask_of_a_bad_one(world: World) -> None:
        bad = world.backends["a"]
        bad.visits, bad.scripts = [], ((answer(b"Content-Length: 1\r\n", b"500 Oops", b"!"),),) * 3 + ((OK,),)
        await ask(world)

    policy = in_turn(ejection=Ejection(consecutive_failures=3, base_s=5.0))
    fast, full = await both(scenario=ask_of_a_bad_one, backends=("a", "b", "c"), policy=policy)
    alike(fast, full)
    assert fast.fast >= 9
    assert len(fast.asked["a"]) > 3, "it takes part again"
