"""Plain heads on the full path mean, written as they came, what they would mean read into fields and written anew."""

import pytest

from sidecar.codec.events import Chunk, End, Event, Head
from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.codec.head_rules import request_head, response_head
from sidecar.codec.plain_forward import PlainAnswer, PlainForward
from sidecar.codec.plain_head import PlainRequest, RequestActs, ResponseActs
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.edits import FORWARDED, NOT_FROM_CLIENTS, REQUEST_ID, forwarded_request, forwarded_response
from sidecar.proxy.replies import UNTOUCHED

OWN: Fields = [(b"traceparent", b"00-1-2-00"), (b"x-request-id", b"7")]
FAR: Fields = [(b"X-Forwarded-For", b"10.0.0.1"), (b"X-Forwarded-Proto", b"http")]

REQUESTS = [
    b"GET /x?y=1 HTTP/1.1\r\nHost: orders\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: orders\r\nX-Case: Kept \r\nCookie: a=b; c=d\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: orders\r\nConnection: TE\r\nTE: trailers\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: orders\r\nTraceparent: x\r\ntracestate: y\r\nb3: 0\r\nX-Mesh-Timeout-Ms: 5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: orders\r\nX-Forwarded-For: 1.2.3.4\r\nx-forwarded-proto: https\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: orders\r\nX-Forwarded-Client-Cert: By=me\r\nx_forwarded_client_cert: too\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: orders\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x\r\n\r\nabc",
    b"HTTP/1.1 404 Gone Fishing\r\ncontent-length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=7\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
]


def acts() -> RequestActs:
    return RequestActs(dropped=NOT_FROM_CLIENTS, taken=(DEADLINE_HEADER,), noted=(REQUEST_ID, b"idempotency-key"))


def asked(events: list[Event]) -> RequestHead:
    event = events[0]
    assert isinstance(event, Head)
    assert isinstance(event.head, RequestHead)
    return event.head


def answered(events: list[Event]) -> ResponseHead:
    event = events[0]
    assert isinstance(event, Head)
    assert isinstance(event.head, ResponseHead)
    return event.head


def lowered(fields: Fields) -> list[tuple[bytes, bytes]]:
    return sorted((name.lower(), value) for name, value in fields)


def body_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Chunk))


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("raw", REQUESTS)
def test_a_request_goes_on_as_it_would_anew(raw: bytes, far: bool) -> None:
    written = []
    own, replaced = (OWN + FAR, FORWARDED) if far else (OWN, frozenset[bytes]())
    for server in (H1Server(acts(), far=far), H1Server()):
        events = server.feed(raw)
        head = asked(events)
        forwarded = forwarded_request(head, list(own), replaced)
        wire = H1Client().encode_request(forwarded, wants_trailers=server.wants_trailers)
        end = wire.index(b"\r\n\r\n") + 4
        read = request_head(wire[:end])
        facts = (head.keep_alive, server.wants_trailers, isinstance(events[-1], End), body_of(events))
        written.append(
            (facts, read.method, read.target, read.content_length, lowered(read.fields), lowered(forwarded.fields))
        )
        assert (
            lowered(forwarded.fields)
            == lowered(
                [field for field in read.fields if field[0].lower() not in (b"te", b"connection", b"transfer-encoding")]
            )
            or head.method == b"POST"
        )  # which is told a length of 0
        assert isinstance(forwarded, PlainForward) is isinstance(head, PlainRequest)
    assert written[0] == written[1]


@pytest.mark.parametrize("raw", ANSWERS)
@pytest.mark.parametrize("last", [False, True])
def test_an_answer_goes_on_as_it_would_anew(raw: bytes, last: bool) -> None:
    written = []
    for client in (H1Client(ResponseActs((UNTOUCHED,))), H1Client()):
        client.encode_request(asked(H1Server().feed(REQUESTS[0])))
        client.encode_end()
        events = client.feed(raw)
        head = answered(events)
        server = H1Server()
        server.feed(REQUESTS[0])
        if last:
            server.close_after()
        forwarded = forwarded_response(head)
        wire = server.encode_head(forwarded)
        wire += server.encode_chunk(body_of(events)) + server.encode_end()
        end = wire.index(b"\r\n\r\n") + 4
        read = response_head(wire[:end], b"GET")
        facts = (head.keep_alive, client.reusable, client.keep_alive_s, server.keep_alive, read.keep_alive)
        written.append((facts, read.status, read.reason, lowered(read.fields), lowered(forwarded.fields), wire[end:]))
    assert written[0] == written[1]


def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    client = H1Client(ResponseActs((UNTOUCHED,)))
    client.encode_request(asked(H1Server().feed(REQUESTS[0])))
    client.encode_end()
    head = answered(client.feed(ANSWERS[3]))
    assert isinstance(head, PlainAnswer)
    server = H1Server(acts())
    server.feed(b"GET / HTTP/1.0\r\nHost: orders\r\n\r\n")
    wire = server.encode_head(forwarded_response(head))
    assert b"chunked" not in wire.lower()
    assert b"Connection: close" in wire
