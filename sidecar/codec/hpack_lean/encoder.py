"""Fields to header blocks (RFC 7541 section 3): learning.py says what goes into the table.

One `Encoder` writes all blocks of one direction of a connection, in order. Fields in the table are one look-up; the
others are written as they are: Huffman's code costs more time than it saves on the way, so it is for what is written
once, the entries. Refuses to judge what names and values are.
"""

from collections import deque
from collections.abc import Iterable

from sidecar.codec.hpack_lean.huffman import encode_huffman
from sidecar.codec.hpack_lean.integers import LENGTHS, integer
from sidecar.codec.hpack_lean.learning import SECRET, UNIQUE, Recent
from sidecar.codec.hpack_lean.static_table import (
    DYNAMIC,
    ENTRY_OVERHEAD_BYTES,
    FIELD_INDEX,
    NAME_INDEX,
    TABLE_MAX_BYTES,
    NeverIndexed,
)

NAMES_MAX = 4_096  # whose first bytes are remembered, for all connections; when there are more, all are forgotten
NAME_MAX_BYTES = 64  # a longer one is not remembered
_ENTRY_SHARE = 4  # of the table: a larger field is not learnt, since it would drive out too many


class Encoder:
    """Writes the header blocks for one peer."""

    __slots__ = ("_bytes", "_codes", "_entries", "_limit", "_numbers", "_recent", "_smallest", "_written")

    def __init__(self) -> None:
        self._limit = TABLE_MAX_BYTES  # both sides begin with it (RFC 9113 section 6.5.2)
        self._smallest: int | None = None  # that the limit was since the last block; None: it did not change
        self._entries: deque[tuple[bytes, bytes]] = deque()  # the newest one last
        self._bytes = 0  # of them
        self._written = 0  # entries so far, dropped ones included
        self._numbers: dict[tuple[bytes, bytes], int] = {}  # by entry: how many were written before it
        # By field: its index as it is written. Those of entries change with each new one, so then all are forgotten.
        self._codes: dict[tuple[bytes, bytes], bytes] = {}
        self._recent = Recent()

    def limit_table(self, table_max_bytes: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE. The next block says what we make of it: never more than 4096."""
        limit = min(table_max_bytes, TABLE_MAX_BYTES)
        if limit != self._limit:
            self._limit = limit
            self._smallest = limit if self._smallest is None else min(self._smallest, limit)
            self._evict(limit)

    def encode(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """A header block of `fields`, names in lower case.

        `NeverIndexed` ones, and those with a name of SECRET, are written so that no table on the way keeps them.
        """
        written = [] if self._smallest is None else [self._size_updates()]
        append, known = written.append, self._codes.get
        for field in fields:
            code = known(field)
            if code is None or field.__class__ is NeverIndexed:
                code = self._new(field)
            append(code)
        return b"".join(written)

    def _new(self, field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        if field.__class__ is NeverIndexed or name in SECRET:
            return NEVER[name] + _string(value)
        index = FIELD_INDEX.get(field)
        number = self._numbers.get(field)
        if index is None and number is not None:
            index = DYNAMIC + self._written - 1 - number
        if index is not None:
            code = self._codes[field] = integer(index, 0x7F, 0x80)
            return code
        if name not in UNIQUE and self._recent.seen(name, value):
            size = len(name) + len(value) + ENTRY_OVERHEAD_BYTES
            if size * _ENTRY_SHARE <= self._limit:
                self._add(field, size)
                return _entry(name, value)
        size = len(value)
        return PLAIN[name] + (LENGTHS[size] if size < 0x7F else integer(size, 0x7F, 0)) + value

    def _add(self, field: tuple[bytes, bytes], size: int) -> None:
        self._evict(self._limit - size)
        self._entries.append(field)
        self._bytes += size
        self._numbers[field] = self._written
        self._written += 1
        self._codes.clear()

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until the table has no more than `size` bytes."""
        while self._bytes > size:
            field = self._entries.popleft()
            name, value = field
            self._bytes -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES
            del self._numbers[field]
            self._codes.pop(field, None)
            self._recent.seen(name, value)  # if it is still in use, it comes back at once

    def _size_updates(self) -> bytes:
        """What section 4.2 asks for: the smallest size since the last block, and the last one."""
        smallest, self._smallest = self._smallest, None
        assert smallest is not None
        code = integer(self._limit, 0x1F, 0x20)
        return code if smallest == self._limit else integer(smallest, 0x1F, 0x20) + code


class _Names(dict[bytes, bytes]):
    """By name: how a literal with it begins (section 6.2)."""

    def __init__(self, prefix: int, flags: int) -> None:
        super().__init__()
        self._prefix = prefix
        self._flags = flags

    def __missing__(self, name: bytes) -> bytes:
        index = NAME_INDEX.get(name)
        code = bytes((self._flags,)) + _string(name) if index is None else integer(index, self._prefix, self._flags)
        if len(name) <= NAME_MAX_BYTES:
            if len(self) >= NAMES_MAX:
                self.clear()
            self[name] = code
        return code


PLAIN = _Names(0x0F, 0x00)  # without indexing
NEVER = _Names(0x0F, 0x10)  # never indexed


def _string(value: bytes) -> bytes:
    size = len(value)
    return (LENGTHS[size] if size < 0x7F else integer(size, 0x7F, 0)) + value


def _short(value: bytes) -> bytes:
    """The shorter way to write a string."""
    coded = encode_huffman(value)
    return integer(len(coded), 0x7F, 0x80) + coded if len(coded) < len(value) else _string(value)


def _entry(name: bytes, value: bytes) -> bytes:
    """A literal that the peer is to keep (section 6.2.1)."""
    index = NAME_INDEX.get(name)
    code = b"\x40" + _short(name) if index is None else integer(index, 0x3F, 0x40)
    return code + _short(value)
