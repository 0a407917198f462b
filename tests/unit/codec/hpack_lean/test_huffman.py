"""zlib reads Huffman strings as a reader of four bits at a time does, and as the hpack package does."""

from collections.abc import Callable

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman_constants import REQUEST_CODES
from hpack.huffman_table import decode_huffman as their_decode
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.hpack_lean import huffman
from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.errors import HpackError
from sidecar.codec.hpack_lean.huffman import decode_huffman, encode_huffman

SHORT = bytes(symbol for symbol in range(256) if huffman._BITS[symbol] <= 15)


def test_the_code_is_appendix_b() -> None:
    assert [*REQUEST_CODES] == huffman._WORDS


def _said(decode: Callable[[bytes], bytes], raw: bytes) -> bytes | None:
    try:
        return decode(raw)
    except (HpackError, HPACKDecodingError):
        return None


def _alike(raw: bytes) -> None:
    said = _said(their_decode, raw)
    assert _said(decode_huffman, raw) == said
    assert _said(huffman._by_nibbles, raw) == said


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes) -> None:
    _alike(raw)


@given(st.text(max_size=40).map(str.encode), st.binary(max_size=3), st.integers(0, 400), st.binary(max_size=2))
def test_strings_and_what_is_nearly_one(value: bytes, behind: bytes, at: int, instead: bytes) -> None:
    raw = encode_huffman(value)
    _alike(raw + behind)
    _alike(raw[:at] + instead + raw[at + 1 :])


def test_all_ends_of_a_string() -> None:
    """Each symbol last, with each number of bits before it in its byte, and each byte behind it."""
    for symbol in range(256):
        for before in range(8):
            raw = encode_huffman(b"00000000"[:before] + bytes((symbol,)))  # of 5 bits each
            _alike(raw)
            for byte in (b"\xff", b"\x7f", b"\x00", b"\xfe", b"\xff\xff", b"\xff\xff\xff\xff"):
                _alike(raw + byte)
                _alike(raw[:-1] + byte)


def test_long_strings() -> None:
    value = SHORT * 1_000
    assert decode_huffman(encode_huffman(value)) == value
    assert decode_huffman(encode_huffman(value + b"\\")) == value + b"\\"


def test_printable_strings_are_read_by_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(raw: bytes) -> bytes:
        raise AssertionError(raw)

    monkeypatch.setattr(huffman, "_by_nibbles", never)
    for size in range(60):
        value = (b"/orders/v1?x={y}&z=<1>|~^`" * 3)[:size]
        assert decode_huffman(encode_huffman(value)) == value


def test_what_is_remembered_is_bounded_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huffman, "KNOWN_MAX", 8)
    huffman.KNOWN.clear()
    reader = Decoder(fields_max=100, bytes_max=60_000)

    def literal(first: bytes, value: bytes) -> bytes:
        raw = encode_huffman(value)
        return first + bytes((0x80 | len(raw),)) + raw

    for number in range(50):
        assert reader.decode(literal(b"\x04", b"/%d" % number)) == [(b":path", b"/%d" % number)]
        assert len(huffman.KNOWN) <= 8
    known = dict(huffman.KNOWN)
    reader.decode(literal(b"\x14", b"/secret") + literal(b"\x04", b"/" + b"a" * 120))
    assert known == huffman.KNOWN
