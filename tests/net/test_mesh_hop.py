"""The hop between two sidecars: mutual TLS on real sockets, exact identities, authorization, rotation."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from sidecar.model.bootstrap import HostPort, MtlsMode
from sidecar.model.clusters import PLAIN, Endpoint, EndpointSet, Hop, Mesh, Service, ServiceKey, ServicePort
from sidecar.model.policies import AllowRule, AuthorizationPolicy, Mode, TargetRef
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.transport.identity import Identity
from sidecar.transport.tls import Contexts
from tests.support import pki
from tests.support.planes import Plane, RawApp, ask, inbound_bootstrap, outbound_bootstrap, raw_app, running

ORDERS = ServiceKey("shop", "orders")
FRONTEND_ID, ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/frontend", "spiffe://mesh.local/ns/shop/sa/orders"
NAME = "8080.orders.shop.mesh"
GET = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\npay"


def to_orders(
    *addresses: tuple[str, int], name: str = NAME, expected: str = ORDERS_ID, plain: bool = False
) -> Snapshot:
    """What the caller's sidecar is told."""
    hop: Hop = PLAIN if plain else Mesh(name, frozenset({expected}))
    endpoints = tuple(
        Endpoint(id=f"orders-{index}", service_port=8080, host=host, port=port, hop=hop)
        for index, (host, port) in enumerate(addresses, 1)
    )
    return Snapshot(complete=True).changed(
        [
            Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(8080),))),
            Resource("Endpoints/shop/orders", 1, EndpointSet(ORDERS, endpoints)),
        ],
        version=1,
    )


def allowing(*principals: str, mode: Mode = Mode.ENFORCE) -> Snapshot:
    """What the called side is told."""
    rules = (AllowRule(principals=frozenset(principals)),)
    policy = AuthorizationPolicy(
        namespace="shop", name="orders", targets=(TargetRef("Service", "orders"),), allow=rules, mode=mode
    )
    return Snapshot(complete=True).changed([Resource("AuthorizationPolicy/shop/orders", 1, policy)], version=1)


@asynccontextmanager
async def pair(
    app: RawApp,
    *,
    caller: Identity | None = None,
    access: Snapshot | None = None,
    mtls: MtlsMode = MtlsMode.STRICT,
    **told: object,
) -> AsyncIterator[tuple[Plane, Plane]]:
    """A caller's and a called service's sidecar."""
    inbound = inbound_bootstrap("orders", app.address, mtls=mtls)
    async with running(inbound, access or Snapshot(complete=True), pki.identity("orders")) as called:
        snapshot = to_orders(called.addresses[0], **told)  # type: ignore[arg-type]
        outbound = outbound_bootstrap("frontend", {ORDERS: 8080})
        async with running(outbound, snapshot, caller or pki.identity("frontend")) as calling:
            yield calling, called


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def field(message: bytes | bytearray, name: str) -> list[str]:
    return [value.decode() for value in re.findall(rb"(?im)^%b: ?(.*)\r$" % name.encode(), bytes(message))]


async def test_the_app_sees_who_called_and_nobody_can_pretend() -> None:
    forged = GET.replace(
        b"\r\n\r\n", b"\r\nX-Forwarded-Client-Cert: By=me;URI=spiffe://mesh.local/ns/shop/sa/admin\r\n\r\n"
    )
    async with raw_app() as app, pair(app) as (calling, called):
        answer, _ = await ask(calling.addresses[0], forged)

        assert status(answer) == 200
        assert field(app.received, "x-forwarded-client-cert") == [f"By={ORDERS_ID};URI={FRONTEND_ID}"]
        assert [done.principal for done in calling.told.done] == [ORDERS_ID]
        assert [(done.principal, done.tls) for done in called.told.done] == [(FRONTEND_ID, True)]


async def test_a_request_that_names_no_host_gets_the_services() -> None:
    """HTTP/1.0 allows it; many servers refuse an empty Host."""
    async with raw_app() as app, pair(app) as (calling, _):
        answer, _ = await ask(calling.addresses[0], b"GET /x HTTP/1.0\r\n\r\n")

        assert status(answer) == 200
        assert field(app.received, "host") == ["orders.shop:8080"]


async def test_both_sides_are_in_one_trace() -> None:
    async with raw_app() as app, pair(app) as (calling, called):
        await ask(calling.addresses[0], GET)
        source, destination = calling.told.done[0], called.told.done[0]

        assert source.trace is not None
        assert destination.trace is not None
        assert destination.trace.trace_id == source.trace.trace_id
        assert destination.trace.parent_span_id == source.spans[0].span_id
        [sent] = field(app.received, "traceparent")
        assert sent == f"00-{source.trace.trace_id}-{destination.span_id}-01"


async def test_the_deadline_shrinks_from_hop_to_hop() -> None:
    async with raw_app() as app, pair(app) as (calling, _):
        await ask(calling.addresses[0], GET.replace(b"\r\n\r\n", b"\r\nx-mesh-timeout-ms: 2000\r\n\r\n"))
        [left] = field(app.received, "x-mesh-timeout-ms")

        assert 0 < int(left) <= 2000


async def test_a_peer_of_another_identity_gets_no_byte() -> None:
    async with raw_app() as app, pair(app, expected="spiffe://mesh.local/ns/shop/sa/billing") as (calling, _):
        answer, _ = await ask(calling.addresses[0], GET)

        assert (status(answer), field(answer, "x-mesh-flags")) == (503, ["URX,UF"])
        assert app.received == b""


@pytest.mark.parametrize("kind", pki.BAD_PEERS)
async def test_a_bad_caller_gets_no_byte_through(kind: str) -> None:
    async with raw_app() as app, pair(app, caller=pki.bad_peer(kind)) as (calling, called):
        answer, _ = await ask(calling.addresses[0], POST)

        assert status(answer) == 503
        assert field(answer, "x-mesh-flags")[0].endswith(("UF", "UR"))  # an alert, or closed by our own check
        assert app.received == b""
        assert called.told.done == []


@pytest.mark.parametrize("name", ["9999.orders.shop.mesh", "8080.stock.shop.mesh", "orders"])
async def test_an_undeclared_name_is_refused(name: str) -> None:
    async with raw_app() as app, pair(app, name=name) as (calling, _):
        answer, _ = await ask(calling.addresses[0], GET)

        assert status(answer) == 503
        assert app.received == b""


async def test_a_caller_that_is_not_allowed_is_answered_403() -> None:
    access = allowing("spiffe://mesh.local/ns/shop/sa/billing")
    async with raw_app() as app, pair(app, access=access) as (calling, called):
        answer, _ = await ask(calling.addresses[0], GET)

        assert (status(answer), field(answer, "x-mesh-flags")) == (403, ["RBAC"])
        assert answer.endswith(b"(meshctl explain flag RBAC)\n")
        assert b"AuthorizationPolicy/shop/orders" in answer
        assert app.received == b""
        assert [done.flags for done in called.told.done] == ["RBAC"]


async def test_an_allowed_caller_passes_and_shadow_decides_nothing() -> None:
    for access in (allowing(FRONTEND_ID), allowing("spiffe://mesh.local/ns/shop/sa/x", mode=Mode.SHADOW)):
        async with raw_app() as app, pair(app, access=access) as (calling, _):
            assert status((await ask(calling.addresses[0], GET))[0]) == 200


async def test_a_dead_app_lets_even_a_post_go_elsewhere() -> None:
    async with raw_app() as app:
        dead = RawApp(HostPort("127.0.0.1", 1))
        async with pair(dead) as (calling, bad), pair(app) as (_, good):
            calling.plane.switch(to_orders(bad.addresses[0], good.addresses[0]))
            for _ in range(8):
                answer, _ = await ask(calling.addresses[0], POST)
                assert status(answer) == 200
            assert any(done.tried == ("orders-1", "orders-2") for done in calling.told.done)
            assert app.received.count(b"pay") == 8


async def test_renewed_identities_drop_no_connection() -> None:
    async with raw_app() as app, pair(app) as (calling, called):
        stream = await trio.open_tcp_stream(*calling.addresses[0])
        async with stream:
            for _ in range(6):
                await stream.send_all(GET)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
                calling.plane.identify(Contexts(pki.identity("frontend")))
                called.plane.identify(Contexts(pki.identity("orders")))
        assert len(calling.told.dials) == 1
        assert len(app.received.split(b"GET ")) == 7


async def test_plain_text_is_refused_in_strict_mode_and_served_in_permissive() -> None:
    async with raw_app() as app:
        async with pair(app) as (_, called):
            answer, closed = await ask(called.addresses[0], GET)
            assert not answer.startswith(b"HTTP/")
            assert closed
            assert app.received == b""
        async with pair(app, mtls=MtlsMode.PERMISSIVE) as (calling, called):
            assert status((await ask(called.addresses[0], GET))[0]) == 200
            assert status((await ask(calling.addresses[0], GET))[0]) == 200
            assert [done.tls for done in called.told.done] == [False, True]
