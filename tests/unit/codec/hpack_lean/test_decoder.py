"""What the decoder refuses, by section of RFC 7541; its limits; and what a peer can make it hold."""

import tracemalloc

import pytest

from sidecar.codec.hpack_lean.decoder import COUNTED_FROM_BYTES, Decoder
from sidecar.codec.hpack_lean.errors import HpackError, ListTooLargeError
from sidecar.codec.hpack_lean.static_table import DYNAMIC
from sidecar.model.messages import NeverIndexed

FIELDS_MAX, BYTES_MAX = 100, 60 * 1024
AB = b"\x40\x01a\x01b"  # a: b, into the table
WIDE_BYTES = 4096 - 32 - len(b"wide")
WIDE = b"\x40\x04wide\x7f" + bytes((WIDE_BYTES - 127 & 0x7F | 0x80, WIDE_BYTES - 127 >> 7)) + b"w" * WIDE_BYTES


def decoder(table: int = 4096) -> Decoder:
    return Decoder(fields_max=FIELDS_MAX, bytes_max=BYTES_MAX, table_max_bytes=table)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x80", "6.1"),
        (b"\xbe", "2.3.3"),  # the dynamic table is empty
        (b"\x7f\x00\x01b", "2.3.3"),
        (b"\x0f\x30\x01b", "2.3.3"),
        (b"\xff\x80\x80\x80\x80\x80\x00", "5.1"),
        (b"\xff\x80", "5.1"),
        (b"\x04\x7f\xff\xff\xff\xff\xff\x01", "5.1"),
        (b"\x04\x7f", "5.1"),
        (b"\x04", "6"),
        (b"\x04\x02a", "6"),
        (b"\x04\x82\x1c", "6"),
        (b"\x04\x7f\x00a", "6"),
        (b"\x40", "6"),
        (b"\x40\x01", "6"),
        (b"\x40\x01a", "6"),
        (b"\x0f", "6"),
        (b"\x04\x81\xff", "5.2"),  # padding only, and a byte of it
        (b"\x04\x82\x1f\xff", "5.2"),
        (b"\x04\x81\x18", "5.2"),  # "a", padded with zeros
        (b"\x04\x84\xff\xff\xff\xff", "5.2"),  # EOS
        (b"\x82\x20", "4.2"),
        (b"\x20\x82\x3f\x00", "4.2"),
        (b"\x3f\xe2\x1f", "6.3"),  # 4097 bytes
    ],
)
def test_what_breaks_the_rfc_is_refused(block: bytes, why: str) -> None:
    with pytest.raises(HpackError, match=rf"RFC 7541 section {why}\)"):
        decoder().decode(block)


@pytest.mark.parametrize("block", [b"\xff\x80\x80\x80\x80\x00", b"\x20\x3f\xe1\x1f\x82", b"\x04\x80", b"\x04\x00", b""])
def test_what_is_odd_and_allowed_is_read(block: bytes) -> None:
    reader = decoder()
    reader.decode(b"\x50\x00" * 80)  # 80 entries, so that index 127 is one

    assert reader.decode(block) in ([(b"accept-encoding", b"")], [(b":method", b"GET")], [(b":path", b"")], [])


def test_an_octet_more_than_the_prefix_holds() -> None:
    """Indices of names around the end of the prefix, which one octet more says, or two."""
    reader = decoder()
    for number in range(1, 121):
        reader.decode(b"\x40\x01" + bytes((number,)) + b"\x00")

    for index in (*range(14, 18), *range(62, 65), *range(126, 145), 180, 181):
        name = reader._table[index][0]
        for prefix, flags in ((0x0F, 0x00), (0x0F, 0x10), (0x3F, 0x40)):
            rest = index - prefix
            octets = (rest,) if rest < 0x80 else (rest & 0x7F | 0x80, rest >> 7)
            written = bytes((flags | index,)) if rest < 0 else bytes((flags | prefix, *octets))
            fresh = decoder()
            fresh._table = list(reader._table)
            assert fresh.decode(written + b"\x01v") == [(name, b"v")]


def test_never_indexed_fields_are_told_apart() -> None:
    fields = decoder().decode(b"\x14\x01a\x04\x01b\x10\x01n\x01c\x44\x01d")

    assert [each.__class__ is NeverIndexed for each in fields] == [True, False, True, False]
    assert fields == [(b":path", b"a"), (b":path", b"b"), (b"n", b"c"), (b":path", b"d")]


def test_entries_are_dropped_as_section_4_says() -> None:
    reader = decoder(table=34 * 2 + 1)
    reader.decode(AB + b"\x40\x01c\x01d")
    assert reader.decode(b"\xbe\xbf") == [(b"c", b"d"), (b"a", b"b")]

    assert reader.decode(b"\x40\x01e\x01f\xbe\xbf") == [(b"e", b"f"), (b"e", b"f"), (b"c", b"d")]
    # The name of an entry that makes room for the new one (section 4.4).
    assert reader.decode(b"\x7f\x00\x01g\xbe") == [(b"c", b"g")] * 2
    # One that is larger than the table empties it, and is no error.
    assert reader.decode(b"\x40\x01h\x26" + b"i" * 38) == [(b"h", b"i" * 38)]
    assert reader._table[DYNAMIC:] == []
    assert reader._bytes == 0


def test_the_peer_changes_its_table() -> None:
    reader = decoder()
    reader.decode(AB)

    assert reader.decode(b"\x3f\x03\xbe") == [(b"a", b"b")]  # 34 bytes: as large as it is
    assert reader.decode(b"\x20\x3f\xe1\x1f") == []  # none, then as before
    with pytest.raises(HpackError, match=r"2\.3\.3"):
        reader.decode(b"\xbe")


def test_our_smaller_table_has_to_be_acknowledged() -> None:
    reader = decoder()
    reader.limit_table(100)
    with pytest.raises(HpackError, match=r"4\.2"):
        reader.decode(b"\x82")

    reader = decoder()
    reader.limit_table(100)
    reader.limit_table(4096)  # the smallest one in between counts
    with pytest.raises(HpackError, match=r"4\.2"):
        reader.decode(b"\x3f\xe1\x1f\x82")

    reader = decoder()
    reader.limit_table(100)
    assert reader.decode(b"\x3f\x45\x82") == [(b":method", b"GET")]
    assert reader.decode(b"\x82") == [(b":method", b"GET")]
    with pytest.raises(HpackError, match=r"6\.3"):
        reader.decode(b"\x3f\x46\x82")


@pytest.mark.parametrize("count", [FIELDS_MAX, FIELDS_MAX + 1, 3 * FIELDS_MAX, 3 * FIELDS_MAX + 1])
@pytest.mark.parametrize("one", [b"\x82", b"\x04\x01/", AB])
def test_too_many_fields_cost_the_stream_only(count: int, one: bytes) -> None:
    reader = decoder()
    block = one * (count - 1) + b"\x40\x01c\x01d"

    if count > FIELDS_MAX:
        with pytest.raises(ListTooLargeError, match=f"has {count} fields; {FIELDS_MAX} are"):
            reader.decode(block)
    else:
        assert len(reader.decode(block)) == count
    assert reader.decode(b"\xbe") == [(b"c", b"d")]


def test_too_many_bytes_cost_the_stream_only() -> None:
    reader = decoder()
    assert reader.decode(WIDE) == [(b"wide", b"w" * WIDE_BYTES)]

    assert len(reader.decode(b"\xbe" * 15)) == 15
    assert reader.size_bytes == BYTES_MAX == 15 * 4096
    with pytest.raises(ListTooLargeError, match="larger than 61440"):
        reader.decode(b"\xbe" * 15 + b"\x82")
    assert reader.decode(b"\xbe") == [(b"wide", b"w" * WIDE_BYTES)]


def test_a_small_limit_is_kept_too() -> None:
    reader = Decoder(fields_max=FIELDS_MAX, bytes_max=35)
    assert reader.decode(b"\x00\x01a\x02bb") == [(b"a", b"bb")]
    with pytest.raises(ListTooLargeError, match="larger than 35"):
        reader.decode(b"\x00\x01a\x03bbb")


def test_sizes_are_estimated_from_above_and_counted_where_it_matters() -> None:
    for block in (
        b"",
        b"\x82" * 90,
        AB * 60,
        b"\x04\x8a" + b"\x18\xc6\x31\x8c\x63" * 2 + b"\x82",
        WIDE,
        b"\x50\x00" * 99,
    ):
        reader = decoder()
        fields = reader.decode(block)
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        assert size <= reader.size_bytes <= max(size, COUNTED_FROM_BYTES)


def test_an_error_behind_too_many_fields_is_the_connections() -> None:
    with pytest.raises(HpackError):
        decoder().decode(b"\x82" * 250 + b"\x80")


def test_a_bomb_is_not_held() -> None:
    """60 KiB of references to an entry of 4 KiB: 245 MB if somebody wrote them out."""
    reader = decoder()
    reader.decode(WIDE)
    bomb = b"\xbe" * BYTES_MAX
    tracemalloc.start()
    try:
        with pytest.raises(ListTooLargeError, match="61440 fields"):
            reader.decode(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 1024


def test_what_a_connection_can_be_made_to_hold() -> None:
    reader = decoder()
    for number in range(5_000):
        reader.decode(b"\x40\x00\x02%b" % number.to_bytes(2, "big"))

    assert len(reader._table) - DYNAMIC == 4096 // 34
    assert reader._bytes <= 4096
