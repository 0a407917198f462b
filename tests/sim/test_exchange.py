"""The full path on virtual time: routes, tries, budgets, deadlines, bodies; one rule a test."""

import h11
import trio
from trio.testing import MockClock

from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.policies import Retries, Timeouts, TrafficPolicy
from tests.support.mesh import AppConnection, MemoryMesh, exchange, ok


async def reset(app: AppConnection, request: h11.Request, body: bytes) -> None:
    app.stream.abort()


async def silent(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await trio.sleep(3600)


async def unavailable(app: AppConnection, request: h11.Request, body: bytes) -> None:
    await app.answer(503, b"busy")


async def test_a_request_reaches_the_app_and_its_answer_the_client(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        answer = await mesh.request(
            target="/x?y=1", fields=[("X-Case", "Kept"), ("connection", "x-drop"), ("x-drop", "1")]
        )
        request, _ = app.seen[0]
        names = {name for name, _ in request.headers}
        raw = [name for name, _ in request.headers.raw_items()]

        assert (answer.status, answer.body, answer.complete) == (200, b"ok", True)
        assert request.target == b"/x?y=1"
        assert b"X-Case" in raw
        assert b"x-drop" not in names
        assert {b"traceparent", b"x-request-id", b"host"} <= names
        assert [(done.status, done.flags, done.attempts) for done in mesh.told.done] == [(200, "-", 1)]
        nursery.cancel_scope.cancel()


async def test_connections_are_kept_on_both_sides(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        stream, http = mesh.network.dial("proxy:1"), h11.Connection(h11.CLIENT)
        for _ in range(5):
            assert (await exchange(stream, http)).complete
            http.start_next_cycle()

        assert app.connections == 1
        assert len(app.seen) == 5
        nursery.cancel_scope.cancel()


async def test_an_idle_connection_to_the_app_is_closed_after_three_seconds(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        await mesh.request()
        await trio.sleep(4.5)
        await mesh.request()

        assert app.connections == 2
        nursery.cancel_scope.cancel()


async def test_a_get_that_was_reset_is_tried_at_another_endpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", reset)
        mesh.app("b", ok)
        mesh.configure(["a", "b"], TrafficPolicy(balancing=Balancing(algorithm=Algorithm.ROUND_ROBIN)))
        answers = [await mesh.request() for _ in range(20)]

        assert [answer.status for answer in answers] == [200] * 20
        retried = [done for done in mesh.told.done if done.attempts == 2]
        assert retried
        assert all(done.tried == ("a", "b") for done in retried)
        assert mesh.told.ejections
        nursery.cancel_scope.cancel()


async def test_a_post_that_was_reset_is_not_repeated(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        bad = mesh.app("a", reset)
        good = mesh.app("b", ok)
        mesh.configure(["a", "b"])
        answers = [await mesh.request("POST", body=b"pay") for _ in range(20)]

        failed = [answer for answer in answers if answer.status == 503]
        assert len(failed) == len(bad.seen) > 0
        assert len(bad.seen) + len(good.seen) == 20
        assert {answer.fields["x-mesh-retry-denied"] for answer in failed} == {"method"}
        nursery.cancel_scope.cancel()


async def test_a_post_with_an_idempotency_key_is_repeated_with_its_body(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        bad = mesh.app("a", reset)
        good = mesh.app("b", ok)
        mesh.configure(["a", "b"])
        for _ in range(10):
            assert (await mesh.request("POST", body=b"pay", fields=[("idempotency-key", "k")])).status == 200

        assert bad.seen
        assert {body for _, body in good.seen} == {b"pay"}
        nursery.cancel_scope.cancel()


async def test_a_refused_connection_is_tried_elsewhere_whatever_the_method(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("b", ok)
        mesh.configure(["nobody", "b"])
        answers = [await mesh.request("POST", body=b"pay") for _ in range(20)]

        assert [answer.status for answer in answers] == [200] * 20
        nursery.cancel_scope.cancel()


async def test_a_silent_app_ends_the_request_at_its_deadline(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", silent)
        mesh.configure(["a"], TrafficPolicy(timeouts=Timeouts(request_s=2.5)))
        start = trio.current_time()
        answer = await mesh.request()

        assert answer.status == 504
        assert answer.fields["x-mesh-flags"] == "UT"
        assert trio.current_time() - start == 2.5
        assert answer.body.endswith(b"(meshctl explain flag UT)\n")
        nursery.cancel_scope.cancel()


async def test_a_slow_try_is_given_up_and_another_endpoint_answers(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", silent)
        mesh.app("b", ok)
        mesh.configure(["a", "b"], TrafficPolicy(timeouts=Timeouts(per_try_s=0.4)))
        answers = [await mesh.request() for _ in range(8)]

        assert [answer.status for answer in answers] == [200] * 8
        assert any(done.attempts == 2 for done in mesh.told.done)
        nursery.cancel_scope.cancel()


async def test_the_last_answer_is_forwarded_when_tries_are_used_up(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        for name in ("a", "b", "c"):
            mesh.app(name, unavailable)
        mesh.configure(["a", "b", "c"], TrafficPolicy(retries=Retries(attempts=2)))
        answer = await mesh.request()

        assert (answer.status, answer.body) == (503, b"busy")
        done = mesh.told.done[0]
        assert (done.flags, done.attempts, sorted(done.tried)) == ("URX", 3, ["a", "b", "c"])
        nursery.cancel_scope.cancel()


async def test_a_large_body_streams_both_ways_in_bounded_memory(autojump_clock: MockClock) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB

    async def echo(app: AppConnection, request: h11.Request, got: bytes) -> None:
        await app.answer(200, got)

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", echo)
        mesh.configure(["a"])
        stream, http = mesh.network.dial("proxy:1"), h11.Connection(h11.CLIENT)
        answer = await exchange(stream, http, "POST", "/", body)

        assert answer.complete
        assert answer.body == body
        nursery.cancel_scope.cancel()


async def test_an_answer_cut_short_is_never_a_clean_end(autojump_clock: MockClock) -> None:
    async def half(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await app.stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        app.stream.close()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", half)
        mesh.configure(["a"])
        answer = await mesh.request()

        assert answer.status in (0, 200)
        assert not answer.complete
        assert mesh.told.done[0].flags == "UC"
        nursery.cancel_scope.cancel()


async def test_a_client_that_resets_frees_the_app(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", silent)
        mesh.configure(["a"])
        stream = mesh.network.dial("proxy:1")
        await stream.send(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        await trio.sleep(1)
        stream.abort()
        await trio.sleep(0.1)

        assert [(done.flags, done.status) for done in mesh.told.done] == [("DC", 0)]
        assert mesh.worker.live.clusters[next(iter(mesh.worker.live.clusters))].in_flight == 0
        nursery.cancel_scope.cancel()


async def test_no_route_and_unknown_names_are_answered_404(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.configure(["a"])
        for host in ("elsewhere.example.com", "nothing", "orders:9"):
            answer = await mesh.request(fields=[("host", host)])
            assert (answer.status, answer.fields["x-mesh-flags"]) == (404, "NR")
        nursery.cancel_scope.cancel()


async def test_no_endpoint_is_answered_503(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.configure([])
        answer = await mesh.request()

        assert (answer.status, answer.fields["x-mesh-flags"]) == (503, "UH")
        nursery.cancel_scope.cancel()
