"""Patterns take linear time, and a hopeless head is refused before its end."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.codec import chunks, grammar, target, websocket
from sidecar.codec.grammar import HEAD_MAX_BYTES, REQUEST_LINE_MAX_BYTES, shown, too_early
from tests.support.http1 import every, pieces, serve

PATTERNS = {
    name: value
    for module in (grammar, target, chunks, websocket)
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern)
}


def _operations(node: Any) -> Iterator[tuple[str, Any]]:
    """Every (operation, argument) of a parsed pattern, at any depth."""
    if isinstance(node, tuple) and len(node) == 2 and hasattr(node[0], "name"):
        yield str(node[0]), node[1]
    if isinstance(node, tuple | list) or hasattr(node, "data"):
        for child in getattr(node, "data", node):
            yield from _operations(child)


def test_there_are_patterns_to_audit() -> None:
    assert {"REQUEST", "RESPONSE", "_FIELD", "_ILLEGAL", "CANONICAL", "_NEXT_BEGUN", "_KEY"} <= PATTERNS.keys()


@pytest.mark.parametrize("name", PATTERNS)
def test_every_repetition_is_possessive(name: str) -> None:
    parsed = importlib.import_module("re._parser").parse(PATTERNS[name].pattern)
    names = {operation for operation, _ in _operations(parsed)}

    assert names.isdisjoint({"MAX_REPEAT", "MIN_REPEAT"}), "a repetition that gives bytes back can take quadratic time"


def test_the_audit_finds_a_repetition_that_gives_back() -> None:
    parsed = importlib.import_module("re._parser").parse(rb"(?:a++|b(c*d)?+)x")

    assert "MAX_REPEAT" in {operation for operation, _ in _operations(parsed)}


HOSTILE = {
    "blanks in a value": b"GET / HTTP/1.1\r\nX:" + b" " * 50_000 + b"\x00",
    "blanks and letters": b"GET / HTTP/1.1\r\nX:" + b" a" * 25_000 + b"\x00",
    "fields that nearly fit": b"GET / HTTP/1.1\r\n" + b"A:b\r\n" * 10_000 + b":",
    "names without colon": b"GET / HTTP/1.1\r\n" + b"a" * 50_000,
    "commas in Transfer-Encoding": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:" + b"," * 50_000,
    "options in Connection": b"GET / HTTP/1.1\r\nHost: x\r\nConnection:" + b"a," * 25_000 + b"host",
    "offers in Upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade:" + b"h2c," * 12_000,
    "digits in Content-Length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:" + b"9" * 50_000,
    "colons in Host": b"GET / HTTP/1.1\r\nHost:" + b"a:" * 25_000,
    "slashes in the target": b"GET http:" + b"/" * 8_000 + b" HTTP/1.1\r\nHost: x",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_big_hostile_head_is_read_to_its_end(name: str, end: bytes) -> None:
    stream = HOSTILE[name] + end  # a pattern that took quadratic time would take minutes for these

    whole = serve(stream)

    assert serve(stream, every(61, stream)).fault == whole.fault


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([b" ", b"\t", b"\r", b"\n", b"\r\n", b"a", b":", b",", b"/", b"\xff"]), max_size=30),
    st.integers(1, 2_000),
)
def test_repeated_rubbish_is_read_to_its_end(unit: list[bytes], times: int) -> None:
    serve(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"".join(unit) * times + b"\r\n\r\n")


EARLY = {
    "bare LF": (b"GET / HTTP/1.1\n", 400),
    "LF first": (b"\n", 400),
    "CR and something": (b"GET / HTTP/1.1\rX", 400),
    "NUL": (b"GE\x00", 400),
    "control character": (b"\x16", 400),
    "first line": (b"G" * (REQUEST_LINE_MAX_BYTES + 1), 414),
    "head": (b"GET / HTTP/1.1\r\nX: ".ljust(HEAD_MAX_BYTES + 1, b"a"), 431),
}


@pytest.mark.parametrize("name", EARLY)
def test_a_hopeless_head_is_refused_at_the_byte_that_makes_it_so(name: str) -> None:
    stream, status = EARLY[name]

    fault = too_early(stream, 0)

    assert fault is not None
    assert fault.status == status
    assert too_early(stream[:-1], 0) is None


def test_a_cr_at_the_end_may_still_get_its_lf() -> None:
    assert too_early(b"GET / HTTP/1.1\r", 0) is None
    assert too_early(b"GET / HTTP/1.1\r\n", 15) is None


def test_the_reason_that_comes_first_is_named() -> None:
    long = b"GET /" + b"a" * REQUEST_LINE_MAX_BYTES
    first = too_early(b"GET /\x01" + long, 0)
    second = too_early(long + b"\x01", 0)

    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (400, 414)


def test_pieces_cut_without_loss() -> None:
    stream = b"abcdef"

    assert list(pieces(stream, [0, 2, 2, 5, 6, 9])) == [b"ab", b"cde", b"f"]


def test_peer_bytes_are_shown_short_and_printable() -> None:
    assert shown(b"a\r\n\xff") == r"'a\r\n\xff'"
    assert shown(b"x" * 100) == "'" + "x" * 40 + "'..."
