"""Streams with a handler: told as frames are read, in the place of events; and heads that are written as fields."""

from dataclasses import dataclass, field

import pytest

from sidecar.codec.events import Chunk, End, Event, Head, Reset
from sidecar.codec.h2_abuse import SMALL_DATA_MAX
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.h2_lean.stream import LeanStream, StreamHandler
from sidecar.codec.h2_limits import STREAM_WINDOW_BYTES
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from tests.support.http2 import GET, OK, POST, PREFACE, Wire, data, frame, goaway, rst, settings

ASKED: Fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"b"), (b"x", b"y")]
ANSWERED: Fields = [(b":status", b"200"), (b"x", b"y")]


@dataclass
class Told:
    """A handler that keeps what it is told."""

    said: list[object] = field(default_factory=list)

    def on_interim(self, head: ResponseHead) -> None:
        self.said.append(("interim", head.status))

    def on_head(self, head: ResponseHead, end: bool) -> None:
        self.said.append(("head", head.status, end))

    def on_data(self, data: bytes, end: bool) -> None:
        self.said.append((data, end))

    def on_trailers(self, fields: Fields) -> None:
        self.said.append(fields)

    def on_reset(self, reset: Reset) -> None:
        self.said.append(("reset", reset.code, reset.untouched))


class Taking:
    """A server whose requests are taken by handlers."""

    def __init__(self) -> None:
        self.codec = LeanServer(on_request=self.take)
        self.wire = Wire()
        self.streams: list[LeanStream] = []
        self.heads: list[tuple[bytes, bool]] = []
        self.told = Told()
        self.refuses = False
        self.give(PREFACE + settings())
        self.wire.read(self.codec.take())

    def take(self, stream: LeanStream, head: RequestHead, end: bool) -> StreamHandler | None:
        self.heads.append((head.target, end))
        if self.refuses:
            return None
        self.streams.append(stream)
        return self.told

    def give(self, raw: bytes) -> list[Event]:
        return self.codec.feed(raw, 0.0)


@pytest.fixture
def taking() -> Taking:
    return Taking()


def client() -> tuple[LeanClient, Wire]:
    codec, wire = LeanClient(), Wire()
    codec.feed(settings(), 0.0)
    wire.read(codec.take().removeprefix(PREFACE))
    return codec, wire


def test_a_request_with_all_that_may_come(taking: Taking) -> None:
    wire = taking.wire
    events = taking.give(
        wire.headers(1, POST) + data(1, b"abc", pad=3) + data(1) + wire.headers(1, (("t", "u"),), end=True)
    )

    assert events == []
    assert taking.heads == [(b"/", False)]
    assert taking.told.said == [(b"abc", False), [(b"t", b"u")]]
    assert taking.streams[0].owed == 3


def test_the_end_comes_with_the_last_bytes(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, POST) + data(1, b"abc", end=True))
    taking.give(taking.wire.headers(3, POST) + data(3, end=True))
    taking.give(taking.wire.headers(5, GET, end=True))

    assert taking.told.said == [(b"abc", True), (b"", True)]
    assert taking.heads == [(b"/", False), (b"/", False), (b"/", True)]


def test_who_is_not_taken_is_told_of_by_events(taking: Taking) -> None:
    taking.refuses = True
    events = taking.give(taking.wire.headers(1, POST) + data(1, b"abc", end=True))

    assert [type(event) for event in events] == [Head, Chunk, End]
    assert taking.told.said == []


def test_a_handler_may_step_back_at_any_time(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, POST) + data(1, b"abc"))
    taking.streams[0].handler = None

    assert taking.give(data(1, b"def", end=True)) == [Chunk(b"def", 3, 1), End(1)]
    assert taking.told.said == [(b"abc", False)]
    assert taking.streams[0].owed == 6  # it is whoever took over that owes all of it


def test_a_request_that_breaks_the_rules_is_not_offered(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, (*GET, ("connection", "close")), end=True))

    assert taking.heads == []


def test_a_request_may_be_answered_at_once(taking: Taking) -> None:
    def at_once(stream: LeanStream, head: RequestHead, end: bool) -> StreamHandler | None:
        taking.codec.answer(stream, [(b":status", b"204")], 204, left=None, end=True)
        return taking.told

    taking.codec.on_request = at_once
    assert taking.give(taking.wire.headers(1, GET, end=True)) == []

    assert [(one.name, one.headers) for one in taking.wire.read(taking.codec.take())] == [
        ("Headers", ((b":status", b"204"),))
    ]
    assert taking.codec.streams == 0


def test_resets_and_the_end_of_the_connection_are_told(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, POST) + taking.wire.headers(3, POST) + rst(1))
    taking.give(b"")

    assert taking.told.said == [("reset", 8, False), ("reset", 8, False)]


def test_a_body_that_breaks_the_rules_is_told_as_a_reset(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, (*POST, ("content-length", "2"))) + data(1, b"abc", end=True))

    assert taking.told.said == [("reset", 1, False)]


def test_an_answer_as_fields_and_its_body(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, GET, end=True))
    stream = taking.streams[0]
    codec = taking.codec
    codec.answer(stream, [*ANSWERED, (b"content-length", b"5")], 200, left=5, end=False)
    assert codec.room_of(stream) == 16_384
    codec.send_data(stream, b"hel", end=False)
    with pytest.raises(ValueError, match="2 bytes of the announced length"):
        codec.send_data(stream, b"", end=True)
    with pytest.raises(ValueError, match="only 2"):
        codec.send_data(stream, b"more", end=False)
    codec.send_data(stream, b"lo", end=True)
    codec.send_data(stream, b"after", end=True)

    seen = taking.wire.read(codec.take())
    assert [(one.name, one.body, "END_STREAM" in one.flags) for one in seen if one.name == "Data"] == [
        ("Data", b"hel", False),
        ("Data", b"lo", True),
    ]
    assert seen[0].headers == ((b":status", b"200"), (b"x", b"y"), (b"content-length", b"5"))
    assert codec.streams == 0


def test_an_answer_may_end_with_trailers_as_fields(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, GET, end=True))
    stream = taking.streams[0]
    taking.codec.answer(stream, ANSWERED, 200, left=None, end=False)
    taking.codec.send_trailers(stream, [(b"grpc-status", b"0")])
    taking.codec.send_trailers(stream, [(b"grpc-status", b"1")])

    assert [one.headers for one in taking.wire.read(taking.codec.take())] == [
        tuple(ANSWERED),
        ((b"grpc-status", b"0"),),
    ]


def test_trailers_do_not_hide_that_a_body_is_too_short(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, GET, end=True))
    taking.codec.answer(taking.streams[0], ANSWERED, 200, left=3, end=False)
    with pytest.raises(ValueError, match="3 bytes"):
        taking.codec.send_trailers(taking.streams[0], [])


def test_nothing_is_written_of_the_body_of_an_answer_to_head(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, ((":method", "HEAD"), *GET[1:]), end=True))
    taking.codec.answer(taking.streams[0], ANSWERED, 200, left=7, end=False)
    taking.codec.send_data(taking.streams[0], b"no body", end=True)

    assert [(one.name, one.body) for one in taking.wire.read(taking.codec.take())][1:] == [("Data", b"")]


def test_a_client_is_told_of_its_answer() -> None:
    codec, wire = client()
    told = Told()
    stream = codec.begin(ASKED, b"POST", left=None, end=False, handler=told)
    codec.send_data(stream, b"body", end=True)
    answer = wire.headers(1, ((":status", "103"),)) + wire.headers(1, OK) + data(1, b"abc")
    events = codec.feed(answer + wire.headers(1, (("t", "u"),), end=True), 0.0)

    assert events == []
    assert told.said == [("interim", 103), ("head", 200, False), (b"abc", False), [(b"t", b"u")]]
    assert wire.read(codec.take())[0].headers == tuple(ASKED)
    codec.forget(stream.number)
    assert codec.streams == 0


def test_a_client_is_told_what_was_left_alone() -> None:
    codec, _ = client()
    told = Told()
    for _ in range(3):
        codec.begin(ASKED, b"POST", left=0, end=True, handler=told)
    codec.feed(rst(3, 7) + goaway(1), 0.0)

    assert told.said == [("reset", 7, True), ("reset", 0, True)]
    with pytest.raises(ValueError, match="5 bytes"):
        codec.begin(ASKED, b"POST", left=5, end=True, handler=told)


def test_windows_come_back_by_credit_only() -> None:
    codec, wire = client()
    told = Told()
    stream = codec.begin(ASKED, b"GET", left=0, end=True, handler=told)
    codec.feed(wire.headers(1, OK) + data(1, bytes(16_384)) * 2, 0.0)
    wire.read(codec.take())
    assert stream.window == STREAM_WINDOW_BYTES - 32_768

    codec.credit(1, 20_000)
    assert codec.take() == b""
    codec.credit(1, 12_768)
    assert [(one.name, one.stream) for one in wire.read(codec.take())] == [("WindowUpdate", 1)]
    assert stream.window == STREAM_WINDOW_BYTES


def test_a_window_may_go_below_nothing() -> None:
    codec, _ = client()
    stream = codec.begin(ASKED, b"POST", left=None, end=False, handler=None)
    codec.send_data(stream, bytes(16_384), end=False)
    codec.feed(settings((4, 100)), 0.0)

    assert codec.room_of(stream) == 100 - 16_384
    assert codec.send_room(stream.number) == 0


def test_small_frames_that_a_handler_holds_are_bounded(taking: Taking) -> None:
    taking.give(taking.wire.headers(1, POST))
    for _ in range(SMALL_DATA_MAX):
        taking.give(data(1, b"x"))
    assert not taking.codec.over

    taking.give(data(1, b"x"))
    assert taking.codec.over.startswith(f"more than {SMALL_DATA_MAX} small DATA frames")


def test_a_head_above_the_peers_frame_size_goes_in_parts() -> None:
    codec, wire = client()
    big = [(b"x-%d" % number, bytes([65 + number]) * 9000) for number in range(5)]
    codec.begin([*ASKED, *big], b"POST", left=0, end=True, handler=None)

    parts = codec.take()
    kinds = []
    block = b""
    while parts:
        size = int.from_bytes(parts[:3], "big")
        kinds.append((parts[3], parts[4], size <= 16_384))
        block += parts[9 : 9 + size]
        parts = parts[9 + size :]
    assert kinds == [(1, 1, True), (9, 0, True), (9, 4, True)]
    assert tuple((bytes(n), bytes(v)) for n, v in wire.decoder.decode(block, raw=True)) == (*ASKED, *big)


def test_skipped_numbers_are_told_from_used_ones(taking: Taking) -> None:
    wire = taking.wire
    taking.give(wire.headers(7, GET, end=True))
    taking.codec.answer(taking.streams[0], [(b":status", b"204")], 204, left=None, end=True)
    other = Taking()
    other.give(other.wire.headers(1, GET, end=True))
    other.codec.answer(other.streams[0], [(b":status", b"204")], 204, left=None, end=True)

    taking.give(wire.headers(3, GET, end=True))
    other.give(other.wire.headers(1, GET, end=True))

    assert "closed unused (PROTOCOL_ERROR, RFC 9113 section 5.1.1)" in taking.codec.over
    assert "both sides have ended (STREAM_CLOSED, RFC 9113 section 5.1)" in other.codec.over


def test_an_empty_frame_of_unknown_kind_is_nothing(taking: Taking) -> None:
    assert taking.give(frame(99, 0, 0) + taking.wire.headers(1, GET, end=True)) == []
    assert taking.heads == [(b"/", True)]
