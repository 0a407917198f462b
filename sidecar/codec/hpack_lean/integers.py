"""Integers of RFC 7541 section 5.1: a prefix within a byte, then 7 bits a byte, least significant first."""

from sidecar.codec.hpack_lean.errors import HpackError

# After the prefix: 35 bits, more than any table or block has. What pads a number with zero bytes ends here too.
OCTETS_MAX = 5

LENGTHS = tuple(bytes((size,)) for size in range(0x7F))  # of literals that are not Huffman's


def integer(value: int, prefix: int, flags: int) -> bytes:
    """The bytes of `value`, whose first one has `flags` above a prefix that holds at most `prefix` (all ones)."""
    if value < prefix:
        return bytes((flags | value,))
    written = bytearray((flags | prefix,))
    value -= prefix
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def rest_of_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The value whose prefix was all ones (`prefix`) and goes on at `at`, and where it ends.

    Raises:
        HpackError: cut off, or longer than OCTETS_MAX.
    """
    value = prefix
    for shift, byte in zip(range(0, 7 * OCTETS_MAX, 7), block[at : at + OCTETS_MAX], strict=False):
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    why = "the block ends inside an integer" if at >= len(block) else f"an integer has more than {OCTETS_MAX} octets"
    raise HpackError(f"{why} (RFC 7541 section 5.1)")
