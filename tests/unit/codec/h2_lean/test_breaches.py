"""Every breach says its code and section, and every one can be reached."""

import re

import pytest

from sidecar.codec.h2_frames import Code
from sidecar.codec.h2_lean import breaches
from sidecar.codec.h2_lean.breaches import Breach
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.model.messages import RequestHead, ResponseHead
from tests.support.http2 import GET, POST, PREFACE, Wire, data, frame, ping, rst, settings, window

ALL = {name: each for name, each in vars(breaches).items() if isinstance(each, Breach)}
HELLO = PREFACE + settings()
BLOCK = b"\x82\x86\x84\x41\x01a"
RAW = {
    "FRAME_TOO_LONG": HELLO + frame(0, 0, 1, bytes(16_385))[:9],
    "FRAME_TOO_SHORT": HELLO + frame(1, 0x2C, 1, b"\0\0"),
    "NOT_SETTINGS": PREFACE + ping(),
    "INSIDE_BLOCK": HELLO + frame(1, 1, 1, b"\x82") + ping(),
    "CONTINUATION_ALONE": HELLO + frame(9, 4, 1),
    "PADDING": HELLO + frame(1, 0xC, 1, b"\x09abc"),
    "DEPENDS_ON_ITSELF": HELLO + frame(1, 0x25, 1, b"\0\0\0\1\x0f" + BLOCK),
    "IDLE_STREAM": HELLO + data(1, b"x"),
    "SKIPPED_STREAM": HELLO + frame(1, 5, 5, BLOCK) + frame(1, 5, 1, BLOCK),
    "PUSHED": HELLO + frame(5, 4, 1, b"\0\0\0\2\x82"),
    "DATA_BEYOND_WINDOW": HELLO + frame(1, 4, 1, BLOCK) + data(1, bytes(16_384)) * 4,
    "WINDOW_OF_3_BYTES": HELLO + frame(8, 0, 0, b"123"),
    "WINDOW_OF_0": HELLO + window(0, 0),
    "WINDOW_OVERFLOW": HELLO + window(0, 2**31 - 1),
    "WINDOW_OVERFLOW_BY_SETTINGS": HELLO + frame(1, 4, 1, BLOCK) + window(1, 2**30) + settings((4, 2**31 - 1)),
    "RESET_OF_3_BYTES": HELLO + frame(1, 4, 1, BLOCK) + frame(3, 0, 1, b"123"),
    "PING_SIZE": HELLO + ping(b"1234567"),
    "PING_ON_STREAM": HELLO + frame(6, 0, 1, bytes(8)),
    "SETTINGS_SIZE": HELLO + frame(4, 0, 0, bytes(5)),
    "SETTINGS_ON_STREAM": HELLO + frame(4, 0, 1),
    "SETTINGS_IN_ACK": HELLO + frame(4, 1, 0, bytes(6)),
    "BAD_PUSH": HELLO + settings((2, 2)),
    "BAD_WINDOW": HELLO + settings((4, 2**31)),
    "BAD_FRAME_SIZE": HELLO + settings((5, 1)),
    "BAD_CONNECT": HELLO + settings((8, 2)),
}


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"CLOSED_STREAM"}))
def test_each_breach_can_be_reached(name: str) -> None:
    server = LeanServer()
    server.feed(RAW[name], 0.0)

    assert server.over == ALL[name].sentence
    last = Wire().read(server.take())[-1]
    assert (last.name, last.code) == ("GoAway", ALL[name].code)


def test_headers_on_a_stream_that_both_have_ended() -> None:
    server, wire = LeanServer(), Wire()
    server.feed(HELLO + wire.headers(1, GET, end=True), 0.0)
    server.send_head(1, ResponseHead(204, []), end=True)
    server.feed(wire.headers(1, GET, end=True), 0.0)

    assert server.over == breaches.CLOSED_STREAM.sentence


@pytest.mark.parametrize("name", ALL)
def test_each_breach_says_its_code_and_section(name: str) -> None:
    breach = ALL[name]
    assert re.fullmatch(
        rf"[A-Za-z].* \({Code(breach.code).name}, RFC (9113|7540|8441) section [0-9.]+\)", breach.sentence
    )


def test_what_hpack_cannot_read_says_both_sections() -> None:
    server = LeanServer()
    server.feed(HELLO + frame(1, 5, 1, b"\x80"), 0.0)

    assert server.over.endswith("(RFC 7541 section 6.1) (COMPRESSION_ERROR, RFC 9113 section 4.3)")


def test_a_server_must_not_say_that_it_takes_pushes() -> None:
    client = LeanClient()
    client.feed(settings((2, 1)), 0.0)
    assert client.over == breaches.BAD_PUSH.sentence

    server = LeanServer()
    server.feed(PREFACE + settings((2, 1)), 0.0)
    assert not server.over


def test_settings_take_effect_in_their_order() -> None:
    client = LeanClient()
    client.feed(settings((4, 7), (4, 9), (0x99, 1), (6, 1), (3, 1), (8, 1)), 0.0)
    number = client.send_request(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)

    assert client.send_room(number) == 9
    assert client.room == 0
    assert client.extended_connect


def test_a_reset_on_a_closed_stream_is_counted_and_nothing_more() -> None:
    server, wire = LeanServer(), Wire()
    server.feed(HELLO + wire.headers(1, POST) + rst(1) + rst(1), 0.0)

    assert not server.over
