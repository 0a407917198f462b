"""The upstream's side: which answer belongs to the request, where it ends, and when another may follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.contract import ClientCodec
from sidecar.codec.events import Chunk, End, Head, Interim, Trailers
from sidecar.codec.h1_client import INTERIM_MAX_COUNT, H1Client
from sidecar.errors import UPSTREAM_CLOSED, UPSTREAM_PROTOCOL, Fault, ProxyError
from sidecar.model.messages import Fields, RequestHead
from tests.support.http1 import Transcript, cuts_of, every, receive

OK3 = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
OKC = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nabc"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def head(method: bytes = b"GET", length: int | None = 0, fields: Fields | None = None) -> RequestHead:
    return RequestHead(method, b"/a", b"x:1", fields or [(b"Host", b"x:1")], content_length=length)


def sent(request: RequestHead | None = None) -> H1Client:
    codec = H1Client()
    codec.encode_request(request or head())
    return codec


def refused(got: Transcript, fault: Fault) -> bool:
    return got.fault is not None and got.fault.saying("") == fault.saying("")


# Requests


def test_it_is_a_client_codec() -> None:
    codec: ClientCodec = H1Client()

    assert (codec.at_rest, codec.reusable, codec.send_room() > 0) == (True, True, True)
    codec.credit(1)


@pytest.mark.parametrize(
    ("method", "length", "line"),
    [
        (b"GET", 0, b""),
        (b"DELETE", 0, b""),
        (b"POST", 0, b"Content-Length: 0\r\n"),
        (b"GET", 3, b"Content-Length: 3\r\n"),
        (b"POST", None, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_a_request_leaves_with_one_framing(method: bytes, length: int | None, line: bytes) -> None:
    fields = [(b"hOsT", b"x"), (b"X-A", b"1"), (b"Content-Length", b"77"), (b"Connection", b"close")]

    written = H1Client().encode_request(head(method, length, fields))

    assert written == method + b" /a HTTP/1.1\r\nhOsT: x\r\nX-A: 1\r\n" + line + b"\r\n"


def test_a_request_without_host_gets_its_authority() -> None:
    assert b"\r\nHost: x:1\r\n" in H1Client().encode_request(head(fields=[(b"X", b"1")]))


def test_a_request_that_cannot_be_written_begins_no_exchange() -> None:
    codec = H1Client()
    with pytest.raises(ValueError, match="line break"):
        codec.encode_request(head(fields=[(b"X", b"1\n")]))

    assert codec.reusable


def test_trailers_can_be_asked_for() -> None:
    written = H1Client().encode_request(head(), wants_trailers=True)

    assert b"\r\nTE: trailers\r\nConnection: TE\r\n" in written


def test_request_bodies() -> None:
    counted, chunked = sent(head(b"POST", 3)), sent(head(b"POST", None))

    assert counted.encode_chunk(b"abc") + counted.encode_end() == b"abc"
    assert chunked.encode_chunk(b"abc") + chunked.encode_end() == b"3\r\nabc\r\n0\r\n\r\n"
    with pytest.raises(ValueError, match="announced length"):
        counted.encode_chunk(b"d")


def test_request_trailers_follow_a_chunked_body_only() -> None:
    trailers = [(b"X-Sum", b"1"), (b"Host", b"y"), (b"X-Forwarded-For", b"::1"), (b"Content-Length", b"9")]
    counted, chunked = sent(head(b"POST", 3)), sent(head(b"POST", None))

    assert counted.encode_chunk(b"abc") + counted.encode_end(trailers) == b"abc"
    assert chunked.encode_end(trailers) == b"0\r\nX-Sum: 1\r\n\r\n"


def test_a_short_request_body_has_no_end() -> None:
    codec = sent(head(b"POST", 3))
    codec.encode_chunk(b"ab")

    with pytest.raises(ValueError, match="owed"):
        codec.encode_end()


# Answers


@pytest.mark.parametrize(
    ("method", "stream", "body"),
    [
        (b"GET", OK3, b"abc"),
        (b"GET", OKC, b"abc"),
        (b"GET", NO_CONTENT, b""),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b""),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", b""),
    ],
)
def test_an_answer_leaves_the_connection_reusable(method: bytes, stream: bytes, body: bytes) -> None:
    got, codec = receive(stream, method=method, close=False)

    assert [message.complete for message in got.messages] == [True]
    assert got.messages[0].body == body
    assert (codec.reusable, codec.at_rest) == (True, True)
    assert codec.feed(b"") == []
    assert not codec.reusable


ANSWERS = [
    OK3,
    OKC,
    NO_CONTENT,
    UNTIL_CLOSE,
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK3,
]


@given(st.sampled_from(ANSWERS), cuts_of(130))
def test_answers_do_not_depend_on_how_their_bytes_are_cut(stream: bytes, cuts: list[int]) -> None:
    whole, _ = receive(stream)
    cut, _ = receive(stream, cuts)

    assert [message.facts for message in cut.messages] == [message.facts for message in whole.messages]
    assert len(cut.complete) == 1
    assert [interim.status for interim in cut.interims] == [interim.status for interim in whole.interims]
    assert cut.fault is None


def test_one_connection_carries_many_exchanges() -> None:
    codec = H1Client()
    for stream in (OK3, OKC, NO_CONTENT, OK3):
        codec.encode_request(head())
        assert (codec.reusable, codec.at_rest) == (False, False)
        assert isinstance(codec.feed(stream)[0], Head)
    assert codec.reusable


def test_trailers_come_before_the_end() -> None:
    assert sent().feed(OKC)[1:] == [Chunk(b"abc", 3), Trailers([(b"T", b"1")]), End()]


def test_a_body_until_close_ends_by_close_and_is_the_last() -> None:
    codec = sent()
    assert codec.feed(UNTIL_CLOSE)[1:] == [Chunk(b"abc", 3)]

    assert codec.feed(b"") == [End()]

    assert (codec.at_rest, codec.reusable) == (True, False)


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    ],
)
def test_an_upstream_that_will_close_is_not_used_again(stream: bytes) -> None:
    got, codec = receive(stream, close=False)

    assert got.messages[0].complete
    assert not codec.reusable


# Interim answers


def test_interim_answers_come_before_the_final_one() -> None:
    codec = sent()

    events = codec.feed(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK3)

    assert isinstance(events[0], Interim)
    assert (events[0].head.status, events[0].head.fields) == (103, [(b"Link", b"a")])
    assert isinstance(events[1], Head)
    assert codec.reusable


def test_a_flood_of_interim_answers_is_refused() -> None:
    hundred = b"HTTP/1.1 100 Continue\r\n\r\n"
    few, codec = receive(hundred * INTERIM_MAX_COUNT + OK3, close=False)
    assert few.complete
    assert codec.reusable

    assert refused(receive(hundred * (INTERIM_MAX_COUNT + 1), close=False)[0], UPSTREAM_PROTOCOL)


def test_nobody_asked_to_switch_protocols() -> None:
    got, _ = receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", close=False)

    assert refused(got, UPSTREAM_PROTOCOL)


# Truncation


@pytest.mark.parametrize("stream", [OK3, OKC, NO_CONTENT, b"HTTP/1.1 100 Continue\r\n\r\n" + OK3])
def test_an_answer_cut_anywhere_is_an_error_and_never_an_end(stream: bytes) -> None:
    for size in range(len(stream)):
        got, codec = receive(stream[:size])

        assert refused(got, UPSTREAM_CLOSED), size
        assert not got.complete
        assert (codec.reusable, codec.at_rest) == (False, True)


def test_a_close_before_the_answer_says_so() -> None:
    got, _ = receive(b"")

    assert got.fault == UPSTREAM_CLOSED


# Invalid answers


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nX: \x00",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    ],
)
@pytest.mark.parametrize("step", [997, 100_000])
def test_a_hopeless_answer_is_refused_without_waiting(stream: bytes, step: int) -> None:
    got, codec = receive(stream, every(step, stream), close=False)

    assert refused(got, UPSTREAM_PROTOCOL)
    assert not codec.reusable


def test_a_bad_chunk_is_refused() -> None:
    codec = sent()
    codec.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    with pytest.raises(ProxyError) as caught:
        codec.feed(b"zz\r\n")

    assert caught.value.fault.flag == "UPE"
    assert not codec.reusable


# Response-queue poisoning


@pytest.mark.parametrize("extra", [b"x", b"\r\n", OK3])
@pytest.mark.parametrize(
    ("method", "stream"), [(b"GET", OK3), (b"GET", OKC), (b"GET", NO_CONTENT), (b"HEAD", OK3[:-3])]
)
@pytest.mark.parametrize("together", [True, False])
def test_bytes_after_the_answer_spoil_the_connection(
    method: bytes, stream: bytes, extra: bytes, together: bool
) -> None:
    got, codec = receive(stream + extra, [] if together else [len(stream)], method=method, close=False)

    assert [message.complete for message in got.messages] == [True]
    assert not codec.reusable


def test_bytes_before_the_first_request_spoil_the_connection() -> None:
    codec = H1Client()

    assert codec.feed(OK3) == []
    assert not codec.reusable


def test_head_with_a_body_spoils_the_connection() -> None:
    got, codec = receive(OK3, method=b"HEAD", close=False)

    assert got.messages[0].body == b""
    assert not codec.reusable


@pytest.mark.parametrize("length", [3, None])
def test_an_answer_before_the_end_of_the_request_spoils_the_connection(length: int | None) -> None:
    codec = sent(head(b"POST", length))

    codec.feed(OK3)

    assert not codec.reusable
    assert codec.encode_chunk(b"abc") == b""
    assert codec.encode_end() == b""
    assert not codec.reusable


def test_an_answer_that_begins_early_lets_the_request_be_finished() -> None:
    codec = sent(head(b"POST", 3))
    codec.feed(OK3[:-1])

    assert codec.encode_chunk(b"abc") + codec.encode_end() == b"abc"
    assert codec.feed(OK3[-1:]) == [Chunk(b"c", 1), End()]
    assert not codec.reusable


# A request that somebody else wrote


def test_a_resumed_codec_takes_the_answer_in_hand() -> None:
    codec = H1Client.resumed(head())
    assert not codec.at_rest

    events = codec.feed(OK3[:-1]) + codec.feed(OK3[-1:])

    assert [type(event) for event in events] == [Head, Chunk, Chunk, End]
    assert codec.reusable
    assert codec.encode_request(head()).startswith(b"GET /a HTTP/1.1\r\n")


def test_a_resumed_codec_knows_the_method() -> None:
    codec = H1Client.resumed(head(b"HEAD"))

    assert [type(event) for event in codec.feed(OK3[:-3])] == [Head, End]
    assert codec.reusable


def test_a_resumed_codec_notices_truncation() -> None:
    codec = H1Client.resumed(head(b"POST", 3))
    codec.feed(OK3[:-1])

    with pytest.raises(ProxyError) as caught:
        codec.feed(b"")

    assert caught.value.fault.flag == "UC"


# How long the upstream keeps an idle connection


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"Keep-Alive: timeout=5", 5.0),
        (b"keep-alive: max=100 , Timeout = 75", 75.0),
        (b'Keep-Alive: timeout="5"', 5.0),
        (b"Keep-Alive: timeout=0", 0.0),
        (b"Keep-Alive: timeout=5, timeout=6", 5.0),
        (b"X: 1", None),
        (b"Keep-Alive: max=5", None),
        (b"Keep-Alive: timeout", None),
        (b"Keep-Alive: timeout=-1", None),
        (b"Keep-Alive: timeout=1e9", None),
        (b"Keep-Alive: timeout=" + b"9" * 10_000, None),
    ],
)
def test_the_upstream_says_how_long_it_keeps_the_connection(line: bytes, seconds: float | None) -> None:
    _, codec = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + line + b"\r\n\r\n", close=False)

    assert codec.reusable
    assert codec.keep_alive_s == seconds
    codec.encode_request(head())
    assert codec.keep_alive_s is None
