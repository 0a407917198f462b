"""Bytes from anywhere: the codecs answer with events or a ProxyError, never with anything else, however they are cut.

What is accepted is understood by h11 in the same way: same method, target, host and body.
"""

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.codec.target import canonical_target
from sidecar.model.messages import Fields, RequestHead, ResponseHead, end_to_end, nominated
from tests.support.http1 import Transcript, cuts_of, receive, serve

# What heads and bodies are made of, and what they are attacked with.
WORDS = [
    *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"\t", b":", b",", b";", b"\0", b"\x0b", b"\x7f", b"\x85", b"\xff"),
    *(
        b"GET",
        b"POST",
        b"HEAD",
        b"/",
        b"http://y",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/9.9",
        b"200",
        b"204",
        b"100",
        b"OK",
    ),
    *(
        b"Host: x",
        b"Host:",
        b"Content-Length: 3",
        b"Content-Length:",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:",
    ),
    *(b"chunked", b"identity", b"Connection: close", b"Connection: keep-alive", b"Connection: host", b"TE: trailers"),
    *(
        b"Connection: upgrade",
        b"Upgrade: foo",
        b"Upgrade: websocket",
        b"CONNECT",
        b"x:80",
        b"101",
        b"/..%2f",
        b"%2e",
        b"\\",
    ),
    *(b"Expect: 100-continue", b"Upgrade: h2c", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0", b"3", b"a"),
]

REQUESTS = [
    b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
    b"GET http://y/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a/./%2e%2E/b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nabc",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nabc",
]
ASKED = [(b"GET", b""), (b"HEAD", b""), (b"GET", b"foo"), (b"CONNECT", b"")]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One or two valid messages with a few places changed."""
    stream = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream)))
        gone = draw(st.integers(0, 3))
        stream = stream[:at] + draw(st.sampled_from([b"", *WORDS])) + stream[at + gone :]
    return stream


def rubbish() -> st.SearchStrategy[bytes]:
    """Words in any order, or any bytes."""
    return st.one_of(st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join), st.binary(max_size=200))


def same(whole: Transcript, cut: Transcript) -> None:
    """Messages before a fault are the same; the fault has the same flag and status."""
    assert [message.facts for message in cut.complete] == [message.facts for message in whole.complete]
    assert (cut.fault is None) == (whole.fault is None)
    if whole.fault is not None and cut.fault is not None:
        assert (cut.fault.flag, cut.fault.status) == (whole.fault.flag, whole.fault.status)


@settings(max_examples=200)
@given(st.one_of(mutated(REQUESTS), rubbish()), cuts_of(250), st.booleans())
def test_a_client_may_send_anything(stream: bytes, cuts: list[int], close: bool) -> None:
    same(serve(stream, close=close), serve(stream, cuts, close=close))


@settings(max_examples=200)
@given(st.one_of(mutated(RESPONSES), rubbish()), cuts_of(250), st.sampled_from(ASKED), st.booleans())
def test_an_upstream_may_send_anything(stream: bytes, cuts: list[int], asked: tuple[bytes, bytes], close: bool) -> None:
    method, upgrade = asked
    whole, one = receive(stream, method=method, upgrade=upgrade, close=close)
    cut, other = receive(stream, cuts, method=method, upgrade=upgrade, close=close)

    same(whole, cut)
    assert one.reusable == other.reusable


@settings(max_examples=200)
@given(mutated(REQUESTS))
def test_what_we_accept_h11_understands_alike(stream: bytes) -> None:
    got = serve(stream, close=False)

    peer = h11.Connection(h11.SERVER)
    peer.receive_data(stream)
    for message in got.complete:
        head = message.head
        assert isinstance(head, RequestHead)
        if peer.trailing_data[0].startswith(b"\r\n"):
            return  # we forgive one empty line before a request, h11 does not
        theirs = peer.next_event()
        assert isinstance(theirs, h11.Request)
        assert theirs.method == head.method
        if head.opens_tunnel:
            return
        if theirs.target.startswith(b"/"):
            assert canonical_target(theirs.target) == head.target
            assert dict(theirs.headers).get(b"host", b"") == head.authority
        body = b""
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        assert body == message.body
        if not head.keep_alive or head.version == b"1.0":
            return
        peer.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        peer.send(h11.EndOfMessage())
        peer.start_next_cycle()


def forwarded(head: RequestHead | ResponseHead) -> Fields:
    return end_to_end(head.fields, nominated(head.get(b"connection")))


def read_by_h11(peer: h11.Connection, stream: bytes) -> tuple[h11.Event, bytes]:
    """The one message that `stream` is to h11, and its body; nothing may be left over."""
    peer.receive_data(stream)
    head = peer.next_event()
    assert isinstance(head, h11.Request | h11.Response)
    body = b""
    while not isinstance(event := peer.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert peer.trailing_data == (b"", False)
    return head, body


@settings(max_examples=200)
@given(mutated(REQUESTS))
def test_what_we_forward_is_one_request_to_h11(stream: bytes) -> None:
    for message in serve(stream, close=False).complete:
        head = message.head
        assert isinstance(head, RequestHead)
        if head.opens_tunnel:
            return
        out = RequestHead(head.method, head.target, head.authority, forwarded(head), content_length=head.content_length)
        codec = H1Client()
        written = codec.encode_request(out) + codec.encode_chunk(message.body) + codec.encode_end(message.trailers)

        theirs, body = read_by_h11(h11.Connection(h11.SERVER), written)

        assert isinstance(theirs, h11.Request)
        assert (theirs.method, theirs.target, body) == (head.method, head.target, message.body)
        assert dict(theirs.headers)[b"host"] == head.authority


@settings(max_examples=200)
@given(mutated(RESPONSES), st.sampled_from(["GET", "HEAD"]))
def test_what_we_answer_is_one_response_to_h11(stream: bytes, method: str) -> None:
    for message in receive(stream, method=method.encode())[0].complete:
        head = message.head
        assert isinstance(head, ResponseHead)
        peer, codec = h11.Connection(h11.CLIENT), H1Server()
        codec.feed(peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")])))
        peer.send(h11.EndOfMessage())
        out = ResponseHead(head.status, forwarded(head), content_length=head.content_length, reason=head.reason)
        written = codec.encode_head(out) + codec.encode_chunk(message.body) + codec.encode_end(message.trailers)

        theirs, body = read_by_h11(peer, written)

        assert isinstance(theirs, h11.Response)
        assert (theirs.status_code, body) == (head.status, message.body)
