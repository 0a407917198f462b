"""TCP through one sidecar and over the mutual TLS pair: every byte, each end by itself, each reset as a reset."""

import contextlib
from collections import Counter

import pytest
import trio

from sidecar.codec.h2_limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import PLAIN, Protocol, ServiceKey
from sidecar.model.policies import AllowRule, AuthorizationPolicy, TargetRef, Timeouts, TrafficPolicy
from sidecar.model.routes import BackendRef, L4Rule, ParentRef, TcpRoute
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.proxy.shared import MAX_TUNNELS
from tests.support import tunnels
from tests.support.tunnels import ORDERS, PORT, everything, is_cut, mesh, nobody, tcp_server, told

HTTP2_CODECS = True  # each test runs with both

both_ways = pytest.mark.parametrize("way", ["plain", "mesh"])
TWENTY_MB = 20_000_000


@both_ways
async def test_bytes_come_back_and_both_ends_are_ends(way: str) -> None:
    async with tcp_server(tunnels.echo) as server, mesh(way, server) as world:
        client = await world.dial()
        for text in (b"hello", b"\x00\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n"):
            await client.send_all(text)
            got = b""
            while len(got) < len(text):
                got += await client.receive_some()
            assert got == text
        await client.send_eof()
        assert await client.receive_some() == b""

        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
            [done] = plane.told.done
            assert (done.protocol, done.bytes_received, done.bytes_sent) == ("TCP", 2023, 2023)
            assert plane.told.tcp == [done.reporter]
            assert done.endpoint is not None
            assert done.tls is (way == "mesh")


@both_ways
async def test_twenty_megabytes_go_each_way_at_once(way: str) -> None:
    hashes: dict[str, str] = {}

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taken, "server got", stream)
            hashes["server sent"] = await tunnels.send(stream, TWENTY_MB)

    async def taken(name: str, stream: trio.SocketStream) -> None:
        hashes[name] = await tunnels.receive(stream)

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taken, "client got", client)
            hashes["client sent"] = await tunnels.send(client, TWENTY_MB)
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]
            [done] = plane.told.done
            assert (done.bytes_received, done.bytes_sent) == (TWENTY_MB, TWENTY_MB)
    assert hashes["client got"] == hashes["server sent"]
    assert hashes["server got"] == hashes["client sent"]


@both_ways
async def test_a_server_answers_after_its_clients_end(way: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        asked = await everything(stream)
        await stream.send_all(b"you said " + asked)

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        await client.send_all(b"all of it")
        await client.send_eof()
        assert await everything(client) == b"you said all of it"


@both_ways
async def test_a_client_goes_on_after_its_servers_end(way: str) -> None:
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"bye")
        await stream.send_eof()
        heard.append(await everything(stream))

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        assert await everything(client) == b"bye"
        await client.send_all(b"but still")
        await client.send_eof()
        assert await told(world.calling) == ["-"]
        for plane in world.called:
            assert await told(plane) == ["-"]
    assert heard == [b"but still"]


@both_ways
@pytest.mark.parametrize("moved", [1, 1_000_000], ids=["few bytes", "bulk"])
async def test_a_clients_reset_resets_its_server(way: str, moved: int) -> None:
    seen = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(bytes(moved))
        try:
            await everything(stream)
        except trio.BrokenResourceError:
            seen.set()

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        await client.send_all(b"x")
        got = 0
        while got < moved:
            got += len(await client.receive_some())
        tunnels.reset(client)
        with trio.fail_after(5):
            await seen.wait()
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["DC"]


@both_ways
@pytest.mark.parametrize("moved", [1, 1_000_000], ids=["few bytes", "bulk"])
async def test_a_servers_reset_resets_its_client(way: str, moved: int) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        got = 0
        while got < moved:
            got += len(await stream.receive_some())
        tunnels.reset(stream)

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        await client.send_all(bytes(moved))
        with trio.fail_after(5):
            assert await is_cut(client)
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["UR"]


@both_ways
async def test_a_connection_goes_elsewhere_when_the_first_endpoint_refuses(way: str) -> None:
    async with nobody() as dead, tcp_server(tunnels.echo) as server, mesh(way, dead, server) as world:
        for _ in range(6):
            client = await world.dial()
            await client.send_all(b"hi")
            await client.send_eof()
            assert await everything(client) == b"hi"
        assert await told(world.calling, 6) == ["-"] * 6
        tried = {done.tried for done in world.calling.told.done}
        assert ("orders-1", "orders-2") in tried
        assert all(each[-1] == "orders-2" for each in tried)


@both_ways
async def test_a_connection_that_nobody_takes_is_reset_and_told(way: str) -> None:
    async with nobody() as dead, mesh(way, dead) as world:
        client = await world.dial()
        with trio.fail_after(5):
            assert await is_cut(client)
        assert await told(world.calling) == ["URX,UF"]
        assert world.calling.told.tcp == []
        for plane in world.called:
            assert set(await told(plane)) <= {"UF", "URX,UF"}


WEIGHTED = 400


async def test_weights_hold_for_connections() -> None:
    """90 of 100: the other share of 400 is 40, and between 21 and 61 in 999 of 1000 runs."""

    def named(name: bytes) -> tunnels.Serve:
        async def serve(stream: trio.SocketStream) -> None:
            await stream.send_all(name)

        return serve

    one, two = ServiceKey("shop", "orders-v1"), ServiceKey("shop", "orders-v2")
    backends = (BackendRef(one, PORT, 90), BackendRef(two, PORT, 10))
    route = TcpRoute(
        namespace="shop", name="split", parents=(ParentRef(ORDERS, PORT),), rules=(L4Rule(backends=backends),)
    )
    async with tcp_server(named(b"v1")) as first, tcp_server(named(b"v2")) as second:
        more = [
            tunnels.service(one, Protocol.TCP),
            tunnels.endpoints(one, [(first, PLAIN)]),
            tunnels.service(two, Protocol.TCP),
            tunnels.endpoints(two, [(second, PLAIN)]),
            Resource("TCPRoute/shop/split", 1, route),
        ]
        counts: Counter[bytes] = Counter()
        async with mesh("plain", more=more) as world:

            async def some() -> None:
                for _ in range(WEIGHTED // 8):
                    async with await world.dial() as client:
                        counts[await everything(client)] += 1

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(some)
            assert {done.route for done in world.calling.told.done} == {"TCPRoute/shop/split/rule-0"}
    assert counts.total() == WEIGHTED
    assert 21 <= counts[b"v2"] <= 61, counts


@both_ways
async def test_a_tunnel_in_which_nothing_moves_ends(way: str) -> None:
    policy = TrafficPolicy(timeouts=Timeouts(tunnel_idle_s=0.3))
    async with tcp_server(tunnels.echo) as server, mesh(way, server, policy=policy) as world:
        client = await world.dial()
        await client.send_all(b"x")
        assert await client.receive_some() == b"x"
        began_s = trio.current_time()
        with trio.fail_after(5):
            assert await is_cut(client)
        assert 0.2 < trio.current_time() - began_s < 2
        assert await told(world.calling) == ["SI"]
        assert "0.3s" in world.calling.told.done[0].details


@both_ways
async def test_a_server_may_speak_first_where_nothing_is_declared(way: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready\r\n")
        await tunnels.echo(stream)

    async with tcp_server(serve) as server, mesh(way, server, protocol=Protocol.AUTO) as world:
        began_s = trio.current_time()
        client = await world.dial()
        assert await client.receive_some() == b"220 ready\r\n"
        assert trio.current_time() - began_s < 1.0  # 0.2 of them detection's
        await client.send_all(b"EHLO\r\n")
        assert await client.receive_some() == b"EHLO\r\n"
        await client.aclose()
        assert await told(world.calling) == ["-"]
        assert world.calling.told.detected == [f"outbound orders.shop:{PORT} timeout"]


async def test_a_declared_tcp_port_is_not_waited_for() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready\r\n")

    async with tcp_server(serve) as server, mesh("mesh", server) as world:
        began_s = trio.current_time()
        assert await everything(await world.dial()) == b"220 ready\r\n"
        assert trio.current_time() - began_s < 0.2
        assert world.calling.told.detected == []


def allowing(principal: str) -> Snapshot:
    rules = (AllowRule(principals=frozenset({principal})),)
    targets = (TargetRef("Service", "orders"),)
    policy = AuthorizationPolicy(namespace="shop", name="orders", targets=targets, allow=rules)
    return Snapshot(complete=True).changed([Resource("AuthorizationPolicy/shop/orders", 1, policy)], version=1)


async def test_a_caller_that_is_not_allowed_is_cut_and_logged() -> None:
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        heard.append(await everything(stream))

    access = allowing("spiffe://mesh.local/ns/shop/sa/billing")
    async with tcp_server(serve) as server, mesh("mesh", server, access=access) as world:
        client = await world.dial()
        with trio.fail_after(5):
            assert await is_cut(client)
        assert await told(world.called[0]) == ["RBAC"]
        assert "AuthorizationPolicy/shop/orders" in world.called[0].told.done[0].details
        assert world.called[0].told.done[0].protocol == "TCP"
        assert await told(world.calling) == ["RBAC"]
    assert heard == []


async def test_an_allowed_caller_passes() -> None:
    access = allowing("spiffe://mesh.local/ns/shop/sa/frontend")
    async with tcp_server(tunnels.echo) as server, mesh("mesh", server, access=access) as world:
        client = await world.dial()
        await client.send_all(b"x")
        assert await client.receive_some() == b"x"


async def test_readers_at_rest_hold_up_nobody_else() -> None:
    """Each leaves a stream's window full; together they would fill that of one connection for good."""

    async def serve(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        await stream.send_all(bytes(1_000_000) if asked == b"much" else asked)

    async with tcp_server(serve) as server, mesh("mesh", server, sends_bytes=4096) as world:
        with trio.fail_after(tunnels.LIMIT_S):
            for _ in range(20):
                client = await world.dial(receives_bytes=4096)
                await client.send_all(b"much")
                assert await client.receive_some()
            client = await world.dial()
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        assert world.calling.told.dials == ["orders.shop:8080 ok"] * 2


def test_tunnels_of_one_connection_leave_room_in_its_window() -> None:
    assert MAX_TUNNELS * STREAM_WINDOW_BYTES + STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES


@pytest.mark.parametrize("declared", [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC])
async def test_a_port_that_carries_requests_takes_no_tunnel(declared: Protocol) -> None:
    """Whatever its peer believes: what is asked of requests could be escaped in one."""
    async with tcp_server(tunnels.echo) as server, mesh("mesh", server, declared=declared) as world:
        client = await world.dial()
        with trio.fail_after(5):
            assert await is_cut(client)
        assert await told(world.called[0]) == ["NR"]
        assert world.called[0].told.done[0].status == 405
        assert world.called[0].told.dials == []
        assert await told(world.calling) == ["UF"]
        assert world.calling.told.done[0].details.endswith("refused the connection: 405 NR")


@pytest.mark.parametrize("declared", [Protocol.AUTO, Protocol.TLS])
async def test_other_ports_take_tunnels(declared: Protocol) -> None:
    async with tcp_server(tunnels.echo) as server, mesh("mesh", server, declared=declared) as world:
        client = await world.dial()
        await client.send_all(b"x")
        assert await client.receive_some() == b"x"


async def test_a_port_that_is_not_declared_takes_no_tunnel() -> None:
    async with tcp_server(tunnels.echo) as server, mesh("mesh", server, name="9999.orders.shop.mesh") as world:
        client = await world.dial()
        with trio.fail_after(5):
            assert await is_cut(client)
        assert (await told(world.calling))[0].endswith(("UF", "UR"))
        assert world.called[0].told.done == []
        assert world.called[0].told.dials == []


@both_ways
@pytest.mark.parametrize("size", [10, 1_000_000], ids=["few bytes", "bulk"])
async def test_last_words_to_a_server_that_has_closed_are_no_fault(way: str, size: int) -> None:
    """TLS clients answer a close_notify, and some servers do not wait for it."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(bytes(size))

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        await client.send_all(b"x")
        assert len(await everything(client)) == size
        with contextlib.suppress(trio.BrokenResourceError):  # which it learns sooner or later
            for _ in range(100):
                await client.send_all(b"bye")
                await trio.lowlevel.checkpoint()
        await client.aclose()
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["-"]


@both_ways
async def test_a_reset_in_the_middle_of_an_answer_is_none_after_the_clients_end_either(way: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await everything(stream)
        await stream.send_all(b"half of")
        tunnels.reset(stream)

    async with tcp_server(serve) as server, mesh(way, server) as world:
        client = await world.dial()
        await client.send_eof()
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
            await everything(client)
        for plane in (world.calling, *world.called):
            assert await told(plane) == ["UR"]


async def test_the_callers_side_says_how_long_a_tunnel_may_rest() -> None:
    policy = TrafficPolicy(timeouts=Timeouts(tunnel_idle_s=None))
    limits = ProcessLimits(tunnel_idle_s=0.1)
    async with (
        tcp_server(tunnels.echo) as server,
        mesh("mesh", server, policy=policy, limits=limits, called_limits=limits) as world,
    ):
        client = await world.dial()
        with trio.move_on_after(0.4) as nothing_came:
            await client.receive_some()
        assert nothing_came.cancelled_caught
        await client.send_all(b"x")
        assert await client.receive_some() == b"x"
