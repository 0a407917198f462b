"""Bodies, answers and switches of protocol that hide a second message, against a running sidecar.

Whatever one side sends, the other must not see what the first hid there, and no other exchange may get it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.net.test_hostile_heads import API, GOOD, snapshot
from tests.support.planes import ANSWER, Answerer, Plane, RawApp, ask, outbound_bootstrap, raw_app, running
from tests.unit.codec.test_chunks import BAD

POSTC = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
FOO = b"GET /foo HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"


@asynccontextmanager
async def caller(answerer: Answerer) -> AsyncIterator[tuple[RawApp, Plane]]:
    """A sidecar in front of an app that answers as told."""
    async with raw_app(answerer) as app, running(outbound_bootstrap("c", {API: 80}), snapshot(app.address)) as sidecar:
        yield app, sidecar


def answering(answers: dict[bytes, bytes]) -> Answerer:
    """An app that answers the paths in `answers` so, and says nothing to others."""

    async def answer(stream: trio.SocketStream, data: bytes) -> None:
        for path, bytes_ in answers.items():
            if b" " + path + b" " in data:
                await stream.send_all(bytes_)

    return answer


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks of this process are about to do."""
    with trio.fail_after(5):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)


# Request bodies


async def test_a_bad_chunk_is_refused_and_its_request_never_ends() -> None:
    async with caller(answering({b"/good": ANSWER})) as (app, sidecar):
        address = sidecar.addresses[0]
        for name, body in BAD.items():
            app.received.clear()
            answer, closed = await ask(address, POSTC + body + SMUGGLED)

            assert answer.startswith(b"HTTP/1.1 400 "), name
            assert closed, name
            assert b"admin" not in app.received, name
            assert not app.received.endswith(b"0\r\n\r\n"), name
            if len(body) < 4_000:
                assert app.received == b"", name
        assert (await ask(address, GOOD))[0].startswith(b"HTTP/1.1 200 ")


async def test_a_bad_chunk_after_a_good_one_ends_the_upstream_connection_too() -> None:
    async with caller(answering({b"/good": ANSWER})) as (app, sidecar):
        address = sidecar.addresses[0]
        client = await trio.open_tcp_stream(*address)
        async with client:
            await client.send_all(POSTC + b"3;ext=1\r\nabc\r\n")
            await until(lambda: b"abc" in app.received)
            await client.send_all(b"0x\r\n" + SMUGGLED)
            answer = await client.receive_some()

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert app.received.endswith(b"\r\n\r\n3\r\nabc\r\n")
        assert (await ask(address, GOOD))[0].startswith(b"HTTP/1.1 200 ")
        assert app.connections == 2


# Answers

LYING = {
    "two answers": ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond",
    "longer than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    "204 with a body": b"HTTP/1.1 204 No Content\r\n\r\nok",
    "304 with a body": b"HTTP/1.1 304 Not Modified\r\n\r\nok",
    "chunks beyond the end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n1\r\nx\r\n",
}
INVALID = {
    "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    "1xx flood": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 11 + ANSWER,
    "204 that declares a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "switch that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n" + ANSWER,
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
}


@pytest.mark.parametrize("name", LYING)
async def test_what_follows_an_answer_reaches_nobody(name: str) -> None:
    async with caller(answering({b"/lie": LYING[name], b"/good": ANSWER})) as (app, sidecar):
        address = sidecar.addresses[0]
        answer, _ = await ask(address, GOOD.replace(b"/good", b"/lie"))

        assert answer.startswith(LYING[name][:12])
        assert b"second" not in answer
        assert b"more" not in answer
        assert await ask(address, GOOD) == (ANSWER, False)
        assert app.connections == 2


async def test_a_body_of_an_answer_to_head_reaches_nobody() -> None:
    async with caller(answering({b"/lie": ANSWER, b"/good": ANSWER})) as (app, sidecar):
        answer, _ = await ask(sidecar.addresses[0], b"HEAD /lie HTTP/1.1\r\nHost: x\r\n\r\n", 0.3)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")
        assert await ask(sidecar.addresses[0], GOOD) == (ANSWER, False)
        assert app.connections == 2


@pytest.mark.parametrize("name", INVALID)
async def test_an_answer_that_could_be_misread_becomes_502(name: str) -> None:
    async with caller(answering({b"/lie": INVALID[name], b"/good": ANSWER})) as (app, sidecar):
        address = sidecar.addresses[0]
        answer, _ = await ask(address, b"POST /lie HTTP/1.1\r\nHost: x\r\n\r\n")  # not tried again

        assert b"HTTP/1.1 502 " in answer
        assert ANSWER not in answer
        assert await ask(address, GOOD) == (ANSWER, False)
        assert app.connections == 2


# Switches of protocol

REFUSALS = [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ANSWER]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("request_", [FOO, FOO.replace(b"foo\r\n", b"foo, h2c\r\n")])
async def test_bytes_behind_a_refused_upgrade_reach_nobody(request_: bytes, refusal: bytes) -> None:
    async with caller(answering({b"/foo": refusal, b"/good": ANSWER})) as (app, sidecar):
        address = sidecar.addresses[0]
        answer, closed = await ask(address, request_ + SMUGGLED)

        assert answer.startswith(refusal[:12])
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert closed
        assert b"admin" not in app.received
        assert await ask(address, GOOD) == (ANSWER, False)
        assert app.connections == 2


async def test_an_offer_of_h2c_never_reaches_the_upstream() -> None:
    offer = (b"GET /good HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
             b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")  # fmt: skip
    async with caller(answering({b"/good": ANSWER, b"/admin": ANSWER})) as (app, sidecar):
        await ask(sidecar.addresses[0], offer + SMUGGLED)

        seen = bytes(app.received).lower()
        assert (
            seen.count(b"http/1.1") == 2
        )  # the one behind it is a request like any other, with its own route and rules
        for word in (b"upgrade", b"http2-settings", b"h2c"):
            assert word not in seen


async def test_after_an_agreed_upgrade_bytes_pass_both_ways() -> None:
    async def echo(stream: trio.SocketStream, data: bytes) -> None:
        if data.startswith(b"GET /foo"):
            await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nhi")
        else:
            await stream.send_all(data.upper())

    async with caller(echo) as (app, sidecar):
        client = await trio.open_tcp_stream(*sidecar.addresses[0])
        async with client:
            await client.send_all(FOO)
            got = await read_until(client, b"hi")
            assert got.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nUpgrade: foo\r\n" in got
            await client.send_all(b"abc\r\n\r\n")
            assert await read_until(client, b"ABC\r\n\r\n") == b"ABC\r\n\r\n"
            await client.send_eof()
            assert await client.receive_some() == b""
        assert b"\r\nUpgrade: foo\r\nConnection: upgrade\r\n" in app.received


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    got = b""
    with trio.fail_after(5):
        while not got.endswith(end):
            piece = await stream.receive_some()
            assert piece
            got += piece
    return got
