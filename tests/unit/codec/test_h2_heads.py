"""What HTTP/2 heads are read as, and written as. What is refused stands in tests/conformance/test_http2_vectors.py."""

import pytest

from sidecar.codec.contract import MuxClient, MuxServer
from sidecar.codec.h2_heads import request_fields, request_head, response_fields, response_head, trailer_fields
from sidecar.model.messages import Fields, NeverIndexed, RequestHead, ResponseHead
from tests.support.http2_codecs import Codecs

GET = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/"))


def received(*fields: tuple[bytes, bytes]) -> Fields:
    return list(fields)


def test_both_codecs_are_what_the_contract_asks_for(codecs: Codecs) -> None:
    server: MuxServer = codecs.server()
    client: MuxClient = codecs.client()
    assert server.take()
    assert client.take()


def test_a_request() -> None:
    head = request_head(received(*GET, (b"x", b"a"), (b"x", b"b"), (b"te", b"trailers")), ended=True)

    assert (head.method, head.target, head.authority, head.version) == (b"GET", b"/", b"a.example", b"2")
    assert head.fields == [(b"x", b"a"), (b"x", b"b"), (b"te", b"trailers")]
    assert head.content_length == 0
    assert head.get(b"x") == b"a, b"
    assert not head.opens_tunnel


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/a/../b", b"/b"),
        (b"/%61?%61", b"/a?%61"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"//a", b"//a"),
        (b"/" + b"a" * 8191, None),
    ],
)
def test_the_path_is_canonical(path: bytes, target: bytes | None) -> None:
    head = request_head(received(*GET[:3], (b":path", path)), ended=True)

    assert head.target == (target or path)


def test_options_of_the_whole_server() -> None:
    head = request_head(received((b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")), ended=True)

    assert head.target == b"*"


@pytest.mark.parametrize(
    ("pseudo", "host"), [(True, b"a.example"), (True, b"A.Example"), (False, b"a.example"), (True, None)]
)
def test_host_and_authority_are_one(pseudo: bool, host: bytes | None) -> None:
    fields = GET if pseudo else (*GET[:2], GET[3])
    head = request_head(received(*fields, *([(b"host", host)] if host else [])), ended=True)

    assert head.authority == b"a.example"
    assert head.fields == []


@pytest.mark.parametrize("authority", [b"a", b"a:80", b"[::1]", b"[::1]:8080", b"10.0.0.1:1", b"a_b.c"])
def test_authorities(authority: bytes) -> None:
    head = request_head(received(*GET[:2], (b":authority", authority), GET[3]), ended=True)

    assert head.authority == authority


def test_cookie_crumbs_become_one_field_where_the_first_one_stood() -> None:
    crumbs = ((b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d"), (b"cookie", b"e=f"))

    assert request_head(received(*GET, *crumbs), ended=True).fields == [(b"cookie", b"a=b; c=d; e=f"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("ended", "said", "length"), [(True, None, 0), (True, b"0", 0), (False, None, None), (False, b"7", 7)]
)
def test_the_length_of_a_request(ended: bool, said: bytes | None, length: int | None) -> None:
    fields = [(b"content-length", said)] if said is not None else []

    assert request_head(received(*GET, *fields), ended=ended).content_length == length


def test_an_extended_connect_is_the_get_that_it_stands_for() -> None:
    head = request_head(
        received((b":method", b"CONNECT"), (b":protocol", b"WebSocket"), *GET[1:3], (b":path", b"/./chat")), ended=False
    )

    assert (head.method, head.target, head.authority, head.upgrade) == (b"GET", b"/chat", b"a.example", b"websocket")
    assert head.opens_tunnel
    assert not head.has_body


def test_what_belongs_to_http1_is_not_written() -> None:
    fields = [
        (b"Connection", b"x"),
        (b"Keep-Alive", b"1"),
        (b"Proxy-Connection", b"close"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAA"),
        (b"Host", b"h.example"),
        (b"TE", b"gzip"),
        (b"Content-Length", b"99"),
        (b"X-Kept", b"yes"),
    ]
    head = RequestHead(b"POST", b"/", b"a.example", fields, content_length=None)

    assert request_fields(head, b"http", wants_trailers=False) == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"h.example"),
        (b"x-kept", b"yes"),
    ]
    answer = ResponseHead(200, fields, content_length=5)
    assert response_fields(answer, b"GET", tunnel=False) == [
        (b":status", b"200"),
        (b"content-length", b"5"),
        (b"x-kept", b"yes"),
    ]
    assert trailer_fields(fields) == [(b"x-kept", b"yes")]


def test_a_request_of_http_1_0_without_host_has_no_authority() -> None:
    written = request_fields(RequestHead(b"GET", b"/", b"", [], version=b"1.0"), b"http", wants_trailers=True)

    assert written == [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"te", b"trailers")]


def test_connect_is_written_with_its_authority_only() -> None:
    head = RequestHead(b"CONNECT", b"db:5432", b"db:5432", [(b"Host", b"db"), (b"X", b"y")])

    assert request_fields(head, b"http", wants_trailers=False) == [
        (b":method", b"CONNECT"),
        (b":authority", b"db:5432"),
        (b"x", b"y"),
    ]


def test_secrets_are_marked_and_others_are_not() -> None:
    written = response_fields(ResponseHead(200, [(b"Set-Cookie", b"k=v"), (b"a", b"b")]), b"GET", tunnel=False)

    assert [isinstance(field, NeverIndexed) for field in written] == [False, True, False]


@pytest.mark.parametrize("path", [b"", b"/\r\nx: y", b"/\0"])
def test_a_target_that_would_write_more_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="in HTTP/2"):
        request_fields(RequestHead(b"GET", path, b"a", []), b"http", wants_trailers=False)


@pytest.mark.parametrize(
    ("method", "status", "ended", "said", "length"),
    [
        (b"GET", 200, False, b"5", 5),
        (b"GET", 200, False, None, None),
        (b"GET", 200, True, None, 0),
        (b"HEAD", 200, True, b"5", 0),
        (b"HEAD", 200, False, b"5", 0),
        (b"GET", 304, True, b"5", 0),
        (b"GET", 204, True, None, 0),
        (b"GET", 103, False, None, 0),
    ],
)
def test_the_length_of_an_answer(
    method: bytes, status: int, ended: bool, said: bytes | None, length: int | None
) -> None:
    fields = [(b"content-length", said)] if said is not None else []
    head = response_head(received((b":status", b"%d" % status), *fields), method, ended=ended)

    assert (head.status, head.content_length, head.version) == (status, length, b"2")
