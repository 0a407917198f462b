"""Fields to header blocks (RFC 7541 section 3): learning.py says what goes into the table.

One `Encoder` writes all blocks of one direction of a connection, in order. Fields in the table are one look-up; the
others are written as they are: Huffman's code costs more time than it saves on the way, so it is for what is written
once, the entries. Refuses to judge what names and values are.
"""

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from sidecar.codec.hpack_lean.huffman import encode_huffman
from sidecar.codec.hpack_lean.integers import LENGTHS, integer
from sidecar.codec.hpack_lean.learning import SECRET, UNIQUE, Recent
from sidecar.codec.hpack_lean.static_table import (
    DYNAMIC,
    ENTRY_OVERHEAD_BYTES,
    FIELD_INDEX,
    NAME_INDEX,
    TABLE_MAX_BYTES,
)
from sidecar.model.messages import NeverIndexed

NAMES_MAX = 1_024  # whose first bytes are remembered, for all connections; when there are more, all are forgotten
NAME_MAX_BYTES = 64  # a longer one is not remembered: a quarter of a megabyte at worst
_ENTRY_SHARE = 4  # of the table: a larger field is not learnt, since it would drive out too many
# Into a full table goes each 16th of the fields that might: heads whose fields are more than it holds would else drive
# out each entry before it is used, at every request.
_EVICTING_EVERY = 16
_HUFFMAN_MAX_BYTES = 64  # of a string; what a longer one would save once is not worth a microsecond for 20 bytes

Field: TypeAlias = tuple[bytes, bytes]


class _Table(dict[Field, bytes]):
    """The dynamic table as the peer's decoder has it; by field, how it is written now.

    A field that is not there is looked at by `__missing__`: it has an index that nobody asked for yet, is learnt, or is
    written as it is, and then is not there the next time either. A new entry changes all indices: they are forgotten.
    """

    __slots__ = ("_numbers", "_recent", "_waiting", "_written", "entries", "limit", "size_bytes")

    def __init__(self) -> None:
        super().__init__()
        self.limit = TABLE_MAX_BYTES
        self.entries: deque[Field] = deque()  # the newest one last
        self.size_bytes = 0  # of them
        self._written = 0  # entries so far, dropped ones included
        self._numbers: dict[Field, int] = {}  # by entry: how many were written before it
        self._recent = Recent()
        self._waiting = 0  # fields so far that found the table full

    def __missing__(self, field: Field) -> bytes:
        name, value = field
        size = len(value)
        if field.__class__ is NeverIndexed or name in SECRET:
            return NEVER[name] + (LENGTHS[size] if size < 0x7F else integer(size, 0x7F, 0)) + value
        if name not in UNIQUE:
            number = self._numbers.get(field)
            index = FIELD_INDEX.get(field) if number is None else DYNAMIC + self._written - 1 - number
            if index is not None:
                code = self[field] = integer(index, 0x7F, 0x80)
                return code
            if self._recent.seen(name, value) and self._add(field):
                return _entry(name, value)
        return PLAIN[name] + (LENGTHS[size] if size < 0x7F else integer(size, 0x7F, 0)) + value

    def _add(self, field: Field) -> bool:
        """Make `field` the newest entry, if it may be one."""
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
        if size * _ENTRY_SHARE > self.limit:
            return False
        if self.size_bytes + size > self.limit:
            self._waiting += 1
            if self._waiting % _EVICTING_EVERY:
                return False
        self.evict(self.limit - size)
        self.entries.append(field)
        self.size_bytes += size
        self._numbers[field] = self._written
        self._written += 1
        self.clear()
        return True

    def evict(self, size: int) -> None:
        """Drop the oldest entries until the table has no more than `size` bytes."""
        while self.size_bytes > size:
            field = self.entries.popleft()
            name, value = field
            self.size_bytes -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES
            del self._numbers[field]
            self.pop(field, None)
            self._recent.seen(name, value)  # if it is still in use, it comes back at once


class Encoder:
    """Writes the header blocks for one peer."""

    __slots__ = ("_code", "_smallest", "_table")

    def __init__(self) -> None:
        self._table = _Table()
        self._code = self._table.__getitem__
        self._smallest: int | None = None  # that the limit was since the last block; None: it did not change

    def limit_table(self, table_max_bytes: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE. The next block says what we make of it: never more than 4096."""
        table, limit = self._table, min(table_max_bytes, TABLE_MAX_BYTES)
        if limit != table.limit:
            table.limit = limit
            table.evict(limit)
            self._smallest = limit if self._smallest is None else min(self._smallest, limit)

    def encode(self, fields: Iterable[Field]) -> bytes:
        """A header block of `fields`, names in lower case.

        `NeverIndexed` ones, and those with a name of SECRET, are written so that no table on the way keeps them.
        """
        written = b"".join(map(self._code, fields))
        return written if self._smallest is None else self._size_updates() + written

    def _size_updates(self) -> bytes:
        """What section 4.2 asks for: the smallest size since the last block, and the last one."""
        smallest, limit = self._smallest, self._table.limit
        self._smallest = None
        assert smallest is not None
        update = integer(limit, 0x1F, 0x20)
        return update if smallest == limit else integer(smallest, 0x1F, 0x20) + update


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
    if len(value) > _HUFFMAN_MAX_BYTES:
        return _string(value)
    coded = encode_huffman(value)
    return integer(len(coded), 0x7F, 0x80) + coded if len(coded) < len(value) else _string(value)


def _entry(name: bytes, value: bytes) -> bytes:
    """A literal that the peer is to keep (section 6.2.1)."""
    index = NAME_INDEX.get(name)
    code = b"\x40" + _short(name) if index is None else integer(index, 0x3F, 0x40)
    return code + _short(value)
