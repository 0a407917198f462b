"""What real programs send is accepted: recorded heads and connections (tests/recorded), none of them refused."""

from collections.abc import Callable
from functools import partial

import pytest

from sidecar.codec.client_hello import HelloReader
from sidecar.codec.events import Chunk, End, Event, Head, Interim, Tunnel
from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.codec.plain_head import ResponseActs, plain_request, plain_response
from sidecar.codec.sniff import Sniffed, classify
from sidecar.errors import ProxyError
from sidecar.model.messages import RequestHead
from sidecar.proxy.replies import UNTOUCHED
from tests.fuzz.test_plain_head import request_acts
from tests.recorded.corpus import H2_CLIENTS, H2_SERVERS, HELLOS, REQUESTS, RESPONSES, Recorded, recorded
from tests.support.http2_codecs import LEAN, REFERENCE, Codecs

ACCEPTED_RATIO = 0.99
LEAST_MESSAGES = 200
# Every program that the corpus has to have, by the beginning of its name.
CLIENTS = ("curl", "chromium", "java-HttpClient", "java-URLConnection", "node-http", "node-fetch", "requests", "httpx",
           "aiohttp", "urllib", "http-client", "urllib3", "websockets", "nginx", "haproxy", "envoy")  # fmt: skip
SERVERS = ("nginx", "node", "uvicorn", "hypercorn", "haproxy", "envoy")
# grpcio sends binary metadata without base64 to peers whose SETTINGS ask for it, as grpcio's do. We do not ask.
BINARY = "-bin' has a control character"


def a_request(one: Recorded) -> str:
    """Why we refuse it; "" when we do not."""
    codec = H1Server()
    events = codec.feed(one.data)
    head = events[0].head if events and isinstance(events[0], Head) else None
    assert isinstance(head, RequestHead)
    assert head.method == one.method
    return "" if isinstance(events[-1], End) else "no end"


def an_answer(one: Recorded) -> str:
    """As `a_request`."""
    codec = H1Client()
    upgrade = b"websocket" if b"HTTP/1.1 101" in one.data[:12] else b""
    tunnel = RequestHead(b"GET", b"/ws", b"x", [(b"Host", b"x")], upgrade=upgrade)
    codec.encode_request(tunnel if upgrade else RequestHead(one.method, b"/", b"x", [(b"Host", b"x")]))
    events = codec.feed(one.data)
    if not codec.reusable and not isinstance(events[-1], End):
        events += codec.feed(b"")
    return "" if isinstance(events[-1], End) else f"ends in {events[-1]}"


def a_client_over_http2(one: Recorded, codecs: Codecs) -> str:
    """As `a_request`."""
    codec = codecs.server()
    events = codec.feed(one.data, 0.0)
    return _spoilt(codec.over, events) or ("" if heads_of(events) else "no request")


def a_server_over_http2(one: Recorded, codecs: Codecs) -> str:
    """As `a_request`. What its client asked is in the file of the same name."""
    client = next(each for each in recorded(H2_CLIENTS) if each.name == one.name)
    asked = codecs.server().feed(client.data, 0.0)
    codec = codecs.client()
    for event in asked:
        if isinstance(event, Head):
            assert isinstance(event.head, RequestHead)
            head = event.head
            sent = RequestHead(head.method, head.target, head.authority, [], content_length=None, upgrade=head.upgrade)
            while codec.send_request(sent, end=False) < event.stream:
                pass
        elif isinstance(event, Chunk):
            codec.send_chunk(event.stream, event.data)
    events = codec.feed(one.data, 0.0)
    why = _spoilt(codec.over, events)
    if one.program == "grpcio-grpcio" and BINARY in why:
        return ""
    return why or ("" if len(heads_of(events)) == len(heads_of(asked)) else "answers are missing")


def a_hello(one: Recorded) -> str:
    """As `a_request`."""
    hello = HelloReader().feed(one.data)
    sniffed = classify(one.data)
    return "" if hello is not None and sniffed is Sniffed.TLS else f"{hello}, {sniffed}"


def heads_of(events: list[Event]) -> list[Head]:
    return [event for event in events if isinstance(event, Head)]


def _spoilt(over: str, events: list[Event]) -> str:
    odd = [event for event in events if not isinstance(event, Head | Interim | Chunk | End | Tunnel)]
    resets = [event for event in odd if type(event).__name__ == "Reset"]
    return over or (str(resets[0]) if resets else "")


KINDS: dict[str, Callable[[Recorded], str]] = {
    REQUESTS: a_request,
    RESPONSES: an_answer,
    H2_CLIENTS: partial(a_client_over_http2, codecs=REFERENCE),
    H2_SERVERS: partial(a_server_over_http2, codecs=REFERENCE),
    f"{H2_CLIENTS}, lean": partial(a_client_over_http2, codecs=LEAN),
    f"{H2_SERVERS}, lean": partial(a_server_over_http2, codecs=LEAN),
    HELLOS: a_hello,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_real_programs_send_is_accepted(kind: str) -> None:
    refused = {}
    ones = recorded(kind.removesuffix(", lean"))
    for one in ones:
        try:
            why = KINDS[kind](one)
        except (ProxyError, AssertionError, IndexError) as exc:
            why = repr(exc)
        if why:
            refused[one.name] = why

    assert 1 - len(refused) / len(ones) >= ACCEPTED_RATIO, refused


def test_the_corpus_has_everybody() -> None:
    assert len(recorded(REQUESTS)) + len(recorded(RESPONSES)) >= LEAST_MESSAGES
    assert set(CLIENTS) <= {one.program for one in recorded(REQUESTS)}
    assert set(SERVERS) <= {one.program for one in recorded(RESPONSES)}
    assert {"grpcio-grpcio", "curl-nghttpd", "node-http2-nghttpd"} <= {one.program for one in recorded(H2_CLIENTS)}


def test_plain_requests_are_recognised() -> None:
    sniffed = {one.name: classify(one.data) for one in recorded(REQUESTS)}
    assert {name: kind for name, kind in sniffed.items() if kind is not Sniffed.HTTP1} == {}
    assert {classify(one.data) for one in recorded(H2_CLIENTS)} == {Sniffed.HTTP2}


# The fast path: what real programs send is what it is made for. Who is left out is known, by reason.

FAST_RATIO = 0.95


def _of_http11() -> list[Recorded]:
    return [one for one in recorded(REQUESTS) if b" HTTP/1.1\r\n" in one.data[:9000]]


def final_answer(one: Recorded) -> bytes:
    """Without the interim ones before it."""
    data = one.data
    while data[9:10] == b"1" and data[9:12] != b"101":
        data = data[data.index(b"\r\n\r\n") + 4 :]
    return data


def test_the_fast_path_takes_what_real_clients_send() -> None:
    acts = request_acts()
    left = {one.name: why for one in _of_http11() if isinstance(why := plain_request(one.data, acts, far=True), str)}

    assert 1 - len(left) / len(_of_http11()) >= FAST_RATIO, left
    assert set(left.values()) <= {"upgrade", "field", "connect", "target", "connection"}, left


def test_the_fast_path_takes_what_real_servers_answer() -> None:
    acts = ResponseActs((UNTOUCHED,))
    finals = [(one, final_answer(one)) for one in recorded(RESPONSES)]
    left = {one.name: why for one, data in finals if isinstance(why := plain_response(data, acts, one.method), str)}

    assert 1 - len(left) / len(finals) >= FAST_RATIO, left
