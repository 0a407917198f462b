"""The demo's HTTP: a connection serves many requests, strangers are let go, a call brings an answer or says why not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair

from demo.http1 import MAX_BODY_BYTES, Answer, NoAnswer, Request, Server, ask


async def echo(request: Request) -> Answer:
    return Answer(200, request.target.encode() + b" " + request.body, {"x-method": request.method})


async def read_until_closed(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in stream])


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(echo).serve, server)
        await client.send_all(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
        await client.send_all(b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        got = await read_until_closed(client)

    assert got.count(b"HTTP/1.1 200") == 2
    assert b"x-method: POST" in got
    assert got.endswith(b"/b ")


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1),
    ],
    ids=["not HTTP", "endless body"],
)
async def test_a_client_that_breaks_the_rules_is_let_go(sent: bytes) -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(echo).serve, server)
        await client.send_all(sent)

        assert await read_until_closed(client) == b""


async def test_a_silent_connection_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(echo).serve, server)

        assert await read_until_closed(client) == b""
    assert trio.current_time() == 75.0


async def test_finish_answers_what_is_under_way_and_closes_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(request: Request) -> Answer:
        await trio.sleep(5)
        return Answer(200, b"done")

    server = Server(slow)
    busy, idle = memory_stream_pair(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, busy[1])
        nursery.start_soon(server.serve, idle[1])
        await busy[0].send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        server.finish()

        assert await read_until_closed(idle[0]) == b""
        assert trio.current_time() < 1.0
        assert (await read_until_closed(busy[0])).endswith(b"done")


@asynccontextmanager
async def listening(handler: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[str]:
    """A loopback server; yields its address."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        host, port = listeners[0].socket.getsockname()
        yield f"{host}:{port}"
        nursery.cancel_scope.cancel()


async def test_ask_brings_status_fields_and_body() -> None:
    async with listening(Server(echo).serve) as address:
        answer = await ask(address, Request("POST", "/x", {"host": "orders"}, b"body"))

    assert (answer.status, answer.body, answer.fields["x-method"]) == (200, b"/x body", "POST")


async def test_ask_says_why_there_is_no_answer() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async def half(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        await stream.aclose()

    for handler, reason in ((hang_up, "before the answer|closed"), (half, "complete message|truncated|without")):
        async with listening(handler) as address:
            with pytest.raises(NoAnswer, match=reason):
                await ask(address, Request())
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1"):
        await ask("127.0.0.1:1", Request())
