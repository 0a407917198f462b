"""gRPC through one sidecar and over a mutual TLS pair, with grpcio at both ends: nobody notices what is between."""

import hashlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import trio

from sidecar.model.bootstrap import HostPort, ProcessLimits
from sidecar.model.clusters import PLAIN, Endpoint, EndpointSet, Hop, Mesh, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.policies import (
    AllowRule,
    AuthorizationPolicy,
    Ejection,
    Retries,
    RetryOn,
    TargetRef,
    Timeouts,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.routes import BackendRef, HttpRoute, ParentRef, RouteRule
from sidecar.model.snapshot import Resource, Snapshot
from tests.support import needs, pki
from tests.support.grpc_calls import GrpcPeer, grpc_peer
from tests.support.http2_codecs import Codecs
from tests.support.planes import Plane, inbound_bootstrap, outbound_bootstrap, running

HTTP2_CODECS = True  # each test runs with both

ORDERS = ServiceKey("shop", "orders")
ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/orders"
NAME = "8080.orders.shop.mesh"
FOUR_MIB = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def child() -> Iterator[GrpcPeer]:
    with grpc_peer() as found:
        yield found


@pytest.fixture
async def peer(child: GrpcPeer) -> AsyncIterator[GrpcPeer]:
    """Servers and a client, fresh for each test."""
    yield child
    await child.reset()


@dataclass
class Mesh2:
    """A caller's sidecar, and beside each server one of its own if the way is `mesh`."""

    calling: Plane
    called: list[Plane]

    @property
    def address(self) -> tuple[str, int]:
        """Where the client calls."""
        return self.calling.addresses[0]


def told(endpoints: Sequence[Endpoint], policy: TrafficPolicy | None) -> Snapshot:
    """What the caller's sidecar knows."""
    resources = [
        Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(8080, Protocol.GRPC),))),
        Resource("Endpoints/shop/orders", 1, EndpointSet(ORDERS, tuple(endpoints))),
    ]
    if policy is not None:
        made = TrafficPolicyResource(
            namespace="shop", name="orders", targets=(TargetRef("Service", "orders"),), policy=policy
        )
        resources.append(Resource("TrafficPolicy/shop/orders", 1, made))
    return Snapshot(complete=True).changed(resources, version=1)


@asynccontextmanager
async def mesh(
    way: str,
    *servers: HostPort,
    policy: TrafficPolicy | None = None,
    access: Snapshot | None = None,
    limits: ProcessLimits | None = None,
    more: Sequence[Resource] = (),
) -> AsyncIterator[Mesh2]:
    """Sidecars in front of the servers: `plain` the caller's only, `mesh` a pair over mutual TLS."""
    async with AsyncExitStack() as stack:
        called, endpoints = [], []
        for index, server in enumerate(servers, 1):
            address: HostPort = server
            hop: Hop = PLAIN
            if way == "mesh":
                bootstrap = replace(inbound_bootstrap("orders", server), limits=limits or ProcessLimits())
                plane = await stack.enter_async_context(
                    running(bootstrap, access or Snapshot(complete=True), pki.identity("orders"))
                )
                called.append(plane)
                address, hop = HostPort(*plane.addresses[0]), Mesh(NAME, frozenset({ORDERS_ID}), ("h2", "http/1.1"))
            endpoints.append(
                Endpoint(id=f"orders-{index}", service_port=8080, host=address.host, port=address.port, hop=hop)
            )
        outbound = outbound_bootstrap("frontend", {ORDERS: 8080}, limits)
        snapshot = told(endpoints, policy).changed(more, version=2)
        calling = await stack.enter_async_context(running(outbound, snapshot, pki.identity("frontend")))
        yield Mesh2(calling, called)


both_ways = pytest.mark.parametrize("way", ["plain", "mesh"])


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()[:16]}"


@both_ways
async def test_all_four_shapes_of_call(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        echo = await peer.call(world.address, "Echo", "hello")
        assert (echo.code, echo.messages, echo.trailing["x-server"]) == ("OK", ["hello"], "a")

        upload = await peer.call(world.address, "Upload", "one", "two", "three")
        assert (upload.code, upload.messages) == ("OK", [digest(b"onetwothree")])

        download = await peer.call(world.address, "Download", "20 70000")
        assert download.code == "OK"
        assert download.messages == [digest(bytes((number,)) * 70_000) for number in range(20)]

        talk = await peer.call(world.address, "Talk", *("abc", "def", ""))
        assert (talk.code, talk.messages) == ("OK", ["cba", "fed", ""])

        await _settled(world, 4)
        assert [done.grpc_status for done in world.calling.told.done] == ["0"] * 4
        assert [done.protocol for done in world.calling.told.done] == ["HTTP/2"] * 4
        assert {done.flags for done in world.calling.told.done} == {"-"}


@both_ways
async def test_unary_calls_and_downloads_are_relayed_on_both_sides(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        for _ in range(5):  # the first dials, on either side
            assert (await peer.call(world.address, "Echo", "hello")).code == "OK"
        download = await peer.call(world.address, "Download", "20 70000")
        assert download.messages == [digest(bytes((number,)) * 70_000) for number in range(20)]
        await _settled(world, 6)
        for each in (world.calling, *world.called):
            wanted = (5, 1) if each.plane.worker.fast_path else (0, 0)
            assert (each.plane.fast_requests(), each.told.paths["full", "connect"]) == wanted


@both_ways
async def test_metadata_goes_both_ways_unchanged(peer: GrpcPeer, way: str) -> None:
    sent = [
        ["x-initial-a", "one"],
        ["x-initial-b-bin", "00ff0a"],
        ["x-trailing-c", "two words, with commas"],
        ["x-trailing-d-bin", "e29883"],
        ["x-twice", "1"],
        ["x-twice", "2"],
    ]
    async with mesh(way, await peer.serve("a")) as world:
        result = await peer.call(world.address, "Echo", "x", metadata=sent)
        assert result.code == "OK"
        assert (result.initial["x-initial-a"], result.initial["x-initial-b-bin"]) == ("one", "00ff0a")
        assert (result.trailing["x-trailing-c"], result.trailing["x-trailing-d-bin"]) == (sent[2][1], "e29883")
        (seen,) = await peer.seen()
        assert [pair for pair in seen["metadata"] if pair in sent] == sent


@both_ways
@pytest.mark.parametrize("gzip", [False, True])
async def test_big_messages_arrive_whole(peer: GrpcPeer, way: str, gzip: bool) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        compressed = [["x-compress", "1"]] if gzip else []
        result = await peer.call(world.address, "Echo", size=FOUR_MIB, gzip=gzip, metadata=compressed)
        assert (result.code, result.messages) == ("OK", [digest(b"m" * FOUR_MIB)])


@both_ways
async def test_many_calls_share_connections(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        results = await peer.calls(
            world.address, *({"method": "Talk", "messages": [f"call {n}", "again"]} for n in range(50))
        )
        assert [result.messages for result in results] == [[f"call {n}"[::-1], "niaga"] for n in range(50)]
        assert len(world.calling.told.dials) < 10


@both_ways
@pytest.mark.parametrize("code", ["NOT_FOUND", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"])
async def test_errors_of_the_service_arrive_as_they_were(peer: GrpcPeer, way: str, code: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        result = await peer.call(world.address, "Fail", code)
        assert (result.code, result.details) == (code, "100% not today \N{SNOWMAN}")
        assert result.trailing["x-server"] == "a"
        assert len(await peer.seen()) == 1  # POST: not tried again, whatever the code

        late = await peer.call(world.address, "FailLate", code)
        assert (late.code, late.details, late.messages) == (code, "after all", ["so far so good"])
        await _settled(world, 2)
        assert {done.status for done in world.calling.told.done} == {200}
        assert len({done.grpc_status for done in world.calling.told.done}) == 1


@both_ways
async def test_a_method_that_does_not_exist_is_unimplemented(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        assert (await peer.call(world.address, "/mesh.Test/Nothing", "x")).code == "UNIMPLEMENTED"
        assert (await peer.call(world.address, "/mesh.Other/Echo", "x")).code == "UNIMPLEMENTED"


@both_ways
async def test_a_deadline_reaches_the_service_and_ends_the_call(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        result = await peer.call(world.address, "Echo", "x", timeout_s=5.0)
        assert result.code == "OK"
        (seen,) = await peer.seen()
        assert 3.0 < seen["left_s"] <= 5.001

        result = await peer.call(world.address, "Hang", timeout_s=0.3)
        assert (result.code, result.messages) == ("DEADLINE_EXCEEDED", [])
        assert result.took_s < 3.0
        await peer.seen(ended=2)


@both_ways
async def test_the_default_timeout_is_not_told_to_services_that_stream(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        await peer.call(world.address, "Talk", "x", timeout_s=0)
        (seen,) = await peer.seen()
        assert seen["left_s"] is None


@both_ways
@pytest.mark.parametrize("after", [0, 1])
async def test_a_cancelled_call_ends_at_the_service(peer: GrpcPeer, way: str, after: int) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        assert (await peer.call(world.address, "Echo", "warm")).code == "OK"
        result = await peer.call(world.address, "Hang", "one", cancel_after=after)
        assert (result.code, result.messages) == ("CANCELLED", ["one"] * after)
        if after:
            await peer.seen(ended=2)
            await _settled(world, 2)
            assert (world.calling.told.done[1].flags, world.calling.told.done[1].grpc_status) == ("DC", "1")


def trying_again(*on: str, attempts: int = 2) -> TrafficPolicy:
    return TrafficPolicy(retries=Retries(attempts=attempts, on=frozenset(map(RetryOn, on))))


@both_ways
async def test_a_named_status_is_tried_again_though_it_is_a_post(
    peer: GrpcPeer, way: str, http2_served_by: Codecs
) -> None:
    asked = f"UNAVAILABLE 1 {way}-{http2_served_by.name}-named"
    servers = await peer.serve("a"), await peer.serve("b")
    async with mesh(way, *servers, policy=trying_again("grpc-unavailable")) as world:
        result = await peer.call(world.address, "Flaky", asked)
        assert (result.code, result.messages) == ("OK", [asked])
        seen = await peer.seen()
        assert sorted(one["server"] for one in seen) == ["a", "b"]
        await _settled(world, 1)
        assert (world.calling.told.done[0].attempts, world.calling.told.done[0].grpc_status) == (2, "0")

        other = await peer.call(world.address, "Flaky", f"INTERNAL 1 {way}-{http2_served_by.name}-other")
        assert other.code == "INTERNAL"  # not named


@both_ways
async def test_tries_end_and_the_last_answer_is_forwarded(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a"), policy=trying_again("grpc-resource-exhausted")) as world:
        result = await peer.call(world.address, "Flaky", f"RESOURCE_EXHAUSTED 9 {way}-last")
        assert (result.code, result.details) == ("RESOURCE_EXHAUSTED", "try again")
        assert len(await peer.seen()) == 3
        await _settled(world, 1)
        assert (world.calling.told.done[0].flags, world.calling.told.done[0].grpc_status) == ("URX", "8")


@both_ways
async def test_an_endpoint_whose_trailers_tell_of_failure_is_ejected(peer: GrpcPeer, way: str) -> None:
    policy = TrafficPolicy(ejection=Ejection(consecutive_failures=2, max_percent=50))
    async with mesh(way, await peer.serve("a"), await peer.serve("b"), policy=policy) as world:
        for _ in range(8):
            assert (await peer.call(world.address, "FailLate", "INTERNAL")).code == "INTERNAL"
        assert len(world.calling.told.ejections) == 1


@pytest.mark.needs("nghttpd")
async def test_an_answer_that_is_not_grpc_is_forwarded_and_no_failure_of_the_endpoint(
    peer: GrpcPeer, tmp_path: Path
) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        server = HostPort(*found.getsockname())
    policy = TrafficPolicy(ejection=Ejection(consecutive_failures=1, max_percent=100))
    command = [str(needs.find("nghttpd")), "--no-tls", "-d", str(tmp_path), "-a", server.host, str(server.port)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.run_process, command, check=False))
        with trio.fail_after(10):
            while not await _listens(server):  # noqa: ASYNC110 - it does not say when it does
                await trio.sleep(0.01)
        async with mesh("plain", server, await peer.serve("b"), policy=policy) as world:
            results = [await peer.call(world.address, "Echo", "x") for _ in range(10)]
            assert Counter(result.code for result in results).keys() == {
                "UNIMPLEMENTED",
                "OK",
            }  # 404, as clients read it
            await _settled(world, 10)
            assert {(done.status, done.grpc_status) for done in world.calling.told.done} == {(404, "12"), (200, "0")}
            assert world.calling.told.ejections == []
        nursery.cancel_scope.cancel()


async def _listens(server: HostPort) -> bool:
    try:
        await (await trio.open_tcp_stream(*server)).aclose()
    except OSError:
        return False
    return True


async def test_no_endpoint_is_unavailable_and_says_what_to_do(peer: GrpcPeer) -> None:
    async with mesh("plain") as world:
        result = await peer.call(world.address, "Echo", "x")
        assert result.code == "UNAVAILABLE"
        assert result.details == "orders.shop:8080 has no endpoint (meshctl explain flag UH)"
        assert (result.initial | result.trailing)["x-mesh-flags"] == "UH"
        await _settled(world, 1)
        assert (world.calling.told.done[0].flags, world.calling.told.done[0].grpc_status) == ("UH", "14")


async def test_an_app_that_is_not_there_is_unavailable(peer: GrpcPeer) -> None:
    with trio.socket.socket() as nobody:
        await nobody.bind(("127.0.0.1", 0))
        for way in ("plain", "mesh"):
            async with mesh(way, HostPort(*nobody.getsockname())) as world:
                result = await peer.call(world.address, "Echo", "x")
                assert result.code == "UNAVAILABLE"
                assert "meshctl explain flag" in result.details


async def test_who_may_not_call_is_denied(peer: GrpcPeer) -> None:
    rules = (AllowRule(principals=frozenset({"spiffe://mesh.local/ns/shop/sa/somebody"})),)
    policy = AuthorizationPolicy(
        namespace="shop", name="orders", targets=(TargetRef("Service", "orders"),), allow=rules
    )
    access = Snapshot(complete=True).changed([Resource("AuthorizationPolicy/shop/orders", 1, policy)], version=1)
    async with mesh("mesh", await peer.serve("a"), access=access) as world:
        result = await peer.call(world.address, "Echo", "x")
        assert result.code == "PERMISSION_DENIED"
        assert "meshctl explain flag RBAC" in result.details
        assert await peer.seen() == []


@both_ways
async def test_a_time_that_a_user_set_ends_a_call(peer: GrpcPeer, way: str) -> None:
    policy = TrafficPolicy(timeouts=Timeouts(request_s=0.3, request_asked=True))
    async with mesh(way, await peer.serve("a"), policy=policy) as world:
        result = await peer.call(world.address, "Hang")
        assert result.code == "DEADLINE_EXCEEDED"
        assert "meshctl explain flag UT" in result.details
        await peer.seen(ended=1)


@both_ways
async def test_a_call_that_breaks_off_ends_with_a_status_and_the_reason(peer: GrpcPeer, way: str) -> None:
    rule = RouteRule(backends=(BackendRef(ORDERS, 8080),), request_s=0.3)
    route = HttpRoute(namespace="shop", name="orders", parents=(ParentRef(ORDERS),), rules=(rule,))
    async with mesh(way, await peer.serve("a"), more=[Resource("HTTPRoute/shop/orders", 1, route)]) as world:
        result = await peer.call(world.address, "Hang", "so far so good")
        assert (result.code, result.messages) == ("DEADLINE_EXCEEDED", ["so far so good"])
        assert "meshctl explain flag UT" in result.details
        await peer.seen(ended=1)
        await _settled(world, 1)
        assert (world.calling.told.done[0].flags, world.calling.told.done[0].grpc_status) == ("UT", "4")


@both_ways
async def test_an_endpoint_that_dies_in_the_middle_leaves_a_status(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a")) as world:
        results = []

        async def one() -> None:
            results.append(await peer.call(world.address, "Hang", "so far so good"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await peer.seen(begun=1)
            await peer.kill("a")
        assert results[0].code == "UNAVAILABLE"  # whether its message got through before or not
        assert results[0].took_s < 5.0


@both_ways
async def test_a_stream_may_be_silent_for_longer_than_an_upload(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a"), limits=ProcessLimits(body_idle_s=0.1)) as world:
        result = await peer.call(world.address, "Talk", "ab", "cd", pause_s=0.4)
        assert (result.code, result.messages) == ("OK", ["ba", "dc"])


@both_ways
async def test_no_call_is_lost_while_endpoints_say_goaway(peer: GrpcPeer, way: str) -> None:
    servers = await peer.serve("a", goaway_ms=50), await peer.serve("b", goaway_ms=50)
    async with mesh(way, *servers) as world:
        results = []

        async def some() -> None:
            for _ in range(20):
                calls = ({"method": "Talk", "messages": [str(n)]} for n in range(10))
                results.extend(await peer.calls(world.address, *calls))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(some)
            nursery.start_soon(some)
        assert Counter(result.code for result in results) == {"OK": 400}
        assert {result.trailing["x-server"] for result in results} == {"a", "b"}
        dialling = world.called[0] if world.called else world.calling
        assert len(dialling.told.dials) > 2  # connections did end


@both_ways
async def test_an_endpoint_that_left_is_not_noticed(peer: GrpcPeer, way: str) -> None:
    async with mesh(way, await peer.serve("a"), await peer.serve("b")) as world:
        await peer.calls(world.address, *({"method": "Echo", "messages": [str(n)]} for n in range(20)))
        await peer.kill("a")
        calls = ({"method": "Echo", "messages": [str(n)]} for n in range(20))
        results = await peer.calls(world.address, *calls)
        assert {(result.code, result.trailing["x-server"]) for result in results} == {("OK", "b")}


async def _settled(world: Mesh2, count: int) -> None:
    """Until the caller's sidecar has told of so many requests: it does so after the client has its answer."""
    with trio.fail_after(5):
        while len(world.calling.told.done) < count:  # noqa: ASYNC110 - what observers are told wakes nobody
            await trio.sleep(0.01)
