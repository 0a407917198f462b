"""Port 15012 over real TLS: joining, pushes, rejections, leases, restarts, and peers that misbehave."""

import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from control_plane import push, serve, stream
from control_plane.answers import Kind, Refused, SidecarRow
from control_plane.facade import ControlPlane, run
from control_plane.settings import Intervals, ServeConfig
from control_plane.store.contract import StoreError
from sidecar.control.messages import Beat, Bye, Cert, Counter, Error, Join, Renew, Report, Rotate, Unwant, Want
from sidecar.control.push import Push
from sidecar.control.wire import MAX_FRAME_BYTES, WireError, encode
from sidecar.telemetry.metrics import LATENCY_BUCKETS_MS
from tests.net.stream_client import PATIENCE_S, Client, Joined, Keys, connected, names, token_of

# What is waited for in real time is short here; what must not happen by accident stays long.
FAST = Intervals(debounce_s=0.01, debounce_max_s=0.1, lease_check_s=0.05)
ORDERS = ["Endpoints/shop/orders", "Service/shop/orders"]


@dataclass
class Mesh:
    """A running control plane and what it said."""

    plane: ControlPlane
    lines: list[str]
    joined: dict[str, Joined] = field(default_factory=dict)

    async def joins(self, service: str) -> Joined:
        """The identity of a service's account, joined once."""
        if service not in self.joined:
            made = await self.plane.create_token(service=service, namespace="shop")
            self.joined[service] = await Joined.with_token(self.plane.stream_address, made.join_file)
        return self.joined[service]

    @asynccontextmanager
    async def client(self, service: str = "orders") -> AsyncIterator[Client]:
        """A connection with the service's identity, hello not yet said."""
        joined = await self.joins(service)
        async with joined.connected() as client:
            yield client

    @asynccontextmanager
    async def sidecar(
        self, node_id: str = "orders-1", service: str = "orders", **said: object
    ) -> AsyncIterator[Client]:
        """A connection that said hello and took its first push."""
        async with self.client(service) as client:
            await client.hello(node_id, service=service, **said)  # type: ignore[arg-type]  # handed through
            await client.take()
            await self.until(lambda row: row.connected and row.in_sync, f"shop/{node_id}")
            yield client

    async def row(self, node: str) -> SidecarRow | None:
        """The node's status."""
        return next((row for row in (await self.plane.status()).sidecars if row.node == node), None)

    async def until(self, holds: Callable[[SidecarRow], bool], node: str = "shop/orders-1") -> SidecarRow:
        """Wait until the node's status is so."""
        with trio.fail_after(PATIENCE_S):
            while (row := await self.row(node)) is None or not holds(row):
                await self.plane._hub.moved()
        return row

    async def gone(self, node: str) -> None:
        """Wait until the node is not known any more."""
        with trio.fail_after(PATIENCE_S):
            while await self.row(node) is not None:
                await self.plane._hub.moved()

    async def endpoints(self, service: str = "orders") -> dict[str, bool]:
        """Endpoint ids of a service, and whether they are ready."""
        found = await self.plane.resource("Endpoints", "shop", service)
        return {each["id"]: each["ready"] for each in found.document["spec"]["endpoints"]}


Starter = Callable[..., AbstractAsyncContextManager[Mesh]]


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    """Starts a control plane; again and again on the same data."""

    @asynccontextmanager
    async def started(intervals: Intervals = FAST, **settings: object) -> AsyncIterator[Mesh]:
        lines: list[str] = []
        config = ServeConfig(data=tmp_path / "data", stream="127.0.0.1:0", intervals=intervals, say=lines.append)
        config = dataclasses.replace(config, **settings)  # type: ignore[arg-type]  # fields by name
        async with trio.open_nursery() as nursery:
            plane: ControlPlane = await nursery.start(run, config)
            yield Mesh(plane, lines)
            nursery.cancel_scope.cancel()

    return started


@pytest.fixture
async def mesh(start: Starter) -> AsyncIterator[Mesh]:
    async with start() as mesh:
        yield mesh


ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: orders}]
  rules: [{backendRefs: [{name: orders-v1, port: 8080, weight: %d}]}]
"""


class TestJoin:
    async def test_a_token_wins_an_identity_and_says_where_it_listens(self, mesh: Mesh) -> None:
        joined = await mesh.joins("orders")
        assert joined.identity.spiffe_id == "spiffe://mesh.local/ns/shop/sa/orders"
        assert mesh.lines[0] == f"listening streams {mesh.plane.stream_address}"
        assert "joined account orders of namespace shop from 127.0.0.1" in mesh.lines

    async def test_a_token_is_good_for_its_uses(self, mesh: Mesh) -> None:
        made = await mesh.plane.create_token(service="orders", namespace="shop")
        await Joined.with_token(mesh.plane.stream_address, made.join_file)
        roots, token = token_of(made.join_file)
        async with connected(mesh.plane.stream_address, roots) as client:
            await client.say(Join(token=token, csr=Keys().csr))
            error = await client.error()
            assert (error.message, error.final) == ("the join token was used once, as often as it may be", True)
            assert await client.ended() == []

    async def test_a_bad_request_does_not_use_the_token_up(self, mesh: Mesh) -> None:
        made = await mesh.plane.create_token(service="orders", namespace="shop")
        roots, token = token_of(made.join_file)
        async with connected(mesh.plane.stream_address, roots) as client:
            await client.say(Join(token=token, csr="junk"))
            assert "not a PKCS #10 request" in (await client.error()).message
        await Joined.with_token(mesh.plane.stream_address, made.join_file)

    async def test_without_a_certificate_only_join_is_heard(self, mesh: Mesh) -> None:
        made = await mesh.plane.create_token(service="orders", namespace="shop")
        async with connected(mesh.plane.stream_address, token_of(made.join_file)[0]) as client:
            await client.hello()
            error = await client.error()
            assert error.message == "a peer without a certificate may only join"
            assert error.final
        assert (await mesh.plane.status()).sidecars == ()

    async def test_a_grant_outlives_the_token_but_covers_its_service_only(self, mesh: Mesh) -> None:
        async with mesh.client("orders") as client:
            await client.hello(service="stock", account="orders")
            error = await client.error()
        assert error.message == "account orders may not serve stock (allowed: orders)"
        assert error.final

    async def test_another_account_than_the_certificates_is_refused(self, mesh: Mesh) -> None:
        async with mesh.client("orders") as client:
            await client.hello(account="stock")
            assert "the certificate is for account orders in namespace shop" in (await client.error()).message
            assert not await client.ended()

    async def test_renew_gives_a_new_certificate_for_the_same_identity(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as client:
            await client.say(Renew(csr=Keys().csr))
            cert = await client.hear(Cert)
            assert cert.chain.count("BEGIN CERTIFICATE") == 2
            await client.say(Renew(csr="junk"))
            assert "PKCS #10" in (await client.error()).message
            await client.beat()  # and the stream goes on
            await mesh.until(lambda row: row.connected)


class TestPush:
    async def test_the_first_push_brings_the_closure_of_the_wants(self, mesh: Mesh) -> None:
        async with mesh.sidecar(), mesh.client("frontend") as frontend:
            await frontend.hello("frontend-1", service="frontend", version="", wants=["orders.shop"], port=None)
            assert names(await frontend.take()) == (ORDERS, [])
            (endpoint,) = json.loads(frontend.documents["Endpoints/shop/orders"])["spec"]["endpoints"]
            assert (endpoint["id"], endpoint["address"], endpoint["port"]) == ("orders-1", "127.0.0.1", 15006)
            assert endpoint["hop"]["mesh"]["serverName"] == "8080.orders.shop.mesh"

    async def test_only_the_difference_to_what_it_has_travels(self, mesh: Mesh) -> None:
        async with mesh.sidecar(wants=["orders.shop"]) as client:
            have = dict(client.have)
        async with mesh.client() as client:
            await client.hello(wants=["orders.shop", "nobody.shop"], have={**have, "HTTPRoute/shop/old": 1})
            assert names(await client.take()) == ([], ["HTTPRoute/shop/old", "Service/shop/nobody"])

    async def test_a_changed_weight_arrives_as_the_route_alone(self, mesh: Mesh) -> None:
        async with mesh.sidecar(wants=["orders.shop"]) as client:
            await mesh.plane.apply(ROUTE % 1)
            await client.take()
            changed = await mesh.plane.traffic_set("shop", "orders", {"v1": 50})
            push = await client.take()
            assert names(push) == (["HTTPRoute/shop/orders"], [])
            assert push.version == changed.revision
            assert '"weight":50' in client.documents["HTTPRoute/shop/orders"]

    async def test_want_and_unwant(self, mesh: Mesh) -> None:
        async with mesh.sidecar(), mesh.sidecar("frontend-1", "frontend", port=None, wants=["x.shop"]) as frontend:
            await frontend.say(Want(names=("orders.shop",)))
            assert names(await frontend.take()) == (ORDERS, [])
            await frontend.say(Unwant(names=("orders.shop",)))
            assert names(await frontend.take()) == ([], ORDERS)

    async def test_one_push_is_under_way_and_the_newest_state_follows(self, mesh: Mesh) -> None:
        async with mesh.sidecar(wants=["orders.shop"]) as client:
            await mesh.plane.apply(ROUTE % 1)
            first = await client.hear(Push)
            for weight in (2, 3, 4):
                await mesh.plane.apply(ROUTE % weight)
            assert await client.heard_nothing(Push, 0.1)
            await client.say({"type": "ack", "version": first.version})
            push = await client.take()
            assert '"weight":4' in client.documents["HTTPRoute/shop/orders"]
            await mesh.until(lambda row: row.applied == push.version)

    async def test_a_burst_of_changes_is_one_push(self, start: Starter) -> None:
        slow = Intervals(debounce_s=0.1, debounce_max_s=1.0)
        async with start(slow) as mesh, mesh.sidecar(wants=["orders.shop"]) as client:
            for weight in (1, 2, 3):
                await mesh.plane.apply(ROUTE % weight)
            await client.take()
            assert '"weight":3' in client.documents["HTTPRoute/shop/orders"]
            assert await client.heard_nothing(Push, 0.2)

    async def test_what_does_not_concern_a_sidecar_is_not_sent_to_it(self, mesh: Mesh) -> None:
        async with mesh.sidecar("stock-1", "stock") as stock, mesh.sidecar(wants=["orders.shop"]) as orders:
            applied = await mesh.plane.apply(ROUTE % 1)
            await orders.take()
            waited = await mesh.plane.wait_revision(applied.revision, PATIENCE_S)
            assert waited.acked == ("shop/orders-1",)
            assert await stock.heard_nothing(Push, 0.05)

    async def test_policies_of_the_own_service_come_without_being_wanted(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as client:
            await mesh.plane.apply(
                "kind: AuthorizationPolicy\nmetadata: {name: orders, namespace: shop}\n"
                "spec: {targetRefs: [{kind: Service, name: orders}], allow: [{from: {services: [frontend.shop]}}]}"
            )
            await client.take()
            policy = json.loads(client.documents["AuthorizationPolicy/shop/orders"])
            caller = policy["spec"]["allow"][0]["from"]
            assert caller["principals"] == ["spiffe://mesh.local/ns/shop/sa/frontend"]


class TestReject:
    async def test_a_rejection_shows_and_blocks_nothing_else(self, mesh: Mesh) -> None:
        async with mesh.sidecar(wants=["orders.shop"]) as client:
            applied = await mesh.plane.apply(ROUTE % 1)
            await client.take(refuse={"HTTPRoute/shop/orders": "unknown kind of match\n\x1b[31m'Regex'"})
            waited = await mesh.plane.wait_revision(applied.revision, PATIENCE_S)
            assert waited.done
            assert waited.acked == ()
            (rejected,) = waited.rejected
            assert (rejected.node, rejected.name) == ("shop/orders-1", "HTTPRoute/shop/orders")
            assert rejected.reason == "unknown kind of match  [31m'Regex'"
            row = await mesh.until(lambda row: row.in_sync)
            assert row.rejected == (rejected,)
            check = await mesh.plane.check()
            (line,) = [line for line in check if not line.ok]
            assert "HTTPRoute/shop/orders: unknown kind of match" in line.cause

            async with mesh.sidecar("orders-2"):
                push = await client.take()  # an endpoint update, without the bad route
                assert names(push)[0] == ["Endpoints/shop/orders", "Endpoints/shop/orders-v1"]

            await mesh.plane.apply(ROUTE % 2)
            assert "HTTPRoute/shop/orders" in names(await client.take())[0]
            await mesh.until(lambda row: row.rejected == ())

    async def test_the_same_process_is_not_sent_it_again_after_a_reconnect(self, mesh: Mesh) -> None:
        async with mesh.sidecar(wants=["orders.shop"]) as client:
            await mesh.plane.apply(ROUTE % 1)
            await client.take(refuse={"HTTPRoute/shop/orders": "bad"})
            have = dict(client.have)
            await mesh.until(lambda row: bool(row.rejected))
        async with mesh.client() as client:
            await client.hello(wants=["orders.shop"], have=have)
            assert await client.heard_nothing(Push, 0.1)
        async with mesh.client() as client:
            await client.hello(wants=["orders.shop"], have=have, instance="upgraded")
            assert names(await client.take()) == (["HTTPRoute/shop/orders"], [])


class TestLeases:
    async def test_an_app_that_is_not_ready_takes_no_requests_at_once(self, mesh: Mesh) -> None:
        frontend = mesh.sidecar("frontend-1", "frontend", port=None, wants=["orders.shop"])
        async with mesh.sidecar(), mesh.sidecar("orders-2") as second, frontend as caller:
            await second.beat(ready=False)
            await caller.take()
            assert await mesh.endpoints() == {"orders-1": True, "orders-2": False}
            assert '"ready":false' in caller.documents["Endpoints/shop/orders"]
            await second.beat(ready=True)
            await caller.take()
            assert await mesh.endpoints() == {"orders-1": True, "orders-2": True}

    async def test_bye_ends_the_registration_at_once_and_the_service_stays(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as client:
            await client.say(Bye())
            assert not [each for each in await client.ended() if isinstance(each, Error)]
        await mesh.gone("shop/orders-1")
        assert await mesh.endpoints() == {}

    async def test_a_sidecar_that_vanishes_keeps_its_endpoint_until_its_lease_is_over(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, lease_s=0.4)) as mesh:
            async with mesh.sidecar():
                pass
            row = await mesh.until(lambda row: not row.connected)
            assert row.lease_left_s is not None
            assert row.registered
            assert await mesh.endpoints() == {"orders-1": True}
            await mesh.gone("shop/orders-1")
            assert await mesh.endpoints() == {}
            assert "gone shop/orders-1: its lease is over" in mesh.lines

    async def test_many_that_fall_silent_at_once_are_held_and_told_in_one_line(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, lease_s=1.0, lease_check_s=0.2)) as mesh:
            async with AsyncExitStack() as stack:
                names = [f"orders-{number}" for number in range(12)]
                clients = [await stack.enter_async_context(mesh.sidecar(name)) for name in names]
                for client in clients:
                    await client.beat()
                    await client.settled()
            for name in names:
                await mesh.until(lambda row: row.held, f"shop/{name}")
            assert set(await mesh.endpoints()) == set(names)
            lines = [line for line in mesh.lines if line.startswith("held ")]
            assert len(lines) <= 3  # one for each look at the clock that found some
            assert any(" more: too many sidecars fell silent at once" in line for line in lines)

    async def test_a_reconnect_changes_nothing_of_the_registration(self, mesh: Mesh) -> None:
        async with mesh.sidecar():
            before = await mesh.plane.resource("Endpoints", "shop", "orders")
        async with mesh.sidecar():
            assert await mesh.plane.resource("Endpoints", "shop", "orders") == before

    async def test_of_two_processes_of_one_node_the_newest_wins_and_the_old_one_is_told(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as old, mesh.sidecar(instance="i2") as new:
            error = await old.error()
            assert error.message == "another process says that it is node shop/orders-1; the newest one counts"
            assert error.final
            await old.ended()
            await new.beat(ready=False)
            await mesh.until(lambda row: row.connected and not row.ready)

    async def test_the_same_process_on_a_new_connection_is_not_told_off(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as old, mesh.sidecar():
            assert not [each for each in await old.ended() if isinstance(each, Error)]
            await mesh.until(lambda row: row.connected)

    async def test_a_node_of_another_account_is_not_taken_over(self, mesh: Mesh) -> None:
        async with mesh.sidecar(), mesh.client("stock") as thief:
            await thief.hello("orders-1", service="stock")
            error = await thief.error()
            assert error.message == "node id orders-1 in namespace shop is in use by account orders"
            assert not error.final
            assert (await mesh.until(lambda row: row.connected)).account == "orders"

    async def test_nor_by_a_pure_caller_while_its_sidecar_is_away(self, start: Starter) -> None:
        async with start() as mesh, mesh.sidecar():
            joined = mesh.joined
        async with start() as mesh:
            mesh.joined = {name: Joined(mesh.plane.stream_address, each.identity) for name, each in joined.items()}
            async with mesh.client("stock") as thief:
                await thief.hello("orders-1", service="stock", port=None)
                assert "is in use by account orders" in (await thief.error()).message
            assert await mesh.endpoints() == {"orders-1": True}

    async def test_a_restart_keeps_leases_versions_and_everything_else(self, start: Starter) -> None:
        async with start() as mesh, mesh.sidecar(wants=["orders.shop"]) as client:
            await mesh.plane.apply(ROUTE % 7)
            await client.take()
            have, joined, revision = dict(client.have), mesh.joined, (await mesh.plane.version()).revision
        async with start() as mesh:
            row = await mesh.row("shop/orders-1")
            assert row is not None
            assert (row.connected, row.registered) == (False, True)
            assert row.lease_left_s == pytest.approx(30.0, abs=5.0)
            assert await mesh.endpoints() == {"orders-1": True}
            assert (await mesh.plane.version()).revision >= revision
            mesh.joined = {name: Joined(mesh.plane.stream_address, each.identity) for name, each in joined.items()}
            async with mesh.client() as client:
                await client.hello(wants=["orders.shop"], have=have, instance="i1")
                assert await client.heard_nothing(Push, 0.1)
                await mesh.until(lambda row: row.connected and row.in_sync)
                waited = await mesh.plane.wait_revision(revision, 0.0)
                assert waited.acked == ("shop/orders-1",)

    async def test_a_control_plane_that_is_back_waits_for_registered_sidecars(self, start: Starter) -> None:
        async with start() as mesh, mesh.sidecar():
            pass
        async with start() as mesh:
            applied = await mesh.plane.apply(ROUTE % 1)
            waited = await mesh.plane.wait_revision(applied.revision, 0.05)
            assert (waited.done, waited.waiting) == (False, ("shop/orders-1",))

    async def test_a_registration_whose_sidecar_is_away_can_be_deleted(self, mesh: Mesh) -> None:
        async with mesh.sidecar():
            with pytest.raises(Refused, match="is connected") as refusal:
                await mesh.plane.delete("workload", "shop", "orders-1")
            assert refusal.value.kind is Kind.CONFLICT
        await mesh.until(lambda row: not row.connected)
        await mesh.plane.delete("workload", "shop", "orders-1")
        assert await mesh.row("shop/orders-1") is None
        assert await mesh.endpoints() == {}


class TestBounds:
    async def test_silence_ends_the_stream(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, silence_s=0.2)) as mesh:
            async with mesh.sidecar() as client:
                await client.tls.send_all(b"\x00")  # a byte is not a sign of life
                await client.ended()
            assert "stream 127.0.0.1: silent for 0.2 s" in mesh.lines

    async def test_beats_come_and_keep_the_stream(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, beat_s=0.05)) as mesh, mesh.sidecar() as client:
            await client.hear(Beat)
            await client.hear(Beat)

    async def test_a_peer_that_says_nothing_is_closed(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, first_message_s=0.1)) as mesh:
            async with mesh.client() as client:
                await client.ended()
            assert "stream 127.0.0.1: no message within 0.1 s" in mesh.lines

    async def test_a_peer_that_shakes_no_hands_is_closed(self, start: Starter) -> None:
        async with start(dataclasses.replace(FAST, handshake_s=0.1)) as mesh:
            host, _, port = mesh.plane.stream_address.rpartition(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                with trio.fail_after(PATIENCE_S):
                    assert await stream.receive_some(1) == b""
            assert "stream 127.0.0.1: no TLS handshake in time" in mesh.lines

    @pytest.mark.parametrize(
        ("sent", "message"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes was announced (at most 4194304)"),
            (b"\x00\x00\x00\x02[]", "a frame holds a list where an object is expected"),
            (encode({"type": "ack", "version": 1}), "ack: a hello must come first"),
            (encode({"type": "hello"}), "hello: node: missing"),
        ],
    )
    async def test_nonsense_is_answered_and_ends_that_stream_alone(self, mesh: Mesh, sent: bytes, message: str) -> None:
        async with mesh.sidecar(), mesh.client() as client:
            await client.tls.send_all(sent)
            error = await client.error()
            assert error.message == message
            await client.ended()
            assert f"stream 127.0.0.1: {message}" in mesh.lines
            await mesh.until(lambda row: row.connected)

    async def test_a_second_hello_is_nonsense_and_unknown_types_are_not(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as client:
            await client.say({"type": "from-the-future", "field": [1]})
            await client.beat(ready=False)
            await mesh.until(lambda row: not row.ready)
            await client.hello()
            assert (await client.error()).message == "hello: not after a hello"

    async def test_a_stranger_cannot_make_us_keep_much(self, mesh: Mesh) -> None:
        made = await mesh.plane.create_token(service="orders", namespace="shop")
        async with connected(mesh.plane.stream_address, token_of(made.join_file)[0]) as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.tls.send_all(MAX_FRAME_BYTES.to_bytes(4, "big") + b"x" * 64 * 1024 * 1024)
        assert any("more than 65536 bytes from a peer that nobody knows" in line for line in mesh.lines)

    async def test_more_sidecars_than_it_may_have_are_refused(self, start: Starter) -> None:
        async with start(max_sessions=1) as mesh:
            async with mesh.sidecar(), mesh.client() as second:
                await second.hello("orders-2")
                assert (await second.error()).message == "the control plane has 1 sidecars, as many as it may"
            await mesh.until(lambda row: not row.connected)
            async with mesh.sidecar("orders-2"):
                pass

    @pytest.mark.slow
    async def test_a_sidecar_that_takes_nothing_is_closed_and_the_others_are_served(self, mesh: Mesh) -> None:
        async with mesh.sidecar("slow-1", wants=["orders.shop"]) as slow, mesh.sidecar(wants=["orders.shop"]) as quick:
            sidecar = mesh.plane._hub.sidecars["shop/slow-1"]
            for _ in range(500):  # far more than the queue; nobody reads at the other end of `slow`
                if sidecar.peer is not None:
                    sidecar.peer.send(Error(message="x" * 60_000))
                await trio.lowlevel.checkpoint()
            await mesh.plane.apply(ROUTE % 1)
            assert "HTTPRoute/shop/orders" in names(await quick.take())[0]
            await mesh.until(lambda row: not row.connected, "shop/slow-1")
            del slow
        assert any("it does not take its messages; 64 are waiting" in line for line in mesh.lines)

    async def test_one_account_does_not_take_the_place_of_all(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(push, "MAX_OF_ACCOUNT", 2)
        for number in (1, 2):  # they need not even stay
            async with mesh.sidecar(f"orders-{number}"):
                pass
        async with mesh.client() as third:
            await third.hello("orders-3")
            error = await third.error()
            assert error.message == "account orders of namespace shop has 2 sidecars, as many as one account may"
            assert not error.final
        async with mesh.sidecar("orders-2"), mesh.sidecar("stock-1", service="stock"):
            pass

    async def test_nor_all_subscriptions(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(push, "MAX_WANTS_OF_ACCOUNT", 3)
        async with mesh.sidecar("orders-1", wants=["a.shop", "b.shop"]), mesh.client() as second:
            await second.hello("orders-2", wants=["c.shop", "d.shop"])
            assert (await second.error()).message == "account orders of namespace shop wants more than 3 services"
            async with mesh.sidecar("orders-3", wants=["c.shop"]) as third:
                await third.say(Want(names=("d.shop",)))
                assert (await third.error()).message == "too many services are wanted at once"
                await third.say(Unwant(names=("c.shop",)))
                await third.say(Want(names=("d.shop",)))
                assert "Service/shop/d" in names(await third.take())[1]

    async def test_what_a_sidecar_says_that_it_has_is_not_kept_without_end(self, mesh: Mesh) -> None:
        async with mesh.client() as client:
            await client.hello(have={f"Service/shop/made-up-{number}": 1 for number in range(500)})
            await client.hear(Push)
            sidecar = mesh.plane._hub.sidecars["shop/orders-1"]
        await mesh.until(lambda row: not row.connected)
        assert len(sidecar.session.has) == 0
        assert (dict(sidecar.hello.have), sidecar.hello.wants) == ({}, ())

    async def test_renewals_of_one_stream_are_limited(self, mesh: Mesh) -> None:
        async with mesh.sidecar() as client, mesh.sidecar("orders-2") as other:
            for _ in range(stream.RENEWALS_AT_ONCE):
                await client.say(Renew(csr=Keys().csr))
                await client.hear(Cert)
            await client.say(Renew(csr=Keys().csr))
            assert (await client.error()).message == "this sidecar renews too often"
            await other.say(Renew(csr=Keys().csr))
            await other.hear(Cert)

    async def test_unfinished_messages_are_bounded(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "MAX_UNFINISHED_BYTES", 150_000)
        async with mesh.sidecar() as client, mesh.sidecar("orders-2") as other:
            await client.tls.send_all((1024 * 1024).to_bytes(4, "big") + b" " * 200_000)
            assert (await client.error()).message == "too much is unfinished at once"
            await client.ended()
            await other.beat(ready=False)
            await mesh.until(lambda row: row.connected and not row.ready, "shop/orders-2")

    def test_whoever_holds_little_is_not_to_blame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "MAX_UNFINISHED_BYTES", 150_000)
        unfinished = stream.Unfinished()
        unfinished.note("a", 100_000)
        unfinished.note("b", 60_000)
        with pytest.raises(WireError, match="too much is unfinished at once"):
            unfinished.note("c", 70_000)
        unfinished.note("c", 0)
        unfinished.note("a", 0)
        unfinished.note("c", 80_000)

    async def test_a_sidecar_that_says_much_is_read_slowly(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "READ_BURST_S", 0.0)
        monkeypatch.setattr(stream, "MESSAGE_BYTES", 20_000)
        monkeypatch.setattr(stream, "READ_BYTES_PER_S", 200_000)
        async with mesh.sidecar() as client:
            began_s = trio.current_time()
            for _ in range(3):
                await client.beat(ready=False)
                await mesh.until(lambda row: not row.ready)
                await client.beat(ready=True)
                await mesh.until(lambda row: row.ready)
            assert trio.current_time() - began_s >= 0.2  # each costs 0.1 s, the last one's is still to come

    async def test_strangers_of_one_address_leave_room_for_others(
        self, start: Starter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serve, "MAX_STRANGERS_OF_ADDRESS", 2)
        async with start() as mesh:
            host, _, port = mesh.plane.stream_address.rpartition(":")
            async with (
                await trio.open_tcp_stream(host, int(port)),
                await trio.open_tcp_stream(host, int(port)),
                await trio.open_tcp_stream(host, int(port)) as third,
                await trio.open_tcp_stream(host, int(port), local_address="127.0.0.2") as other,
            ):
                with trio.fail_after(PATIENCE_S):
                    try:
                        assert await third.receive_some(1) == b""
                    except trio.BrokenResourceError:
                        pass
                with trio.move_on_after(0.1) as waiting:
                    await other.receive_some(1)
                assert waiting.cancelled_caught
            assert "stream 127.0.0.1: refused, 2 peers of this address are shaking hands" in mesh.lines

    async def test_another_protocol_and_older_tls_are_refused(self, mesh: Mesh) -> None:
        made = await mesh.plane.create_token(service="orders", namespace="shop")
        roots = token_of(made.join_file)[0]
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            async with connected(mesh.plane.stream_address, roots, alpn=("h2",)) as client:
                await client.hear(Error)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            async with connected(mesh.plane.stream_address, roots, alpn=()) as client:
                await client.hear(Error)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        host, _, port = mesh.plane.stream_address.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as plain:
            with pytest.raises(trio.BrokenResourceError):
                await trio.SSLStream(plain, old).do_handshake()

    async def test_a_certificate_of_another_trust_domain_is_refused(self, start: Starter, tmp_path: Path) -> None:
        async with start(data=tmp_path / "other") as other:
            stranger = await other.joins("orders")
        async with start() as mesh:
            ours = await mesh.joins("orders")
            async with connected(mesh.plane.stream_address, ours.identity.bundle_pem, stranger.identity) as client:
                assert await client.ended() == []  # TLS 1.3: a client's handshake is done before it is judged
            assert (await mesh.plane.status()).sidecars == ()
            assert any("its certificate does not hold" in line for line in mesh.lines)


class TestReports:
    async def test_reports_become_stats_and_status(self, mesh: Mesh) -> None:
        def report(requests: int) -> Report:
            buckets = tuple(requests if bound >= 50.0 else 0 for bound in LATENCY_BUCKETS_MS)
            row = Counter(
                reporter="source", service="stock.shop", backend="stock.shop:8080", code="200", flags="-",
                requests=requests, latency_ms_sum=0.0, latency_ms_buckets=buckets,
            )  # fmt: skip
            return Report(
                instance="i1",
                counters=(row,),
                ejected=("shop/stock/8080/stock-2",),
                config_version=3,
                config_age_s=1.0,
                spiffe_id="spiffe://mesh.local/ns/shop/sa/orders",
                not_after_s=9e9,
            )

        async with mesh.sidecar() as client:
            await client.say(report(100))
            await client.say(report(150))
            await client.settled()
            row = await mesh.until(lambda row: row.cert_not_after_s == 9e9)
            assert row.config_age_s == pytest.approx(1.0, abs=1.0)
            stats = await mesh.plane.stats()
            assert [(each.service, each.backend, each.success) for each in stats.rows] == [
                ("stock.shop", "", 1.0),
                ("stock.shop", "stock.shop:8080", 1.0),
            ]
            assert [(each.service, each.version, each.endpoints, each.ready) for each in stats.versions] == [
                ("orders.shop", "v1", 1, 1)
            ]
            assert stats.ejected[0].by == ("shop/orders-1",)
            sidecar = [each for each in (await mesh.plane.certs()).rows if each.kind == "sidecar"]
            assert [(each.name, each.spiffe_id) for each in sidecar] == [
                ("shop/orders-1", "spiffe://mesh.local/ns/shop/sa/orders")
            ]

    async def test_rotate_asks_everybody_and_renews_the_own_certificate(self, mesh: Mesh) -> None:
        before = [row for row in (await mesh.plane.certs()).rows if row.kind == "control-plane"]
        async with mesh.sidecar() as client:
            rotation = await mesh.plane.rotate(5.0)
            assert rotation.asked == 1
            assert (await client.hear(Rotate)).spread_s == 5.0
        async with mesh.sidecar("orders-2"):  # new connections meet the new certificate
            after = [row for row in (await mesh.plane.certs()).rows if row.kind == "control-plane"]
            assert after[0].not_after_s >= before[0].not_after_s

    async def test_metrics_tell_what_happened(self, mesh: Mesh) -> None:
        async with mesh.sidecar():
            text = mesh.plane.metrics().decode()
        assert "control_plane_connected_sidecars 1.0" in text
        assert "control_plane_signed_certificates_total 1.0" in text
        assert "_created" not in text


class TestStart:
    async def test_a_port_in_use_is_named(self, mesh: Mesh, tmp_path: Path) -> None:
        config = ServeConfig(data=tmp_path / "second", stream=mesh.plane.stream_address, say=mesh.lines.append)
        with pytest.raises(OSError, match="address already in use") as problem:
            await run(config)
        assert problem.value.filename == mesh.plane.stream_address
        assert not (tmp_path / "second").exists()

    async def test_data_in_use_is_named(self, mesh: Mesh, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="another control plane uses it"):
            await run(ServeConfig(data=tmp_path / "data", stream="127.0.0.1:0", say=mesh.lines.append))
