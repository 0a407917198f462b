"""Chunked bodies: h11 reads what we accept alike, and we refuse what it refuses, however the bytes are cut."""

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.codec.chunks import EXTENSION_MAX_BYTES, TRAILERS_MAX_BYTES, ChunkedBody
from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.trailers import allowed_trailers
from sidecar.errors import MALFORMED, UPSTREAM_PROTOCOL, Fault, ProxyError
from sidecar.model.messages import Fields
from tests.support.http1 import bodies, cuts_of, every, pieces

Got = tuple[bytes, list[Event], bytes | None]


def read(stream: bytes, cuts: list[int] | range = range(0), blame: Fault = MALFORMED) -> Got:
    """The body, the events that are no chunk, and what lies beyond the end (None: not ended)."""
    reader = ChunkedBody(blame)
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


@given(bodies(), st.binary(max_size=10), cuts_of(200))
def test_a_chunked_body_ends_with_its_empty_chunk(parts: list[bytes], beyond: bytes, cuts: list[int]) -> None:
    assert read(chunked(parts) + beyond, cuts) == (b"".join(parts), [End()], beyond)


def test_many_chunks_in_one_read_are_one_event() -> None:
    events: list[Event] = []

    ChunkedBody(MALFORMED).read(chunked([b"a"] * 50), events)

    assert events == [Chunk(b"a" * 50, 50), End()]


def test_data_does_not_wait_for_the_rest_of_its_chunk() -> None:
    reader, events = ChunkedBody(MALFORMED), list[Event]()

    for piece in (b"4", b"\r\n", b"a", b"bc", b"d", b"\r", b"\n0\r\n\r", b"\nx"):
        rest = reader.read(piece, events)

    assert events == [Chunk(b"a", 1), Chunk(b"bc", 2), Chunk(b"d", 1), End()]
    assert rest == b"x"


ACCEPTED = {
    "extensions": (b'3;a=b;c="d"\r\nabc\r\n0;last\r\n\r\n', b"abc"),
    "an extension of the largest size": (b"3;".ljust(1 + EXTENSION_MAX_BYTES, b"a") + b"\r\nabc\r\n0\r\n\r\n", b"abc"),
    "white space and other alphabets in an extension": (b"3; \xe9\t\r\nabc\r\n0\r\n\r\n", b"abc"),
    "a padded size": (b"3  \t\r\nabc\r\n0 \r\n\r\n", b"abc"),
    "leading zeros": (b"0000000000000003\r\nabc\r\n0000\r\n\r\n", b"abc"),
    "digits of both cases": (b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a"),
    "data that looks like framing": (b"9\r\n\r\n0\r\n\r\nab\r\n0\r\n\r\n", b"\r\n0\r\n\r\nab"),
    "no data": (b"0\r\n\r\n", b""),
}


@pytest.mark.parametrize("size", [b"f" * 16, b"7" + b"f" * 15, b"8" + b"0" * 15, b"7" + b"f" * 14 + b"0"])
def test_the_greatest_sizes_are_waited_for(size: bytes) -> None:
    assert of_ours(size + b"\r\n", []) == of_ours(size + b"\r\nabc", [3]) == "more"
    assert read(b"1\r\na\r\n" + size + b"\r\nabc", [4, 30])[0] == b"aabc"


@pytest.mark.parametrize("name", ACCEPTED)
def test_framing_ends_here(name: str) -> None:
    stream, body = ACCEPTED[name]

    assert read(stream) == read(stream, every(1, stream)) == (body, [End()], b"")


def test_trailers_keep_their_case() -> None:
    stream = chunked([b"abc"], b"Grpc-Status: 0\r\nX-Sum:  abc \r\nX-Empty:\r\n") + b"GET"
    trailers = Trailers([(b"Grpc-Status", b"0"), (b"X-Sum", b"abc"), (b"X-Empty", b"")])

    assert read(stream) == read(stream, every(1, stream)) == (b"abc", [trailers, End()], b"GET")


def test_as_many_trailers_as_fields_of_a_head() -> None:
    stream = chunked([], b"X: 1\r\n" * 100)

    assert read(stream)[1] == [Trailers([(b"X", b"1")] * 100), End()]


@pytest.mark.parametrize(
    "name",
    [b"Host", b"Authorization", b"Set-Cookie", b"Connection", b"TE", b"X_Forwarded_For", b"X-Forwarded-Client-Cert",
     b"traceparent", b"x-mesh-untouched", b"Cache-Control", b"Upgrade"],
)  # fmt: skip
def test_a_trailer_that_would_change_the_head_is_dropped(name: bytes) -> None:
    assert read(chunked([], name + b": 1\r\nX: 1\r\n"))[1] == [Trailers([(b"X", b"1")]), End()]
    assert read(chunked([], name + b": 1\r\n"))[1] == [End()]


BAD = {
    # Sizes
    "size not a number": b"zz\r\nabc\r\n",
    "size with prefix": b"0x3\r\nabc\r\n",
    "size with underscore": b"3_0\r\nabc\r\n",
    "size negative": b"-3\r\nabc\r\n",
    "size with plus": b"+3\r\nabc\r\n",
    "size quoted": b'"3"\r\nabc\r\n',
    "no size": b"\r\nabc\r\n",
    "no size but an extension": b";a\r\nabc\r\n",
    "white space before the size": b" 3\r\nabc\r\n",
    "white space inside the size": b"3 0\r\nabc\r\n",
    "two sizes": b"3,3\r\nabc\r\n",
    "17 digits": b"0" * 16 + b"3\r\nabc\r\n",
    "17 digits, the first of them 1": b"1" + b"0" * 16 + b"\r\nabc\r\n",
    "21 digits": b"0" * 20 + b"3\r\nabc\r\n",
    "endless digits": b"0" * 100,
    "digits of another alphabet": "\u0663\r\nabc\r\n".encode(),
    "NUL after the size": b"3\x00\r\nabc\r\n",
    "VT after the size": b"3\x0b\r\nabc\r\n",
    # Line ends
    "size ended by LF": b"3\nabc\r\n0\r\n\r\n",
    "size ended by CR": b"3\rabc\r\n0\r\n\r\n",
    "size ended by CR CR LF": b"3\r\r\nabc\r\n0\r\n\r\n",
    "last size ended by LF": b"0\n\r\n",
    "empty line of LF": b"0\r\n\n",
    "chunk ended by LF": b"3\r\nabc\n0\r\n\r\n",
    "chunk ended by CR": b"3\r\nabc\r0\r\n\r\n",
    "chunk without end": b"3\r\nabc0\r\n\r\n",
    "chunk ended by two bytes": b"3\r\nabcXX0\r\n\r\n",
    "chunk ended by two lines": b"3\r\nabc\r\n\r\n0\r\n\r\n",
    "chunk longer than its size": b"3\r\nabcd\r\n",
    "chunk shorter than its size": b"4\r\nabc\r\n0\r\n\r\n",
    # Extensions
    "bare LF in an extension (TERM.EXT)": b"3;\nabc\r\n0\r\n\r\n",
    "bare LF later in an extension": b"3;a\nb\r\nabc\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n",
    "NUL in an extension": b"3;a\x00\r\nabc\r\n",
    "DEL in an extension": b"3;\x7f\r\nabc\r\n",
    "extension of 257 bytes": b"3;".ljust(2 + EXTENSION_MAX_BYTES, b"a") + b"\r\nabc\r\n",
    "extension of 20 KB": b"3;" + b"a" * 20_000 + b"\r\nabc\r\n0\r\n\r\n",
    "extension of the last chunk of 20 KB": b"0;" + b"a" * 20_000 + b"\r\n\r\n",
    "white space of 20 KB": b"3" + b" " * 20_000 + b"\r\nabc\r\n0\r\n\r\n",
    "extension without an end": b"3;" + b"a" * 20_000,
    # Trailers
    "NUL in a trailer": b"0\r\nX: a\x00\r\n\r\n",
    "BEL in a trailer": b"0\r\nX: a\x07\r\n\r\n",
    "bare LF after a trailer": b"0\r\nX: a\n\r\n",
    "bare LF inside a trailer": b"0\r\nX: a\nY: b\r\n\r\n",
    "bare CR inside a trailer": b"0\r\nX: a\rb\r\n\r\n",
    "folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "white space before the first trailer": b"0\r\n X: a\r\n\r\n",
    "white space before the colon": b"0\r\nX : a\r\n\r\n",
    "trailer without colon": b"0\r\nX\r\n\r\n",
    "trailer without name": b"0\r\n: a\r\n\r\n",
    "request in the place of trailers": b"0\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
    "101 trailers": b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    "61 KiB of trailers": b"0\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 62 + b"\r\n",
    "a trailer without an end": b"0\r\nX: " + b"a" * (TRAILERS_MAX_BYTES + 2_000),
    "coding in a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "length in a trailer": b"0\r\nContent-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("blame", [MALFORMED, UPSTREAM_PROTOCOL], ids=["client", "upstream"])
@pytest.mark.parametrize("step", [1, 61, 100_000])
def test_a_bad_chunk_is_the_senders_fault(name: str, blame: Fault, step: int) -> None:
    with pytest.raises(ProxyError) as caught:
        read(BAD[name], every(step, BAD[name]), blame)

    assert caught.value.fault.saying("") == blame.saying("")
    assert caught.value.fault.sentence.isprintable()
    assert len(caught.value.fault.sentence) < 200


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"zz", "'zz' is not a chunk size in hexadecimal digits, with CR LF after it"),
        (b"3\nabc", "'3' is not a chunk size in hexadecimal digits, with CR LF after it"),
        (b"1" * 17, "a chunk size has more than 16 digits"),
        (b"3;" + b"a" * 256, "a chunk extension is longer than 256 bytes"),
        (b"3\r\nabcdef", "a chunk goes on beyond its size, with 'def'"),
        (b"0\r\nX: a\n", "the trailers have an LF without CR at byte 6; lines have to end with CR LF"),
        (b"0\r\nX\r\n\r\n", "the header line 'X' has no colon"),
        (b"0\r\nContent-Length: 1\r\n\r\n", "the trailer 'Content-Length' would say again where the message ends"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_wrong(stream: bytes, sentence: str) -> None:
    with pytest.raises(ProxyError) as caught:
        read(stream)

    assert caught.value.fault.sentence == "the chunked body was not valid: " + sentence


def test_a_hopeless_line_is_not_waited_for() -> None:
    for stream in (b"x", b"3x", b"3\r\nabcd", b"3\r\nabc\rX", b"3\r\nabc\r\nx", b"3\n", b"3;\x00", b"0\r\n\x00"):
        assert read(stream[:-1])[2] is None
        with pytest.raises(ProxyError):
            read(stream)


# h11 is the oracle.


def of_h11(stream: bytes) -> tuple[bytes, Fields, bytes] | str:
    """Body, trailers and rest as h11 reads them; "more" if it waits, "refused" if it refuses."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    body = b""
    try:
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return "more"
            body += event.data if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        return "refused"
    return body, list(event.headers.raw_items()), peer.trailing_data[0]


def of_ours(stream: bytes, cuts: list[int]) -> tuple[bytes, Fields, bytes] | str:
    try:
        body, others, rest = read(stream, cuts)
    except ProxyError:
        return "refused"
    if rest is None:
        return "more"
    trailers = others[0].fields if isinstance(others[0], Trailers) else []
    return body, trailers, rest


WORDS = [b"\r\n", b"\r\n", b"\r", b"\n", b"0", b"1", b"3", b"a", b"F", b"abc", b";", b";a=b", b" ", b"\t", b"\x00",
         b"\x0b", b"\xe9", b"X: 1", b"X:", b"Host: y", b":", b"0\r\n\r\n", b"3\r\nabc\r\n", b"1;x\r\na\r\n", b"0" * 16,
         b"-", b"_", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"\r\n b"]  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A chunked body with a few places changed, or words in any order."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(st.sampled_from(WORDS), max_size=15)))
    trailers = b"".join(draw(st.lists(st.sampled_from([b"X: 1\r\n", b"Y:\r\n", b"Host: a\r\n"]), max_size=2)))
    stream = chunked(draw(bodies()), trailers) + draw(st.sampled_from([b"", b"x", b"GET / HTTP/1.1\r\n"]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream)))
        gone = draw(st.integers(0, 2))
        stream = stream[:at] + draw(st.sampled_from([b"", *WORDS])) + stream[at + gone :]
    return stream


@settings(max_examples=400)
@given(streams(), cuts_of(120))
@example(b"3 \r\nabc\r\n0\r\n\r\n", [])
@example(b"3;\nabc\r\n0\r\n\r\n", [])
def test_h11_reads_what_we_accept_alike(stream: bytes, cuts: list[int]) -> None:
    ours, theirs = of_ours(stream, cuts), of_h11(stream)

    if isinstance(ours, tuple):
        assert isinstance(theirs, tuple)
        assert ours == (theirs[0], allowed_trailers(theirs[1]), theirs[2])
    elif theirs == "refused":
        assert ours == "refused"
    elif ours == "more":
        assert theirs == "more"


@settings(max_examples=200)
@given(streams(), cuts_of(120))
def test_the_verdict_does_not_depend_on_the_cuts(stream: bytes, cuts: list[int]) -> None:
    assert of_ours(stream, cuts) == of_ours(stream, [])


@pytest.mark.parametrize("step", [1, 7, 1_000, 1_000_000])
def test_time_is_linear(step: int) -> None:
    for stream in (b"1\r\na\r\n" * 20_000, b"1;" + b"a" * 200, b"0\r\n" + b"X:a\r\n" * 10_000):
        read_whole = ChunkedBody(MALFORMED)
        events: list[Event] = []
        for piece in pieces(stream, every(step, stream)):
            read_whole.read(piece, events)  # a quadratic reader would take minutes
