"""Connections to an HTTP/2 app that many requests share: how many, what a failure costs whom, when they end."""

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Ejection, Limits, Retries, Timeouts, TrafficPolicy
from tests.support.http2_peers import Call, Client, Http2Mesh, Message, ok

HTTP2_CODECS = True  # each test runs with both

HELD_S = 5.0


async def held(call: Call) -> None:
    """Answer after a while."""
    await call.arrived()
    await trio.sleep(HELD_S)
    await call.answer()


async def ask(mesh: Http2Mesh, count: int, method: str = "GET", body: bytes = b"") -> list[Message]:
    """So many requests at once, on as few connections as they need."""
    got: list[Message] = []

    async def one(client: Client) -> None:
        got.append(await client.request(method, body=body))

    async with trio.open_nursery() as requests:
        clients = [Client(mesh) for _ in range((count + 99) // 100)]
        for number in range(count):
            requests.start_soon(one, clients[number // 100])
    return got


def statuses(got: list[Message]) -> dict[int, int]:
    return {status: sum(1 for each in got if each.status == status) for status in {each.status for each in got}}


@pytest.mark.parametrize(("requests", "connections"), [(1, 1), (100, 1), (101, 2), (250, 3)])
async def test_100_requests_share_a_connection(requests: int, connections: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held)
        mesh.configure(["a"])
        assert statuses(await ask(mesh, requests)) == {200: requests}
        assert len(app.connections) == connections
        assert trio.current_time() < HELD_S + 1
        assert mesh.shared() == connections

        await trio.sleep(40)  # idle ones say goodbye and go
        assert (app.open, mesh.shared(), mesh.in_flight()) == (0, 0, 0)
        assert [len(each.went_away) for each in app.connections] == [1] * connections
        nursery.cancel_scope.cancel()


async def test_what_the_app_allows_is_obeyed_once_it_has_said_so(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held, settings={3: 7})
        mesh.configure(["a"])
        assert statuses(await ask(mesh, 1)) == {200: 1}
        assert statuses(await ask(mesh, 21)) == {200: 21}
        assert len(app.connections) <= 4  # what a new connection allows is known a moment later
        nursery.cancel_scope.cancel()


async def test_those_who_wait_for_a_dial_share_its_failure(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.configure(["a"], TrafficPolicy(retries=Retries(attempts=0)))
        dial = mesh.worker.pool._dialer.dial

        async def slow_dial(*args: object) -> object:
            await trio.sleep(0.5)
            return await dial(*args)  # type: ignore[arg-type]

        mesh.worker.pool._dialer.dial = slow_dial  # type: ignore[method-assign, assignment]
        got = await ask(mesh, 50, "POST", b"x")
        assert statuses(got) == {503: 50}
        assert {each.get("x-mesh-flags") for each in got} <= {"UF", "URX,UF", "UH"}
        assert len(mesh.told.dials) < 50
        assert (mesh.in_flight(), mesh.shared()) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_who_leaves_while_dialling_for_others_leaves_them_a_dial(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a")
        mesh.configure(["a"])
        dial = mesh.worker.pool._dialer.dial

        async def slow_dial(*args: object) -> object:
            await trio.sleep(0.5)
            return await dial(*args)  # type: ignore[arg-type]

        mesh.worker.pool._dialer.dial = slow_dial  # type: ignore[method-assign, assignment]
        first, others = Client(mesh), Client(mesh)
        number = first.begin()
        await trio.sleep(0.1)
        rest = [others.begin() for _ in range(20)]
        await trio.sleep(0.1)
        first.reset(number)
        assert [(await others.answer(each)).status for each in rest] == [200] * 20
        assert len(app.connections) == 1
        assert trio.current_time() < 1.0
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_requests_that_give_up_waiting_for_room_leave_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", held, settings={3: 2})
        limits = Limits(connections=1, pending=10)
        mesh.configure(["a"], TrafficPolicy(limits=limits, timeouts=Timeouts(request_s=2.0)))
        await ask(mesh, 1)
        got = statuses(await ask(mesh, 20))
        assert got == {503: 8, 504: 12}
        assert mesh.in_flight() == 0
        mesh.configure(["a"], TrafficPolicy(limits=limits))
        await trio.sleep(10)
        assert statuses(await ask(mesh, 4)) == {200: 4}
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["refused", "goaway"])
async def test_a_post_that_was_not_taken_is_sent_again(how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def refuses(call: Call) -> None:
            await call.arrived()
            if how == "refused":
                call.reset(7)
            else:
                call.peer.go_away(call.number - 2 if call.number > 1 else 0)

        bad, good = mesh.http2("bad", refuses), mesh.http2("good")
        mesh.configure(["bad", "good"])
        assert statuses(await ask(mesh, 10, "POST", b"x" * 1000)) == {200: 10}
        assert bad.calls
        assert {len(call.message.body) for call in good.calls} == {1000}
        assert len(good.calls) == 10
        nursery.cancel_scope.cancel()


async def test_a_goaway_that_cuts_off_more_than_the_retry_budget_loses_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def takes_ten_of_the_first(call: Call) -> None:
            await call.arrived()
            await trio.sleep(1)
            if call.peer is not app.connections[0]:
                await call.answer()
            elif call.number < 20:
                await call.answer()
                call.peer.go_away(19)

        app = mesh.http2("a", takes_ten_of_the_first)
        mesh.configure(["a"])
        assert statuses(await ask(mesh, 90, "POST", b"x")) == {200: 90}  # the budget has 18 + 30
        assert [sum(call.peer is each for call in app.calls) for each in app.connections] == [90, 80]
        nursery.cancel_scope.cancel()


async def test_a_request_that_goaways_cut_off_again_and_again_is_not_lost_and_nobody_is_ejected(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def takes_one(call: Call) -> None:
            """Of each connection, but for the sixth: what came meanwhile is not taken."""
            await call.arrived()
            await trio.sleep(1)
            if call.peer is app.connections[-1] and len(app.connections) == 6:
                await call.answer()
            elif call.number == 1:
                await call.answer()
                call.peer.go_away(1)

        app = mesh.http2("a", takes_one)
        policy = TrafficPolicy(ejection=Ejection(consecutive_failures=1, max_percent=100))
        mesh.configure(["a"], policy)
        assert statuses(await ask(mesh, 20, "POST", b"x")) == {200: 20}  # the last are cut off five times
        assert [sum(call.peer is each for call in app.calls) for each in app.connections] == [20, 19, 18, 17, 16, 15]
        assert mesh.told.ejections == []
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_rush_on_a_service_that_takes_ten_requests_of_each_connection_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def takes_ten(call: Call) -> None:
            await call.arrived()
            await trio.sleep(0.02)
            if call.number < 20:
                await call.answer()
            if call.number == 19:
                call.peer.go_away(19)

        app = mesh.http2("a", takes_ten)
        mesh.configure(["a"])
        assert statuses(await ask(mesh, 100, "POST", b"x")) == {200: 100}  # the last are cut off nine times
        assert len(app.connections) == 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_a_post_that_may_have_been_taken_is_not(how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def breaks(call: Call) -> None:
            await call.arrived()
            if how == "reset":
                call.reset(2)
            else:
                call.peer.stream.abort()

        bad, good = mesh.http2("bad", breaks), mesh.http2("good")
        mesh.configure(["bad", "good"])
        got = [message for _ in range(4) for message in await ask(mesh, 1, "POST", b"x")]
        assert statuses(got) == {200: len(good.calls), 503: len(bad.calls)}
        assert len(good.calls) + len(bad.calls) == 4
        assert {each.get("x-mesh-flags") for each in got if each.status == 503} == {"UR"}
        nursery.cancel_scope.cancel()


async def test_after_a_goaway_what_is_under_way_ends_and_the_connection_closes(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held)
        mesh.configure(["a"])
        client = Client(mesh)
        early = [client.begin() for _ in range(3)]
        await trio.sleep(1)
        app.connections[0].go_away(5)
        await trio.sleep(1)
        late = client.begin()
        assert [(await client.answer(each)).status for each in early] == [200] * 3
        await trio.sleep(0.1)
        assert app.connections[0].closed.is_set()
        assert (await client.answer(late)).status == 200
        assert len(app.connections) == 2
        assert mesh.shared() == 1
        nursery.cancel_scope.cancel()


async def test_a_silent_app_is_given_up_after_a_ping(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held)
        policy = TrafficPolicy(timeouts=Timeouts(request_s=300.0), retries=Retries(attempts=0))
        mesh.configure(["a"], policy)
        assert statuses(await ask(mesh, 1)) == {200: 1}
        began_s = trio.current_time()
        app.connections[0].silent = True
        [got] = await ask(mesh, 1, "POST", b"x")
        assert (got.status, got.get("x-mesh-flags")) == (503, "UR")
        assert 39 < trio.current_time() - began_s < 42  # 30 s of silence, 10 s for the answer
        assert (mesh.shared(), mesh.in_flight()) == (0, 0)
        nursery.cancel_scope.cancel()


async def test_a_client_that_resets_its_stream_ends_the_apps_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", held)
        mesh.configure(["a"])
        client = Client(mesh)
        kept, left = client.begin(), client.begin()
        await trio.sleep(1)
        client.reset(left)
        await trio.sleep(0.01)
        assert [call.message.reset for call in app.calls] in ([None, 8], [8, None])
        assert (await client.answer(kept)).status == 200
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_request_reset_in_the_same_breath_reaches_nobody(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a")
        mesh.configure(["a"])
        client = Client(mesh)
        assert (await client.request()).status == 200
        for _ in range(20):
            number = client.http.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "orders"), (":path", "/")]
            client.http.send_headers(number, head, end_stream=True)
            client.http.reset_stream(number, 8)
        client.send()
        await trio.sleep(1)
        assert len(app.calls) == 1
        assert (await client.request()).status == 200
        assert sorted(done.flags for done in mesh.told.done) == ["-", "-"] + ["DC"] * 20
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_an_answer_that_breaks_off_resets_its_own_stream_only(how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)

        async def breaks(call: Call) -> None:
            if call.message.get(":path") != "/":
                await held(call)
                return
            call.head(200)
            await call.peer.send_body(call.number, b"x" * 1000, end=False)
            await trio.sleep(1)
            if how == "reset":
                call.reset(2)
            else:
                call.peer.stream.abort()

        mesh.http2("a", breaks)
        mesh.configure(["a"])
        client = Client(mesh)
        broken, other = client.begin(), client.begin("GET", "/other")
        got = await client.answer(broken)
        assert (got.status, got.body, got.whole, got.reset) == (200, b"x" * 1000, False, 2)
        answer = await client.answer(other)
        assert answer.whole
        assert answer.status == 200  # a GET is sent again
        assert not client.closed.is_set()
        nursery.cancel_scope.cancel()


async def test_an_early_answer_reaches_a_client_that_has_not_sent_all(autojump_clock: MockClock) -> None:
    async def early(call: Call) -> None:
        await call.answer(413, b"too big")

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", early, credits=False)
        mesh.configure(["a"])
        client = Client(mesh)
        got = await client.request("POST", body=b"x" * 1_000_000)
        assert (got.status, got.body) == (413, b"too big")
        await trio.sleep(0.1)
        assert app.calls[0].message.reset is not None  # nobody sends the rest
        nursery.cancel_scope.cancel()
    assert mesh.in_flight() == 0


async def test_an_app_that_takes_no_more_of_an_upload_has_the_streams_idle_time(autojump_clock: MockClock) -> None:
    async def deaf(call: Call) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", deaf, credits=False)
        timeouts = Timeouts(request_s=None, stream_idle_s=60.0)
        mesh.configure(["a"], TrafficPolicy(timeouts=timeouts, retries=Retries(attempts=0)))
        got = await Client(mesh).request("POST", body=b"x" * 200_000)
        assert got.status in (503, 504)
        assert 59 < trio.current_time() < 61
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_a_slow_stream_does_not_stop_others(autojump_clock: MockClock) -> None:
    async def answers(call: Call) -> None:
        await call.arrived()
        await call.answer(body=b"x" * (5_000_000 if call.message.get(":path") == "/big" else 10))

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", answers)
        mesh.configure(["a"])
        stuck = Client(mesh)
        stuck.credits = False  # reads, but never opens a window again
        number = stuck.begin("GET", "/big")
        other = Client(mesh)
        big = other.begin("GET", "/big")
        for _ in range(50):
            assert (await other.request()).body == b"x" * 10
        assert len((await other.answer(big)).body) == 5_000_000
        assert trio.current_time() < 1
        got = await stuck.answer(number)
        assert (got.status, got.reset, len(got.body)) == (200, 8, 65_535)
        assert 29 < trio.current_time() < 32
        assert mesh.in_flight() == 0
        nursery.cancel_scope.cancel()


async def test_small_answers_pass_big_ones(autojump_clock: MockClock) -> None:
    order: list[str] = []

    async def answers(call: Call) -> None:
        await call.arrived()
        await call.answer(body=b"x" * (2_000_000 if call.message.get(":path") == "/big" else 10))

    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        mesh.http2("a", answers)
        mesh.configure(["a"])
        client = Client(mesh)

        async def one(path: str) -> None:
            await client.request("GET", path)
            order.append(path)

        async with trio.open_nursery() as requests:
            for _ in range(5):
                requests.start_soon(one, "/big")
            for _ in range(20):
                requests.start_soon(one, "/small")
        assert order == ["/small"] * 20 + ["/big"] * 5
        nursery.cancel_scope.cancel()


async def test_1000_denied_uploads_leave_the_connections_window_whole(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery)
        app = mesh.http2("a", ok)
        mesh.configure(["a"])
        client = Client(mesh)
        for _ in range(1000):
            number = client.begin("POST", fields=[(":authority", "nowhere")], end=False)
            await client.send_body(number, b"x" * 30_000)
            got = await client.answer(number)
            assert (got.status, got.body[:10]) in ((404, got.body[:10]), (0, b""))
        await trio.sleep(1)
        assert not client.closed.is_set()
        assert client.http.outbound_flow_control_window >= 1024 * 1024 // 2  # given back by halves
        assert (await client.request("POST", body=b"x" * 2_000_000)).status == 200
        assert len(app.calls) == 1
        nursery.cancel_scope.cancel()
