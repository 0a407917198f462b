"""Bodies end where their framing says, whatever comes after and however it is cut."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.body import BodyReader, body_reader
from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.errors import MALFORMED, UPSTREAM_PROTOCOL, ProxyError
from tests.support.http1 import bodies, cuts_of, every, pieces


def read(reader: BodyReader | None, stream: bytes, cuts: list[int]) -> tuple[bytes, list[Event], bytes | None]:
    """The body, the events that are no chunk, and what lies beyond the end (None: not ended)."""
    assert reader is not None
    body = b""
    others: list[Event] = []
    rest: bytes | None = None
    for piece in pieces(stream, cuts):
        if rest is not None:
            rest += piece
            continue
        events: list[Event] = []
        rest = reader.read(piece, events)
        for event in events:
            if isinstance(event, Chunk):
                assert event.data
                assert event.credit == len(event.data)
                body += event.data
            else:
                others.append(event)
    return body, others, rest


def chunked(parts: list[bytes], trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n" + trailers + b"\r\n"


def test_no_body_needs_no_reader() -> None:
    assert body_reader(0, False, MALFORMED) is None


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=10), cuts_of(70))
def test_a_counted_body_ends_after_its_count(body: bytes, beyond: bytes, cuts: list[int]) -> None:
    assert read(body_reader(len(body), False, MALFORMED), body + beyond, cuts) == (body, [End()], beyond)


def test_a_short_counted_body_does_not_end() -> None:
    assert read(body_reader(4, False, MALFORMED), b"abc", []) == (b"abc", [], None)


@given(st.binary(min_size=1, max_size=60), cuts_of(60))
def test_a_body_until_close_has_no_end_of_its_own(body: bytes, cuts: list[int]) -> None:
    reader = body_reader(None, False, UPSTREAM_PROTOCOL)

    assert read(reader, body, cuts) == (body, [], None)
    assert reader is not None
    assert reader.ends_by_close


@given(bodies(), st.binary(max_size=10), cuts_of(200))
def test_a_chunked_body_ends_with_its_empty_chunk(parts: list[bytes], beyond: bytes, cuts: list[int]) -> None:
    stream = chunked(parts) + beyond

    assert read(body_reader(None, True, MALFORMED), stream, cuts) == (b"".join(parts), [End()], beyond)


def test_many_chunks_in_one_read_are_one_event() -> None:
    events: list[Event] = []
    reader = body_reader(None, True, MALFORMED)
    assert reader is not None

    reader.read(chunked([b"a"] * 50), events)

    assert events == [Chunk(b"a" * 50, 50), End()]


def test_chunk_extensions_end_here() -> None:
    stream = b'3;a=b;c="d"\r\nabc\r\n0;last\r\n\r\n'

    assert read(body_reader(None, True, MALFORMED), stream, list(every(1, stream))) == (b"abc", [End()], b"")


def test_trailers_keep_their_case() -> None:
    stream = chunked([b"abc"], b"Grpc-Status: 0\r\nX-Sum:  abc \r\n")

    got = read(body_reader(None, True, MALFORMED), stream, list(every(1, stream)))

    assert got == (b"abc", [Trailers([(b"Grpc-Status", b"0"), (b"X-Sum", b"abc")]), End()], b"")


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Authorization", b"Set-Cookie", b"Connection", b"TE"])
def test_a_trailer_that_would_change_the_head_is_dropped(name: bytes) -> None:
    stream = chunked([], name + b": 1\r\nX: 1\r\n")

    assert read(body_reader(None, True, MALFORMED), stream, [])[1] == [Trailers([(b"X", b"1")]), End()]


BAD = {
    "size not a number": b"zz\r\nabc\r\n",
    "size with prefix": b"0x3\r\nabc\r\n",
    "size with underscore": b"3_0\r\nabc\r\n",
    "size negative": b"-3\r\nabc\r\n",
    "size with plus": b"+3\r\nabc\r\n",
    "no size": b"\r\nabc\r\n",
    "white space before the size": b" 3\r\nabc\r\n",
    "chunk longer than its size": b"3\r\nabcd\r\n",
    "chunk ended by LF": b"3\r\nabc\n0\r\n\r\n",
    "21 digits": b"0" * 20 + b"3\r\nabc\r\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n",
    "NUL in a trailer": b"0\r\nX: a\x00\r\n\r\n",
    "BEL in a trailer": b"0\r\nX: a\x07\r\n\r\n",
    "trailer without colon": b"0\r\nX\r\n\r\n",
    "101 trailers": b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    "coding in a trailer": b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("blame", [MALFORMED, UPSTREAM_PROTOCOL])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_bad_chunk_is_the_senders_fault(name: str, blame: object, step: int) -> None:
    assert blame in (MALFORMED, UPSTREAM_PROTOCOL)
    fault = MALFORMED if blame is MALFORMED else UPSTREAM_PROTOCOL

    with pytest.raises(ProxyError) as caught:
        read(body_reader(None, True, fault), BAD[name], list(every(step, BAD[name])))

    assert caught.value.fault.saying("") == fault.saying("")
    assert caught.value.fault.sentence.isprintable()
    assert len(caught.value.fault.sentence) < 200


def test_an_endless_chunk_line_is_bounded() -> None:
    stream = b"3;" + b"a" * 20_000

    with pytest.raises(ProxyError):
        read(body_reader(None, True, MALFORMED), stream, list(every(1000, stream)))


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=10))
def test_h11_counts_alike(body: bytes, beyond: bytes) -> None:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + beyond)
    assert isinstance(peer.next_event(), h11.Request)
    data = peer.next_event()
    assert isinstance(data, h11.Data)
    assert isinstance(peer.next_event(), h11.EndOfMessage)

    ours = read(body_reader(len(body), False, MALFORMED), body + beyond, [])

    assert (bytes(data.data), peer.trailing_data[0]) == (ours[0], ours[2])
