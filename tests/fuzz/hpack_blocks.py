"""Header blocks by `Random`, and the check that we and the hpack package read and write them alike.

A sequence is what one connection sees: blocks in order, tables that remember, sizes that change. Its blocks are written
by their encoder, by ours, or put together from the representations of RFC 7541 section 6, whole or damaged. Both
decoders either refuse a block, which ends the sequence, or read the same fields, never-indexed ones included. There is
no difference that we would have to justify.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random

import hpack
from hpack.hpack import encode_integer

from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.errors import HpackError
from sidecar.codec.hpack_lean.huffman import encode_huffman
from sidecar.codec.hpack_lean.learning import SECRET
from sidecar.codec.hpack_lean.static_table import DYNAMIC, STATIC
from sidecar.model.messages import Fields, NeverIndexed

PROVEN = 1_000_000
PART = 20_000
LEAST_READ_RATIO = 0.5
BLOCKS_MAX = 30  # of a sequence
ALL = 1 << 24  # no limit on fields and bytes

_NAMES = (
    *(b":method", b":path", b":status", b":authority", b"accept", b"user-agent", b"content-type", b"te", b"date"),
    *(b"x-tenant", b"x", b"traceparent", b"cookie", b"set-cookie", b"authorization", b"X-\xc3\xa4", b"", b"n" * 70),
)
_FIRST_VALUES = (b"GET", b"/", b"200", b"", b"trailers", b"application/json", b"*/*")
_ALPHABETS = (
    b"0123456789abcdef",
    b"abcdefghijklmnopqrstuvwxyz-/=; ",
    bytes(range(32, 127)),
    bytes(range(256)),
    b"\\\xff\n{|}~<>^",
)
_SIZES = (0, 31, 32, 64, 200, 1024, 4095, 4096)


def a_value(rng: Random) -> bytes:
    """Often one of few, sometimes a long one."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(_FIRST_VALUES)
    if kind < 0.6:
        return b"v%d" % rng.randrange(6)
    size = rng.choice((3, 10, 40, 126, 127, 128, 130)) if kind < 0.97 else rng.randrange(5_000)
    return bytes(rng.choices(rng.choice(_ALPHABETS), k=size))


def some_fields(rng: Random, pool: Fields) -> Fields:
    """Fields for a block, mostly those that `pool` has; it changes slowly."""
    if len(pool) < 12 or rng.random() < 0.2:
        pool.append((rng.choice(_NAMES), a_value(rng)))
    if len(pool) > 30:
        del pool[rng.randrange(len(pool))]
    fields = rng.choices(pool, k=rng.randrange(10))
    return [NeverIndexed(field) if rng.random() < 0.04 else field for field in fields]


class TheirDecoder:
    """The hpack package's, with the fields as ours says them."""

    def __init__(self) -> None:
        self.decoder = hpack.Decoder(max_header_list_size=ALL)

    def decode(self, block: bytes) -> Fields | None:
        """None: refused."""
        try:
            read = self.decoder.decode(block, raw=True)
        except hpack.HPACKError:
            return None
        return [
            NeverIndexed((name, value)) if not each.indexable else (name, value)
            for each in read
            for name, value in (each,)
        ]


class Both:
    """Both decoders of one connection."""

    def __init__(self) -> None:
        self.ours = Decoder(fields_max=ALL, bytes_max=ALL)
        self.theirs = TheirDecoder()

    def limit_table(self, size: int) -> None:
        """Our SETTINGS_HEADER_TABLE_SIZE changes."""
        self.ours.limit_table(size)
        self.theirs.decoder.max_allowed_table_size = size

    def decode(self, block: bytes) -> Fields | None:
        """What both read; None: both refuse. Raises AssertionError where they differ."""
        try:
            read: Fields | None = self.ours.decode(block)
        except HpackError:
            read = None
        other = self.theirs.decode(block)
        assert read == other, f"{block.hex()}: we read {read}, they {other}"
        if read is not None and other is not None:
            assert [each.__class__ for each in read] == [each.__class__ for each in other], block.hex()
            table = self.theirs.decoder.header_table
            assert self.ours._table[DYNAMIC:] == [*table.dynamic_entries], block.hex()
            assert self.ours._bytes == table._current_size <= table.maxsize == self.ours._limit, block.hex()
        return read


def theirs_to_ours(rng: Random, counts: Counter[str]) -> None:
    """Their encoder's blocks, some of them damaged."""
    encoder, both, pool = hpack.Encoder(), Both(), list[tuple[bytes, bytes]]()
    for _ in range(rng.randrange(1, BLOCKS_MAX)):
        if rng.random() < 0.1:
            size = rng.choice(_SIZES)
            both.limit_table(size)
            encoder.header_table_size = size
        fields = some_fields(rng, pool)
        written = [hpack.NeverIndexedHeaderTuple(*f) if f.__class__ is NeverIndexed else f for f in fields]
        block = encoder.encode(written, huffman=rng.random() < 0.7)
        if rng.random() < 0.05:
            _read(both, damaged(rng, block), counts)
            return
        assert _read(both, block, counts) == fields


def ours_to_theirs(rng: Random, counts: Counter[str]) -> None:
    """Our encoder's blocks, some of them damaged."""
    encoder, both, pool = Encoder(), Both(), list[tuple[bytes, bytes]]()
    for _ in range(rng.randrange(1, BLOCKS_MAX)):
        while rng.random() < 0.1:
            encoder.limit_table(rng.choice((*_SIZES, 65_536)))
        fields = some_fields(rng, pool)
        block = encoder.encode(fields)
        if rng.random() < 0.05:
            _read(both, damaged(rng, block), counts)
            return
        read = _read(both, block, counts)
        assert read == fields
        for field, before in zip(read, fields, strict=True):
            assert (field.__class__ is NeverIndexed) is (before.__class__ is NeverIndexed or field[0] in SECRET)
        assert [*reversed(encoder._table.entries)] == both.ours._table[DYNAMIC:]


def built(rng: Random, counts: Counter[str]) -> None:
    """Blocks that no encoder would write, put together from representations."""
    both = Both()
    for _ in range(rng.randrange(1, BLOCKS_MAX)):
        if rng.random() < 0.05:
            both.limit_table(rng.choice(_SIZES))
        block = a_block(rng, len(both.ours._table))
        if _read(both, damaged(rng, block) if rng.random() < 0.1 else block, counts) is None:
            return


def a_block(rng: Random, indices: int) -> bytes:
    """Representations, mostly valid ones for a table with `indices` (0 included)."""
    parts = [_integer(rng, rng.choice(_SIZES), 5, 0x20) for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3)))]
    for _ in range(rng.randrange(12)):
        kind = rng.random()
        if kind < 0.5:
            parts.append(_integer(rng, _an_index(rng, indices), 7, 0x80))
        elif kind < 0.98:
            prefix, flags = rng.choice(((6, 0x40), (6, 0x40), (4, 0x00), (4, 0x10)))
            if rng.random() < 0.6:
                parts.append(_integer(rng, _an_index(rng, indices), prefix, flags))
            else:
                parts += bytes((flags,)), _string(rng, rng.choice(_NAMES))
            parts.append(_string(rng, a_value(rng)))
        else:
            parts.append(_integer(rng, rng.choice(_SIZES), 5, 0x20))
    return b"".join(parts)


def _an_index(rng: Random, indices: int) -> int:
    kind = rng.random()
    if kind < 0.98:
        return rng.randrange(1, indices) if kind < 0.7 else min(DYNAMIC + rng.randrange(4), indices - 1)
    return rng.choice((0, indices, indices + 1, 127, 128, 300))


def _integer(rng: Random, value: int, prefix: int, flags: int) -> bytes:
    raw = bytearray(encode_integer(value, prefix))
    raw[0] |= flags
    if len(raw) > 1 and rng.random() < 0.05:  # octets that say nothing
        raw[-1] |= 0x80
        raw += b"\x80" * rng.randrange(4) + b"\x00"
    return bytes(raw)


def _string(rng: Random, value: bytes) -> bytes:
    if rng.random() < 0.5:
        return _integer(rng, len(value), 7, 0) + value
    coded = encode_huffman(value)
    if rng.random() < 0.01:  # more padding than there may be, or EOS
        coded += b"\xff" * rng.randrange(1, 5)
    return _integer(rng, len(coded), 7, 0x80) + coded


def damaged(rng: Random, block: bytes) -> bytes:
    """A few bytes changed, left out, or put in."""
    raw = bytearray(block)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(raw) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del raw[at:]
        elif kind == 1:
            raw[at : at + 1] = bytes((rng.choice((0, 0x1F, 0x20, 0x3F, 0x7F, 0x80, 0xFF, rng.randrange(256))),))
        elif kind == 2:
            raw[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _read(both: Both, block: bytes, counts: Counter[str]) -> Fields | None:
    read = both.decode(block)
    counts["blocks"] += 1
    counts["read"] += read is not None
    counts["fields"] += len(read or ())
    return read


SEQUENCES: tuple[Callable[[Random, Counter[str]], None], ...] = (theirs_to_ours, ours_to_theirs, built)


def check(rng: Random, count: int) -> Counter[str]:
    """Play sequences of at least `count` blocks. Raises AssertionError."""
    counts: Counter[str] = Counter()
    while counts["blocks"] < count:
        for sequence in SEQUENCES:
            sequence(rng, counts)
            counts["sequences"] += 1
    assert all(STATIC[index] == field for index, field in enumerate(hpack.table.HeaderTable.STATIC_TABLE, 1))
    return counts


class HpackBlocks:
    """The long run, for bench/prove.py, in parts."""

    parts = tuple(f"blocks {first:,}.." for first in range(0, PROVEN, PART))

    def play(self, _part: str, rng: Random) -> Counter[str]:
        """Check one part. Raises AssertionError for a block that is read otherwise."""
        return check(rng, PART)

    def figure(self, counts: Mapping[str, int]) -> str:
        """The line for the ledger."""
        ratio = counts["read"] / counts["blocks"]
        assert ratio >= LEAST_READ_RATIO, f"only {ratio:.0%} are read"
        return (
            f"{counts['blocks']:,} blocks in {counts['sequences']:,} sequences, {ratio:.0%} of them read, "
            f"{counts['fields']:,} fields; the hpack package reads and refuses the same, tables included: 0 differences"
        )


@contextmanager
def prove() -> Iterator[HpackBlocks]:
    """The long run."""
    yield HpackBlocks()
