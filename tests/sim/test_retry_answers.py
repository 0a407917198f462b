"""Answers that a policy names are tried elsewhere, and nobody asks again before the answer allows it; virtual time."""

import h11
import trio
from trio.testing import MockClock

from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.policies import Backoff, Retries, RetryOn, Timeouts, TrafficPolicy
from tests.support.http2_peers import Call, Client, Http2Mesh
from tests.support.mesh import AppConnection, MemoryMesh, ok

ONE_AFTER_THE_OTHER = Balancing(algorithm=Algorithm.ROUND_ROBIN)


async def busy(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(429, b"later", [("retry-after", "2")])


async def broken(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(500, b"bug")


async def test_a_named_status_is_tried_elsewhere_when_its_time_has_come(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", busy)
        mesh.app("b", ok)
        retries = Retries(statuses=frozenset({429}))
        mesh.configure(["a", "b"], TrafficPolicy(balancing=ONE_AFTER_THE_OTHER, retries=retries))
        begun_s = trio.current_time()
        answer = await mesh.request()
        assert (answer.status, trio.current_time() - begun_s) == (200, 2.0)
        assert mesh.told.done[0].tried == ("a", "b")
        for _ in range(40):
            assert (await mesh.request()).status == 200
        assert not mesh.told.ejections  # it blames nobody
        nursery.cancel_scope.cancel()


async def test_an_answer_that_asks_for_more_time_than_there_is_goes_to_the_client(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", busy)
        policy = TrafficPolicy(timeouts=Timeouts(request_s=1.5), retries=Retries(statuses=frozenset({429})))
        mesh.configure(["a"], policy)
        answer = await mesh.request()
        assert (answer.status, answer.body) == (429, b"later")
        assert mesh.told.done[0].retry_denied == "deadline"
        nursery.cancel_scope.cancel()


async def test_without_a_word_of_the_policy_nothing_of_it_is_looked_at(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a", busy)
        mesh.configure(["a"])
        assert (await mesh.request()).status == 429
        assert len(app.seen) == 1
        nursery.cancel_scope.cancel()


async def test_a_plain_500_is_tried_again_for_those_who_ask_for_5xx(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", broken)
        mesh.app("b", ok)
        retries = Retries(on=frozenset({RetryOn.SERVER_ERROR}))
        mesh.configure(["a", "b"], TrafficPolicy(balancing=ONE_AFTER_THE_OTHER, retries=retries))
        assert [(await mesh.request()).status for _ in range(4)] == [200] * 4
        posted = [(await mesh.request("POST", body=b"x")).status for _ in range(2)]
        assert sorted(posted) == [200, 500]
        nursery.cancel_scope.cancel()


async def unavailable(call: Call) -> None:
    await call.arrived()
    await trio.sleep(1.0)
    call.head(200, [("content-type", "application/grpc"), ("grpc-status", "14")], end=True)


async def works(call: Call) -> None:
    await call.arrived()
    await call.answer(200, b"", [("content-type", "application/grpc")], [("grpc-status", "0")])


async def test_each_try_is_told_what_is_left_of_the_calls_deadline(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        first, second = mesh.http2("a", unavailable), mesh.http2("b", works)
        retries = Retries(on=frozenset({RetryOn.GRPC_UNAVAILABLE}), backoff=Backoff(base_s=1e-6, max_s=1e-6))
        mesh.configure(["a", "b"], TrafficPolicy(balancing=ONE_AFTER_THE_OTHER, retries=retries))
        fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S")]
        got = await Client(mesh).request("POST", "/shop.Orders/Get", b"x", fields)
        assert got.trailers == [("grpc-status", "0")]
        told = [call.message.get("grpc-timeout") for call in (*first.calls, *second.calls)]
        assert told == ["5000m", "4000m"]
        nursery.cancel_scope.cancel()
