"""Streams of HTTP/2 on the fast path: what is relayed, what is handed over and why, and that both paths mean the same.

Each scenario is played with the fast path and without. What clients get, what apps get, and what observers are told
has to be the same; which path served is asserted.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Retries, RetryOn, Timeouts, TrafficPolicy
from tests.support.http2_peers import Call, Client, Http2Mesh, Message, ok
from tests.support.two_paths import told_of

OWN = ("traceparent", "x-request-id")
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@dataclass
class World:
    """What a scenario acts on."""

    mesh: Http2Mesh
    client: Client
    got: list[Message] = field(default_factory=list)

    async def ask(self, *args: object, **named: object) -> Message:
        """A request, and what came of it."""
        message = await self.client.request(*args, **named)  # type: ignore[arg-type]
        self.got.append(message)
        return message

    async def call(self, body: bytes = b"message", path: str = "/a.B/C") -> Message:
        """A unary call of gRPC: its only message ends the request."""
        client = self.client
        number = client.begin("POST", path, GRPC, end=False)
        client.http.send_data(number, body, end_stream=True)
        client.send()
        message = await client.answer(number)
        self.got.append(message)
        return message


Scenario = Callable[[World], Awaitable[None]]


@dataclass
class Outcome:
    """What can be compared, and who served it."""

    got: list[tuple[object, ...]]
    told: list[dict[str, object]]
    asked: list[tuple[object, ...]]
    full: Counter[str]
    fast: int
    failed: list[int]  # tries, by endpoint


def _shown(message: Message) -> tuple[object, ...]:
    fields = sorted((name, value) for name, value in message.fields if name not in OWN)
    return (fields, message.body, message.trailers, message.interims, message.whole, message.reset)


def _asked(call: Call) -> tuple[object, ...]:
    # Where head and body came apart, the full path does not know yet when the time of the answer will be over.
    fields = sorted((name, value) for name, value in call.message.fields if name not in (*OWN, "grpc-timeout"))
    return (fields, call.message.body)


async def _play(
    scenario: Scenario, behave: Callable[[Call], Awaitable[None]], policy: TrafficPolicy, *, fast: bool
) -> Outcome:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.worker.fast_path = fast
        app = mesh.http2("a", behave)
        mesh.configure(["a"], policy)
        client = Client(mesh)
        assert (await client.request()).status == 200  # dials
        mesh.told.done.clear()
        mesh.told.paths.clear()
        mesh.worker.fast_requests[0] = 0
        world = World(mesh, client)
        await scenario(world)
        await trio.sleep(1)
        assert mesh.bugs == []
        assert mesh.in_flight() == 0
        told = [told_of(done) | {"grpc": done.grpc_status} for done in mesh.told.done]
        full = Counter({why: count for (path, why), count in mesh.told.paths.items() if path == "full"})
        outcome = Outcome(
            [_shown(message) for message in world.got],
            told,
            [_asked(call) for call in app.calls[1:]],
            full,
            mesh.worker.fast_requests[0],
            [live.failed_tries for cluster in mesh.worker.live.clusters.values() for live in cluster.present],
        )
        nursery.cancel_scope.cancel()
    return outcome


def _sorted(told: list[dict[str, object]]) -> list[dict[str, object]]:
    """Streams end in an order that says nothing."""
    return sorted(told, key=lambda each: str(each["target"]) + str(each["flags"]))


async def both(
    scenario: Scenario,
    behave: Callable[[Call], Awaitable[None]] = ok,
    policy: TrafficPolicy | None = None,
    *,
    fast: int,
    full: dict[str, int] | None = None,
) -> None:
    """Play it on both paths: the same, but for who served. `fast`, `full`: how many, and why not on the fast path."""
    policy = policy or TrafficPolicy()
    relayed = await _play(scenario, behave, policy, fast=True)
    reference = await _play(scenario, behave, policy, fast=False)
    assert relayed.got == reference.got
    assert _sorted(relayed.told) == _sorted(reference.told)
    assert sorted(relayed.asked, key=str) == sorted(reference.asked, key=str)
    assert relayed.failed == reference.failed
    assert (relayed.fast, relayed.full) == (fast, Counter(full or {}))
    assert (reference.fast, set(reference.full)) == (0, {"off"})


async def test_plain_streams_are_relayed(autojump_clock: MockClock) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask()).body == b"ok"
        assert (await world.ask("POST", body=b"x" * 5000, fields=[("content-length", "5000")])).status == 200
        assert (await world.ask("HEAD")).status == 200
        await world.ask(fields=[("x-mesh-untouched", "1"), ("tracestate", "a=b"), ("traceparent", "nonsense")])
        await world.ask(fields=[("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")])

    await both(scenario, fast=5)


async def test_an_answer_without_a_body_and_one_with_trailers(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        if call.message.get(":path") == "/none":
            await call.answer(204, b"")
        else:
            call.head(103, [("link", "</a>")])
            await call.answer(body=b"x" * 100_000, trailers=[("x-sum", "1")])

    async def scenario(world: World) -> None:
        assert (await world.ask("GET", "/none")).status == 204
        got = await world.ask("GET", "/")
        assert (len(got.body), got.trailers) == (100_000, [("x-sum", "1")])

    await both(scenario, behave, fast=2)


async def test_streams_between_each_other_keep_their_own(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        path = call.message.get(":path") or ""
        await trio.sleep(0.01 * (int(path[1:]) * 7 % 10) if path[1:] else 0)
        await call.answer(body=path.encode() * 1000)

    async def scenario(world: World) -> None:
        numbers = [world.client.begin("GET", f"/{index}") for index in range(40)]
        for index, number in enumerate(numbers):
            assert (await world.client.answer(number)).body == f"/{index}".encode() * 1000

    await both(scenario, behave, fast=40)


@pytest.mark.parametrize("status", ["0", "5", "14", "13"])
async def test_calls_of_grpc_are_judged_by_their_trailers(status: str, autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        fields = [("content-type", "application/grpc")]
        await call.answer(fields=fields, trailers=[("grpc-status", status), ("grpc-message", "so")])

    async def scenario(world: World) -> None:
        got = await world.call()
        assert got.trailers == [("grpc-status", status), ("grpc-message", "so")]
        await trio.sleep(0.1)
        assert [done.grpc_status for done in world.mesh.told.done] == [status]

    await both(scenario, behave, fast=1)


async def test_trailers_count_against_the_endpoint_as_on_the_full_path(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        if call.message.get("content-type") is None:
            await call.answer()
        else:
            await call.answer(fields=[("content-type", "application/grpc")], trailers=[("grpc-status", "14")])

    async def scenario(world: World) -> None:
        for _ in range(5):
            await world.call()
        await trio.sleep(0.1)
        [cluster] = world.mesh.worker.live.clusters.values()
        assert [(live.failures, live.failed_tries) for live in cluster.present] == [(5, 5)]

    await both(scenario, behave, fast=5)


async def test_failures_before_the_head_are_judged_by_the_full_path(autojump_clock: MockClock) -> None:
    tries: Counter[str] = Counter()

    async def behave(call: Call) -> None:
        path = call.message.get(":path") or ""
        await call.arrived()
        tries[path] += 1
        if path == "/503" and tries[path] % 2:
            await call.answer(503)
        elif path == "/reset" and tries[path] % 2:
            call.reset(2)
        elif path == "/refused" and tries[path] % 2:
            call.reset(7)
        elif path == "/late":
            await trio.sleep(60)
        else:
            await call.answer(body=path.encode())

    async def scenario(world: World) -> None:
        tries.clear()
        assert (await world.ask("GET", "/503")).status == 200
        assert (await world.ask("GET", "/reset")).status == 200
        assert (await world.call(path="/refused")).body == b"/refused"
        assert (await world.ask("GET", "/late")).status == 504

    policy = TrafficPolicy(
        timeouts=Timeouts(request_s=5.0, request_asked=True),
        retries=Retries(attempts=2, on=frozenset({RetryOn.GATEWAY_ERROR, RetryOn.REFUSED_STREAM, RetryOn.RESET})),
    )
    full = {"status": 1, "reset": 2, "timeout": 1}
    await both(scenario, behave, policy, fast=0, full=full)


async def test_an_answer_that_breaks_off_is_cut(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        if call.message.get(":path") == "/":
            await ok(call)
            return
        grpc = call.message.get("content-type")
        call.head(200, [("content-type", grpc)] if grpc else [])
        await call.peer.send_body(call.number, b"half", end=False)
        await trio.sleep(1)
        if call.message.get(":path") != "/idle":
            call.reset(2)

    async def scenario(world: World) -> None:
        assert (await world.ask("GET", "/cut")).reset == 2
        got = await world.call()
        assert dict(got.trailers or []).get("grpc-status") == "14"
        assert (await world.ask("GET", "/idle")).reset == 2

    await both(scenario, behave, TrafficPolicy(timeouts=Timeouts(stream_idle_s=20.0)), fast=3)


async def test_a_client_that_gives_up_ends_its_stream_alone(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        if call.message.get(":path") == "/slow":
            await trio.sleep(5)
        await call.answer()

    async def scenario(world: World) -> None:
        client = world.client
        slow, other = client.begin("GET", "/slow"), client.begin("GET", "/slow")
        await trio.sleep(1)
        client.reset(slow)
        assert (await client.answer(other)).status == 200
        await trio.sleep(0.1)
        assert sorted(done.flags for done in world.mesh.told.done) == ["-", "DC"]

    await both(scenario, behave, fast=2)


async def test_a_goaway_loses_no_stream(autojump_clock: MockClock) -> None:
    """What it cuts off goes on elsewhere, handed over; what it lets live is answered where it is."""
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def behave(call: Call) -> None:
            await call.arrived()
            await trio.sleep(1)
            await call.answer()

        app = mesh.http2("a", behave)
        mesh.configure(["a"])
        client = Client(mesh)
        assert (await client.request()).status == 200
        numbers = [client.begin("POST", "/") for _ in range(10)]
        await trio.sleep(0.5)
        app.calls[-1].peer.go_away(app.calls[5].number)
        got = [await client.answer(number) for number in numbers]
        assert [message.status for message in got] == [200] * 10
        assert len(app.connections) == 2
        assert mesh.told.paths["full", "reset"] == 5
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_what_is_not_plain_is_handed_over_alone(autojump_clock: MockClock) -> None:
    async def scenario(world: World) -> None:
        client = world.client
        streaming, asked = client.begin("POST", "/", end=False), client.begin("POST", "/", end=False)
        assert (await world.ask()).status == 200
        await client.send_body(asked, b"part", end=False)
        await trio.sleep(0.1)
        await client.send_body(asked, b"later")
        assert (await client.answer(asked)).status == 200
        await client.send_body(streaming, b"later")
        assert (await client.answer(streaming)).status == 200
        assert (await world.ask(fields=[(":authority", "nobody.nowhere")])).status == 404
        with_trailers = client.begin("POST", "/", end=False)
        client.http.send_data(with_trailers, b"x")
        client.http.send_headers(with_trailers, [("x-sum", "1")], end_stream=True)
        client.send()
        assert (await client.answer(with_trailers)).status == 200

    await both(scenario, fast=1, full={"stream": 1, "slow": 1, "route": 1, "trailers": 1})


async def test_an_announced_body_is_waited_for_a_moment(autojump_clock: MockClock) -> None:
    async def scenario(world: World) -> None:
        client = world.client
        for pause_s in (0.005, 1.0):
            number = client.begin("POST", "/", [("content-length", "4")], end=False)
            await trio.sleep(pause_s)
            await client.send_body(number, b"body")
            assert (await client.answer(number)).status == 200

    await both(scenario, fast=1, full={"slow": 1})


async def test_a_slow_client_holds_a_window_and_nobody_else(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def behave(call: Call) -> None:
            await call.arrived()
            await call.answer(body=b"x" * (1_000_000 if call.message.get(":path") == "/big" else 10))

        app = mesh.http2("a", behave)
        mesh.configure(["a"])
        client = Client(mesh, window=1000)
        assert (await client.request()).status == 200
        client.credits = False
        big = [client.begin("GET", "/big") for _ in range(8)]
        await trio.sleep(1)
        assert [len(client.messages[number].body) for number in big] == [1000] * 8
        assert all(len(client.messages[number].body) == 1000 for number in big)
        assert (await client.request()).status == 200
        held = [app.connections[0].http.local_flow_control_window(call.number) for call in app.calls[1:9]]
        assert all(window >= 0 for window in held)
        await trio.sleep(60)  # whoever takes nothing is given up
        assert mesh.told.limits == ["writeProgress"] * 8
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_push_in_the_middle_changes_nothing_of_what_is_under_way(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def slow(call: Call) -> None:
            await call.arrived()
            await trio.sleep(0 if call.number == 1 else 1)
            await call.answer()

        mesh.http2("a", slow)
        mesh.http2("b")
        mesh.configure(["a"])
        client = Client(mesh)
        assert (await client.request()).status == 200
        mesh.worker.fast_requests[0] = 0
        number = client.begin()
        await trio.sleep(0.5)
        mesh.configure(["b"])
        assert (await client.answer(number)).status == 200
        assert mesh.told.done[-1].endpoint is not None
        assert mesh.told.done[-1].endpoint.id == "a"
        assert mesh.worker.fast_requests == [1]
        nursery.cancel_scope.cancel()


async def test_a_drain_lets_what_is_relayed_end(autojump_clock: MockClock) -> None:
    async def behave(call: Call) -> None:
        await call.arrived()
        await trio.sleep(1 if call.message.get(":path") == "/slow" else 0)
        await call.answer()

    async def scenario(world: World) -> None:
        number = world.client.begin("GET", "/slow")
        await trio.sleep(0.5)
        world.mesh.worker.drain()
        assert (await world.client.answer(number)).status == 200

    await both(scenario, behave, fast=1)
