"""Header blocks to fields (RFC 7541 section 3), with the limits on what is received.

One `Decoder` reads all blocks of one direction of a connection, in order. Its table is a list whose positions are the
indices that blocks say, so that most fields are one look-up. Refuses to judge what names and values are.
"""

from sidecar.codec.hpack_lean.errors import HpackError, ListTooLargeError
from sidecar.codec.hpack_lean.huffman import KNOWN, decode_huffman, known_huffman
from sidecar.codec.hpack_lean.integers import rest_of_integer
from sidecar.codec.hpack_lean.static_table import (
    DYNAMIC,
    ENTRY_OVERHEAD_BYTES,
    STATIC,
    STATIC_ENTRY_MAX_BYTES,
    TABLE_MAX_BYTES,
)
from sidecar.model.messages import Fields, NeverIndexed

# A list that cannot be larger than this is not counted: a hundred of them are below what the heads of a peer may take.
COUNTED_FROM_BYTES = 10 * 1024
_HUFFMAN_EXPANDS = 2  # the shortest word has 5 bits: a byte becomes 1.6 at most


class Decoder:
    """Reads the header blocks of one peer.

    Args:
        fields_max: Fields of a list; more are read, and not kept.
        bytes_max: Of a list, as SETTINGS_MAX_HEADER_LIST_SIZE counts them: names, values, and 32 for each field.
        table_max_bytes: The SETTINGS_HEADER_TABLE_SIZE of ours that the peer goes by.

    Attributes:
        size_bytes: Of the last list, counted so; up to COUNTED_FROM_BYTES it is estimated from above.
    """

    __slots__ = (
        "_allowed",
        "_bytes",
        "_bytes_max",
        "_counted_from",
        "_fields_max",
        "_limit",
        "_owed",
        "_table",
        "_widest",
        "size_bytes",
    )

    def __init__(self, *, fields_max: int, bytes_max: int, table_max_bytes: int = TABLE_MAX_BYTES) -> None:
        self._fields_max = fields_max
        self._bytes_max = bytes_max
        self._counted_from = min(COUNTED_FROM_BYTES, bytes_max)
        self._allowed = table_max_bytes
        self._limit = table_max_bytes
        self._owed: int | None = None  # the next block has to begin with an update to no more than this
        self._table = list(STATIC)
        self._bytes = 0  # of dynamic entries
        self._widest = STATIC_ENTRY_MAX_BYTES  # no entry was ever larger
        self.size_bytes = 0

    def limit_table(self, table_max_bytes: int) -> None:
        """The peer has acknowledged another SETTINGS_HEADER_TABLE_SIZE of ours.

        Where that is less than its encoder uses, its next block has to say so at its beginning (section 4.2).
        """
        self._allowed = table_max_bytes
        if table_max_bytes < self._limit:
            self._owed = table_max_bytes if self._owed is None else min(self._owed, table_max_bytes)

    def decode(self, block: bytes) -> Fields:
        """The fields of one whole header block; those that were never to be indexed are `NeverIndexed`.

        Raises:
            HpackError: The block breaks RFC 7541; none after it can be read.
            ListTooLargeError: It has more fields or bytes than allowed. It was read to its end all the same, never
                keeping more than `fields_max` fields at once, and the table is what the peer thinks it is: one stream
                has to go, not the connection. Time and memory are bounded by the block's length.
        """
        fields: Fields = []
        append, table, end = fields.append, self._table, len(block)
        at = index = dropped = 0
        if self._owed is not None:
            at = self._size_updates(block)
        # A field takes a byte at least: up to `stop` come no more of them than there is room for.
        stop = end if end < self._fields_max else self._fields_max
        try:
            while at < end:
                while at < stop:
                    byte = block[at]
                    at += 1
                    if byte > 0x80:  # section 6.1
                        index = byte - 0x80
                        if index == 0x7F:
                            index, at = rest_of_integer(block, at, 0x7F)
                        append(table[index])
                        continue
                    if byte < 0x20:  # section 6.2
                        prefix = 0x0F
                    elif 0x40 <= byte < 0x80:
                        prefix = 0x3F
                    else:
                        at = self._no_field(block, at, byte)
                        continue
                    index = byte & prefix
                    if not index:
                        length = block[at]
                        if length < 0x7F:
                            at += 1
                            name = block[at : at + length]
                            at += length
                        else:
                            name, at = _string(block, at, 0)
                    else:
                        if index == prefix:
                            index += block[at]
                            at += 1
                            if index >= prefix + 0x80:
                                index, at = rest_of_integer(block, at - 1, prefix)
                        name = table[index][0]
                    length = block[at]
                    if length < 0x7F:
                        at += 1
                        value = block[at : at + length]
                        at += length
                    else:
                        value, at = _string(block, at, byte)
                    if byte < 0x10:
                        append((name, value))
                    elif byte < 0x20:
                        append(NeverIndexed((name, value)))
                    else:
                        field = (name, value)
                        append(field)
                        self._add(field)
                if at < end:  # another field is coming
                    dropped += self._make_room(fields)
                    stop = min(at + self._fields_max - len(fields), end)
        except IndexError:
            if index >= len(table):
                raise HpackError(f"index {index} is in no table (RFC 7541 section 2.3.3)") from None
            at = end + 1
        if at > end:
            raise HpackError("the block ends inside a field (RFC 7541 section 6)")
        self.size_bytes = size = len(fields) * self._widest + _HUFFMAN_EXPANDS * end
        if size > self._counted_from or dropped:
            self._check_limits(fields, dropped)
        return fields

    def _make_room(self, fields: Fields) -> int:
        """Where there are as many fields as may be, drop them; returns how many that were."""
        count = len(fields)
        if count < self._fields_max:
            return 0
        fields.clear()
        return count

    def _check_limits(self, fields: Fields, dropped: int) -> None:
        size = sum(len(name) + len(value) for name, value in fields) + ENTRY_OVERHEAD_BYTES * len(fields)
        self.size_bytes = size
        if dropped:
            count = dropped + len(fields)
            raise ListTooLargeError(f"the head has {count} fields; {self._fields_max} are allowed")
        if size > self._bytes_max:
            raise ListTooLargeError(f"the head is larger than {self._bytes_max} bytes")

    def _no_field(self, block: bytes, at: int, byte: int) -> int:
        """`byte`, before `at`, does not begin a field. Returns where the first one begins."""
        if byte == 0x80:
            raise HpackError("index 0 (RFC 7541 section 6.1)")
        if at != 1:
            raise HpackError("an update of the table's size is not at the beginning (RFC 7541 section 4.2)")
        return self._size_updates(block)

    def _size_updates(self, block: bytes) -> int:
        """Follow the updates that the block begins with (section 6.3); returns where they end."""
        at, smallest = 0, self._limit
        while at < len(block) and 0x20 <= block[at] < 0x40:
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                size, at = rest_of_integer(block, at, 0x1F)
            if size > self._allowed:
                raise HpackError(f"a table of {size} bytes; {self._allowed} are allowed (RFC 7541 section 6.3)")
            smallest = min(smallest, size)
            self._limit = size
            self._evict(size)
        if self._owed is not None and smallest > self._owed:
            raise HpackError("the peer does not make its table smaller, as we asked (RFC 7541 section 4.2)")
        self._owed = None
        return at

    def _add(self, field: tuple[bytes, bytes]) -> None:
        """The table's newest entry; one that is larger than the table empties it (section 4.4)."""
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
        if self._bytes + size > self._limit:
            self._evict(self._limit - size)
            if size > self._limit:
                return
        self._table.insert(DYNAMIC, field)
        self._bytes += size
        if size > self._widest:
            self._widest = size

    def _evict(self, size: int) -> None:
        """Drop the oldest entries until the table has no more than `size` bytes."""
        table = self._table
        while self._bytes > size and len(table) > DYNAMIC:
            name, value = table.pop()
            self._bytes -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES


def _string(block: bytes, at: int, kind: int) -> tuple[bytes, int]:
    """The string at `at` (section 5.2), and where it ends, if need be behind the block.

    `kind` is the first byte of the literal: of one that is never to be indexed, no value is remembered.
    """
    first = block[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = rest_of_integer(block, at, 0x7F)
    end = at + length
    raw = block[at:end]
    if first < 0x80 or end > len(block):
        return raw, end
    known = KNOWN.get(raw)
    if known is None:
        known = decode_huffman(raw) if 0x10 <= kind < 0x20 else known_huffman(raw)
    return known, end
