"""What an accepted head says. The refusals are tests/conformance/test_http1_heads.py."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.head_rules import request_head, response_head
from sidecar.errors import MALFORMED, UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.messages import Fields
from tests.support.http1 import plain_fields, targets, tokens, values


def ask(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines)) + b"\r\n"


def test_names_keep_their_case_and_values_lose_their_white_space() -> None:
    head = request_head(ask(b"hOsT:x", b"X-A: \t a b \t", b"X-B:", b"X-A:2"))

    assert head.fields == [(b"hOsT", b"x"), (b"X-A", b"a b"), (b"X-B", b""), (b"X-A", b"2")]
    assert (head.method, head.target, head.path, head.authority) == (b"GET", b"/a?b", b"/a", b"x")


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        ([], (0, False)),
        ([b"Content-Length: 0"], (0, False)),
        ([b"Content-Length: 007"], (7, False)),
        ([b"content-length: 999999999999999999"], (10**18 - 1, False)),
        ([b"Transfer-Encoding: CHUNKED"], (None, True)),
    ],
)
def test_a_request_has_one_framing(lines: list[bytes], framing: tuple[int | None, bool]) -> None:
    head = request_head(ask(b"Host: x", *lines))

    assert (head.content_length, head.chunked) == framing


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"foo , CLOSE", False),
        (b"1.1", b"close, keep-alive", False),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_who_may_keep_the_connection(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    lines = [] if connection is None else [b"Connection: " + connection]

    head = request_head(ask(b"Host: x", *lines, first=b"GET / HTTP/" + version))

    assert head.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("first", "target", "authority"),
    [
        (b"GET http://b HTTP/1.1", b"/", b"b"),
        (b"GET http://b:81/c?d HTTP/1.1", b"/c?d", b"b:81"),
        (b"GET HTTPS://b?d HTTP/1.1", b"/?d", b"b"),
        (b"GET http://[::1]:81/ HTTP/1.1", b"/", b"[::1]:81"),
        (b"OPTIONS http://b HTTP/1.1", b"*", b"b"),
        (b"OPTIONS http://b/ HTTP/1.1", b"/", b"b"),
        (b"GET http://b//c HTTP/1.1", b"//c", b"b"),
    ],
)
def test_the_authority_of_an_absolute_target_wins(first: bytes, target: bytes, authority: bytes) -> None:
    head = request_head(ask(b"X: 1", b"host: a", first=first))

    assert (head.target, head.authority) == (target, authority)
    assert head.fields == [(b"Host", authority), (b"X", b"1")]
    assert head.get(b"host") == authority


def test_an_absolute_target_names_the_host_for_http_1_0() -> None:
    head = request_head(ask(first=b"GET http://b/ HTTP/1.0"))

    assert head.fields == [(b"Host", b"b")]


@pytest.mark.parametrize("target", [b"/http://b/", b"//b/c", b"/a:b@c", b"/;", b"/?a/../b", b"/a%2Fb", b"/?%00"])
def test_a_path_that_is_canonical_stays_as_sent(target: bytes) -> None:
    assert request_head(ask(b"Host: a", first=b"GET " + target + b" HTTP/1.1")).target == target


@pytest.mark.parametrize("before", [b"", b"http://b"])
def test_a_path_comes_in_its_one_form(before: bytes) -> None:
    raw = ask(b"Host: b", first=b"GET " + before + b"/public/%2E%2e/%61dmin?x=%2e HTTP/1.1")

    assert request_head(raw).target == b"/admin?x=%2e"


@pytest.mark.parametrize("before", [b"", b"http://b"])
@pytest.mark.parametrize("path", [b"/%00", b"/%zz", b"/a\\b", b"/..;/a", b"/a#b"])
def test_a_path_that_has_no_such_form_is_refused(before: bytes, path: bytes) -> None:
    with pytest.raises(ProxyError) as caught:
        request_head(ask(b"Host: b", first=b"GET " + before + path + b" HTTP/1.1"))

    assert caught.value.fault.saying("") == MALFORMED.saying("")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"], []),
        ([b"upgrade: H2C, websocket"], []),
        ([b"Upgrade: websocket", b"Upgrade: h2c"], []),
        ([b"HTTP2-Settings: AAMAAABk"], []),
    ],
)
def test_an_offer_of_h2c_is_removed(sent: list[bytes], kept: Fields) -> None:
    head = request_head(ask(b"Host: x", b"Content-Length: 5", *sent))

    assert head.fields == [(b"Host", b"x"), (b"Content-Length", b"5"), *kept]
    assert head.content_length == 5


def test_a_refusal_names_what_was_wrong_and_what_is_allowed() -> None:
    with pytest.raises(ProxyError, match="'3, 4' is not one decimal number") as caught:
        request_head(ask(b"Host: x", b"Content-Length: 3", b"Content-Length: 4"))

    assert caught.value.fault == MALFORMED.saying("Content-Length '3, 4' is not one decimal number")


@given(tokens(), targets(), plain_fields(), st.sampled_from([b"1.1", b"1.0"]))
def test_h11_reads_every_accepted_request_alike(method: bytes, target: bytes, fields: Fields, version: bytes) -> None:
    lines = [name + b":" + value for name, value in fields]
    raw = ask(b"Host: x:80", *lines, first=method + b" " + target + b" HTTP/" + version)
    if method == b"CONNECT":
        return

    head = request_head(raw)

    peer = h11.Connection(h11.SERVER)
    peer.receive_data(raw)
    theirs = peer.next_event()
    assert isinstance(theirs, h11.Request)
    assert (theirs.method, theirs.target, theirs.http_version) == (head.method, head.target, head.version)
    assert theirs.headers.raw_items() == head.fields
    assert head.fields == [(b"Host", b"x:80"), *fields]


def answer(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return ask(*lines, first=first)


BAD_ANSWERS = {
    "CL and TE": answer(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "CL twice, different": answer(b"Content-Length: 3", b"Content-Length: 4"),
    "CL twice, same": answer(b"Content-Length: 3", b"Content-Length: 3"),
    "CL list": answer(b"Content-Length: 3, 3"),
    "CL plus sign": answer(b"Content-Length: +3"),
    "CL of 19 digits": answer(b"Content-Length: " + b"9" * 19),
    "TE gzip": answer(b"Transfer-Encoding: gzip"),
    "TE chunked, identity": answer(b"Transfer-Encoding: chunked, identity"),
    "TE twice": answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "TE on HTTP/1.0": answer(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK"),
    "TE with VT": answer(b"Transfer-Encoding: \x0bchunked"),
    "204 with CL": answer(b"Content-Length: 3", first=b"HTTP/1.1 204 No Content"),
    "204 with TE": answer(b"Transfer-Encoding: chunked", first=b"HTTP/1.1 204 No Content"),
    "100 with CL": answer(b"Content-Length: 3", first=b"HTTP/1.1 100 Continue"),
    "status of two digits": answer(first=b"HTTP/1.1 20 OK"),
    "status of four digits": answer(first=b"HTTP/1.1 2000 OK"),
    "status 000": answer(first=b"HTTP/1.1 000 OK"),
    "status 099": answer(first=b"HTTP/1.1 099 OK"),
    "status 600": answer(first=b"HTTP/1.1 600 OK"),
    "status negative": answer(first=b"HTTP/1.1 -20 OK"),
    "no status": answer(first=b"HTTP/1.1  OK"),
    "HTTP/2.0": answer(first=b"HTTP/2.0 200 OK"),
    "HTTP/9.9": answer(first=b"HTTP/9.9 200 OK"),
    "ICY": answer(first=b"ICY 200 OK"),
    "two spaces": answer(first=b"HTTP/1.1  200 OK"),
    "leading empty line": b"\r\n" + answer(),
    "folded line": answer(b"X: a", b" b"),
    "space before colon": answer(b"X : a"),
    "no colon": answer(b"X"),
    "empty name": answer(b": a"),
    "NUL": answer(b"X: a\x00b"),
    "BEL": answer(b"X: a\x07b"),
    "bare CR": answer(b"X: a\rb"),
    "bare LF": answer(b"X: a\nb: c"),
    "NUL in the reason": answer(first=b"HTTP/1.1 200 O\x00K"),
    "Connection names Content-Length": answer(b"Content-Length: 3", b"Connection: content-length"),
    "101 fields": answer(*[b"X: 1"] * 101),
    "61 KiB": answer(*[b"X: " + b"a" * 1000] * 62),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_could_be_misread_is_refused(name: str) -> None:
    with pytest.raises(ProxyError) as caught:
        response_head(BAD_ANSWERS[name], b"GET")

    fault = caught.value.fault
    assert fault.saying("") == UPSTREAM_PROTOCOL.saying("")
    assert fault.sentence != UPSTREAM_PROTOCOL.sentence
    assert fault.sentence.isprintable()


@pytest.mark.parametrize(
    ("method", "first", "lines", "framing"),
    [
        (b"GET", b"HTTP/1.1 200 OK", [], (None, False, False)),
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 3"], (3, False, True)),
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 3", b"Connection: close"], (3, False, False)),
        (b"GET", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], (None, True, True)),
        (b"GET", b"HTTP/1.0 200 OK", [b"Content-Length: 3"], (3, False, False)),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Content-Length: 3"], (0, False, True)),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], (0, False, True)),
        (b"HEAD", b"HTTP/1.1 200 OK", [], (0, False, True)),
        (b"GET", b"HTTP/1.1 204 No Content", [], (0, False, True)),
        (b"GET", b"HTTP/1.1 204 No Content", [b"Content-Length: 0"], (0, False, True)),
        (b"GET", b"HTTP/1.1 304 Not Modified", [b"Content-Length: 3"], (0, False, True)),
        (b"GET", b"HTTP/1.1 304 Not Modified", [], (0, False, True)),
        (b"GET", b"HTTP/1.1 100 Continue", [], (0, False, True)),
    ],
)
def test_an_answer_has_one_framing(
    method: bytes, first: bytes, lines: list[bytes], framing: tuple[int | None, bool, bool]
) -> None:
    head = response_head(answer(*lines, first=first), method)

    assert (head.content_length, head.chunked, head.keep_alive) == framing


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"HTTP/1.1 200 OK", b"OK"),
        (b"HTTP/1.1 200 ", b""),
        (b"HTTP/1.1 200", b""),
        (b"HTTP/1.1 418 I'm  a\tteapot \xe9", b"I'm  a\tteapot \xe9"),
    ],
)
def test_a_reason_is_any_text_or_none(first: bytes, reason: bytes) -> None:
    assert response_head(answer(first=first), b"GET").reason == reason


@given(st.integers(200, 599), values(), plain_fields())
def test_h11_reads_every_accepted_answer_alike(status: int, reason: bytes, fields: Fields) -> None:
    raw = answer(*[name + b": " + value for name, value in fields], first=b"HTTP/1.1 %d " % status + reason)

    head = response_head(raw, b"GET")

    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(raw)
    theirs = peer.next_event()
    assert isinstance(theirs, h11.Response)
    assert (theirs.status_code, theirs.reason) == (head.status, head.reason)
    assert theirs.headers.raw_items() == head.fields == fields
