"""Any bytes, cut anyhow: the HTTP/2 codecs never raise, never speak of a stream after its end, ignore the cuts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.codec.contract import Mux
from sidecar.codec.events import Chunk, End, Event, Head, Interim, Reset, Tunnel
from sidecar.codec.h2_frames import Cutter
from sidecar.model.messages import RequestHead, ResponseHead
from tests.support.http2 import GET, OK, POST, PREFACE, Wire, data, frame, goaway, ping, priority, rst, window
from tests.support.http2 import settings as settings_frame
from tests.support.http2_codecs import SERVERS, Client, Codecs, Server

OPENED = (1, 3, 5, 7)
STREAMS = st.sampled_from(OPENED)
ANY_STREAMS = st.sampled_from((0, *OPENED, 2, 201))
WEBSOCKET = ((":method", "CONNECT"), (":protocol", "websocket"), *GET[1:])
REQUESTS = st.sampled_from(
    (
        *(GET, POST, POST, POST, (*POST, ("content-length", "4")), (*POST, ("content-length", "0")), WEBSOCKET),
        *((("x", "trailer"),), (*GET, ("bad", "a\nb")), ((":method", "CONNECT"), (":authority", "a:1"))),
        *(((":method", "HEAD"), *GET[1:]), (*GET, ("cookie", "a=b"), ("cookie", "c=d")), ()),
    )
)
ANSWERS = st.sampled_from(
    (
        *(OK, OK, OK, (*OK, ("content-length", "4")), ((":status", "103"),), ((":status", "204"),)),
        *(((":status", "304"),), (("x", "trailer"),), (("y", "trailer"),), ((":status", "101"),)),
        *((*OK, ("bad", "a\nb")), ((":status", "100"), ("x", "y")), ()),
    )
)

Step = tuple[str, int, Any]  # (kind, stream, what); heads are written late, because their HPACK state depends on order


def steps(heads: st.SearchStrategy[Any], *, begins: bool) -> st.SearchStrategy[list[Step]]:
    """What a peer may do, now and then something that ends the connection. `begins`: it may begin streams."""

    def raw(made: st.SearchStrategy[bytes]) -> st.SearchStrategy[Step]:
        return st.tuples(st.just("raw"), STREAMS, made)

    body = st.tuples(st.just("data"), STREAMS, st.tuples(st.sampled_from((b"", b"ab", b"abcd")), st.booleans()))
    head = st.tuples(st.sampled_from(("head", "head", "parts")), STREAMS, st.tuples(heads, st.booleans()))
    mild = (
        *(head, body, body, body),
        st.tuples(st.just("new" if begins else "head"), STREAMS, st.tuples(heads, st.booleans())),
        raw(st.builds(lambda stream, some: data(stream, some, pad=3), STREAMS, st.binary(max_size=4))),
        raw(st.builds(rst, STREAMS, st.sampled_from((0, 7, 8, 99)))),
        raw(st.builds(window, STREAMS, st.sampled_from((0, 1, 70_000, 2**31 - 1)))),
        raw(st.builds(priority, STREAMS, STREAMS)),
        raw(st.sampled_from((ping(), ping(ack=True), ping(b"drained?", ack=True), settings_frame(ack=True)))),
        raw(st.sampled_from((settings_frame(), settings_frame((4, 0)), settings_frame((4, 99_999), (1, 0), (99, 7))))),
        raw(st.builds(goaway, st.sampled_from((1, 3, 2**31 - 1)), st.sampled_from((0, 11)))),
    )
    setting = st.builds(lambda *value: settings_frame(value), st.integers(0, 9), st.integers(0, 2**32 - 1))
    odd = st.builds(frame, st.integers(0, 12), st.integers(0, 255), ANY_STREAMS, st.binary(max_size=12))
    wild = st.one_of(raw(setting), raw(odd), raw(odd), raw(st.binary(max_size=30)))
    one = st.integers(0, 40).flatmap(lambda n: mild[n % len(mild)] if n < 40 else wild)
    return st.lists(one, min_size=4, max_size=24)


def written(given_steps: list[Step], wire: Wire, *, new: int = 9) -> bytes:
    parts: list[bytes] = []
    for kind, stream, what in given_steps:
        if kind == "raw":
            parts.append(what)
        elif kind == "data":
            parts.append(data(stream, what[0], end=what[1]))
        elif kind == "parts":
            block = wire.block(what[0])
            whole = (frame(1, int(what[1]), stream, block[:1]), frame(9, 0, stream), frame(9, 4, stream, block[1:]))
            parts.append(b"".join(whole))
        else:
            number = new if kind == "new" else stream
            new += 2 if kind == "new" else 0
            parts.append(wire.headers(number, what[0], end=what[1]))
    return b"".join(parts)


def opening(heads: list[tuple[Any, bool]], wire: Wire) -> bytes:
    """A client's first bytes, and the heads of the streams that the steps are about."""
    opened = [wire.headers(number, head, end=end) for number, (head, end) in zip(OPENED, heads, strict=True)]
    return PREFACE + settings_frame() + b"".join(opened)


OPENINGS = st.lists(st.tuples(REQUESTS, st.sampled_from((False, False, True))), min_size=4, max_size=4)


def server(codecs: Codecs) -> Server:
    return codecs.server()


def client(codecs: Codecs) -> Client:
    made = codecs.client()
    for method in (b"GET", b"POST", b"HEAD"):
        length = None if method == b"POST" else 0
        made.send_request(RequestHead(method, b"/", b"a", [], content_length=length), end=length == 0)
    made.send_request(RequestHead(b"CONNECT", b"a:1", b"a:1", []), end=False)
    return made


def shown(events: list[Event]) -> list[object]:
    """Events in a form that compares, bodies joined."""
    seen: list[object] = []
    for event in events:
        last = seen[-1] if seen else None
        if isinstance(event, Chunk):
            if isinstance(last, list) and last[0] == event.stream:
                last[1] += event.data
            else:
                seen.append([event.stream, event.data])
        elif isinstance(event, Head | Interim | Tunnel):
            head = event.head
            status = head.status if isinstance(head, ResponseHead) else head.target
            seen.append((type(event), event.stream, status, head.fields, head.content_length))
        else:
            seen.append(event)
    return seen


def fed(codec: Mux, raw: bytes, cuts: list[int]) -> tuple[list[object], str, list[bytes]]:
    """What comes of `raw` cut at `cuts`: events, why it is over, the frames that went out."""
    events: list[Event] = []
    out = b""
    places = sorted({cut % (len(raw) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(raw)], strict=True):
        if raw[start:end]:
            events += codec.feed(raw[start:end], 0.0)
            out += codec.take()
    check_order(events, is_server=isinstance(codec, SERVERS))
    return shown(events), codec.over, [each.raw for each in Cutter().cut(out.removeprefix(PREFACE))]


def check_order(events: list[Event], *, is_server: bool) -> None:
    """Head, then body, then one end; nothing after it but, for a server or a tunnel's other direction, one reset."""
    state: dict[int, str] = {}
    tunnels = {event.stream for event in events if isinstance(event, Tunnel)}
    for event in events:
        stream = event.stream
        now = state.get(stream, "")
        if isinstance(event, Head | Tunnel):
            assert now == ""
            state[stream] = "open"
        elif isinstance(event, Interim):
            assert now == ""
        elif isinstance(event, Reset):
            assert now != "reset"
            assert now in (("open", "ended") if is_server or stream in tunnels else ("", "open"))
            state[stream] = "reset"
        else:
            assert now == "open"
            state[stream] = "ended" if isinstance(event, End) else "open"


@given(OPENINGS, steps(REQUESTS, begins=True), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_server_gives_the_same_events_for_the_same_bytes(
    codecs: Codecs, heads: list[tuple[Any, bool]], given_steps: list[Step], cuts: list[int]
) -> None:
    wire = Wire()
    raw = opening(heads, wire) + written(given_steps, wire)

    assert (
        fed(server(codecs), raw, [])
        == fed(server(codecs), raw, cuts)
        == fed(server(codecs), raw, list(range(len(raw))))
    )


@given(steps(ANSWERS, begins=False), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_client_gives_the_same_events_for_the_same_bytes(
    codecs: Codecs, given_steps: list[Step], cuts: list[int]
) -> None:
    raw = settings_frame() + written(given_steps, Wire())

    assert (
        fed(client(codecs), raw, [])
        == fed(client(codecs), raw, cuts)
        == fed(client(codecs), raw, list(range(len(raw))))
    )


CALLS = st.lists(st.tuples(st.sampled_from(("head", "interim", "chunk", "end", "reset", "credit", "ping", "away")),
                           st.sampled_from((1, 3, 5))), max_size=6)  # fmt: skip


def call(codec: Server | Client, what: str, stream: int, headed: set[int]) -> None:
    """One thing that a well-behaved exchange may do."""
    if what == "ping":
        codec.ping()
    elif what == "reset":
        codec.reset(stream)
    elif what == "credit":
        codec.credit(stream, 3)
    elif not isinstance(codec, SERVERS):
        if what == "away":
            codec.forget(stream)
        elif what == "chunk":
            codec.send_chunk(stream, b"x"[: codec.send_room(stream)])
        elif what == "end":
            codec.send_end(stream)
        elif codec.room:
            codec.send_request(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=what == "head")
    elif what == "away":
        codec.go_away(at_once=stream == 1)
    elif what == "head" and stream not in headed:
        headed.add(stream)
        codec.send_head(stream, ResponseHead(200, [], content_length=None, version=b"2"), end=False)
    elif what == "interim":
        codec.send_interim(stream, ResponseHead(103, []))
    elif stream in headed:
        if what == "chunk":
            codec.send_chunk(stream, b"x"[: codec.send_room(stream)])
        else:
            codec.send_end(stream, [(b"t", b"u")])


Round = tuple[list[Step], list[tuple[str, int]]]


def play(codec: Server | Client, wire: Wire, first: bytes, rounds: list[Round]) -> None:
    events = codec.feed(first, 0.0)
    wire.read(codec.take().removeprefix(PREFACE))
    headed: set[int] = set()
    for number, (given_steps, calls) in enumerate(rounds):
        if given_steps and (raw := written(given_steps, wire, new=101 + 100 * number)):
            events += codec.feed(raw, 0.0)
        begun = {event.stream for event in events if isinstance(event, Head)}
        for what, stream in calls:
            if not isinstance(codec, SERVERS) or stream in begun or what in ("reset", "credit", "ping", "away"):
                call(codec, what, stream, headed)
        wire.read(codec.take())  # whatever goes out is whole frames with readable heads
        codec.notes()
    events += codec.feed(b"", 0.0)
    check_order(events, is_server=isinstance(codec, SERVERS))
    assert codec.over
    assert codec.streams == 0
    for what, stream in (("chunk", 1), ("end", 1), ("reset", 3), ("credit", 5), ("ping", 1)):
        call(codec, what, stream, {1, 3, 5})


@given(OPENINGS, st.lists(st.tuples(steps(REQUESTS, begins=True), CALLS), max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_order_of_frames_and_calls_confuses_a_server(
    codecs: Codecs, heads: list[tuple[Any, bool]], rounds: list[Round]
) -> None:
    wire = Wire()
    play(server(codecs), wire, opening(heads, wire), rounds)


@given(st.lists(st.tuples(steps(ANSWERS, begins=False), CALLS), max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_order_of_frames_and_calls_confuses_a_client(codecs: Codecs, rounds: list[Round]) -> None:
    play(client(codecs), Wire(), settings_frame(), rounds)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_at_all_are_survived(codecs: Codecs, raw: bytes) -> None:
    for codec, first in (
        (server(codecs), PREFACE + settings_frame()),
        (server(codecs), b""),
        (client(codecs), settings_frame()),
        (client(codecs), b""),
    ):
        fed(codec, first + raw, [])


@pytest.mark.parametrize("block", [b"\xff", b"\x3f" + b"\xff" * 20])
def test_what_is_said_of_a_bad_block_does_not_name_places_in_our_memory(codecs: Codecs, block: bytes) -> None:
    codec = server(codecs)
    codec.feed(PREFACE + settings_frame() + frame(1, 5, 1, block), 0.0)

    start = "" if codecs.lean else "the peer broke the protocol: Error decoding header block: "
    assert codec.over.startswith(start)
    assert codec.over
    assert "0x" not in codec.over
