"""Huffman strings of RFC 7541 section 5.2 and appendix B, read by zlib.

The code of appendix B is canonical: it follows from the lengths of its words. So is the one of a DEFLATE block (RFC
1951 section 3.2.7), which cannot be longer than 15 bits; and all of ASCII that can be printed, but the backslash, has
words of at most 15 bits here. The one word of 15 bits that is left, all ones, begins every longer word of appendix B;
in DEFLATE we call it the end of the block. So a string, its bits in DEFLATE's order, with 15 ones behind it, is a block
that zlib inflates in a tenth of the time that Python would take, and whose end says where the padding begins. A string
with a longer word ends its block early, and is read four bits at a time.

Strings that were read are remembered in one bounded table for all connections, but for those never to be indexed.
"""

import zlib
from functools import cache

from sidecar.codec.hpack_lean.errors import HpackError

KNOWN_MAX = 4_096  # strings remembered; when there are more, all are forgotten
KNOWN_STRING_MAX_BYTES = 64  # a longer one is not remembered: the table takes 1.1 MB at worst

# Of the words of appendix B, by symbol.
_BITS = (
    *(13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28),  # 0x00
    *(28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28),  # 0x10
    *(6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6),  # 0x20
    *(5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10),  # 0x30
    *(13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7),  # 0x40
    *(7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6),  # 0x50
    *(15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5),  # 0x60
    *(6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28),  # 0x70
    *(20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23),  # 0x80
    *(24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24),  # 0x90
    *(22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23),  # 0xa0
    *(21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23),  # 0xb0
    *(26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25),  # 0xc0
    *(19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27),  # 0xd0
    *(20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23),  # 0xe0
    *(26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26),  # 0xf0
    30,  # EOS
)
_EOS = 256
_DEFLATE_MAX_BITS = 15
_WINDOW_BITS = 9  # the least there is: nothing in these blocks refers to what came before
_PADDING_MAX_BITS = 7


def _words() -> list[int]:
    """The words by symbol: of one length in the order of symbols, each length where the one before has ended."""
    words = [0] * len(_BITS)
    word = length = 0
    for symbol in sorted(range(len(_BITS)), key=lambda symbol: (_BITS[symbol], symbol)):
        word <<= _BITS[symbol] - length
        length = _BITS[symbol]
        words[symbol] = word
        word += 1
    return words


_WORDS = _words()
_WRITTEN = [f"{word:0{bits}b}" for word, bits in zip(_WORDS, _BITS, strict=True)]
_BITS_OF = bytes(_BITS[:_EOS])  # for bytes.translate

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # DEFLATE fills a byte from its lowest bit
_END = b"\xff\x7f"  # 15 ones, in that order; with one more, the end of a word that is cut off could be among them


def _deflate_head() -> bytes:
    """What comes before the words in a last block with a code of its own (RFC 1951 section 3.2.7)."""
    bits: list[int] = []

    def number(value: int, size: int) -> None:
        bits.extend(value >> at & 1 for at in range(size))

    for _ in range(3):  # empty blocks of 10 bits, so that the head ends with a byte
        number(0b010, 3)
        number(0, 7)
    number(1, 1)  # the last block,
    number(2, 2)  # with a code of its own:
    number(0, 5)  # 257 symbols,
    number(0, 5)  # and one distance, which gets no word
    number(15, 4)  # lengths of all 19 words that lengths are said with, in an order of their own:
    for said in (16, 17, 18, *(0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)):
        number(4 if said < 16 else 0, 3)  # a length is said as a number of 4 bits
    lengths = [bits_ if bits_ <= _DEFLATE_MAX_BITS else 0 for bits_ in _BITS[:_EOS]]
    for length in (*lengths, _DEFLATE_MAX_BITS, 0):
        bits.extend(length >> at & 1 for at in (3, 2, 1, 0))
    assert not len(bits) % 8
    return bytes(sum(bits[at + place] << place for place in range(8)) for at in range(0, len(bits), 8))


def _primed() -> "zlib._Decompress":
    inflater = zlib.decompressobj(-_WINDOW_BITS)  # negative: without the head of a file
    inflater.decompress(_deflate_head())
    return inflater


_inflater = _primed().copy  # a new one that has read the head

KNOWN: dict[bytes, bytes] = {}


def known_huffman(raw: bytes) -> bytes:
    """As `decode_huffman`, remembered in KNOWN, where who needs speed looks first."""
    value = decode_huffman(raw)
    if len(raw) <= KNOWN_STRING_MAX_BYTES:
        if len(KNOWN) >= KNOWN_MAX:
            KNOWN.clear()
        KNOWN[raw] = value
    return value


def decode_huffman(raw: bytes) -> bytes:
    """What `raw` stands for.

    Raises:
        HpackError: It has the word EOS, or is not padded with at most 7 ones.
    """
    inflater = _inflater()
    value = inflater.decompress(raw.translate(_REVERSED) + _END)
    if not inflater.eof:
        raise HpackError("a Huffman string does not end with ones (RFC 7541 section 5.2)")
    # The end of the block has 15 bits: in the last byte of _END with a padding of up to 6 bits.
    if not inflater.unused_data or 8 * len(raw) - sum(value.translate(_BITS_OF)) <= _PADDING_MAX_BITS:
        return value
    return _by_nibbles(raw)


def _by_nibbles(raw: bytes) -> bytes:
    steps, may_end = _machine()
    value = bytearray()
    append, state = value.append, 0
    try:
        for byte in raw:
            state, symbol = steps[state | byte >> 4]
            if symbol >= 0:
                append(symbol)
            state, symbol = steps[state | byte & 0x0F]
            if symbol >= 0:
                append(symbol)
    except ValueError:  # _EOS is no byte
        raise HpackError("a Huffman string has the word EOS (RFC 7541 section 5.2)") from None
    if state not in may_end:
        raise HpackError("a Huffman string is not padded with at most 7 ones (RFC 7541 section 5.2)")
    return bytes(value)


@cache
def _machine() -> tuple[list[tuple[int, int]], frozenset[int]]:
    """The reader of four bits at a time, made when it is first needed: it takes a third of a megabyte.

    Returns its steps, by state and four bits: the next state, and the symbol that was completed or -1; and the states
    in which a string may end. A state is a node of the tree of words, times 16.
    """
    tree = [[0, 0]]  # by node and bit: the next node, or the complement of a symbol
    for symbol, (word, bits) in enumerate(zip(_WORDS, _BITS, strict=True)):
        node = 0
        for place in range(bits - 1, 0, -1):
            bit = word >> place & 1
            if not tree[node][bit]:
                tree[node][bit] = len(tree)
                tree.append([0, 0])
            node = tree[node][bit]
        tree[node][word & 1] = ~symbol
    steps = []
    for start in range(len(tree)):
        for nibble in range(16):
            node, symbol = start, -1
            for place in (3, 2, 1, 0):
                node = tree[node][nibble >> place & 1]
                if node < 0:
                    node, symbol = 0, ~node
            steps.append((node << 4, symbol))
    may_end = [0]
    for _ in range(_PADDING_MAX_BITS):
        may_end.append(tree[may_end[-1]][1])
    return steps, frozenset(node << 4 for node in may_end)


def encode_huffman(value: bytes) -> bytes:
    """The Huffman string of `value`."""
    bits = "".join(map(_WRITTEN.__getitem__, value))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
