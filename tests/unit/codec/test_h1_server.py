"""The client's side: whose turn it is, what a response looks like, and when the connection may go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.contract import ServerCodec
from sidecar.codec.events import Chunk, End, Event, Head, Trailers
from sidecar.codec.h1_server import HELD_MAX_BYTES, H1Server
from sidecar.errors import CLIENT_GONE, MALFORMED, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from tests.support.http1 import cuts_of, every, serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET10 = b"GET / HTTP/1.0\r\n\r\n"
POST3 = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
POSTC = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def asked(request: bytes = GET) -> H1Server:
    codec = H1Server()
    codec.feed(request)
    return codec


def answer(codec: ServerCodec, length: int | None = 0, fields: Fields | None = None) -> bytes:
    return codec.encode_head(ResponseHead(200, fields or [], content_length=length))


def test_it_is_a_server_codec() -> None:
    codec: ServerCodec = H1Server()

    assert (codec.at_rest, codec.wants_input, codec.keep_alive, codec.send_room() > 0) == (True, True, False, True)


# Requests


@pytest.mark.parametrize(
    "request_bytes", [GET, POST3 + b"abc", POSTC + b"0\r\n\r\n", POSTC + b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n"]
)
def test_it_never_says_that_more_is_owed_than_comes_and_always_that_something_is(request_bytes: bytes) -> None:
    for size in range(request_bytes.index(b"\r\n\r\n") + 4, len(request_bytes) + 1):
        left = len(request_bytes) - size
        assert (1 if left else 0) <= asked(request_bytes[:size]).owed_bytes <= left


@pytest.mark.parametrize("head", [POST3.replace(b"3", b"1000"), POSTC + b"3e8\r\n"])
def test_a_body_of_a_known_size_owes_all_of_it(head: bytes) -> None:
    assert asked(head).owed_bytes >= 1000


def test_a_request_without_body_is_a_head_and_an_end() -> None:
    events = H1Server().feed(GET)

    assert kinds(events) == [Head, End]
    assert isinstance(events[0], Head)
    assert isinstance(events[0].head, RequestHead)


def test_body_bytes_come_as_they_arrive() -> None:
    codec = H1Server()

    assert kinds(codec.feed(POST3 + b"a")) == [Head, Chunk]
    codec.credit(1)
    assert codec.feed(b"bc") == [Chunk(b"bc", 2), End()]


def test_a_chunked_request_has_no_length_and_may_have_trailers() -> None:
    events = H1Server().feed(POSTC + b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n")

    assert events[1:] == [Chunk(b"abc", 3), Trailers([(b"X", b"1")]), End()]


REQUESTS = [GET, b"\r\n" + GET, POST3 + b"abc", POSTC + b"2\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n"]


@given(st.lists(st.sampled_from(REQUESTS), max_size=5), cuts_of(400))
def test_requests_do_not_depend_on_how_their_bytes_are_cut(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)

    cut = serve(stream, cuts)

    assert [message.facts for message in cut.messages] == [message.facts for message in serve(stream).messages]
    assert len(cut.complete) == len(requests)
    assert cut.fault is None


# Whose turn it is


def test_what_comes_ahead_of_its_turn_is_held() -> None:
    codec = asked(GET + POST3 + b"abc")
    assert codec.feed(GET) == []
    answer(codec)
    codec.encode_end()

    assert codec.keep_alive
    assert kinds(codec.next_request()) == [Head, Chunk, End]
    answer(codec)
    codec.encode_end()
    assert kinds(codec.next_request()) == [Head, End]
    rest_before = codec.at_rest
    answer(codec)
    assert (rest_before, codec.at_rest) == (False, True)
    assert codec.next_request() == []
    assert (codec.at_rest, codec.wants_input) == (True, True)


def test_too_much_ahead_of_its_turn_is_not_read() -> None:
    codec = asked()
    codec.feed(b"x" * (HELD_MAX_BYTES - 1))
    assert codec.wants_input

    codec.feed(b"x")

    assert not codec.wants_input


def test_a_part_of_a_head_is_not_at_rest() -> None:
    codec = H1Server()
    codec.feed(b"\r\n")
    assert codec.at_rest

    codec.feed(b"G")

    assert not codec.at_rest


def test_a_fault_in_a_held_request_comes_at_its_turn() -> None:
    codec = asked(GET + b"GET / HTTP/9.9\r\n\r\n")
    answer(codec)

    with pytest.raises(ProxyError) as caught:
        codec.next_request()

    assert caught.value.fault.status == 505
    assert b"Connection: close" in answer(codec)


# The client leaves


def test_a_client_may_leave_between_requests() -> None:
    codec = H1Server()

    assert codec.feed(b"") == []
    assert (codec.at_rest, codec.wants_input) == (True, False)


@pytest.mark.parametrize("stream", [b"G", GET[:-1], POST3, POST3 + b"ab", POSTC, POSTC + b"3\r\nab", POSTC + b"0\r\n"])
def test_a_client_that_leaves_inside_a_request_is_gone(stream: bytes) -> None:
    codec = H1Server()
    codec.feed(stream)

    with pytest.raises(ProxyError) as caught:
        codec.feed(b"")

    assert caught.value.fault.saying("") == CLIENT_GONE.saying("")
    assert codec.feed(b"") == []


def test_a_client_that_ends_its_side_still_gets_its_answers() -> None:
    codec = asked(GET + GET)
    assert codec.feed(b"") == []
    answer(codec)
    assert codec.keep_alive

    assert kinds(codec.next_request()) == [Head, End]
    answer(codec)

    assert not codec.keep_alive


@pytest.mark.parametrize("held", [b"G", POST3 + b"ab"])
def test_a_held_part_of_a_request_that_will_never_be_whole_is_gone(held: bytes) -> None:
    codec = asked(GET + held)
    codec.feed(b"")
    answer(codec)

    with pytest.raises(ProxyError) as caught:
        codec.next_request()

    assert caught.value.fault.flag == "DC"


# Responses


def test_a_known_length_is_announced_and_kept() -> None:
    codec = asked()

    head = answer(codec, 3, [(b"X-CamelCase", b"1"), (b"Content-Length", b"99"), (b"Connection", b"x")])

    assert head == b"HTTP/1.1 200 OK\r\nX-CamelCase: 1\r\nContent-Length: 3\r\n\r\n"
    assert not codec.keep_alive
    assert codec.encode_chunk(b"abc") == b"abc"
    assert codec.encode_end([(b"T", b"1")]) == b""
    assert codec.keep_alive


def test_an_unknown_length_is_chunked() -> None:
    codec = asked()

    assert answer(codec, None) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert codec.encode_chunk(b"abc") + codec.encode_end([(b"T", b"1")]) == b"3\r\nabc\r\n0\r\n\r\n"
    assert codec.keep_alive


def test_trailers_go_to_a_client_that_asked_for_them() -> None:
    codec = asked(b"GET / HTTP/1.1\r\nHost: x\r\nTE: gzip;q=0.5, Trailers\r\nConnection: TE\r\n\r\n")
    assert codec.wants_trailers
    answer(codec, None)

    assert codec.encode_end([(b"T", b"1")]) == b"0\r\nT: 1\r\n\r\n"


def test_an_unknown_length_ends_by_close_for_http_1_0() -> None:
    codec = asked(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert answer(codec, None) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert codec.encode_chunk(b"abc") + codec.encode_end() == b"abc"
    assert not codec.keep_alive


def test_http_1_0_may_keep_the_connection_for_a_known_length() -> None:
    codec = asked(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert answer(codec, 0) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    assert codec.keep_alive


@pytest.mark.parametrize("request_", [GET10, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
def test_a_client_that_wants_to_close_is_told_so(request_: bytes) -> None:
    codec = asked(request_)

    assert b"\r\nConnection: close\r\n" in answer(codec)
    assert not codec.keep_alive


def test_the_proxy_may_want_to_close() -> None:
    codec = asked()
    codec.close_after()

    assert b"\r\nConnection: close\r\n" in answer(codec)
    assert not codec.keep_alive


@pytest.mark.parametrize(
    ("fields", "length", "written"),
    [
        ([(b"Content-Length", b"99")], 0, b"Content-Length: 99\r\n"),
        ([], 7, b"Content-Length: 7\r\n"),
        ([], 0, b""),
        ([], None, b""),
    ],
)
def test_head_gets_the_head_that_get_would_get(fields: Fields, length: int | None, written: bytes) -> None:
    codec = asked(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer(codec, length, fields) == b"HTTP/1.1 200 OK\r\n" + written + b"\r\n"
    assert codec.encode_chunk(b"abc") + codec.encode_end() == b""
    assert codec.keep_alive


def test_204_and_304_have_no_body() -> None:
    no_content, not_modified = asked(), asked()

    head = no_content.encode_head(ResponseHead(204, [(b"Content-Length", b"0")], content_length=0))
    assert head == b"HTTP/1.1 204 No Content\r\n\r\n"
    head = not_modified.encode_head(ResponseHead(304, [(b"Content-Length", b"9")], content_length=0))
    assert head == b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    for codec in (no_content, not_modified):
        assert codec.encode_chunk(b"abc") + codec.encode_end() == b""
        assert codec.keep_alive


def test_a_response_shorter_than_announced_has_no_end() -> None:
    codec = asked()
    answer(codec, 3)

    with pytest.raises(ValueError, match="owed"):
        codec.encode_end()
    assert not codec.keep_alive


def test_the_upstreams_own_reason_is_kept() -> None:
    head = asked().encode_head(ResponseHead(200, [], reason=b"Fine"))

    assert head.startswith(b"HTTP/1.1 200 Fine\r\n")


def test_a_head_that_cannot_be_written_leaves_room_for_another() -> None:
    codec = asked()
    with pytest.raises(ValueError, match="line break"):
        answer(codec, 0, [(b"X", b"1\r\nY: 2")])

    assert answer(codec).startswith(b"HTTP/1.1 200 OK\r\n")


# Request body and response meet


def test_a_response_before_the_end_of_the_request_ends_the_connection() -> None:
    codec = asked(POST3)
    head = answer(codec)
    codec.encode_end()

    assert b"close" not in head  # the rest may still come
    assert not codec.keep_alive
    codec.feed(b"abc")
    assert codec.keep_alive


def test_an_error_before_the_end_of_the_request_says_close() -> None:
    codec = asked(POST3)

    assert b"Connection: close" in codec.encode_head(ResponseHead(503, []))
    codec.feed(b"abc")
    assert not codec.keep_alive


def test_a_refused_request_is_answered_with_close() -> None:
    codec = H1Server()
    with pytest.raises(ProxyError) as caught:
        codec.feed(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
    body = caught.value.fault.sentence.encode()

    head = codec.encode_head(ResponseHead(400, [(b"X", b"1")], content_length=len(body)))

    assert head == b"HTTP/1.1 400 Bad Request\r\nX: 1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    assert codec.encode_chunk(body) + codec.encode_end() == body
    assert not codec.keep_alive
    assert not codec.wants_input


def test_a_bad_chunk_is_refused_like_a_bad_head() -> None:
    codec = asked(POSTC)

    with pytest.raises(ProxyError) as caught:
        codec.feed(b"zz\r\n")

    assert caught.value.fault.saying("") == MALFORMED.saying("")
    assert not codec.wants_input


# 100-continue

EXPECT = POST3.replace(b"\r\n\r\n", b"\r\nExpect: 100-Continue\r\n\r\n")


def test_a_client_waits_for_100_continue() -> None:
    codec = asked(EXPECT)
    expected = codec.expects_continue

    assert codec.encode_interim(ResponseHead(100, [])) == b"HTTP/1.1 100 Continue\r\n\r\n"

    assert (expected, codec.expects_continue) == (True, False)
    assert codec.feed(b"abc") == [Chunk(b"abc", 3), End()]
    answer(codec)
    assert codec.keep_alive


@pytest.mark.parametrize(
    "request_",
    [
        EXPECT + b"a",
        GET,
        POST3,
        EXPECT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        EXPECT.replace(b"Content-Length: 3", b"Content-Length: 0"),
        EXPECT.replace(b"100-Continue", b"200-ok"),
    ],
)
def test_others_do_not_wait(request_: bytes) -> None:
    assert not asked(request_).expects_continue


def test_a_final_head_ends_the_wait() -> None:
    codec = asked(EXPECT)

    assert b"Connection: close" in codec.encode_head(ResponseHead(417, []))
    assert not codec.expects_continue
    assert not codec.keep_alive


def test_interim_heads_are_not_for_http_1_0() -> None:
    assert asked(GET10).encode_interim(ResponseHead(103, [(b"Link", b"</a>")])) == b""
    assert asked().encode_interim(ResponseHead(103, [(b"Link", b"</a>")])) == (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    )


def test_a_big_head_byte_by_byte() -> None:
    stream = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: %b\r\n" % (b"a" * 500) * 40 + b"\r\n"

    assert len(serve(stream, every(1, stream)).complete) == 1
