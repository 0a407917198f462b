"""A target of the guided fuzzer: both HTTP/2 codecs, frame by frame, with calls between them; they have to agree.

The machine of tests/unit/codec/test_h2_differential.py judges, with the differences that it allows. What is called
follows from the bytes, so that an input is all there is to a failure.
"""

import zlib
from collections.abc import Iterator

from sidecar.codec import h2_frames as wire
from tests.support.http2 import settings
from tests.unit.codec.test_h2_differential import CALLS, STREAMS, Clients, Differential, Servers

_SIZES = (0, 1, 100, 16_384)
_CALLED = 3  # frames of this many are followed by a call, on average


def server(data: bytes) -> None:
    """What a client sends, after its preface."""
    machine = Servers()
    machine.play(settings(), [], first=wire.PREFACE)
    _play(machine, data.removeprefix(wire.PREFACE))


def client(data: bytes) -> None:
    """What a server sends to a client with four requests under way."""
    machine = Clients()
    machine.open([])
    _play(machine, data)


def _play(machine: Differential, data: bytes) -> None:
    for raw in _pieces(data):
        machine.play(raw, [])
        chance = zlib.crc32(raw)
        if chance % _CALLED == 0:
            chance //= _CALLED
            what, number = CALLS[chance % len(CALLS)], STREAMS[chance // 16 % len(STREAMS)]
            machine.exchange(what, number, _SIZES[chance // 64 % len(_SIZES)])


def _pieces(data: bytes) -> Iterator[bytes]:
    """The frames in `data`, and what is left."""
    at = 0
    while len(data) - at >= wire.HEADER_BYTES:
        end = at + wire.HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        yield data[at:end]
        at = end
    if at < len(data):
        yield data[at:]
