"""Switching protocols: who may ask, who has agreed, and that no byte of a tunnel goes anywhere before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.contract import ClientCodec, ServerCodec
from sidecar.codec.events import Chunk, End, Event, Head, Interim, Tunnel
from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import HELD_MAX_BYTES, H1Server
from sidecar.codec.head_rules import request_head, response_head
from sidecar.errors import UPSTREAM_CLOSED, UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from tests.support.http1 import cuts_of, pieces

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
WEBSOCKET = (b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
             b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")  # fmt: skip
FOO = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
CONNECT = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n"
AGREED = b"HTTP/1.1 200 OK\r\n\r\n"


def ask(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return request_head(b"".join(line + b"\r\n" for line in (first, b"Host: x", *lines)) + b"\r\n")


# What a request asks for


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Upgrade: foo", b"Connection: Upgrade"], b"foo"),
        ([b"Upgrade: Foo/1.1", b"Connection: close, UPGRADE"], b"foo/1.1"),
        ([b"Upgrade: foo, bar", b"Connection: upgrade"], b"foo"),
        ([b"Upgrade: foo", b"Upgrade: bar", b"Connection: upgrade"], b"foo"),
        ([b"Upgrade: h2c, foo", b"Connection: upgrade, HTTP2-Settings", b"HTTP2-Settings: AA"], b"foo"),
        ([b"Upgrade: ,, a b, foo", b"Connection: upgrade"], b"foo"),
        ([b"Upgrade: foo", b"Connection: upgrade", b"Content-Length: 0"], b"foo"),
        # Not asked for
        ([b"Upgrade: foo"], b""),
        ([b"Connection: upgrade"], b""),
        ([b"Upgrade: foo", b"Connection: close"], b""),
        ([b"Upgrade:", b"Connection: upgrade"], b""),
        ([b"Upgrade: a b", b"Connection: upgrade"], b""),
        # Never asked for
        ([b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AA"], b""),
        ([b"Upgrade: H2", b"Connection: upgrade"], b""),
        ([b"Upgrade: HTTP/2.0", b"Connection: upgrade"], b""),
        # Not by a request with a body
        ([b"Upgrade: foo", b"Connection: upgrade", b"Content-Length: 3"], b""),
        ([b"Upgrade: foo", b"Connection: upgrade", b"Transfer-Encoding: chunked"], b""),
    ],
)
def test_what_a_head_asks_for(lines: list[bytes], upgrade: bytes) -> None:
    head = ask(*lines)

    assert head.upgrade == upgrade
    assert head.opens_tunnel == bool(upgrade)
    assert not {b"upgrade", b"http2-settings"} & {name.lower() for name, _ in head.fields}


def test_http_1_0_asks_for_no_upgrade() -> None:
    assert not ask(b"Upgrade: foo", b"Connection: upgrade", first=b"GET / HTTP/1.0").upgrade


def test_only_get_asks_for_websocket() -> None:
    assert not ask(b"Upgrade: websocket", b"Connection: upgrade", first=b"OPTIONS / HTTP/1.1").upgrade
    assert ask(b"Upgrade: foo", b"Connection: upgrade", first=b"OPTIONS * HTTP/1.1").upgrade == b"foo"


def test_the_target_of_connect_is_its_authority() -> None:
    head = ask(b"X: 1", b"Upgrade: foo", b"Connection: upgrade", first=b"CONNECT [::1]:5432 HTTP/1.1")

    assert (head.target, head.authority, head.upgrade) == (b"[::1]:5432", b"[::1]:5432", b"")
    assert head.fields == [(b"Host", b"[::1]:5432"), (b"X", b"1"), (b"Connection", b"upgrade")]
    assert head.opens_tunnel


# The client's side


def server(request: bytes = FOO) -> H1Server:
    codec = H1Server()
    assert [type(event) for event in codec.feed(request)] == [Head, End]
    return codec


def agree(codec: ServerCodec, fields: Fields | None = None) -> bytes:
    return codec.encode_tunnel(ResponseHead(101, fields or [], reason=b"As you like"))


def test_an_upgrade_is_agreed_to_with_101() -> None:
    fields = [(b"X", b"1"), (b"Content-Length", b"3"), (b"Upgrade", b"bar"), (b"Connection", b"close")]

    assert agree(server(), fields) == (
        b"HTTP/1.1 101 As you like\r\nX: 1\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n"
    )  # fmt: skip


def test_connect_is_agreed_to_with_200_and_no_framing() -> None:
    fields = [(b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked"), (b"X", b"1")]

    assert server(CONNECT).encode_tunnel(ResponseHead(204, fields)) == b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"


def test_an_upstream_that_speaks_http_2_agrees_with_200() -> None:
    head = server(WEBSOCKET).encode_tunnel(ResponseHead(200, [(b"sec-websocket-protocol", b"chat")], reason=b"OK"))

    assert head == (b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-protocol: chat\r\nUpgrade: websocket\r\n"
                    b"Connection: upgrade\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n")  # fmt: skip


def test_the_upstreams_own_accept_value_is_kept() -> None:
    assert agree(server(WEBSOCKET), [(b"Sec-WebSocket-Accept", b"x")]).count(b"Sec-WebSocket-Accept: x\r\n") == 1


def test_after_the_switch_bytes_are_bytes_both_ways() -> None:
    codec = server()
    agree(codec)

    assert codec.tunnel_held() == []
    assert (codec.wants_input, codec.at_rest, codec.keep_alive) == (True, False, False)
    assert codec.feed(SMUGGLED) == [Chunk(SMUGGLED, len(SMUGGLED))]
    assert codec.encode_chunk(b"\r\n0\r\n\r\n") == b"\r\n0\r\n\r\n"
    assert codec.encode_chunk(b"") == b""


@pytest.mark.parametrize("client_first", [True, False])
def test_each_direction_ends_by_itself(client_first: bool) -> None:
    codec = server()
    agree(codec)
    if client_first:
        assert codec.feed(b"") == [End()]
        assert codec.encode_chunk(b"x") == b"x"
    assert codec.encode_end([(b"T", b"1")]) == b""
    if not client_first:
        assert codec.feed(b"x") == [Chunk(b"x", 1)]
        assert not codec.at_rest
        assert codec.feed(b"") == [End()]

    assert (codec.at_rest, codec.wants_input, codec.keep_alive) == (True, False, False)
    assert codec.feed(b"") == []


def test_what_came_ahead_of_the_switch_belongs_to_the_tunnel() -> None:
    codec = server(FOO + b"ab")
    assert codec.feed(b"c") == []
    assert codec.feed(b"") == []
    agree(codec)

    assert codec.tunnel_held() == [Chunk(b"abc", 3), End()]
    assert codec.encode_chunk(b"x") == b"x"


def test_only_so_much_is_held_ahead_of_the_switch() -> None:
    codec = server(FOO + b"x" * HELD_MAX_BYTES)

    assert not codec.wants_input
    agree(codec)
    assert [len(event.data) for event in codec.tunnel_held() if isinstance(event, Chunk)] == [HELD_MAX_BYTES]
    assert codec.wants_input


@pytest.mark.parametrize("request_", [FOO, CONNECT, WEBSOCKET])
def test_what_came_ahead_of_a_refused_switch_is_never_read_as_a_request(request_: bytes) -> None:
    codec = server(request_ + SMUGGLED)

    assert b"\r\nConnection: close\r\n" in codec.encode_head(ResponseHead(400, []))
    assert (codec.keep_alive, codec.at_rest) == (False, True)


@pytest.mark.parametrize("request_", [FOO, CONNECT, WEBSOCKET])
def test_a_refused_switch_leaves_the_connection_to_the_next_request(request_: bytes) -> None:
    codec = server(request_)

    assert b"close" not in codec.encode_head(ResponseHead(401, []))
    assert codec.keep_alive
    codec.feed(SMUGGLED)
    assert [type(event) for event in codec.next_request()] == [Head, End]


def test_an_ignored_upgrade_offer_holds_up_nothing() -> None:
    codec = H1Server()
    codec.feed(FOO.replace(b"foo", b"h2c") + SMUGGLED)

    assert b"close" not in codec.encode_head(ResponseHead(200, []))
    assert [type(event) for event in codec.next_request()] == [Head, End]


def test_101_is_no_interim_answer() -> None:
    assert server().encode_interim(ResponseHead(101, [(b"Upgrade", b"foo")])) == b""


# The upstream's side


def client(request: bytes = FOO, fields: Fields | None = None) -> H1Client:
    codec = H1Client()
    codec.encode_request(with_fields(request_head(request), fields))
    return codec


def with_fields(head: RequestHead, fields: Fields | None) -> RequestHead:
    kept = [(name, value) for name, value in head.fields if name.lower() != b"connection"]
    return RequestHead(head.method, head.target, head.authority, kept + (fields or []), upgrade=head.upgrade)


def refusal(codec: ClientCodec, answer: bytes) -> str:
    with pytest.raises(ProxyError) as caught:
        codec.feed(answer)
    assert caught.value.fault.saying("") == UPSTREAM_PROTOCOL.saying("")
    assert not codec.reusable
    return caught.value.fault.sentence


def test_a_request_asks_in_its_own_words() -> None:
    head = RequestHead(b"GET", b"/a", b"x", [(b"Host", b"x"), (b"Upgrade", b"other")], upgrade=b"foo")

    asked = b"GET /a HTTP/1.1\r\nHost: x\r\n"
    assert H1Client().encode_request(head) == asked + b"Upgrade: foo\r\nConnection: upgrade\r\n\r\n"
    assert H1Client().encode_request(head, wants_trailers=True) == (
        asked + b"TE: trailers\r\nUpgrade: foo\r\nConnection: upgrade, TE\r\n\r\n"
    )


def test_connect_is_asked_with_its_authority() -> None:
    head = RequestHead(b"CONNECT", b"db:5432", b"db:5432", [])

    assert H1Client().encode_request(head) == b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"


@pytest.mark.parametrize(("request_", "answer"), [(FOO, SWITCHED), (CONNECT, AGREED)])
def test_a_tunnel_begins_where_the_upstream_agrees(request_: bytes, answer: bytes) -> None:
    codec = client(request_)
    codec.encode_end()

    events = codec.feed(answer + b"ab")

    assert isinstance(events[0], Tunnel)
    assert events[1:] == [Chunk(b"ab", 2)]
    assert codec.feed(b"\r\n\r\n") == [Chunk(b"\r\n\r\n", 4)]
    assert codec.encode_chunk(SMUGGLED) == SMUGGLED
    assert (codec.at_rest, codec.reusable) == (False, False)


@pytest.mark.parametrize(
    "answer",
    [
        AGREED,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 299 Fine\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
def test_any_2xx_agrees_to_connect_whatever_length_it_names(answer: bytes) -> None:
    events = client(CONNECT).feed(answer + b"x")

    assert isinstance(events[0], Tunnel)
    assert events[1:] == [Chunk(b"x", 1)]


def test_interim_answers_come_before_the_switch() -> None:
    events = client().feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCHED)

    assert [type(event) for event in events] == [Interim, Tunnel]


@pytest.mark.parametrize("upstream_first", [True, False])
def test_each_direction_towards_the_upstream_ends_by_itself(upstream_first: bool) -> None:
    codec = client()
    codec.feed(SWITCHED)
    if upstream_first:
        assert codec.feed(b"") == [End()]
        assert codec.encode_chunk(b"x") == b"x"
        assert not codec.at_rest
    assert codec.encode_end([(b"T", b"1")]) == b""
    if not upstream_first:
        assert codec.feed(b"x") == [Chunk(b"x", 1)]
        assert not codec.at_rest
        assert codec.feed(b"") == [End()]

    assert (codec.at_rest, codec.reusable) == (True, False)
    assert codec.feed(b"") == []


@pytest.mark.parametrize("request_", [FOO, CONNECT])
def test_no_byte_of_a_tunnel_leaves_before_it_is_agreed_to(request_: bytes) -> None:
    codec = client(request_)

    with pytest.raises(ValueError, match="announced length"):
        codec.encode_chunk(b"x")


@pytest.mark.parametrize("request_", [FOO, CONNECT])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ],
)
def test_a_refusal_is_an_answer_and_the_connection_is_not_used_again(request_: bytes, answer: bytes) -> None:
    codec = client(request_)

    events = codec.feed(answer)

    assert isinstance(events[0], Head)
    assert events[1:] == [Chunk(b"x", 1), End()]
    assert (codec.at_rest, codec.reusable) == (True, False)
    with pytest.raises(AssertionError):
        codec.encode_request(RequestHead(b"GET", b"/", b"x", []))


def test_an_upgrade_may_be_ignored() -> None:
    codec = client()

    assert isinstance(codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")[0], Head)
    assert not codec.reusable


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (SWITCHED.replace(b"foo", b"bar"), "the endpoint switched to 'bar'; 'foo' was asked for"),
        (SWITCHED.replace(b"foo", b"foo, bar"), "the endpoint switched to 'foo, bar'; 'foo' was asked for"),
        (b"HTTP/1.1 101 OK\r\n\r\n", "the endpoint switched without saying to what; 'foo' was asked for"),
        (SWITCHED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"), "an answer with status 101 declares a body"),
    ],
)
def test_a_switch_to_something_else_is_refused(answer: bytes, sentence: str) -> None:
    assert refusal(client(), answer).startswith(sentence)


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", CONNECT])
def test_a_switch_that_nobody_asked_for_is_refused(request_: bytes) -> None:
    assert refusal(client(request_), SWITCHED) == "the endpoint switched protocols; nobody asked it to"


WS_SWITCHED = b"HTTP/1.1 101 OK\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\nsec-websocket-accept: %b\r\n\r\n"


def test_a_websocket_answers_the_key_that_it_got() -> None:
    assert isinstance(client(WEBSOCKET).feed(WS_SWITCHED % ACCEPT)[0], Tunnel)
    assert "does not answer the key" in refusal(client(WEBSOCKET), WS_SWITCHED % KEY)
    assert "does not answer the key" in refusal(client(WEBSOCKET), SWITCHED.replace(b"foo", b"websocket"))


def test_a_close_before_the_switch_is_no_tunnel() -> None:
    codec = client()

    with pytest.raises(ProxyError) as caught:
        codec.feed(b"")

    assert caught.value.fault == UPSTREAM_CLOSED


def test_a_resumed_codec_knows_what_was_asked_for() -> None:
    codec = H1Client.resumed(request_head(FOO))

    assert isinstance(codec.feed(SWITCHED)[0], Tunnel)
    assert not codec.reusable
    assert not H1Client.resumed(request_head(FOO)).reusable


def test_an_answer_to_connect_that_refuses_has_its_framing() -> None:
    head = response_head(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n", b"CONNECT")

    assert (head.content_length, head.keep_alive) == (3, True)


# Both sides


@given(
    st.sampled_from([FOO, CONNECT]),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.binary(max_size=40),
    cuts_of(200),
)
def test_a_tunnel_carries_every_byte_however_it_is_cut(
    request_: bytes, early: bytes, later: bytes, back: bytes, cuts: list[int]
) -> None:
    near, far = H1Server(), client(request_)
    events: list[Event] = []
    for piece in pieces(request_ + early, cuts):
        events += near.feed(piece)
    assert [type(event) for event in events] == [Head, End]
    answers: list[Event] = []
    for piece in pieces((SWITCHED if request_ == FOO else AGREED) + back, cuts):
        answers += far.feed(piece)
    tunnel = answers.pop(0)
    assert isinstance(tunnel, Tunnel)

    near.encode_tunnel(tunnel.head)
    inside = near.tunnel_held()
    for piece in pieces(later, cuts):
        inside += near.feed(piece)

    assert b"".join(far.encode_chunk(event.data) for event in inside if isinstance(event, Chunk)) == early + later
    assert b"".join(near.encode_chunk(event.data) for event in answers if isinstance(event, Chunk)) == back
    for codec in (near, far):
        assert codec.feed(b"") == [End()]
        assert codec.encode_end() == b""
        assert codec.at_rest
