"""What goes well on the fast path is to client, endpoint and observers what it is on the full path.

Each scenario is played on both, with an idle connection to the endpoint at hand; `why` says which one has to serve it.
"""

from collections import Counter
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from sidecar.proxy.fast_request import AHEAD_MAX_BYTES, BODY_MAX_BYTES
from sidecar.transport.stream import HIGH_WATER_BYTES
from tests.support.two_paths import OK, Script, World, alike, play

BIG = bytes(range(256)) * 400


def get(fields: bytes = b"", method: bytes = b"GET", target: bytes = b"/x", body: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: orders\r\n%b\r\n%b" % (method, target, fields, body)


def post(size: int) -> bytes:
    return get(b"Content-Length: %d\r\n" % size, b"POST", body=b"b" * size)


def answer(fields: bytes = b"", status: bytes = b"200 OK", body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, fields, body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\n\r\n"
TRAILED = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-More:  2 \r\n\r\n"


@dataclass(frozen=True)
class Plain:
    """What a client writes on one connection, in pieces; what the endpoint answers; why it left the fast path."""

    sent: bytes | tuple[bytes, ...]
    script: Script = (OK,)
    methods: tuple[str, ...] = ("GET",)
    why: str = ""


NO_BODY = (answer(b"Content-Length: 5\r\nX: y\r\n"),)
CASES = {
    "GET": Plain(get()),
    "GET with a body": Plain(get(b"Content-Length: 3\r\n", body=b"abc")),
    "HEAD": Plain(get(method=b"HEAD"), NO_BODY, ("HEAD",)),
    "HEAD without a length": Plain(get(method=b"HEAD"), (answer(b"X: y\r\n"),), ("HEAD",)),
    "HEAD, chunked": Plain(get(method=b"HEAD"), (answer(CHUNKED),), ("HEAD",), "answer-framing"),
    "DELETE": Plain(get(method=b"DELETE")),
    "a method of their own": Plain(get(method=b"BREW")),
    "OPTIONS *": Plain(get(method=b"OPTIONS", target=b"*"), why="target"),
    "POST of nothing": Plain(post(0), methods=("POST",)),
    "POST": Plain(post(3000), methods=("POST",)),
    "POST, nearly the largest": Plain(post(BODY_MAX_BYTES - 5000), methods=("POST",)),
    "POST, more than fits at once": Plain(post(BODY_MAX_BYTES), methods=("POST",), why="write"),
    "POST, one byte more": Plain(post(BODY_MAX_BYTES + 1), methods=("POST",), why="large"),
    "POST in two writes": Plain((get(b"Content-Length: 4\r\n", b"POST"), b"bo", b"dy"), methods=("POST",)),
    "POST in chunks": Plain(get(CHUNKED, b"POST", body=CHUNKS), methods=("POST",)),
    "POST in chunks of nothing": Plain(get(CHUNKED, b"POST", body=b"0\r\n\r\n"), methods=("POST",)),
    "POST in chunks, byte by byte": Plain(
        (get(CHUNKED, b"POST"), *(CHUNKS[at : at + 1] for at in range(len(CHUNKS)))), methods=("POST",)
    ),
    "POST in chunks with trailers": Plain(get(CHUNKED, b"POST", body=TRAILED), methods=("POST",), why="trailers"),
    "a head in two pieces": Plain((get()[:20], get()[20:]), why="head"),
    "HTTP/1.0": Plain(b"GET /x HTTP/1.0\r\nHost: orders\r\n\r\n", why="version"),
    "an absolute target": Plain(get(target=b"http://orders/x"), why="target"),
    "dots in the target": Plain(get(target=b"/a/../b"), why="target"),
    "a query": Plain(get(target=b"/x?a=b%20c&d")),
    "Expect": Plain(get(b"Expect: 100-continue\r\nContent-Length: 2\r\n", b"POST", body=b"ab"), why="field"),
    "an upgrade": Plain(get(b"Connection: upgrade\r\nUpgrade: foo\r\n"), why="upgrade"),
    "an offer of HTTP/2": Plain(
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
    ),
    "fields of the hop": Plain(
        get(b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\nCookie: a\r\n"),
        (
            answer(
                b"Keep-Alive: timeout=9, max=5\r\nConnection: keep-alive\r\nX: 1\r\nContent-Length: 1\r\n", body=b"z"
            ),
        ),
    ),
    "a field that Connection names": Plain(get(b"Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\n"), why="connection"),
    "the same field several times": Plain(
        get(b"Cookie: a\r\nX: 1\r\nCookie: b\r\nx: 2\r\n"),
        (answer(b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n"),),
    ),
    "identity is not the client's to tell": Plain(
        get(b"X-Forwarded-Client-Cert: a\r\nX_Forwarded_Client_Cert: b\r\nx-mesh-untouched: 1\r\nX: 1\r\n")
    ),
    "an id of the client's": Plain(get(b"X-Request-Id: mine\r\n")),
    "a trace that nobody records": Plain(get(b"traceparent: 00-%b-%b-00\r\n" % (b"a" * 32, b"b" * 16))),
    "a trace with a state": Plain(get(b"traceparent: 00-%b-%b-00\r\ntracestate: v=1\r\n" % (b"a" * 32, b"b" * 16))),
    "a trace of b3": Plain(get(b"b3: %b-%b-0\r\n" % (b"a" * 32, b"b" * 16))),
    "a deadline": Plain(get(b"X-Mesh-Timeout-Ms: 5000\r\n")),
    "the client closes": Plain(get(b"Connection: close\r\n")),
    "the client closes, chunks": Plain(get(b"Connection: close\r\n"), (answer(CHUNKED, body=CHUNKS),)),
    "the endpoint closes": Plain(
        (get(), get()), (answer(b"Connection: close\r\nContent-Length: 2\r\n", body=b"ok"),), ("GET", "GET"), "connect"
    ),
    "404": Plain(get(), (answer(b"Content-Length: 4\r\n", b"404 Not Found", b"none"),)),
    "an empty reason": Plain(get(), (answer(b"Content-Length: 0\r\n", b"404 "),)),
    "no reason": Plain(get(), (answer(b"Content-Length: 0\r\n", b"404"),), why="answer-version"),
    "204": Plain(get(), (answer(status=b"204 No Content"),)),
    "204 with a length": Plain(get(), (answer(b"Content-Length: 0\r\n", b"204 No"),), why="answer-framing"),
    "205": Plain(get(), (answer(b"Content-Length: 0\r\n", b"205 Reset Content"),)),
    "304": Plain(get(), (answer(b'ETag: "x"\r\n', b"304 Not Modified"),)),
    "304 with a length": Plain(get(), (answer(b"Content-Length: 500\r\n", b"304 Not Modified"),)),
    "500, which nobody tries again": Plain(
        get(), (answer(b"Content-Length: 4\r\n", b"500 Oops", b"oops"),), why="answer-status"
    ),
    "nothing as a body": Plain(get(), (answer(b"Content-Length: 0\r\n"),)),
    "a body in pieces": Plain(get(), (answer(b"Content-Length: 6\r\n", body=b"a"), 0.1, b"bc", 0.1, b"def")),
    "chunks": Plain(get(), (answer(CHUNKED, body=CHUNKS),)),
    "no chunks": Plain(get(), (answer(CHUNKED, body=b"0\r\n\r\n"),)),
    "chunks in pieces": Plain(
        get(), (answer(CHUNKED), 0.1, *(step for at in range(0, len(CHUNKS), 3) for step in (CHUNKS[at : at + 3], 0.1)))
    ),
    "chunks with trailers that nobody wants": Plain(get(), (answer(CHUNKED, body=TRAILED),)),
    "chunks with trailers": Plain(get(b"TE: trailers\r\nConnection: TE\r\n"), (answer(CHUNKED, body=TRAILED),)),
    "chunks with trailers, later": Plain(
        get(b"TE: trailers\r\nConnection: TE\r\n"), (answer(CHUNKED, body=TRAILED[:9]), 0.1, TRAILED[9:])
    ),
    "a body until the end": Plain(get(), (answer(body=b"all"), 0.1, b"of it"), why="answer-framing"),
    "a large body": Plain(get(), (answer(b"Content-Length: %d\r\n" % len(BIG), body=BIG),)),
    "a large body in chunks": Plain(get(), (answer(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BIG), BIG)),)),
    "three ahead of their turn": Plain(get() + post(5) + get(target=b"/z"), methods=("GET", "POST", "GET")),
    "three, the second not plain": Plain(
        get() + get(b"Expect: x\r\n", target=b"/y") + get(target=b"/z"), methods=("GET",) * 3, why="field"
    ),
    "two, of which one byte is missing": Plain((get() + get()[:-1], b"\n"), methods=("GET", "GET"), why="head"),
    "many ahead of their turn": Plain(
        get(b"X: %b\r\n" % (b"x" * 1000)) * (2 * AHEAD_MAX_BYTES // 1000),
        methods=("GET",) * (2 * AHEAD_MAX_BYTES // 1000),
    ),
    "many, each answer late": Plain(get(b"X: %b\r\n" % (b"x" * 2000)) * 80, (0.01, OK), methods=("GET",) * 80),
    "another service": Plain(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n", why="route"),
    "no host": Plain(b"GET / HTTP/1.1\r\n\r\n", why="host"),
    "no HTTP": Plain(b"hello\r\n\r\n", why=""),
    "behind it no HTTP": Plain(get() + b"hello\r\n\r\n", methods=("GET", "GET"), why=""),
}
REFUSED = ("no host", "no HTTP", "behind it no HTTP")  # and so no requests: nobody counts a path
# A head or a body that was cut by a read is waited for elsewhere: requests ahead of their turn are many of those.
MIXED = ("three, the second not plain", "two, of which one byte is missing", "the endpoint closes",
         "many ahead of their turn", "many, each answer late")  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_what_goes_well_is_the_same_on_both_paths(name: str, autojump_clock: MockClock) -> None:
    case = CASES[name]

    async def ask(world: World) -> None:
        client = world.client()
        for piece in (case.sent,) if isinstance(case.sent, bytes) else case.sent:
            await client.stream.send(piece)
            await client.stream.flush() if len(piece) > BODY_MAX_BYTES else None
        for method in case.methods:
            await client.answer(method)
        await client.leave()

    fast = await play(ask, fast=True, scripts=(case.script,))
    full = await play(ask, fast=False, scripts=(case.script,))
    alike(fast, full)
    count = len(case.methods)
    if name in REFUSED:
        assert fast.full == {}
    elif name in MIXED:
        assert fast.fast + fast.full.total() == count
        assert fast.fast > 0
        assert set(fast.full) <= {case.why, "head", "slow"}
    else:
        assert fast.full == (Counter({case.why: count}) if case.why else {})
        assert fast.fast == (0 if case.why else count)


@pytest.mark.parametrize("pause_s", [0.001, 2.0])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_slow_reader_gets_everything_and_holds_the_endpoint(
    framing: str, pause_s: float, autojump_clock: MockClock
) -> None:
    whole = BIG * 20
    script: Script = (answer(b"Content-Length: %d\r\n" % len(whole), body=whole),)
    if framing == "chunks":
        script = (answer(CHUNKED), *(b"%x\r\n%b\r\n" % (len(BIG), BIG) for _ in range(20)), b"0\r\n\r\n")
    queued: list[int] = []

    async def ask(world: World) -> None:
        client = world.client()
        proxy_end = client.stream.twin
        assert proxy_end is not None
        await client.send(get())

        async def watch() -> None:
            queued.append(proxy_end.queued_bytes)
            await trio.sleep(pause_s)

        got = await client.answer(between=watch)
        assert got.body == whole
        await client.leave()

    fast = await play(ask, fast=True, scripts=(script,))
    held, queued = max(queued), []
    full = await play(ask, fast=False, scripts=(script,))
    alike(fast, full)
    assert fast.fast == 1
    assert held <= max(queued)


async def test_who_asks_ahead_and_reads_nothing_is_not_answered_without_bound(autojump_clock: MockClock) -> None:
    """Answers that are small one by one are as large together."""
    script: Script = (answer(b"Content-Length: 10000\r\n", body=b"x" * 10_000),)
    queued: list[int] = []

    async def ask(world: World) -> None:
        client = world.client()
        proxy_end = client.stream.twin
        assert proxy_end is not None
        client.stream.write(get() * 2000)
        for _ in range(20):
            await trio.sleep(0.5)
            queued.append(proxy_end.queued_bytes)
        for _ in range(2000):
            await client.answer()
        await client.leave()

    fast = await play(ask, fast=True, scripts=(script,))
    held, queued = max(queued), []
    full = await play(ask, fast=False, scripts=(script,))
    alike(fast, full)
    assert max(queued) <= 2 * HIGH_WATER_BYTES
    assert held <= 2 * HIGH_WATER_BYTES
