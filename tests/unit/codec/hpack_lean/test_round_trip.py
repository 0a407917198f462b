"""Any fields come out as they went in, of our decoder and of the hpack package's."""

import hpack
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.huffman import decode_huffman, encode_huffman
from sidecar.codec.hpack_lean.learning import SECRET
from sidecar.codec.hpack_lean.static_table import DYNAMIC, STATIC
from sidecar.model.messages import NeverIndexed

NAMES = st.sampled_from([*{name for name, _ in STATIC[1:]}, b"x-tenant", b"traceparent", b"x"]) | st.binary(max_size=80)
VALUES = st.sampled_from([b"", b"GET", b"200", b"v" * 900]) | st.binary(max_size=300)
FIELDS = st.tuples(NAMES, VALUES) | st.tuples(NAMES, VALUES).map(NeverIndexed)
STEPS = st.lists(
    st.sampled_from([0, 31, 64, 300, 4096, 10_000]) | st.lists(st.integers(0, 7), max_size=12), max_size=40
)


@given(st.lists(FIELDS, min_size=8, max_size=8), STEPS)
def test_blocks_come_back(pool: list[tuple[bytes, bytes]], steps: list[int | list[int]]) -> None:
    writer = Encoder()
    reader = Decoder(fields_max=100, bytes_max=1 << 20)
    theirs = hpack.Decoder(max_header_list_size=1 << 20)
    for step in steps:
        if isinstance(step, int):
            writer.limit_table(step)
            continue
        fields = [pool[number] for number in step]
        block = writer.encode(fields)
        read = reader.decode(block)
        assert read == fields
        for field, before, other in zip(read, fields, theirs.decode(block, raw=True), strict=True):
            never = isinstance(before, NeverIndexed) or before[0] in SECRET
            assert isinstance(field, NeverIndexed) is never
            assert other == field
            assert other.indexable is not never
        assert [*writer._table.entries] == reader._table[: DYNAMIC - 1 : -1]
        assert writer._table.size_bytes == reader._bytes <= 4096


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_huffman_strings_come_back(value: bytes) -> None:
    assert decode_huffman(encode_huffman(value)) == value
