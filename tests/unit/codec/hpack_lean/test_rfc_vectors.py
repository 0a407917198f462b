"""The examples of RFC 7541 appendix C, read and written."""

import pytest

from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.huffman import decode_huffman, encode_huffman
from sidecar.codec.hpack_lean.integers import integer, rest_of_integer
from sidecar.codec.hpack_lean.static_table import DYNAMIC, STATIC
from sidecar.model.messages import Fields, NeverIndexed

REQUESTS: tuple[Fields, ...] = (
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        *((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")),
        (b"cache-control", b"no-cache"),
    ],
    [
        *(
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":path", b"/index.html"),
            (b":authority", b"www.example.com"),
        ),
        (b"custom-key", b"custom-value"),
    ],
)
_COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
_LOCATION = (b"location", b"https://www.example.com")
_FIRST_DATE = (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
_SECOND_DATE = (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
RESPONSES: tuple[Fields, ...] = (
    [(b":status", b"302"), (b"cache-control", b"private"), _FIRST_DATE, _LOCATION],
    [(b":status", b"307"), (b"cache-control", b"private"), _FIRST_DATE, _LOCATION],
    [
        *((b":status", b"200"), (b"cache-control", b"private"), _SECOND_DATE, _LOCATION),
        *((b"content-encoding", b"gzip"), (b"set-cookie", _COOKIE)),
    ],
)
C3 = (
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
)
C4 = (
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
)
C5 = (
    (
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32"
        "3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"
    ),
    "4803 3330 37c1 c0bf",
    (
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970"
        "7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61"
        "6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31"
    ),
)
C6 = (
    (
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad"
        "1718 63c7 8f0b 97c8 e9ae 82ae 43d3"
    ),
    "4883 640e ffc1 c0bf",
    (
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2"
        "e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07"
    ),
)


def decoder(table_max_bytes: int = 4096) -> Decoder:
    return Decoder(fields_max=100, bytes_max=60 * 1024, table_max_bytes=table_max_bytes)


@pytest.mark.parametrize(("value", "prefix", "written"), [(10, 0x1F, "0a"), (1337, 0x1F, "1f9a0a"), (42, 0xFF, "2a")])
def test_integers_of_c1(value: int, prefix: int, written: str) -> None:
    raw = bytes.fromhex(written)

    assert integer(value, prefix, 0) == raw
    if raw[0] == prefix:
        assert rest_of_integer(raw, 1, prefix) == (value, len(raw))


@pytest.mark.parametrize(
    ("block", "field", "entries"),
    [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", (b"custom-key", b"custom-header"), 1),
        ("040c 2f73 616d 706c 652f 7061 7468", (b":path", b"/sample/path"), 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", (b"password", b"secret"), 0),
        ("82", (b":method", b"GET"), 0),
    ],
)
def test_representations_of_c2(block: str, field: tuple[bytes, bytes], entries: int) -> None:
    reader = decoder()

    fields = reader.decode(bytes.fromhex(block))

    assert fields == [field]
    assert isinstance(fields[0], NeverIndexed) is (field[0] == b"password")
    assert len(reader._table) - DYNAMIC == entries


@pytest.mark.parametrize(
    ("blocks", "lists", "table", "entries_bytes"),
    [
        (C3, REQUESTS, 4096, (57, 110, 164)),
        (C4, REQUESTS, 4096, (57, 110, 164)),
        (C5, RESPONSES, 256, (222, 222, 215)),
        (C6, RESPONSES, 256, (222, 222, 215)),
    ],
    ids=["c3", "c4", "c5", "c6"],
)
def test_sequences_of_c3_to_c6(
    blocks: tuple[str, ...], lists: tuple[Fields, ...], table: int, entries_bytes: tuple[int, ...]
) -> None:
    reader = decoder(table)

    for block, fields, size in zip(blocks, lists, entries_bytes, strict=True):
        assert reader.decode(bytes.fromhex(block)) == fields
        assert reader._bytes == size


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        (b"no-cache", "a8eb10649cbf"),
        (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
        (_COOKIE, "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"),
    ],
)
def test_huffman_strings(text: bytes, written: str) -> None:
    assert encode_huffman(text) == bytes.fromhex(written)
    assert decode_huffman(bytes.fromhex(written)) == text


def test_the_static_table_is_appendix_a() -> None:
    assert len(STATIC) == 62
    assert STATIC[1:3] == ((b":authority", b""), (b":method", b"GET"))
    assert STATIC[16] == (b"accept-encoding", b"gzip, deflate")
    assert STATIC[61] == (b"www-authenticate", b"")


def test_what_we_write_is_as_short_as_in_c4() -> None:
    """The second time: the first time a field is only remembered."""
    writer = Encoder()
    writer.encode(REQUESTS[0])

    assert writer.encode(REQUESTS[0]) == bytes.fromhex(C4[0])
    assert writer.encode(REQUESTS[0]) == bytes.fromhex("828684be")
