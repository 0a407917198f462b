"""The three entries of the full path: before routing, after a failed attempt, with the answer's first bytes in hand."""

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.balance.balancer import balancer_of
from sidecar.codec.events import Head
from sidecar.codec.h1_server import H1Server
from sidecar.errors import UPSTREAM_RESET
from sidecar.model.clusters import Endpoint, Wire
from sidecar.model.messages import RequestHead
from sidecar.policy import attempts
from sidecar.policy.attempts import Exchange, Try
from sidecar.policy.retry import Failure
from sidecar.proxy import exchange
from sidecar.proxy.downstream import Http1Downstream
from sidecar.proxy.edits import forwarded_request
from sidecar.proxy.handover import HandOver
from sidecar.proxy.outbound import Outbound
from sidecar.proxy.patience import Patience
from sidecar.proxy.upstream import Http1Lease
from sidecar.transport.memory import MemoryStream
from tests.support.mesh import ORDERS, PORT, Answered, AppConnection, MemoryMesh, ok, read_answer

REQUEST = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"


class Entry:
    """A client whose request was read by somebody else up to its head: what a fast path hands over."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.client_end, self.proxy_end = self._connect()
        codec = H1Server()
        event, *_ = codec.feed(REQUEST)
        assert isinstance(event, Head)
        assert isinstance(event.head, RequestHead)
        self.client = Http1Downstream(self.proxy_end, codec, mesh.worker.limits.write_progress_s)
        self.record = HandOver(mesh.worker.snapshot, event.head, trio.current_time(), body_complete=True)
        self.side = Outbound(mesh.worker)
        self.patience = Patience(mesh.worker.timer)

    def _connect(self) -> tuple[MemoryStream, MemoryStream]:
        accepted: list[MemoryStream] = []
        self.mesh.network.listen("entry:1", accepted.append)
        return self.mesh.network.dial("entry:1"), accepted[0]

    async def routed(self) -> Try:
        """Do by hand what a fast path does before it hands over: route, start the machine, take the first try."""
        record, worker = self.record, self.mesh.worker
        plan = record.route = await self.side.route(record, self.proxy_end.peer, self.patience)
        cluster = record.cluster = plan.backends[0]
        record.request_id = b"1"
        live = worker.live.cluster(cluster.key)
        record.exchange = attempts.start(
            live,
            cluster.endpoints,
            cluster.known,
            plan.policies[0],
            balancer_of(live, plan.policies[0].balancing, ""),
            method=record.head.method,
            idempotency_key=False,
            per_try_s=None,
            ends_at_s=None,
            now_s=worker.now(),
        )
        step = attempts.next_step(record.exchange, worker.now(), worker.rng)
        assert isinstance(step, Try)
        record.endpoint = step.endpoint
        return step

    async def finish(self) -> Answered:
        await exchange.serve(self.record, self.client, self.side, self.mesh.worker, self.patience)
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="GET", target="/x", headers=[("host", "orders")]))
        http.send(h11.EndOfMessage())
        return await read_answer(self.client_end, http)


async def test_before_routing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        entry = Entry(mesh)

        assert (await entry.finish()).status == 200
        assert [request.target for request, _ in app.seen] == [b"/x"]
        assert mesh.told.done[0].attempts == 1
        nursery.cancel_scope.cancel()


async def test_after_a_failed_attempt_the_next_one_goes_elsewhere(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        apps = {name: mesh.app(name) for name in ("a", "b")}
        mesh.configure(["a", "b"])
        entry = Entry(mesh)
        step = await entry.routed()
        machine = entry.record.exchange
        assert machine is not None
        attempts.outcome(machine, Failure(UPSTREAM_RESET, None, False), 0.0, mesh.worker.rng)
        entry.record.why_left = "upstream_reset"

        assert (await entry.finish()).status == 200
        other = "b" if step.endpoint.id == "a" else "a"
        assert len(apps[step.endpoint.id].seen) == 0
        assert len(apps[other].seen) == 1
        assert mesh.told.done[0].tried == (step.endpoint.id, other)
        nursery.cancel_scope.cancel()


async def written(mesh: MemoryMesh, machine: Exchange, endpoint: Endpoint, head: RequestHead) -> Http1Lease:
    """A lease with the whole request written, as another path would hand it over."""
    lease = await mesh.worker.pool.lease(machine.cluster, endpoint, machine.policy, Wire.H1)
    assert isinstance(lease, Http1Lease)
    lease.put_request(forwarded_request(head, []), wants_trailers=False)
    lease.put_end()
    await lease.push()
    return lease


@pytest.mark.parametrize("held", [0, 1, 20, 40])
async def test_with_bytes_of_the_answer_in_hand(held: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        app = mesh.app("a")
        mesh.configure(["a"])
        entry = Entry(mesh)
        record = entry.record
        step = await entry.routed()
        machine = record.exchange
        assert machine is not None
        lease = record.lease = await written(mesh, machine, step.endpoint, record.head)
        answer = await lease.connection.stream.receive()
        record.response_prefix = answer[:held]
        if answer[held:]:
            lease.connection.stream._inbound.chunks.appendleft(answer[held:])  # type: ignore[attr-defined]
            lease.connection.stream._inbound.held += len(answer[held:])  # type: ignore[attr-defined]

        got = await entry.finish()

        assert (got.status, got.body, got.complete) == (200, b"ok", True)
        assert len(app.seen) == 1
        assert machine.cluster.in_flight == 0
        assert mesh.worker.pool.idle_count(step.endpoint) == 1
        nursery.cancel_scope.cancel()


async def test_an_answer_in_hand_that_is_a_failure_is_tried_elsewhere(autojump_clock: MockClock) -> None:
    async def cut(app: AppConnection, request: h11.Request, body: bytes) -> None:
        app.stream.abort()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", cut)
        mesh.app("b", ok)
        mesh.configure(["a"])
        entry = Entry(mesh)
        record = entry.record
        step = await entry.routed()
        machine = record.exchange
        assert machine is not None
        mesh.configure(["a", "b"])
        record.lease = await written(mesh, machine, step.endpoint, record.head)

        assert (await entry.finish()).status == 200
        assert mesh.told.done[0].tried == ("a", "b")
        nursery.cancel_scope.cancel()


async def test_live_state_survives_a_push_that_does_not_touch_the_endpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a")
        mesh.configure(["a", "b"])
        await mesh.request()
        cluster = next(iter(mesh.worker.live.clusters.values()))
        before = cluster.endpoints["a"]
        before.failures, before.ejected_until_s, before.ejections = 3, 99.0, 2
        kept = mesh.worker.pool.idle_count(before.endpoint)
        mesh.configure(["a", "c"])

        assert cluster.key == (ORDERS, PORT)
        assert cluster.endpoints["a"] is before
        assert (before.failures, before.ejected_until_s, before.ejections) == (3, 99.0, 2)
        assert mesh.worker.pool.idle_count(before.endpoint) == kept == 1
        assert set(cluster.endpoints) == {"a", "c"}
        nursery.cancel_scope.cancel()


async def test_a_request_under_way_keeps_its_snapshot(autojump_clock: MockClock) -> None:
    async def slow(app: AppConnection, request: h11.Request, body: bytes) -> None:
        await trio.sleep(2)
        await app.answer()

    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.app("a", slow)
        mesh.configure(["a"])
        answers: list[Answered] = []

        async def ask() -> None:
            answers.append(await mesh.request())

        nursery.start_soon(ask)
        await trio.sleep(1)
        mesh.configure([])
        await trio.sleep(2)

        assert [answer.status for answer in answers] == [200]
        assert mesh.told.done[0].config_version == 1
        assert next(iter(mesh.worker.live.clusters.values())).endpoints == {}
        nursery.cancel_scope.cancel()
