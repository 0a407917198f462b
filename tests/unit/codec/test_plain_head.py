"""The strict one-pass reading of heads: why unusual ones are left alone, bounded tables, time linear in the bytes."""

import gc
import statistics
import time
from collections.abc import Callable

import pytest

from sidecar.codec.grammar import FIELDS_MAX_COUNT, HEAD_MAX_BYTES, TARGET_MAX_BYTES
from sidecar.codec.plain_head import (
    HOSTS_MAX,
    LINE_MAX_BYTES,
    LINES_MAX,
    NAME_MAX_BYTES,
    NAMES_MAX,
    PlainRequest,
    PlainResponse,
    RequestActs,
    ResponseActs,
    plain_request,
    plain_response,
)
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.edits import NOT_FROM_CLIENTS, REQUEST_ID
from sidecar.proxy.replies import UNTOUCHED


def acts() -> RequestActs:
    return RequestActs(dropped=NOT_FROM_CLIENTS, taken=(DEADLINE_HEADER,), noted=(REQUEST_ID, b"idempotency-key"))


def request(*lines: bytes, first: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: orders") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *([host] if host else []), *lines)) + b"\r\n"


def answer(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines)) + b"\r\n"


LENGTH = b"Content-Length: 3"
CHUNKED = b"Transfer-Encoding: chunked"
REQUESTS = {
    b"": "head",
    b"GET /x HTTP/1.1\r\n": "head",
    request()[:-1]: "head",
    b"\r\n" + request(): "head",
    request().replace(b"\r\n", b"\n"): "head",
    request(b" folded"): "head",
    request(b"X : y"): "head",
    request(b"no colon"): "head",
    request(b"X: \0"): "head",
    request(b"X: a\rb"): "head",
    request(first=b"GET  /x HTTP/1.1"): "head",
    request(first=b"GET /x HTTP/1.1 "): "head",
    request(first=b"GE(T /x HTTP/1.1"): "head",
    request(first=b"%b /x HTTP/1.1" % (b"M" * 33)): "head",
    request(*(b"X: y",) * FIELDS_MAX_COUNT): "head",
    request(b"X: " + b"x" * HEAD_MAX_BYTES): "head",
    request(first=b"GET /x HTTP/1.0"): "version",
    request(first=b"GET /x HTTP/2.0"): "version",
    request(first=b"CONNECT x:1 HTTP/1.1"): "connect",
    request(first=b"GET http://y/ HTTP/1.1"): "target",
    request(first=b"OPTIONS * HTTP/1.1"): "target",
    request(first=b"GET /a/../b HTTP/1.1"): "target",
    request(first=b"GET /%7e HTTP/1.1"): "target",
    request(first=b"GET /a#b HTTP/1.1"): "target",
    request(first=b"GET x HTTP/1.1"): "target",
    request(first=b"GET /%b HTTP/1.1" % (b"x" * TARGET_MAX_BYTES)): "target",
    request(b"Expect: 100-continue"): "field",
    request(b"eXPECT:"): "field",
    request(LENGTH, LENGTH): "repeated",
    request(b"Host: orders"): "repeated",
    request(b"X-Request-Id: a", b"x-request-id: b"): "repeated",
    request(b"TE: trailers", b"te: trailers"): "repeated",
    request(host=b""): "host",
    request(host=b"Host:"): "host",
    request(host=b"Host: a,b"): "host",
    request(host=b"Host: a b"): "host",
    request(host=b"Host: a:65536"): "host",
    request(b"Connection: x-a", b"X-A: 1"): "connection",
    request(b"Connection: host"): "connection",
    request(b"Connection: content-length", LENGTH): "connection",
    request(b"TE: gzip"): "connection",
    request(b"TE: trailers, gzip"): "connection",
    request(b"Connection: upgrade", b"Upgrade: websocket"): "upgrade",
    request(b"Upgrade: x"): "upgrade",
    request(LENGTH, CHUNKED): "framing",
    request(b"Transfer-Encoding: gzip, chunked"): "framing",
    request(b"Transfer-Encoding:"): "framing",
    request(b"Transfer-Encoding: identity"): "framing",
    request(b"Content-Length:"): "framing",
    request(b"Content-Length: +3"): "framing",
    request(b"Content-Length: 3, 3"): "framing",
    request(b"Content-Length: 0x3"): "framing",
    request(b"Content-Length: " + b"1" * 19): "framing",
    # It would go on as it came, and an app may read it otherwise.
    request(b"Content-Length: 003"): "framing",
    request(b"Content-Length:\t3"): "framing",
    request(b"Content-Length: 3 "): "framing",
    request(b"Content-Length:3"): "framing",
    request(b"Transfer-Encoding:\tchunked"): "framing",
    request(b"Transfer-Encoding: chunked\t"): "framing",
}


@pytest.mark.parametrize("raw", REQUESTS, ids=lambda raw: repr(raw[:40]))
@pytest.mark.parametrize("far", [True, False])
def test_why_a_request_is_left_alone(raw: bytes, far: bool) -> None:
    assert plain_request(raw, acts(), far=far) == REQUESTS[raw]
    assert plain_request(raw + b"GET", acts(), far=far) == REQUESTS[raw]


def test_what_is_kept_noted_and_dropped() -> None:
    raw = request(
        b"Accept:  */* ", b"COOKIE: a", b"Keep-Alive: 5", b"x-mesh-untouched: 1", b"X-Mesh-Timeout-Ms:\t70 ",
        b"Cookie: b",
        b"traceparent: 00-1", b"connection:  Keep-Alive,TE ", b"TE: Trailers", b"X-Request-ID: 7",
        b"Content-LENGTH: 3",
        b"X_Forwarded-Client_Cert: By=x", b"X-Forwarded-For: 1.2.3.4", b"Contribution: 1", b"Teapot: 2", b"Prosody: 3",
    )  # fmt: skip
    near, afar = (plain_request(raw + b"body", acts(), far=far) for far in (False, True))
    assert isinstance(near, PlainRequest)
    assert isinstance(afar, PlainRequest)
    kept = request(
        b"Accept:  */* ", b"COOKIE: a", b"Cookie: b", b"X-Request-ID: 7", b"Content-LENGTH: 3",
        b"X-Forwarded-For: 1.2.3.4", b"Contribution: 1", b"Teapot: 2", b"Prosody: 3",
    )  # fmt: skip
    assert near.kept + b"\r\n" == kept
    assert afar.kept + b"\r\n" == kept.replace(b"X-Forwarded-For: 1.2.3.4\r\n", b"")
    assert afar.noted[b"x-forwarded-for"] == b"1.2.3.4"
    assert near.noted[b"x-mesh-timeout-ms"] == b"70"
    assert near.noted[b"traceparent"] == b"00-1"
    assert (near.content_length, near.chunked, near.keep_alive, near.wants_trailers) == (3, False, True, True)
    assert (near.raw, near.size) == (raw, len(raw))
    assert near.get(b"cookie") == b"a, b" or near.get(b"cookie") == b"a,b"


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: keep-alive, Close", b"CONNECTION:close"])
def test_a_client_that_closes(line: bytes) -> None:
    plain = plain_request(request(line), acts(), far=False)
    assert isinstance(plain, PlainRequest)
    assert not plain.keep_alive


ANSWERS = {
    b"": "answer-head",
    answer(LENGTH)[:-1]: "answer-head",
    b"hello\r\n\r\n": "answer-head",
    answer(LENGTH, b" folded"): "answer-head",
    answer(LENGTH, b"X: \0"): "answer-head",
    answer(LENGTH, first=b"HTTP/2.0 200 OK"): "answer-head",
    answer(LENGTH, first=b"HTTP/1.1 2000 OK"): "answer-head",
    answer(LENGTH, first=b"HTTP/1.1 600 OK"): "answer-head",
    answer(LENGTH, *(b"X: y",) * FIELDS_MAX_COUNT): "answer-head",
    answer(LENGTH, b"X: " + b"x" * HEAD_MAX_BYTES): "answer-head",
    answer(LENGTH, first=b"HTTP/1.0 200 OK"): "answer-version",
    answer(LENGTH, first=b"HTTP/1.1 200"): "answer-version",
    answer(first=b"HTTP/1.1 100 Continue"): "answer-status",
    answer(first=b"HTTP/1.1 101 Switching"): "answer-status",
    answer(LENGTH, first=b"HTTP/1.1 500 Oops"): "answer-status",
    answer(LENGTH, first=b"HTTP/1.1 503 Away"): "answer-status",
    answer(LENGTH, LENGTH): "answer-field",
    answer(CHUNKED, CHUNKED): "answer-field",
    answer(LENGTH, b"x-mesh-untouched: 1"): "answer-field",
    answer(LENGTH, b"Connection: upgrade"): "answer-field",
    answer(LENGTH, b"Connection: x-a", b"X-A: 1"): "answer-field",
    answer(LENGTH, b"Connection: close, x"): "answer-field",
    answer(b"Content-Length: +3"): "answer-field",
    answer(b"Content-Length: 3, 3"): "answer-field",
    answer(b"Content-Length: " + b"1" * 19): "answer-field",
    answer(b"Transfer-Encoding: gzip"): "answer-field",
    answer(LENGTH, CHUNKED): "answer-framing",
    answer(): "answer-framing",
    answer(LENGTH, first=b"HTTP/1.1 204 No"): "answer-framing",
    answer(CHUNKED, first=b"HTTP/1.1 204 No"): "answer-framing",
    answer(CHUNKED, first=b"HTTP/1.1 304 Not"): "answer-framing",
}


@pytest.mark.parametrize("raw", ANSWERS, ids=lambda raw: repr(raw[:40]))
def test_why_an_answer_is_left_alone(raw: bytes) -> None:
    known = ResponseActs((UNTOUCHED,))
    for _ in range(2):  # what was learned does not change it
        assert plain_response(raw, known, b"GET") == ANSWERS[raw]
        assert plain_response(raw + (b"HTTP" if raw.endswith(b"\r\n\r\n") else b""), known, b"GET") == ANSWERS[raw]


@pytest.mark.parametrize("status", [b"204 No", b"304 Not", b"200 OK"])
def test_an_answer_to_head_has_no_body(status: bytes) -> None:
    known = ResponseActs((UNTOUCHED,))
    plain = plain_response(answer(first=b"HTTP/1.1 " + status), known, b"HEAD")
    assert isinstance(plain, PlainResponse)
    assert plain.content_length == 0
    with_length = plain_response(answer(LENGTH, first=b"HTTP/1.1 " + status), known, b"HEAD")
    assert isinstance(with_length, str) == status.startswith(b"204")  # which cannot declare one
    assert plain_response(answer(CHUNKED, first=b"HTTP/1.1 " + status), known, b"HEAD") == "answer-framing"


@pytest.mark.parametrize(
    ("line", "keep_alive", "promised_s"),
    [
        (b"Connection: close", False, None),
        (b"connection:Close", False, None),
        (b"Connection: keep-alive", True, None),
        (b"Keep-Alive: timeout=7, max=9", True, 7.0),
        (b"Keep-Alive: max=9", True, None),
        (b"Keep-Alive: timeout=x", True, None),
        (b"Proxy-Connection: close", True, None),
        (b"Trailer: x", True, None),
    ],
)
def test_what_an_answer_says_of_its_connection(line: bytes, keep_alive: bool, promised_s: float | None) -> None:
    plain = plain_response(answer(LENGTH, line, b"X: 1") + b"abc", ResponseActs((UNTOUCHED,)), b"GET")
    assert isinstance(plain, PlainResponse)
    assert (plain.keep_alive, plain.promised_s, plain.content_length) == (keep_alive, promised_s, 3)
    goes_on = line.startswith(b"Trailer")
    assert plain.data == answer(LENGTH, *([line] if goes_on else []), b"X: 1") + b"abc"


# Tables that a peer fills.


def test_a_flood_of_names_is_forgotten() -> None:
    known = acts()
    for number in range(3 * NAMES_MAX):
        name = b"Con%08d%b" % (number, b"x" * (number % 90))
        assert isinstance(plain_request(request(name + b": 1"), known, far=False), PlainRequest)
        assert len(known.known) <= NAMES_MAX
    assert max(map(len, known.known)) <= NAME_MAX_BYTES
    assert plain_request(request(b"Expect: x"), known, far=False) == "field", "and what matters is known still"


def test_a_flood_of_hosts_is_forgotten() -> None:
    known = acts()
    for number in range(3 * HOSTS_MAX):
        assert isinstance(plain_request(request(host=b"Host: h%d" % number), known, far=False), PlainRequest)
        assert len(known.hosts) <= HOSTS_MAX
    assert plain_request(request(host=b"Host: a,b"), known, far=False) == "host"
    assert b"a,b" not in known.hosts


def test_a_flood_of_lines_is_forgotten() -> None:
    known = ResponseActs((UNTOUCHED,))
    for number in range(3 * LINES_MAX):
        raw = answer(b"Content-Length: %d" % number, b"Prefer-%d: %b" % (number, b"x" * (number % 90)))
        plain = plain_response(raw, known, b"GET")
        assert isinstance(plain, PlainResponse)
        assert plain.content_length == number
        assert len(known.facts) <= LINES_MAX
    assert max(map(len, known.facts)) <= LINE_MAX_BYTES


# Time. Medians of many turns, and a factor that noise does not reach: what is quadratic is a hundred times slower.

SMALL, LARGE = 6 * 1024, 60 * 1024 - 200
FACTOR = 3.0
TURNS = 25


def filled(piece: Callable[[int], bytes], size: int, around: Callable[[bytes], bytes]) -> bytes:
    return around(piece(size - len(around(b""))))


def repeated(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: unit * (size // len(unit))


def in_request(lines: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost: orders\r\n" + lines + b"\r\n"


def in_answer(lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + lines + b"\r\n"


PIECES: dict[str, Callable[[int], bytes]] = {
    "many fields": repeated(b"A: b\r\n"),
    "many fields of the hop": repeated(b"Keep-Alive: 5\r\n"),
    "many notable fields, not known": repeated(b"Contribution: 5\r\n"),
    "one long value": lambda size: b"X: " + b"v" * (size - 5) + b"\r\n",
    "one long value that matters": lambda size: b"Connection: " + b"v" * (size - 14) + b"\r\n",
    "one long list": lambda size: b"Connection: " + b"close," * ((size - 14) // 6) + b"\r\n",
    "one long name": lambda size: b"X" * (size - 4) + b": \r\n",
    "many blanks": lambda size: b"X:" + b" " * (size - 4) + b"\r\n",
    "blanks behind what matters": lambda size: b"Connection: close" + b" " * (size - 19) + b"\r\n",
    "tabs and blanks": lambda size: b"X:" + b" \t" * ((size - 4) // 2) + b"\r\n",
    "a line that does not end": lambda size: b"X: " + b"v" * (size - 3),
    "fields that do not end": lambda size: b"A: b\r\n" * (size // 6) + b"A",
    "CR after CR": lambda size: b"X: " + b"\r" * (size - 3),
    "colons": lambda size: b":" * size,
    "names that begin as others do": repeated(b"Con\r\n"),
}


@pytest.mark.parametrize("kind", ["request", "answer"])
@pytest.mark.parametrize("piece", PIECES)
def test_time_is_linear_in_the_bytes(piece: str, kind: str) -> None:
    around = in_request if kind == "request" else in_answer
    request_acts, response_acts = acts(), ResponseActs((UNTOUCHED,))

    def read(raw: bytes) -> None:
        if kind == "request":
            plain_request(raw, request_acts, far=True)
        else:
            plain_response(raw, response_acts, b"GET")

    small, large = (filled(PIECES[piece], size, around) for size in (SMALL, LARGE))
    _flat(read, small, large)


@pytest.mark.parametrize(
    "target",
    [b"/" * 50, b"/a" * 50, b"?a" * 50, b"/." * 50, b"%41" * 40, b"/x" + b"%" * 50, b"/a/" + b"-" * 60 + b"\\"],
)
def test_time_of_a_target_is_linear(target: bytes) -> None:
    known = acts()
    small, large = (request(first=b"GET /%b HTTP/1.1" % (target * times)) for times in (5, 50))
    _flat(lambda raw: plain_request(raw, known, far=False), small, large)


def test_a_head_that_trickles_in_is_looked_at_in_linear_time() -> None:
    """The fast path looks once, then gives the connection away; the full path reads on from where it was."""
    known = acts()
    whole = in_request(b"A: b\r\n" * 90)
    _flat(lambda raw: plain_request(raw, known, far=False), whole[: len(whole) // 10], whole[:-1], factor=2 * FACTOR)


def _flat(read: Callable[[bytes], object], small: bytes, large: bytes, factor: float = FACTOR) -> None:
    """Time per byte of the large one is at most `factor` that of the small one."""

    def seconds(raw: bytes) -> float:
        times = []
        rounds = max(1, 60_000 // len(raw))
        for _ in range(TURNS):
            before = time.thread_time()
            for _ in range(rounds):
                read(raw)
            times.append((time.thread_time() - before) / rounds)
        return statistics.median(times)

    gc.disable()
    try:
        read(small)
        read(large)
        for _ in range(3):  # a neighbour on the machine is forgiven twice
            ratio = (seconds(large) / len(large)) / (seconds(small) / len(small))
            if ratio <= factor:
                return
    finally:
        gc.enable()
    pytest.fail(f"{ratio:.1f} times the time per byte")
