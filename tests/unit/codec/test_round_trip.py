"""Our codecs against each other and against h11: what one side writes, the other side reads, byte for byte."""

from collections.abc import Sequence

import h11
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from tests.support.http1 import Transcript, bodies, cuts_of, pieces, plain_fields, targets, tokens

METHODS = st.one_of(st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE"]), tokens()).filter(lambda m: m != b"CONNECT")
KNOWN = st.booleans()  # is the length of the body announced?
STATUSES = st.sampled_from([200, 201, 204, 206, 301, 304, 404, 500, 503])


def length_of(parts: list[bytes], known: bool) -> int | None:
    return sum(map(len, parts)) if known else None


def request(method: bytes, target: bytes, fields: Fields, parts: list[bytes], known: bool) -> RequestHead:
    length = length_of(parts, known)
    all_fields = [(b"Host", b"x:80"), *fields]
    return RequestHead(method, target, b"x:80", all_fields, content_length=length, chunked=length is None)


def write_request(codec: H1Client, head: RequestHead, parts: list[bytes]) -> bytes:
    return codec.encode_request(head) + b"".join(map(codec.encode_chunk, parts)) + codec.encode_end()


def write_response(codec: H1Server, head: ResponseHead, parts: list[bytes]) -> bytes:
    return codec.encode_head(head) + b"".join(map(codec.encode_chunk, parts)) + codec.encode_end()


@given(METHODS, targets(), plain_fields(), bodies(), KNOWN, STATUSES, plain_fields(), bodies(), KNOWN, cuts_of(600))
def test_an_exchange_between_our_codecs(
    method: bytes,
    target: bytes,
    asked_fields: Fields,
    asked_body: list[bytes],
    asked_known: bool,
    status: int,
    fields: Fields,
    body: list[bytes],
    known: bool,
    cuts: list[int],
) -> None:
    client, server = H1Client(), H1Server()
    for _ in range(2):  # the second exchange finds nothing left of the first
        asked, answered = Transcript(), Transcript()
        head = request(method, target, asked_fields, asked_body, asked_known)
        for piece in pieces(write_request(client, head, asked_body), cuts):
            asked.take(server.feed(piece))
        response = ResponseHead(status, fields, content_length=length_of(body, known))
        for piece in pieces(write_response(server, response, body), cuts):
            answered.take(client.feed(piece))

        seen = asked.messages[0].head
        assert isinstance(seen, RequestHead)
        assert (seen.method, seen.target, seen.authority) == (method, target, b"x:80")
        assert without_framing(seen.fields) == head.fields
        assert asked.messages[0].body == b"".join(asked_body)
        back = answered.messages[0].head
        assert isinstance(back, ResponseHead)
        assert (back.status, without_framing(back.fields)) == (status, fields)
        silent = method == b"HEAD" or status in (204, 304)
        assert answered.messages[0].body == (b"" if silent else b"".join(body))
        assert asked.messages[0].complete
        assert answered.messages[0].complete
        assert client.reusable
        assert server.keep_alive
        assert server.next_request() == []


def without_framing(fields: Fields) -> Fields:
    return [(name, value) for name, value in fields if name.lower() not in (b"content-length", b"transfer-encoding")]


def h11_events(peer: h11.Connection, pieces_: Sequence[bytes]) -> tuple[h11.Event, bytes]:
    """The head and the body that h11 reads."""
    head: h11.Event | None = None
    body = b""
    for piece in pieces_:
        peer.receive_data(piece)
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.Request | h11.Response)
                head = event
    assert head is not None
    return head, body


@given(METHODS, targets(), plain_fields(), bodies(), KNOWN, cuts_of(400))
def test_h11_reads_our_requests(
    method: bytes, target: bytes, fields: Fields, body: list[bytes], known: bool, cuts: list[int]
) -> None:
    head = request(method, target, fields, body, known)

    written = write_request(H1Client(), head, body)
    theirs, got = h11_events(h11.Connection(h11.SERVER), list(pieces(written, cuts)))

    assert isinstance(theirs, h11.Request)
    assert (theirs.method, theirs.target, got) == (method, target, b"".join(body))
    assert without_framing(theirs.headers.raw_items()) == head.fields


@given(st.sampled_from(["GET", "HEAD"]), STATUSES, plain_fields(), bodies(), KNOWN, cuts_of(400))
def test_h11_reads_our_responses(
    method: str, status: int, fields: Fields, body: list[bytes], known: bool, cuts: list[int]
) -> None:
    peer, codec = h11.Connection(h11.CLIENT), H1Server()
    codec.feed(peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")])))
    assert peer.send(h11.EndOfMessage()) == b""

    written = write_response(codec, ResponseHead(status, fields, content_length=length_of(body, known)), body)
    theirs, got = h11_events(peer, list(pieces(written, cuts)))

    assert isinstance(theirs, h11.Response)
    silent = method == "HEAD" or status in (204, 304)
    assert (theirs.status_code, got) == (status, b"" if silent else b"".join(body))
    assert without_framing(theirs.headers.raw_items()) == fields
    peer.start_next_cycle()


@given(plain_fields(), bodies(), KNOWN, cuts_of(400))
def test_we_read_the_requests_of_h11(fields: Fields, body: list[bytes], known: bool, cuts: list[int]) -> None:
    peer = h11.Connection(h11.CLIENT)
    framing = [(b"Content-Length", b"%d" % sum(map(len, body)))] if known else [(b"Transfer-Encoding", b"chunked")]
    stream = peer.send(h11.Request(method="PUT", target="/a", headers=[(b"Host", b"x"), *fields, *framing]))
    stream += h11_body(peer, body)

    got = Transcript()
    codec = H1Server()
    for piece in pieces(stream, cuts):
        got.take(codec.feed(piece))

    assert without_framing(got.complete[0].head.fields) == [(b"Host", b"x"), *fields]
    assert got.complete[0].body == b"".join(body)


@given(plain_fields(), bodies(), st.sampled_from(["counted", "chunked", "until close"]), cuts_of(400))
def test_we_read_the_answers_of_h11(fields: Fields, body: list[bytes], framing: str, cuts: list[int]) -> None:
    peer, codec = h11.Connection(h11.SERVER), H1Client()
    written = codec.encode_request(RequestHead(b"GET", b"/", b"x", [(b"Host", b"x")]))
    if framing == "until close":
        written = written.replace(b"HTTP/1.1", b"HTTP/1.0")
    h11_events(peer, [written])
    own = [(b"Content-Length", b"%d" % sum(map(len, body)))] if framing == "counted" else []
    stream = peer.send(h11.Response(status_code=200, headers=[*fields, *own])) + h11_body(peer, body)

    got = Transcript()
    for piece in pieces(stream, cuts):
        got.take(codec.feed(piece))
    if framing == "until close":
        assert not got.complete
        got.take(codec.feed(b""))

    assert got.complete[0].body == b"".join(body)
    assert codec.reusable is (framing != "until close")


def h11_body(peer: h11.Connection, body: list[bytes]) -> bytes:
    return b"".join(peer.send(h11.Data(data=part)) for part in body) + peer.send(h11.EndOfMessage())
