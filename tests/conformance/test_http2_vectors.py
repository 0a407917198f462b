"""Every row of the HTTP/2 truth table, and the rules that stand behind it, as raw frames against the codec.

Each vector says what must come back and, always, that nothing of a refused request reaches anybody.
"""

import tracemalloc
from collections.abc import Callable

import pytest

from sidecar.codec.events import Chunk, Head, Reset
from sidecar.codec.h2_abuse import (
    EARLY_REFUSED_MAX,
    EMPTY_DATA_MAX,
    RESETS_ABORT,
    RESETS_CALM,
    SMALL_DATA_MAX,
    WINDOW_UPDATES_SPARE,
)
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.h2_streams import NOTE_KINDS
from sidecar.model.messages import RequestHead, ResponseHead
from tests.support.http2 import (
    GET,
    OK,
    POST,
    PREFACE,
    Seen,
    Wire,
    data,
    frame,
    goaway,
    ping,
    priority,
    rst,
    settings,
    window,
)
from tests.support.http2_codecs import Codecs

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 3, 5, 6
REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 9, 11


class Attacker:
    """A client of raw frames in front of a server codec. `sent` counts the frames until the connection was over."""

    def __init__(self, codecs: Codecs, *, acks: bool = False) -> None:
        self.codecs = codecs
        self.server = codecs.server()
        assert isinstance(self.server, LeanServer) == codecs.lean
        self.wire = Wire()
        self.events: list[object] = []
        self.seen: list[Seen] = []
        self.kinds: list[str] = []
        self.now_s = 0.0
        self.give(PREFACE + settings() + (settings(ack=True) if acks else b""))
        self.seen.clear()

    def give(self, raw: bytes) -> None:
        self.events += self.server.feed(raw, self.now_s)
        self.seen += self.wire.read(self.server.take())
        self.kinds += [note.kind for note in self.server.notes()]
        assert set(self.kinds) <= set(NOTE_KINDS)

    def flood(self, *frames: bytes, times: int) -> int:
        """Send `frames` so often, or until it is over; returns how many times it was."""
        for sent in range(times):
            if self.server.over:
                return sent
            self.give(b"".join(frames))
        return times

    def of(self, name: str) -> list[Seen]:
        return [frame for frame in self.seen if frame.name == name]

    @property
    def heads(self) -> int:
        return sum(isinstance(event, Head) for event in self.events)


@pytest.fixture
def attacker(codecs: Codecs) -> Attacker:
    return Attacker(codecs)


# Row: rapid reset


def test_rapid_reset_is_calmed_at_100_and_over_at_250(attacker: Attacker) -> None:
    calmed = 0
    for number in range(1, 4001, 2):
        attacker.give(attacker.wire.headers(number, GET, end=True) + rst(number))
        if attacker.of("GoAway") and not calmed:
            calmed = number // 2 + 1
            assert attacker.of("GoAway")[0].code == ENHANCE_YOUR_CALM
            assert attacker.server.draining
            assert not attacker.server.over
        if attacker.server.over:
            break

    assert calmed == RESETS_CALM
    assert number // 2 + 1 <= RESETS_ABORT
    assert attacker.heads <= RESETS_CALM + 1  # after the GOAWAY nobody hears of a stream
    assert "rapid-reset" in attacker.kinds


def test_an_honest_client_may_cancel_ten_times_a_second_for_ever(attacker: Attacker) -> None:
    for number in range(1, 4001, 2):
        attacker.now_s += 0.1
        attacker.give(attacker.wire.headers(number, GET, end=True) + rst(number))

    assert not attacker.seen
    assert not attacker.server.over


def test_answered_streams_make_good_for_reset_ones(attacker: Attacker) -> None:
    for number in range(1, 4001, 4):
        attacker.give(attacker.wire.headers(number, GET, end=True))
        attacker.server.send_head(number, ResponseHead(204, []), end=True)
        attacker.give(attacker.wire.headers(number + 2, GET, end=True) + rst(number + 2))

    assert not attacker.of("GoAway")


# Row: MadeYouReset and its kin: resets that the peer forces us to send


def bad_request(wire: Wire, number: int) -> bytes:
    return wire.headers(number, (*GET, ("transfer-encoding", "chunked")), end=True)


FORCED: dict[str, Callable[[Wire, int], bytes]] = {
    "window overflow": lambda wire, number: wire.headers(number, GET, end=True) + window(number, 2**31 - 1),
    "window update of 0": lambda wire, number: wire.headers(number, GET, end=True) + window(number, 0),
    "HEADERS after END_STREAM": lambda wire, number: (
        wire.headers(number, GET, end=True) + wire.headers(number, GET, end=True)
    ),
    "DATA after END_STREAM": lambda wire, number: wire.headers(number, GET, end=True) + data(number, b"x"),
    "PRIORITY of 4 bytes": lambda wire, number: wire.headers(number, GET, end=True) + frame(2, 0, number, b"1234"),
    "PRIORITY on itself": lambda wire, number: wire.headers(number, GET, end=True) + priority(number, number),
    "malformed request": bad_request,
    "body longer than said": lambda wire, number: (
        wire.headers(number, (*POST, ("content-length", "1"))) + data(number, b"abc", end=True)
    ),
    "trailers without END_STREAM": lambda wire, number: (
        wire.headers(number, POST) + wire.headers(number, (("a", "b"),))
    ),
}


@pytest.mark.parametrize("name", FORCED)
def test_forced_resets_count_as_rapid_resets(name: str, attacker: Attacker) -> None:
    make = FORCED[name]
    attacker.give(make(attacker.wire, 1))
    assert [(frame.stream, frame.name) for frame in attacker.seen] == [(1, "RstStream")]
    for number in range(3, 4001, 2):
        attacker.give(make(attacker.wire, number))
        if attacker.server.over:
            break

    assert number // 2 + 1 <= RESETS_ABORT
    assert attacker.of("GoAway")[0].code == ENHANCE_YOUR_CALM


def test_data_after_end_stream_counts_every_time(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, GET, end=True))

    sent = attacker.flood(data(1, b"x"), times=500)

    assert sent <= RESETS_ABORT
    assert attacker.of("RstStream")[0].code == STREAM_CLOSED
    assert not any(isinstance(event, Chunk) for event in attacker.events)
    assert next(event for event in attacker.events if isinstance(event, Reset)).code == STREAM_CLOSED
    assert "frame-after-end" in attacker.kinds


# Rows: DATA floods


def test_a_hundred_empty_data_frames_in_a_row_end_the_connection(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))

    assert attacker.flood(data(1), times=3000) == EMPTY_DATA_MAX
    assert attacker.of("GoAway")[0].code == ENHANCE_YOUR_CALM
    assert "empty-data" in attacker.kinds


def test_padding_does_not_make_a_frame_less_empty(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))

    assert attacker.flood(data(1, pad=20), times=3000) == EMPTY_DATA_MAX


def test_3000_data_frames_of_one_byte_are_carried(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))

    assert attacker.flood(data(1, b"x"), times=3000) == 3000
    chunks = [event for event in attacker.events if isinstance(event, Chunk)]
    assert b"".join(chunk.data for chunk in chunks) == b"x" * 3000


def test_small_frames_of_one_read_become_one_chunk(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))

    attacker.give(data(1, b"x") * 3000)

    assert [event for event in attacker.events if isinstance(event, Chunk)] == [Chunk(b"x" * 3000, 3000, 1)]


def test_small_frames_that_nobody_forwards_are_bounded(attacker: Attacker) -> None:
    attacker.give(b"".join(attacker.wire.headers(number, POST) for number in (1, 3)))

    sent = attacker.flood(data(1, b"x"), data(3, b"y"), times=SMALL_DATA_MAX)

    assert 2 * sent == SMALL_DATA_MAX + 2
    assert "tiny-data" in attacker.kinds


def test_small_frames_that_are_forwarded_may_come_for_ever(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))
    for _ in range(SMALL_DATA_MAX + 100):
        attacker.events += attacker.server.feed(data(1, b"x"), 0.0)
        attacker.server.credit(1, 1)
        attacker.server.take()

    assert not attacker.server.over


# Rows: control frames


@pytest.mark.parametrize("one", [ping(), settings(), ping(ack=True), settings(ack=True), goaway(0)])
def test_control_frames_above_100_a_second_end_the_connection(one: bytes, attacker: Attacker) -> None:
    assert attacker.flood(one, times=5000) <= 210
    assert attacker.of("GoAway")[-1].code == ENHANCE_YOUR_CALM
    assert "control-flood" in attacker.kinds


@pytest.mark.parametrize("one", [ping(), settings()])
def test_control_frames_below_100_a_second_are_answered(one: bytes, attacker: Attacker) -> None:
    for _ in range(5000):
        attacker.now_s += 0.011
        attacker.give(one)

    assert len(attacker.seen) == 5000
    assert all("ACK" in frame.flags for frame in attacker.seen)


def test_answers_that_nobody_reads_end_the_connection_at_64_kib(codecs: Codecs) -> None:
    server = codecs.server()
    server.feed(PREFACE + settings(), 0.0)
    now_s, sent = 0.0, 0
    while not server.over:
        now_s += 0.02
        sent += 1
        server.feed(ping(), now_s)

    assert 64 * 1024 - 20 < sent * 17 < 65 * 1024
    assert [note.kind for note in server.notes()] == ["control-backlog"]


def test_a_settings_frame_with_thousands_of_entries_is_refused(attacker: Attacker) -> None:
    attacker.give(settings(*[(0x1000 + i, i) for i in range(2000)]))

    assert attacker.of("GoAway")[0].code == ENHANCE_YOUR_CALM


def test_settings_that_nobody_knows_are_not_kept(attacker: Attacker) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for turn in range(2000):
            attacker.now_s += 1
            attacker.give(settings(*[(0x1000 + turn * 30 + i, i) for i in range(30) if turn * 30 + i < 0xE000]))
            attacker.seen.clear()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert not attacker.server.over
    assert grown < 64 * 1024


def test_priority_is_ignored_until_a_hundred_for_each_stream(codecs: Codecs, attacker: Attacker) -> None:
    assert attacker.flood(priority(1), times=5000) == 101
    assert "ignored-flood" in attacker.kinds

    other = Attacker(codecs)
    other.give(b"".join(other.wire.headers(number, GET, end=True) for number in range(1, 21, 2)))
    assert other.flood(priority(1), times=5000) == 1101


def test_a_deep_chain_of_priorities_leaves_nothing_behind(attacker: Attacker) -> None:
    for number in range(1, 201, 2):
        attacker.give(attacker.wire.headers(number, GET, end=True))
    attacker.flood(*[priority(number, number - 2) for number in range(3, 203, 2)], times=100)

    assert not attacker.seen
    assert not attacker.server.over


def test_window_updates_end_the_connection_at_10_for_each_data_frame_sent(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, GET, end=True))
    attacker.server.send_head(1, ResponseHead(200, [], content_length=None), end=False)
    for _ in range(10):
        attacker.server.send_chunk(1, b"x")

    assert attacker.flood(window(0, 1), times=5000) == WINDOW_UPDATES_SPARE + 2 + 10 * 10 + 1
    assert "window-update-flood" in attacker.kinds


def test_a_client_may_refill_its_window_in_steps_of_4_kib(codecs: Codecs) -> None:
    attacker = Attacker(codecs)
    attacker.give(settings((4, 10**9), (5, 65_536)) + window(0, 10**9))
    attacker.give(attacker.wire.headers(1, GET, end=True))
    attacker.server.send_head(1, ResponseHead(200, [], content_length=None), end=False)
    for _ in range(100):
        assert attacker.server.send_room(1) == 65_536
        attacker.server.send_chunk(1, bytes(65_536))
        attacker.give((window(0, 4096) + window(1, 4096)) * 16)

    assert not attacker.server.over


@pytest.mark.parametrize("size", [0, 1024])
def test_continuation_floods_end_at_16_frames(size: int, attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, GET, whole=False))

    assert attacker.flood(frame(9, 0, 1, bytes(size)), times=1500) == 16
    assert attacker.of("GoAway")[0].code == ENHANCE_YOUR_CALM
    assert attacker.heads == 0


def test_continuation_floods_end_at_60_kib(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, GET, whole=False))

    assert attacker.flood(frame(9, 0, 1, bytes(16_000)), times=1500) == 4


def test_a_head_in_some_continuation_frames_is_read(attacker: Attacker) -> None:
    block = attacker.wire.block((*GET, ("x-long", "v" * 3000)))
    parts = [block[at : at + 500] for at in range(0, len(block), 500)]
    raw = [frame(1, 1, 1, parts[0]), *[frame(9, 0, 1, part) for part in parts[1:-1]], frame(9, 4, 1, parts[-1])]

    for one in raw:
        attacker.give(one)

    head = attacker.events[0]
    assert isinstance(head, Head)
    assert head.head.get(b"x-long") == b"v" * 3000


# Row: HPACK bombs


def bomb(wire: Wire, number: int, refs: int, value: str) -> bytes:
    """A head that refers `refs` times to one field of the dynamic table."""
    wire.block((("x", value),))
    first = wire.block((("x", value),))
    assert len(first) == 1
    return frame(1, 5, number, wire.block(GET) + first * refs)


def test_101_fields_cost_the_stream_and_100_do_not(attacker: Attacker) -> None:
    wire = attacker.wire
    attacker.give(wire.headers(1, (*GET, *[(f"x-{i}", "v") for i in range(96)]), end=True))
    assert attacker.heads == 1
    attacker.give(wire.headers(3, (*GET, *[(f"x-{i}", "v") for i in range(97)]), end=True))
    assert attacker.heads == 1
    assert [(frame.name, frame.code) for frame in attacker.seen] == [("RstStream", ENHANCE_YOUR_CALM)]
    assert attacker.kinds == ["head-too-big"]


def test_cookie_crumbs_are_counted_before_they_are_joined(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, (*GET, *[("cookie", "a=b")] * 97), end=True))

    assert attacker.heads == 0
    assert attacker.of("RstStream")


def test_2000_references_end_their_stream_or_the_connection(attacker: Attacker) -> None:
    """Our own codec reads the block to its end and keeps nothing of it: the table is what the client thinks it is."""
    attacker.give(attacker.wire.headers(1, (*GET, ("x", "v" * 20)), end=True))
    attacker.give(bomb(attacker.wire, 3, 2000, "v" * 20))

    assert attacker.heads == 1
    assert attacker.of("RstStream" if attacker.codecs.lean else "GoAway")[0].code == ENHANCE_YOUR_CALM
    assert attacker.kinds == ["head-too-big"]


def test_a_hundred_streams_of_1700_references_hold_next_to_nothing(codecs: Codecs) -> None:
    attacker = Attacker(codecs)
    attacker.give(attacker.wire.headers(1, (*GET, ("x", "")), end=True))
    raw = [bomb(attacker.wire, number, 1700, "") for number in range(3, 203, 2)]
    attacker.seen.clear()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for one in raw:
            attacker.server.feed(one, 0.0)
            attacker.server.take()
        held = tracemalloc.get_traced_memory()[0] - before
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert sum(map(len, raw)) > 170_000
    assert attacker.server.streams == 1
    assert held < 256 * 1024
    assert peak < 1024 * 1024


def test_heads_of_open_streams_take_no_more_than_1_mib(attacker: Attacker) -> None:
    crumb = ("cookie", "v" * 3500)  # sent once, referred to from then on, and joined for each stream
    for number in range(1, 201, 2):
        attacker.give(attacker.wire.headers(number, (*GET, *[crumb] * 16), end=True))

    assert attacker.heads == attacker.server.streams == 1024 * 1024 // (16 * (3500 + 6 + 32 + 96) + 4 * 140)
    assert {frame.code for frame in attacker.of("RstStream")} == {REFUSED_STREAM}
    attacker.server.send_head(1, ResponseHead(204, []), end=True)
    attacker.give(attacker.wire.headers(201, (*GET, *[crumb] * 16), end=True))
    assert attacker.heads == attacker.server.streams + 1


# Rows: smuggling

MALFORMED = {
    "content-length 7 and END_STREAM": (*POST, ("content-length", "7")),
    "content-length +0": (*POST, ("content-length", "+0")),
    "content-length twice": (*POST, ("content-length", "0"), ("content-length", "0")),
    "content-length 0, 0": (*POST, ("content-length", "0, 0")),
    "content-length of 19 digits": (*POST, ("content-length", "0" * 19)),
    "transfer-encoding": (*POST, ("transfer-encoding", "chunked")),
    "connection": (*GET, ("connection", "close")),
    "keep-alive": (*GET, ("keep-alive", "timeout=5")),
    "proxy-connection": (*GET, ("proxy-connection", "close")),
    "upgrade": (*GET, ("upgrade", "websocket")),
    "te: gzip": (*GET, ("te", "gzip")),
    "te: trailers, gzip": (*GET, ("te", "trailers, gzip")),
    "CR LF in a value": (*GET, ("x", "a\r\nhost: b")),
    "LF in a value": (*GET, ("x", "a\nb")),
    "NUL in a value": (*GET, ("x", "a\0b")),
    "0x07 in a value": (*GET, ("x", "a\x07b")),
    "DEL in a value": (*GET, ("x", "a\x7fb")),
    "space before a value": (*GET, ("x", " a")),
    "space after a value": (*GET, ("x", "a\t")),
    "upper case in a name": (*GET, ("X", "a")),
    "space in a name": (*GET, ("x y", "a")),
    "colon in a name": (*GET, ("x:", "a")),
    "CR LF in a name": (*GET, ("x\r\ny", "a")),
    "empty name": (*GET, ("", "a")),
    "method with a space": ((":method", "GET /admin HTTP/1.1"), *GET[1:]),
    "empty method": ((":method", ""), *GET[1:]),
    "long method": ((":method", "M" * 33), *GET[1:]),
    "no method": GET[1:],
    "no scheme": (GET[0], *GET[2:]),
    "scheme ftp": (GET[0], (":scheme", "ftp"), *GET[2:]),
    "scheme with a request in it": (GET[0], (":scheme", "http://a/ HTTP/1.1\r\n"), *GET[2:]),
    "no path": GET[:3],
    "empty path": (*GET[:3], (":path", "")),
    "path with a space": (*GET[:3], (":path", "/ HTTP/1.1")),
    "path with a tab": (*GET[:3], (":path", "/\t")),
    "path with CR LF": (*GET[:3], (":path", "/\r\n")),
    "path above ASCII": (*GET[:3], (":path", "/\xe9")),
    "path without slash": (*GET[:3], (":path", "admin")),
    "path is a URL": (*GET[:3], (":path", "http://b/")),
    "path with a fragment": (*GET[:3], (":path", "/a#b")),
    "path * for GET": (*GET[:3], (":path", "*")),
    "path of 9 KiB": (*GET[:3], (":path", "/" + "a" * 9 * 1024)),
    "authority with a slash": (*GET[:2], (":authority", "a/b"), GET[3]),
    "authority with @": (*GET[:2], (":authority", "u@a"), GET[3]),
    "authority with a space": (*GET[:2], (":authority", "a b"), GET[3]),
    "authority with a comma": (*GET[:2], (":authority", "a,b"), GET[3]),
    "empty authority": (*GET[:2], (":authority", ""), GET[3]),
    "port 65536": (*GET[:2], (":authority", "a:65536"), GET[3]),
    "no authority, no host": (*GET[:2], GET[3]),
    "host is another one": (*GET, ("host", "b.example")),
    "two hosts": (*GET, ("host", "a.example"), ("host", "a.example")),
    "two hosts, no authority": (*GET[:2], GET[3], ("host", "a"), ("host", "b")),
    "pseudo field twice": (*GET, (":path", "/")),
    "pseudo field after a field": (*GET[:3], ("x", "a"), GET[3]),
    "unknown pseudo field": (*GET, (":colour", "red")),
    ":status in a request": (*GET, (":status", "200")),
    ":protocol without CONNECT": (*GET, (":protocol", "websocket")),
    "CONNECT with a path": ((":method", "CONNECT"), (":authority", "a:1"), (":path", "/")),
    "CONNECT with a scheme": ((":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")),
    "CONNECT without a port": ((":method", "CONNECT"), (":authority", "a")),
    "CONNECT with an empty port": ((":method", "CONNECT"), (":authority", "a:")),
    "CONNECT without authority": ((":method", "CONNECT"),),
    "CONNECT with a body": ((":method", "CONNECT"), (":authority", "a:1"), ("content-length", "4")),
    "extended CONNECT without path": (
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
    ),
    "empty protocol": ((":method", "CONNECT"), (":protocol", ""), *GET[1:]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_reset_and_reach_nobody(name: str, attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, MALFORMED[name], end=True))

    assert attacker.events == []
    assert [(frame.name, frame.code) for frame in attacker.seen] in (
        [("RstStream", PROTOCOL_ERROR)],
        [("RstStream", ENHANCE_YOUR_CALM)],
    )
    attacker.give(attacker.wire.headers(3, GET, end=True))
    assert attacker.heads == 1  # the connection lives


LENGTHS = {
    "3 of 5 bytes": (5, [data(1, b"abc", end=True)]),
    "7 of 5 bytes": (5, [data(1, b"abcdefg", end=True)]),
    "6 of 5 bytes in two frames": (5, [data(1, b"abc"), data(1, b"def", end=True)]),
    "6 of 5 bytes, no end": (5, [data(1, b"abc"), data(1, b"def")]),
    "3 of 5 bytes, then nothing": (5, [data(1, b"abc"), data(1, end=True)]),
    "padding is no body": (5, [data(1, b"abc", pad=2, end=True)]),
    "bytes of 0": (0, [data(1, b"a", end=True)]),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_bodies_of_another_length_never_end(name: str, attacker: Attacker) -> None:
    length, frames = LENGTHS[name]
    attacker.give(attacker.wire.headers(1, (*POST, ("content-length", str(length)))))
    for one in frames:
        attacker.give(one)

    assert [type(event).__name__ for event in attacker.events if not isinstance(event, Chunk)] == ["Head", "Reset"]
    assert [(frame.name, frame.code) for frame in attacker.seen] == [("RstStream", PROTOCOL_ERROR)]
    assert attacker.kinds == ["bad-length"]


def test_a_body_cut_short_by_trailers_never_ends(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, (*POST, ("content-length", "5"))) + data(1, b"abc"))
    attacker.give(attacker.wire.headers(1, (("x", "y"),), end=True))

    assert [type(event).__name__ for event in attacker.events] == ["Head", "Chunk", "Reset"]
    assert attacker.kinds == ["bad-length"]


@pytest.mark.parametrize("name", [":path", "Upper", "connection", "te"])
def test_malformed_trailers_never_end_a_body(name: str, attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST) + data(1, b"abc"))
    attacker.give(attacker.wire.headers(1, ((name, "/"),), end=True))

    assert [type(event).__name__ for event in attacker.events] == ["Head", "Chunk", "Reset"]


# Row: streams above the limit


@pytest.mark.parametrize("acks", [True, False])
def test_120_streams_at_a_limit_of_100(codecs: Codecs, acks: bool) -> None:
    attacker = Attacker(codecs, acks=acks)
    for number in range(1, 241, 2):
        attacker.give(attacker.wire.headers(number, POST))
    refused = attacker.of("RstStream")

    assert [frame.stream for frame in refused] == list(range(201, 241, 2))
    assert {frame.code for frame in refused} == {REFUSED_STREAM}
    assert attacker.heads == attacker.server.streams == 100
    assert len(attacker.seen) == 20

    attacker.give(data(201, b"on its way", end=True) + data(1, b"body", end=True))  # refused, served
    attacker.server.send_head(1, ResponseHead(204, []), end=True)
    attacker.give(attacker.wire.headers(241, GET, end=True))
    assert attacker.heads == 101


def test_who_knows_the_limit_and_goes_on_is_calmed(codecs: Codecs) -> None:
    attacker = Attacker(codecs, acks=True)
    for number in range(1, 2001, 2):
        attacker.give(attacker.wire.headers(number, POST))
        if attacker.server.over:
            break

    assert number // 2 <= 100 + RESETS_ABORT


def test_who_does_not_acknowledge_the_limit_is_calmed_in_the_end(attacker: Attacker) -> None:
    for number in range(1, 8001, 2):
        attacker.give(attacker.wire.headers(number, POST))
        if attacker.server.over:
            break

    assert number // 2 <= 100 + EARLY_REFUSED_MAX + RESETS_ABORT


def test_bytes_on_their_way_when_we_reset_are_excused_up_to_a_window(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))
    attacker.server.reset(1)
    attacker.give(data(1, bytes(16_000)) * 4)
    assert attacker.kinds == []
    assert {frame.name for frame in attacker.seen} == {"RstStream"}

    attacker.flood(data(1, bytes(16_000)), times=1000)

    assert attacker.server.over
    assert set(attacker.kinds) == {"frame-after-end", "rapid-reset"}


# The frames themselves

BROKEN = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PROTOCOL_ERROR),
    "no SETTINGS": (PREFACE + ping(), PROTOCOL_ERROR),
    "SETTINGS ACK first": (PREFACE + settings(ack=True), PROTOCOL_ERROR),
    "frame of 16 385 bytes, its header only": (
        PREFACE + settings() + frame(0, 0, 1, bytes(16_385))[:9], FRAME_SIZE_ERROR),
    "DATA on stream 0": (PREFACE + settings() + data(0, b"x"), PROTOCOL_ERROR),
    "DATA on an idle stream": (PREFACE + settings() + data(1, b"x"), PROTOCOL_ERROR),
    "HEADERS on stream 0": (PREFACE + settings() + frame(1, 5, 0, b"\x82"), PROTOCOL_ERROR),
    "HEADERS on an even stream": (PREFACE + settings() + frame(1, 5, 2, b"\x82"), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (PREFACE + settings() + rst(1), PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (PREFACE + settings() + rst(0), PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": (PREFACE + settings() + frame(3, 0, 1, b"123"), PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (PREFACE + settings() + window(1, 1), PROTOCOL_ERROR),
    "WINDOW_UPDATE of 0": (PREFACE + settings() + window(0, 0), PROTOCOL_ERROR),
    "WINDOW_UPDATE of 3 bytes": (PREFACE + settings() + frame(8, 0, 0, b"123"), FRAME_SIZE_ERROR),
    "window overflow": (PREFACE + settings() + window(0, 2**31 - 1), FLOW_CONTROL_ERROR),
    "PING of 7 bytes": (PREFACE + settings() + ping(b"1234567"), FRAME_SIZE_ERROR),
    "PING on a stream": (PREFACE + settings() + frame(6, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY on a stream": (PREFACE + settings() + frame(7, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY of 7 bytes": (PREFACE + settings() + frame(7, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "SETTINGS of 5 bytes": (PREFACE + settings() + frame(4, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (PREFACE + settings() + frame(4, 0, 1), PROTOCOL_ERROR),
    "SETTINGS ACK with settings": (PREFACE + settings() + frame(4, 1, 0, bytes(6)), FRAME_SIZE_ERROR),
    "ENABLE_PUSH 2": (PREFACE + settings((2, 2)), PROTOCOL_ERROR),
    "INITIAL_WINDOW_SIZE 2^31": (PREFACE + settings((4, 2**31)), FLOW_CONTROL_ERROR),
    "MAX_FRAME_SIZE 1": (PREFACE + settings((5, 1)), PROTOCOL_ERROR),
    "PRIORITY on stream 0": (PREFACE + settings() + priority(0), PROTOCOL_ERROR),
    "PRIORITY of 4 bytes on an idle stream": (PREFACE + settings() + frame(2, 0, 1, b"1234"), FRAME_SIZE_ERROR),
    "PUSH_PROMISE": (PREFACE + settings() + frame(5, 4, 1, b"\0\0\0\2\x82"), PROTOCOL_ERROR),
    "CONTINUATION alone": (PREFACE + settings() + frame(9, 4, 1, b"\x82"), PROTOCOL_ERROR),
    "PING in a header block": (PREFACE + settings() + frame(1, 1, 1, b"\x82") + ping(), PROTOCOL_ERROR),
    "unknown frame in a header block": (
        PREFACE + settings() + frame(1, 1, 1, b"\x82") + frame(99, 0, 1), PROTOCOL_ERROR),
    "CONTINUATION of another stream": (PREFACE + settings() + frame(1, 1, 1, b"\x82") + frame(9, 4, 3), PROTOCOL_ERROR),
    "HPACK index 0": (PREFACE + settings() + frame(1, 5, 1, b"\x80"), PROTOCOL_ERROR),
    "HPACK table of 2^20": (PREFACE + settings() + frame(1, 5, 1, b"\x3f\xe1\xff\x3f"), PROTOCOL_ERROR),
    "HPACK cut": (PREFACE + settings() + frame(1, 5, 1, b"\x40\x0a\x61"), PROTOCOL_ERROR),
    "padding longer than DATA": (
        PREFACE + settings() + frame(1, 4, 1, b"\x82\x86\x84\x41\x01a") + frame(0, 8, 1, b"\x05abc"),
        PROTOCOL_ERROR,
    ),
    "stream number below the last": (
        PREFACE + settings() + frame(1, 5, 3, b"\x82\x86\x84\x41\x01a") + frame(1, 5, 1, b"\x82\x86\x84\x41\x01a"),
        PROTOCOL_ERROR,
    ),
    "stream depends on itself": (
        PREFACE + settings() + frame(1, 0x25, 1, b"\0\0\0\1\x0f\x82\x86\x84\x41\x01a"),
        PROTOCOL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_connections_get_goaway(codecs: Codecs, name: str) -> None:
    raw, code = BROKEN[name]
    server, wire = codecs.server(), Wire()
    wire.read(server.take())

    server.feed(raw, 0.0)

    last = wire.read(server.take())[-1]
    if codecs.lean and name.startswith("HPACK"):
        code = COMPRESSION_ERROR  # RFC 9113 section 4.3; python-h2 calls it PROTOCOL_ERROR
    assert (last.name, last.code) == ("GoAway", code)
    assert server.over
    assert server.feed(ping(), 0.0) == []
    assert server.take() == b""


def test_more_data_than_the_window_ends_the_connection(attacker: Attacker) -> None:
    attacker.give(attacker.wire.headers(1, POST))

    assert attacker.flood(data(1, bytes(16_384)), times=10) == 4
    assert attacker.of("GoAway")[0].code == FLOW_CONTROL_ERROR
    assert sum(len(event.data) for event in attacker.events if isinstance(event, Chunk)) <= 65_535


def test_a_connection_never_holds_more_than_1_mib(attacker: Attacker) -> None:
    attacker.give(b"".join(attacker.wire.headers(number, POST) for number in range(1, 101, 2)))
    for number in range(1, 101, 2):
        attacker.flood(data(number, bytes(16_000)), times=4)

    assert attacker.of("GoAway")[0].code == FLOW_CONTROL_ERROR
    assert sum(len(event.data) for event in attacker.events if isinstance(event, Chunk)) <= 1024 * 1024


# Upstreams: the same rules the other way round


class Upstream:
    """An upstream of raw frames behind a client codec, with one request under way on stream 1."""

    def __init__(self, codecs: Codecs, method: bytes = b"GET") -> None:
        self.client = codecs.client()
        assert isinstance(self.client, LeanClient) == codecs.lean
        self.wire = Wire()
        self.give(settings())
        self.client.send_request(RequestHead(method, b"/", b"a.example", []), end=True)
        self.wire.read(self.client.take().removeprefix(PREFACE))
        self.events: list[object] = []

    def give(self, raw: bytes) -> None:
        self.events = [*getattr(self, "events", []), *self.client.feed(raw, 0.0)]

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


BAD_ANSWERS: dict[str, Callable[[Wire], bytes]] = {
    "content-length 7 and END_STREAM": lambda w: w.headers(1, (*OK, ("content-length", "7")), end=True),
    "7 bytes announced, 3 come": lambda w: w.headers(1, (*OK, ("content-length", "7"))) + data(1, b"abc", end=True),
    "2 bytes announced, 3 come": lambda w: w.headers(1, (*OK, ("content-length", "2"))) + data(1, b"abc", end=True),
    "cut by trailers": lambda w: (
        w.headers(1, (*OK, ("content-length", "7"))) + data(1, b"abc") + w.headers(1, (("a", "b"),), end=True)
    ),
    "trailers without an end": lambda w: w.headers(1, OK) + w.headers(1, (("a", "b"),)),
    "two heads": lambda w: w.headers(1, OK) + w.headers(1, OK),
    "interim after the head": lambda w: w.headers(1, OK) + w.headers(1, ((":status", "103"),)),
    "DATA before the head": lambda _: data(1, b"abc"),
    "101": lambda w: w.headers(1, ((":status", "101"),)),
    "99": lambda w: w.headers(1, ((":status", "99"),)),
    "600": lambda w: w.headers(1, ((":status", "600"),), end=True),
    "two status": lambda w: w.headers(1, (*OK, *OK), end=True),
    "no status": lambda w: w.headers(1, (("a", "b"),), end=True),
    "interim with an end": lambda w: w.headers(1, ((":status", "103"),), end=True),
    "transfer-encoding": lambda w: w.headers(1, (*OK, ("transfer-encoding", "chunked")), end=True),
    "connection": lambda w: w.headers(1, (*OK, ("connection", "close")), end=True),
    "LF in a value": lambda w: w.headers(1, (*OK, ("x", "a\nb")), end=True),
    "101 fields": lambda w: w.headers(1, (*OK, *[("x", "y")] * 100), end=True),
    "204 with a length": lambda w: w.headers(1, ((":status", "204"), ("content-length", "3"))),
    "204 with a body": lambda w: w.headers(1, ((":status", "204"),)) + data(1, b"abc", end=True),
    "304 with a body": lambda w: w.headers(1, ((":status", "304"), ("content-length", "3"))) + data(1, b"abc"),
    "a hundred 103": lambda w: w.headers(1, ((":status", "103"),)) * 100,
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answers_cost_their_stream_only(codecs: Codecs, name: str) -> None:
    upstream = Upstream(codecs)
    other = upstream.client.send_request(RequestHead(b"GET", b"/", b"a.example", []), end=True)
    upstream.give(BAD_ANSWERS[name](upstream.wire))

    assert upstream.names[-1] == "Reset"
    assert "End" not in upstream.names
    assert upstream.names.count("Interim") <= 10
    assert not upstream.client.over
    upstream.give(upstream.wire.headers(other, OK, end=True))
    assert upstream.names[-2:] == ["Head", "End"]


def test_an_upstream_of_bad_answers_only_gets_no_more_requests(codecs: Codecs) -> None:
    upstream = Upstream(codecs)
    for number in range(1, 1000, 2):
        upstream.give(upstream.wire.headers(number, (("no", "status"),), end=True))
        if upstream.client.room == 0:
            break
        upstream.client.send_request(RequestHead(b"GET", b"/", b"a.example", []), end=True)

    assert upstream.client.draining
    assert number // 2 + 1 == RESETS_CALM


@pytest.mark.parametrize("one", [ping(), settings(), priority(1), frame(99, 0, 0), window(0, 1), goaway(1)])
def test_an_upstream_that_floods_is_left(codecs: Codecs, one: bytes) -> None:
    upstream = Upstream(codecs)
    for _ in range(500):
        upstream.give(one)
        upstream.client.take()

    assert upstream.client.over
    assert upstream.names[-1] == "Reset"


def test_an_answer_to_head_has_no_body(codecs: Codecs) -> None:
    upstream = Upstream(codecs, b"HEAD")
    upstream.give(upstream.wire.headers(1, (*OK, ("content-length", "70"))) + data(1, end=True))
    assert upstream.names == ["Head", "End"]

    upstream = Upstream(codecs, b"HEAD")
    upstream.give(upstream.wire.headers(1, (*OK, ("content-length", "3"))) + data(1, b"abc", end=True))
    assert upstream.names == ["Head", "Reset"]
    assert not upstream.client.over


def test_push_promise_is_a_connection_error(codecs: Codecs) -> None:
    upstream = Upstream(codecs)
    upstream.give(frame(5, 4, 1, b"\0\0\0\2\x82"))

    assert upstream.client.over
    assert upstream.names == ["Reset"]


def test_an_upstream_that_speaks_http1_is_told_from_one_that_does_not_answer(codecs: Codecs) -> None:
    client = codecs.client()
    client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n", 0.0)

    assert client.over
