"""The fast path's reading of heads accepts nothing that `head_rules` refuses, and means the same by what it accepts."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.codec.grammar import END_OF_HEAD, fields_of
from sidecar.codec.head_rules import request_head, response_head
from sidecar.codec.plain_head import (
    PlainRequest,
    PlainResponse,
    RequestActs,
    ResponseActs,
    plain_request,
    plain_response,
)
from sidecar.model.messages import Fields, nominated
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.edits import (
    FORWARDED,
    NOT_FROM_CLIENTS,
    REQUEST_ID,
    forwarded_request,
    forwarded_response,
)
from sidecar.proxy.replies import UNTOUCHED
from tests.fuzz.test_codec_bytes import WORDS

NAMES = (
    *(b"Host", b"Connection", b"connection", b"CONTENT-LENGTH", b"Content-Length", b"Transfer-Encoding", b"Keep-Alive"),
    *(b"Proxy-Connection", b"TE", b"Upgrade", b"Expect", b"HTTP2-Settings", b"Trailer", b"X-Request-Id", b"X-Tier"),
    *(b"traceparent", b"TraceState", b"b3", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Client-Cert"),
    *(b"x_forwarded_client_cert", b"X-Mesh-Timeout-Ms", b"x-mesh-untouched", b"Idempotency-Key", b"Accept", b"Cookie"),
    *(b"Content-Type", b"Set-Cookie", b"Date", b"Server", b"Contribution", b"Prose", b"Terror"),
)
VALUES = (
    *(
        b"",
        b" x",
        b"x ",
        b" chunked",
        b" Chunked",
        b" gzip, chunked",
        b" 3",
        b" 0",
        b" +3",
        b" 3, 3",
        b" 12345678901234567890",
    ),
    *(
        b" close",
        b" keep-alive",
        b" Keep-Alive",
        b" close, te",
        b" upgrade",
        b" host",
        b" orders:8080",
        b" a,b",
        b"\tx\t",
    ),
    *(b" timeout=5, max=10", b" timeout=x", b" 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b" \x80\xff", b" a:b"),
)
line = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)).map(lambda pair: b"%b:%b\r\n" % pair)
odd = st.sampled_from([*WORDS, b"no colon\r\n", b"X : y\r\n", b" folded\r\n", b"X: \0\r\n", b"X: a\rb\r\n"])
first_request = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"POST /a/b?c=%2F HTTP/1.1\r\n", b"HEAD /x HTTP/1.1\r\n", b"GET /a/../b HTTP/1.1\r\n"),
        *(b"GET / HTTP/1.0\r\n", b"CONNECT x:1 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET http://y/ HTTP/1.1\r\n"),
        *(b"GET /%7e HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n", b"\r\nGET / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n"),
    ]
)
first_answer = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 204 No Content\r\n",
            b"HTTP/1.1 304 Not Modified\r\n",
            b"HTTP/1.1 404 \r\n",
        ),
        *(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 503 Away\r\n"),
        *(b"HTTP/1.1 101 Switching\r\n", b"HTTP/1.1 2000 OK\r\n"),
    ]
)
usual = st.lists(line, max_size=8)
unusual = st.lists(st.one_of(line, odd), max_size=8)
host = st.sampled_from([b"", b"Host: orders\r\n", b"hOST: orders.shop:8080\r\n"])


def head(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A head, mostly one that can be read."""
    lines = st.one_of(usual, usual, unusual)
    return st.tuples(first, host, lines).map(lambda parts: parts[0] + parts[1] + b"".join(parts[2]) + b"\r\n")


def request_acts() -> RequestActs:
    return RequestActs(dropped=NOT_FROM_CLIENTS, taken=(DEADLINE_HEADER,), noted=(REQUEST_ID, b"idempotency-key"))


ACTS, ANSWER_ACTS = request_acts(), ResponseActs((UNTOUCHED,))  # kept over all examples, as a worker keeps them


def lines_of(kept: bytes) -> Counter[tuple[bytes, bytes]]:
    return values(fields_of(kept + b"\r\n", kept.index(b"\r\n") + 2))


def values(fields: Fields) -> Counter[tuple[bytes, bytes]]:
    return Counter((name.lower(), value) for name, value in fields)


FRAMING = (b"content-length", b"transfer-encoding")


def less_framing(fields: Counter[tuple[bytes, bytes]]) -> Counter[tuple[bytes, bytes]]:
    return Counter({field: count for field, count in fields.items() if field[0] not in FRAMING})


@settings(max_examples=400)
@given(head(first_request), st.binary(max_size=4), st.booleans())
def test_requests_are_read_as_head_rules_read_them(raw: bytes, behind: bytes, far: bool) -> None:
    plain = plain_request(raw + behind, ACTS, far=far)
    if not isinstance(plain, PlainRequest):
        return
    assert raw.startswith(plain.raw), "a head ends where it ends, whatever comes behind it"
    read = request_head(plain.raw)
    assert (plain.method, plain.target, plain.authority, plain.version) == (
        read.method, read.target, read.authority, b"1.1",
    )  # fmt: skip
    assert (plain.content_length, plain.chunked) == (read.content_length, read.chunked)
    assert plain.keep_alive == read.keep_alive
    assert plain.wants_trailers == (b"trailers" in nominated(read.get(b"te")))
    assert not read.upgrade
    replaced = frozenset(FORWARDED) if far else frozenset()
    assert less_framing(lines_of(plain.kept)) == less_framing(values(forwarded_request(read, [], replaced).fields))
    assert sum(name in FRAMING for name, _ in lines_of(plain.kept).elements()) <= 1
    for name, value in plain.noted.items():
        assert plain.get(name) == value
    # An offer to upgrade is no field any more of what head_rules has read.
    assert values(plain.fields) - values(read.fields) <= values(
        [field for field in plain.fields if field[0].lower() in (b"upgrade", b"http2-settings")]
    )
    assert plain.kept.startswith(b"%b %b HTTP/1.1\r\n" % (read.method, read.target))


@settings(max_examples=400)
@given(head(first_answer), st.binary(max_size=4), st.sampled_from([b"GET", b"HEAD", b"POST"]))
def test_answers_are_read_as_head_rules_read_them(raw: bytes, behind: bytes, method: bytes) -> None:
    plain = plain_response(raw + behind, ANSWER_ACTS, method)
    if not isinstance(plain, PlainResponse):
        return
    end = raw.index(END_OF_HEAD) + 4
    read = response_head(raw[:end], method)
    kept, rest = plain.data[: plain.size - 2], plain.data[plain.size :]
    assert rest == raw[end:] + behind
    assert plain.data[plain.size - 4 : plain.size] == END_OF_HEAD
    assert (plain.status, plain.content_length) == (read.status, None if read.chunked else read.content_length)
    assert plain.keep_alive == read.keep_alive
    assert less_framing(lines_of(kept)) == less_framing(values(forwarded_response(read).fields))
    assert sum(name in FRAMING for name, _ in lines_of(kept).elements()) <= 1
