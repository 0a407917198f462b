"""What comes from beside while a plain request is under way: drain, push, cancellation, bugs; and the inbound side."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import HostPort, InboundPort, ProcessLimits
from sidecar.model.clusters import ServiceKey
from sidecar.model.policies import AllowRule, AuthorizationPolicy, Mode, TargetRef
from sidecar.model.snapshot import Resource
from sidecar.proxy import connection
from sidecar.proxy.inbound import Inbound, targets
from sidecar.proxy.outbound import Outbound
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import DESTINATION
from sidecar.transport.memory import MemoryStream
from tests.sim.test_fast_path import CHUNKED, answer, get, post
from tests.sim.test_fast_path_faults import both
from tests.support.mesh import SHOP, MemoryMesh
from tests.support.two_paths import OK, Script, World, alike, play

SLOW: Script = (1.0, answer(b"Content-Length: 2000\r\n", body=b"a" * 500), 1.0, b"b" * 1000, 1.0, b"c" * 500)
# Seconds after the request when something else happens, and where that is.
PHASES = {"at rest": None, "just written": 0.01, "waiting": 0.5, "body": 1.5, "later in the body": 2.5, "after it": 3.5}
NOT_AT_REST = [name for name in PHASES if name not in ("at rest", "after it")]


def at_phase(act: Callable[[World], None], phase: str, sent: bytes | None = None) -> Callable[[World], Awaitable[None]]:
    """A client asks, and `act` happens at a phase of that; then it asks again if it can."""

    async def ask(world: World) -> None:
        client = world.client()
        at_s = PHASES[phase]
        if at_s is None:
            await trio.sleep(0.5)
            act(world)
            await trio.sleep(0.5)
        await client.send(sent or get())

        async def then() -> None:
            if at_s is not None:
                await trio.sleep(at_s)
                act(world)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(then)
            await client.answer()
        if not client.end:
            await client.send(get(target=b"/next"))
            await client.answer()
        await client.leave()

    return ask


DRAINS: dict[str, Callable[[World], None]] = {
    "lead away": lambda world: world.mesh.worker.lead_away(),
    "drain": lambda world: world.mesh.worker.drain(),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", DRAINS)
async def test_a_drain(how: str, phase: str, autojump_clock: MockClock) -> None:
    fast, full = await both(scenario=at_phase(DRAINS[how], phase), scripts=(SLOW, (OK,)))
    alike(fast, full)
    if phase in NOT_AT_REST:
        assert fast.answers[0][0].complete, "what is under way may end"


async def test_a_request_that_crosses_a_drain_is_served(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        client = world.client()
        await trio.sleep(1)
        client.stream.write(get())
        world.mesh.worker.drain()
        got = await client.answer()
        assert got.complete
        assert (b"connection", b"close") in got.fields
        await client.leave()

    alike(*await both(scenario=ask))


async def test_connections_end_when_idle_and_when_old(autojump_clock: MockClock) -> None:
    """With the mutual TLS of another sidecar: at its age the connection ends between two requests, in order."""

    def set_up(mesh: MemoryMesh) -> None:
        mesh.worker.limits = ProcessLimits(idle_s=30.0, first_request_s=10.0, connection_age_s=100.0)

    async def ask(world: World) -> None:
        silent, once, old = world.client(), world.client(), world.client(principal="spiffe://mesh.local/ns/shop/sa/x")
        await once.send(get())
        await once.answer()
        for _ in range(12):
            await old.send(get())
            if not (await old.answer()).complete:
                break
            await trio.sleep(15)
        for client in (silent, once):
            await client.leave()

    fast, full = await both(scenario=ask, set_up=set_up)
    assert fast.ends[:2] == full.ends[:2] == ["closed", "closed"]
    assert len(fast.answers[2]) == pytest.approx(len(full.answers[2]), abs=2)
    assert fast.fast >= 2


@pytest.mark.parametrize("phase", PHASES)
async def test_a_push_while_a_request_is_under_way(phase: str, autojump_clock: MockClock) -> None:
    def swap(world: World) -> None:
        world.mesh.configure(["b"])

    async def ask(world: World) -> None:
        world.mesh.configure(["a"])
        await at_phase(swap, phase)(world)
        assert set(next(iter(world.mesh.worker.live.clusters.values())).endpoints) == {"b"}

    fast, full = await both(scenario=ask, scripts=(SLOW, (OK,)), backends=("a", "b"))
    alike(fast, full)
    first = fast.told[0]
    assert first["config_version"] == (3 if phase == "at rest" else 2)
    assert first["endpoint"] == ("b" if phase == "at rest" else "a")
    assert fast.told[1]["endpoint"] == "b"


@pytest.mark.parametrize("sent", [get(), post(10)[:-3], get() + get()], ids=["GET", "half a POST", "two"])
@pytest.mark.parametrize("phase", PHASES)
async def test_the_end_of_the_connections_task(phase: str, sent: bytes, autojump_clock: MockClock) -> None:
    """The process ends: what was sent must not pass for a whole answer, and everything is given back."""

    async def ask(world: World) -> None:
        scope = trio.CancelScope()

        async def serve(stream: MemoryStream) -> None:
            with scope, world.mesh.worker.client("outbound"):
                await connection.serve(stream, lambda: Outbound(world.mesh.worker), world.mesh.worker)

        world.mesh.network.listen("proxy:9", lambda stream: world.mesh.nursery.start_soon(serve, stream))
        client = world.client("proxy:9")
        await trio.sleep(0.1)
        await client.stream.send(sent) if phase != "at rest" else None
        await trio.sleep(PHASES[phase] or 0.1)
        scope.cancel()
        await trio.sleep(0.1)
        while not client.end:
            await client.answer()

    fast, full = await both(scenario=ask, scripts=(SLOW,))
    if sent != get() and phase == "just written" and not fast.told:
        full.told.clear()  # half a request that nobody has begun with yet
    alike(fast, full)


# Bugs: each planted where the fast path asks somebody; only that connection ends.


class BugError(RuntimeError):
    """What no code expected."""


def bug(*_: object, **__: object) -> None:
    raise BugError


class Failing(dict[object, object]):
    """A table whose look-ups fail."""

    def get(self, *_: object) -> object:
        raise BugError

    def __contains__(self, key: object) -> bool:
        raise BugError

    def clear(self) -> None: ...


BUGS: dict[str, Callable[[World], None]] = {
    "reading the request": lambda world: setattr(world.mesh.worker.request_acts, "known", Failing()),
    "looking up the rule": lambda world: setattr(world.mesh.worker, "ways", Failing()),
    "looking for a connection": lambda world: setattr(world.mesh.worker.pool, "take_idle", bug),
    "reading the answer": lambda world: setattr(world.mesh.worker.response_acts, "facts", Failing()),
}


@pytest.mark.parametrize("name", BUGS)
async def test_a_bug_ends_its_own_connection_only(name: str, autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        worker = world.mesh.worker
        request_acts, response_acts = worker.request_acts, worker.response_acts
        before = request_acts.known, worker.ways, response_acts.facts
        other, client = world.client(), world.client()
        await trio.sleep(0.1)
        await client.send(get(b"Connection: keep-alive\r\n"))
        BUGS[name](world)
        got = await client.answer()
        assert not got.complete
        await client.leave()
        request_acts.known, worker.ways, response_acts.facts = before
        worker.pool.__dict__.pop("take_idle", None)
        await other.send(get())
        assert (await other.answer()).body == b"ok"
        assert [type(each) for each in world.mesh.bugs] == [BugError]
        await other.leave()

    outcome = await play(ask, fast=True, bugs=True)
    assert outcome.fast >= 1


# Traces, and the log of all requests.

TRACE = b"a" * 32 + b"-" + b"b" * 16


@pytest.mark.parametrize("script", [(OK,), (answer(CHUNKED, body=b"1\r\na\r\n0\r\n\r\n"),), (OK[:9], 0.1, OK[9:])])
@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"traceparent: 00-%b-%b-01\r\ntracestate: v=1\r\n" % (b"a" * 32, b"b" * 16),
        b"b3: %b-%b-1\r\n" % (b"a" * 32, b"c" * 16),
    ],
    ids=["ours", "traceparent", "b3"],
)
async def test_a_sampled_trace_has_the_same_spans(fields: bytes, script: Script, autojump_clock: MockClock) -> None:
    busy = answer(b"Content-Length: 0\r\n", b"503 Busy")

    def set_up(mesh: MemoryMesh) -> None:
        mesh.worker.sample = 1.0

    async def ask(world: World) -> None:
        client = world.client()
        for _ in range(3):
            await client.send(get(fields))
            await client.answer()
        await client.leave()
        for done in world.mesh.told.done:
            assert all(done.started_s <= span.started_s <= span.ended_s <= done.ended_s for span in done.spans)
            assert len({span.span_id for span in done.spans}) == len(done.spans) == done.attempts

    fast, full = await both(scenario=ask, scripts=(script, (busy,), script), set_up=set_up)
    alike(fast, full)
    assert [told["attempts"] for told in fast.told] == [1, 2, 1]
    assert all(told["sampled"] for told in fast.told)


# The inbound side.

CALLER = "spiffe://mesh.local/ns/shop/sa/web"
FRONTEND = ServiceKey(SHOP, "frontend")


def allows(principals: frozenset[str], mode: Mode = Mode.ENFORCE) -> Resource:
    policy = AuthorizationPolicy(
        namespace=SHOP,
        name="callers",
        targets=(TargetRef("Service", "frontend"),),
        allow=(AllowRule(principals=principals),),
        mode=mode,
    )
    return Resource("AuthorizationPolicy/shop/callers", 1, policy)


def inbound(mesh: MemoryMesh) -> None:
    """Listen at `proxy:2` as the app's side, which is `a:8080`."""
    known = targets(mesh.worker.node, (InboundPort(port=8080, app=HostPort("a", 8080)),), 100)

    async def serve(stream: MemoryStream) -> None:
        with mesh.worker.client("inbound"):
            await connection.serve(stream, lambda: Inbound(mesh.worker, known), mesh.worker)

    mesh.network.listen("proxy:2", lambda stream: mesh.nursery.start_soon(serve, stream))


ACCESS = {
    "nobody asks": ((), CALLER, "", 200),
    "allowed": ((allows(frozenset({CALLER})),), CALLER, "", 200),
    "denied": ((allows(frozenset({"spiffe://mesh.local/ns/shop/sa/other"})),), CALLER, "route", 403),
    "denied to plain text": ((allows(frozenset({CALLER})),), "", "route", 403),
    "would be denied": ((allows(frozenset(), Mode.SHADOW),), CALLER, "route", 200),
    "plain text": ((), "", "", 200),
}


@pytest.mark.parametrize("name", ACCESS)
async def test_who_may_call(name: str, autojump_clock: MockClock) -> None:
    more, principal, why, status = ACCESS[name]

    async def ask(world: World) -> None:
        world.mesh.configure(["a"])
        await world.warm("proxy:2", principal or CALLER)
        world.mesh.configure(["a"], None, *more)
        client = world.client("proxy:2", principal)
        for _ in range(3):
            await client.send(
                get(b"X-Mesh-Timeout-Ms: 5000\r\nX-Forwarded-Client-Cert: URI=spiffe://mesh.local/forged\r\n")
            )
            assert (await client.answer()).status == status
        await client.leave()
        assert len(world.mesh.told.shadow) == (3 if name == "would be denied" else 0)

    fast, full = await both(scenario=ask, set_up=inbound)
    alike(fast, full)
    assert {told["reporter"] for told in fast.told} == {DESTINATION}
    assert {told["principal"] for told in fast.told} == {principal}
    assert "forged" not in str(fast.asked)
    assert fast.full == ({why: 3} if why else {})
    assert fast.fast == (0 if why else 3)


async def test_a_policy_that_comes_later_holds_for_the_next_request(autojump_clock: MockClock) -> None:
    async def ask(world: World) -> None:
        await world.warm("proxy:2", CALLER)
        client = world.client("proxy:2", CALLER)
        for more, status in (((), 200), ((allows(frozenset()),), 403), ((allows(frozenset({CALLER})),), 200)):
            world.mesh.configure(["a"], None, *more)
            await client.send(get())
            assert (await client.answer()).status == status
        await client.leave()

    fast, full = await both(scenario=ask, set_up=inbound)
    alike(fast, full)
    assert fast.fast == 2


async def test_promises_to_keep_a_connection_are_kept_to(autojump_clock: MockClock) -> None:
    """Each answer may promise anew, on either path; the last word counts."""
    promises = (b"Keep-Alive: timeout=30\r\n", b"", b"Keep-Alive: timeout=4\r\n", b"Keep-Alive: timeout=100\r\n")
    scripts = tuple((answer(promise + b"Content-Length: 0\r\n"),) for promise in promises)
    waits = (20.0, 2.0, 1.5, 50.0)

    async def ask(world: World) -> None:
        client = world.client()
        for wait_s in waits:
            await client.send(get())
            await client.answer()
            await trio.sleep(wait_s)
            assert len(world.backends["a"].open) == 1, "it is kept as long as it was promised"
        await trio.sleep(12)
        assert len(world.backends["a"].open) == 0, "and no longer"
        await client.leave()

    fast, full = await both(scenario=ask, scripts=scripts)
    alike(fast, full)


async def test_the_last_promise_counts_whichever_path_heard_it(autojump_clock: MockClock) -> None:
    """Heard on the full path that a connection is kept for 30 s, and then no more of it: 3 s, as always."""
    promising, silent = (answer(line + b"Content-Length: 0\r\n") for line in (b"Keep-Alive: timeout=30\r\n", b""))
    left: list[int] = []

    async def ask(world: World) -> None:
        client = world.client()
        for target in (b"/a/../x", b"/x"):  # the first is the full path's
            await client.send(get(target=target))
            await client.answer()
        await trio.sleep(6)
        left.append(len(world.backends["a"].open))
        await client.leave()

    fast, full = await both(scenario=ask, scripts=((promising,), (silent,)))
    alike(fast, full)
    assert fast.fast == 1
    assert left == [0, 0]


@pytest.mark.parametrize("script", [(OK,), SLOW, (answer(CHUNKED, body=b"1\r\na\r\n0\r\n\r\n"),)])
async def test_the_metrics_count_the_same(script: Script, autojump_clock: MockClock) -> None:
    """Where nobody wants each request told, they are counted by tallies, made anew with each push."""
    found: list[object] = []

    def count(mesh: MemoryMesh) -> None:
        mesh.worker.observer = Metrics(service="frontend", namespace=SHOP)

    async def ask(world: World) -> None:
        metrics = world.mesh.worker.observer
        assert isinstance(metrics, Metrics)
        client = world.client()
        for number in range(6):
            if number == 3:
                world.mesh.configure(["a"])
            await client.send(get() if number % 2 else post(7))
            await client.answer()
        await client.send(get())
        await trio.sleep(0.1)
        client.stream.abort()
        await trio.sleep(5)
        metrics.small["paths"].clear()
        found.append(shown(metrics))

    fast, full = await both(scenario=ask, scripts=(script,), set_up=count)
    assert fast.fast >= 6
    assert full.fast == 0
    assert found[0] == found[1]


def shown(metrics: Metrics) -> object:
    """All series, times aside."""
    series = {
        each.labels: (each.received.counts, each.received.sum, each.sent.counts, each.sent.sum, each.requests)
        for each in metrics.values()
    }
    return dict(metrics.small), series
