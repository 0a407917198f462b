"""The admin listener on real sockets: bounded, careful with browsers, and unmoved by whatever a client does."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from sidecar.admin.endpoints import Routes, admin_routes, metrics_routes
from sidecar.admin.messages import AdminAnswer, AdminRequest, Route
from sidecar.admin.server import AdminLimits, AdminServer, bind_admin, bind_metrics
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import HostPort, UnixPath
from tests.support.admin_view import FakeView
from tests.unit.telemetry.told import done

LOOPBACK = HostPort("127.0.0.1", 0)


@asynccontextmanager
async def serving(
    routes: Routes, *, local_only: bool = True, limits: AdminLimits | None = None
) -> AsyncIterator[tuple[str, int]]:
    async with trio.open_nursery() as nursery:
        sock = bind_admin(LOOPBACK)
        address = sock.getsockname()
        nursery.start_soon(AdminServer(routes, local_only=local_only, limits=limits).serve, sock)
        with trio.fail_after(10):
            yield address
        nursery.cancel_scope.cancel()


async def talk(address: tuple[str, int], sent: bytes) -> bytes:
    """Everything that comes back until the server closes; our own half stays open."""
    async with await trio.open_tcp_stream(*address) as stream:
        got = b""
        try:
            await stream.send_all(sent)
            async for data in stream:
                got += data
        except trio.BrokenResourceError:
            pass  # the server left with our bytes unread; what it said before that counts
        return got


def head(request: str, *fields: str, host: str = "localhost") -> bytes:
    return "\r\n".join((f"{request} HTTP/1.1", f"Host: {host}", "Connection: close", *fields, "", "")).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def error(answer: bytes) -> str:
    sentence = json.loads(body(answer))["error"]
    assert isinstance(sentence, str)
    return sentence


async def test_get_head_and_post() -> None:
    view = FakeView()
    async with serving(admin_routes(view)) as address:
        got = await talk(address, head("GET /config?x=1"))
        assert (status(got), json.loads(body(got))) == (200, view.config())
        assert b"Cache-Control: no-store" in got
        bare = await talk(address, head("HEAD /config"))
        assert (status(bare), body(bare)) == (200, b"")
        length = len(json.dumps(view.config(), indent=2)) + 1
        assert f"Content-Length: {length}".encode() in bare
        assert status(await talk(address, head("POST /drain"))) == 200
        assert view.did == ["drain"]


@pytest.mark.parametrize("path", ["/drain", "/quit", "/log-level?level=all"])
async def test_nothing_changes_by_get(path: str) -> None:
    view = FakeView()
    async with serving(admin_routes(view)) as address:
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            got = await talk(address, head(f"{method} {path}"))
            assert status(got) == 405
            assert b"Allow: POST\r\n" in got
        assert error(await talk(address, head("POST /live"))) == "/live takes GET, HEAD only"
    assert view.did == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:15000", "127.0.0.1:15000", "[::1]:15000", "a.localhost", "10.1.2.3"]
)
async def test_local_names_and_addresses_may_ask(host: str) -> None:
    async with serving(admin_routes(FakeView())) as address:
        assert status(await talk(address, head("GET /live", host=host))) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]", "orders"]
)
async def test_other_names_are_refused_because_a_browser_may_be_behind_them(host: str) -> None:
    view = FakeView()
    async with serving(admin_routes(view)) as address:
        got = await talk(address, head("POST /quit", host=host))
        assert status(got) in (400, 403)
        assert status(await talk(address, b"GET /live HTTP/1.0\r\n\r\n")) == 403
    assert view.did == []


async def test_web_page_cannot_post() -> None:
    view = FakeView()
    async with serving(admin_routes(view)) as address:
        got = await talk(address, head("POST /quit", "Origin: https://evil.example"))
        assert (status(got), error(got)) == (403, "admin endpoints take no requests from web pages")
    assert view.did == []


async def test_scraper_may_use_any_name() -> None:
    view = FakeView()
    view.metrics.request_done(done())
    async with serving(metrics_routes(view), local_only=False) as address:
        got = await talk(address, head("GET /metrics", host="orders-1.shop"))
        assert status(got) == 200
        assert b"Transfer-Encoding: chunked" in got
        assert b"istio_requests_total{" in got
        assert got.endswith(b"0\r\n\r\n")
        assert status(await talk(address, head("GET /config", host="orders-1.shop"))) == 404
        old = await talk(address, b"GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n")
        assert b"chunked" not in old
        assert body(old).startswith(b"# HELP")


async def test_connection_is_kept_and_pipelined_requests_are_answered_in_order() -> None:
    two = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" + head("GET /ready")
    async with serving(admin_routes(FakeView())) as address:
        got = await talk(address, two)
        assert got.count(b"HTTP/1.1 200") == 2
        assert got.index(b'"live"') < got.index(b'"ready"')


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (head("GET /" + "a" * 17_000), 431),
        (head("GET /live", "X: " + "a" * 16_384), 431),
        (head("GET /live?" + "a=1&" * 100), 400),
        (head("GET http://localhost/live"), 404),
        (head("POST /drain", "Content-Length: 20000") + b"x" * 20_000, 413),
        (head("POST /drain", "Content-Length: 3") + b"abc", 200),
        (head("POST /drain", "Content-Length: 3", "Expect: 100-continue"), 200),
        (head("POST /drain", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
    ],
)
async def test_every_request_gets_an_answer(sent: bytes, code: int) -> None:
    async with serving(admin_routes(FakeView())) as address:
        assert status(await talk(address, sent)) == code
        assert status(await talk(address, head("GET /live"))) == 200


async def test_slow_head_and_idle_connection_are_ended() -> None:
    async with serving(admin_routes(FakeView()), limits=AdminLimits(head_s=0.05)) as address:
        assert await talk(address, b"GET /li") == b""
        got = await talk(address, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(got) == 200


async def test_full_house_gives_up_who_is_idle_longest() -> None:
    async with serving(admin_routes(FakeView()), limits=AdminLimits(connections=2)) as address:
        first = await trio.open_tcp_stream(*address)
        second = await trio.open_tcp_stream(*address)
        async with first, second:
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert status(await talk(address, head("GET /live"))) == 200
            assert await first.receive_some() == b""
            await second.send_all(head("GET /live"))
            assert status(await second.receive_some()) == 200


class Endless:
    """A page that never ends, to a client that never reads."""

    def __init__(self) -> None:
        self.blocks = 0

    def handle(self, _: AdminRequest) -> AdminAnswer:
        return AdminAnswer(200, self._blocks(), "text/plain")

    def _blocks(self) -> Iterator[bytes]:
        while True:
            self.blocks += 1
            yield b"x" * 65_536


async def test_client_that_does_not_read_is_given_up_and_fills_no_memory() -> None:
    page = Endless()
    routes = admin_routes(FakeView()) | {"/endless": Route("GET", page.handle)}
    async with serving(routes, limits=AdminLimits(block_s=0.05, connections=1)) as address:
        async with await trio.open_tcp_stream(*address) as stream:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            await stream.send_all(head("GET /endless"))
            # The only place is taken until the server gives the silent reader up.
            got = b""
            while not got:
                got = await talk(address, head("GET /live"))
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert status(got) == 200
        assert page.blocks < 500


def explode(_: AdminRequest) -> AdminAnswer:
    raise KeyError("a bug")


def explode_later(_: AdminRequest) -> AdminAnswer:
    def blocks() -> Iterator[bytes]:
        yield b"begun"
        raise KeyError("a bug")

    return AdminAnswer(200, blocks(), "text/plain")


async def test_bug_in_a_page_is_an_answer_and_not_the_end() -> None:
    routes = admin_routes(FakeView()) | {"/bug": Route("GET", explode), "/later": Route("GET", explode_later)}
    async with serving(routes) as address:
        got = await talk(address, head("GET /bug"))
        assert (status(got), error(got)) == (500, "/bug failed: KeyError: 'a bug'")
        cut = await talk(address, head("GET /later"))
        assert b"begun" in cut
        assert not cut.endswith(b"0\r\n\r\n")
        assert status(await talk(address, head("GET /live"))) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "orders.shop", ""])
def test_admin_refuses_to_listen_where_others_can_come(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^admin\.listen: .* use 127\.0\.0\.1, \[::1\] or unix:/PATH$"):
        bind_admin(HostPort(host, 0))


def test_port_in_use_is_a_complaint() -> None:
    sock = bind_admin(HostPort("localhost", 0))
    with sock, pytest.raises(ConfigError, match=r"metrics: cannot listen on 127\.0\.0\.1"):
        bind_metrics(HostPort("127.0.0.1", sock.getsockname()[1]))


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    sock = bind_admin(UnixPath(path))
    assert path.stat().st_mode & 0o777 == 0o600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(AdminServer(admin_routes(FakeView()), local_only=True).serve, sock)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(head("GET /live"))
            assert status(await stream.receive_some()) == 200
        nursery.cancel_scope.cancel()
