"""Header blocks are read and written as the hpack package does; a mistake planted in ours would be seen."""

from collections.abc import Callable
from functools import cache
from random import Random

import pytest

from sidecar.codec.hpack_lean import decoder, encoder, huffman
from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.errors import HpackError
from sidecar.model.messages import NeverIndexed
from tests.fuzz.hpack_blocks import LEAST_READ_RATIO, HpackBlocks, check

COUNT = 5_000
TRIED = 20_000  # blocks that a planted mistake has to show in; nearly all do in the first hundreds
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.slow
def test_blocks_are_read_alike() -> None:
    counts = check(Random(17), COUNT)

    print(counts)
    assert counts["read"] / counts["blocks"] >= LEAST_READ_RATIO
    assert counts["blocks"] - counts["read"] >= COUNT / 50


def test_the_long_run_can_be_cut() -> None:
    player = HpackBlocks()
    assert len(player.parts) == 50
    assert "0 differences" in player.figure(check(Random(3), 200) + check(Random(4), 200))
    with pytest.raises(AssertionError, match="only"):
        player.figure({"blocks": 1000, "read": 10, "fields": 10, "sequences": 1})


def _padding_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(huffman, "_PADDING_MAX_BITS", 15)
    patch.setattr(huffman, "_machine", cache(huffman._machine.__wrapped__))


def _padding_of_any_bits(patch: pytest.MonkeyPatch) -> None:
    real = huffman.decode_huffman

    def lenient(raw: bytes) -> bytes:
        try:
            return real(raw)
        except HpackError:
            return real(raw[:-1] + bytes((raw[-1] | 0x07,)))

    patch.setattr(huffman, "decode_huffman", lenient)


def _an_update_anywhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Decoder, "_no_field", lambda self, block, at, _: self._size_updates(block[at - 1 : at]) + at - 1)


def _an_update_without_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Decoder, "_evict", lambda *_: None)


def _a_table_too_large(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "ENTRY_OVERHEAD_BYTES", 31)


def _never_indexed_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "NeverIndexed", tuple)


def _long_integers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sidecar.codec.hpack_lean.integers.OCTETS_MAX", 6)


def _what_is_cut_off(patch: pytest.MonkeyPatch) -> None:
    real = Decoder.decode
    patch.setattr(
        Decoder, "decode", lambda self, block: real(self, block + b"\x00" if block[-1:] == b"\x01" else block)
    )


def _a_smaller_table_need_not_be_said(patch: pytest.MonkeyPatch) -> None:
    real = Decoder.limit_table

    def lenient(self: Decoder, table_max_bytes: int) -> None:
        real(self, table_max_bytes)
        self._owed = None

    patch.setattr(Decoder, "limit_table", lenient)


def _indices_that_do_not_move(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(encoder._Table, "clear", lambda _: None)


def _the_smallest_size_is_not_said(patch: pytest.MonkeyPatch) -> None:
    real = Encoder._size_updates

    def last_only(self: Encoder) -> bytes:
        self._smallest = self._table.limit
        return real(self)

    patch.setattr(Encoder, "_size_updates", last_only)


def _secrets_are_learnt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(encoder, "SECRET", frozenset((b"authorization", b"proxy-authorization", b"set-cookie")))


def _twins_are_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NeverIndexed, "__hash__", tuple.__hash__)


MISTAKES: tuple[Plant, ...] = (
    _padding_of_any_length,
    _padding_of_any_bits,
    _an_update_anywhere,
    _an_update_without_effect,
    _a_table_too_large,
    _never_indexed_forgotten,
    _long_integers,
    _what_is_cut_off,
    _a_smaller_table_need_not_be_said,
    _indices_that_do_not_move,
    _the_smallest_size_is_not_said,
    _secrets_are_learnt,
    _twins_are_found,
)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__.strip("_"))
def test_a_planted_mistake_is_found(mistake: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huffman, "KNOWN_STRING_MAX_BYTES", 0)  # what is read wrongly is not remembered behind the test
    huffman.KNOWN.clear()
    mistake(monkeypatch)
    with pytest.raises((AssertionError, IndexError)):
        check(Random(17), TRIED)
