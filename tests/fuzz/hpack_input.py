"""A sequence of header blocks as the bytes of one input: what the guided fuzzer plays, and what it begins with.

Before each block stand two bytes with its length; the last one may be shorter.
"""

from collections.abc import Iterable, Iterator
from random import Random

import hpack

from sidecar.codec import h2_frames as wire
from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.errors import ListTooLargeError
from sidecar.codec.hpack_lean.learning import SECRET
from sidecar.codec.hpack_lean.static_table import ENTRY_OVERHEAD_BYTES
from sidecar.model.messages import Fields, NeverIndexed
from tests.fuzz.hpack_blocks import Both, a_block, some_fields
from tests.recorded import corpus
from tests.recorded.corpus import recorded

FEW_FIELDS, FEW_BYTES = 5, 300
_PRIORITY = 0x20  # a flag of HEADERS


def play(data: bytes) -> None:
    """Read the blocks with both decoders, and with one of ours that has small limits; write what they say again."""
    both, again = Both(), Both()
    limited = Decoder(fields_max=FEW_FIELDS, bytes_max=FEW_BYTES)
    encoder = Encoder()
    for block in blocks(data):
        fields = both.decode(block)
        if fields is None:
            return
        count, size = len(fields), sum(len(name) + len(value) + ENTRY_OVERHEAD_BYTES for name, value in fields)
        try:
            assert limited.decode(block) == fields
            assert count <= FEW_FIELDS
            assert size <= FEW_BYTES
        except ListTooLargeError:
            assert count > FEW_FIELDS or size > FEW_BYTES
        assert limited._table == both.ours._table
        assert limited._bytes == both.ours._bytes
        read = again.decode(encoder.encode(fields))
        assert read == fields
        for field, before in zip(read, fields, strict=True):
            assert isinstance(field, NeverIndexed) is (isinstance(before, NeverIndexed) or before[0] in SECRET)


def blocks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : end]
        at = end


def joined(sequence: Iterable[bytes]) -> bytes:
    return b"".join(len(block).to_bytes(2, "big") + block for block in sequence)


def seeds() -> Iterator[bytes]:
    """What real programs send, what the hpack package writes, and representations at random."""
    for kind in (corpus.H2_CLIENTS, corpus.H2_SERVERS):
        for one in recorded(kind):
            yield joined(recorded_blocks(one.data))
    for number in range(20):
        rng, pool, encoder = Random(number), Fields(), hpack.Encoder()
        yield joined(encoder.encode(some_fields(rng, pool)) for _ in range(5))
        yield joined(a_block(rng, 62) for _ in range(3))


def recorded_blocks(connection: bytes) -> Iterator[bytes]:
    """The header blocks of one direction of a recorded connection."""
    block = b""
    for frame in wire.Cutter().cut(connection.removeprefix(wire.PREFACE)):
        if frame.kind == wire.HEADERS:
            payload = frame.payload
            if frame.flags & wire.PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            block = payload[5:] if frame.flags & _PRIORITY else payload
        elif frame.kind == wire.CONTINUATION:
            block += frame.payload
        else:
            continue
        if frame.flags & wire.END_HEADERS:
            yield block
