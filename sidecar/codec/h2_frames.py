"""HTTP/2 frames as bytes: cutting them out of what comes, and writing the few that the h2 library must not know of.

First thing that sees a peer's bytes. The h2 library reads a frame's length only when all of it is there, and gives up
the good frames of a read together with a bad one; this cutter hands it one frame at a time, none longer than allowed.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
FRAME_MAX_BYTES = 16_384  # the default of SETTINGS_MAX_FRAME_SIZE, which we never raise

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
LAST_STREAM = 2**31 - 1

_HEADER = struct.Struct(">HBBBL")  # length (16 bits, then 8), type, flags, stream
_GOAWAY = struct.Struct(">LL")
_SETTING = struct.Struct(">HL")


class Code(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


_CODES = frozenset(Code)


class Setting(IntEnum):
    """RFC 9113 section 6.5.2, and RFC 8441 section 3."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


def code_name(code: int) -> str:
    """An error code in words."""
    return Code(code).name if code in _CODES else f"the unknown code {code}"


class Frame(NamedTuple):
    """One frame. `raw` is all of it, its header included."""

    kind: int
    flags: int
    stream: int
    raw: bytes

    @property
    def payload(self) -> bytes:
        return self.raw[HEADER_BYTES:]

    @property
    def size(self) -> int:
        return len(self.raw) - HEADER_BYTES


class OverlongFrame(Exception):  # noqa: N818 - a fact about the peer, caught by the only caller
    """A frame is longer than FRAME_MAX_BYTES."""


class Cutter:
    """Holds at most one frame that is not whole yet."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def cut(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises OverlongFrame, as soon as a frame's header says so."""
        buffer = self._held + data if self._held else data
        self._held = b""
        at, size = 0, len(buffer)
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, stream = _HEADER.unpack_from(buffer, at)
            length = high << 8 | low
            if length > FRAME_MAX_BYTES:
                raise OverlongFrame
            end = at + HEADER_BYTES + length
            if end > size:
                break
            yield Frame(kind, flags, stream & LAST_STREAM, buffer[at:end])
            at = end
        self._held = buffer[at:]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame's bytes."""
    return _HEADER.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def body_size(data: Frame) -> int:
    """Body bytes of a DATA frame, its padding left out; below 0 if it pads more than it has."""
    if data.flags & PADDED:
        return data.size - 1 - data.raw[HEADER_BYTES] if data.size else -1
    return data.size


def with_flag(given: Frame, flag: int) -> bytes:
    """The bytes of `given` with one more flag set."""
    return given.raw[:4] + bytes((given.flags | flag,)) + given.raw[5:]


def goaway(last: int, code: int) -> bytes:
    """GOAWAY: streams up to `last` are served."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code))


def goaway_said(payload: bytes) -> tuple[int, int]:
    """Last stream and code of a GOAWAY; raises struct.error below 8 bytes."""
    last, code = _GOAWAY.unpack_from(payload)
    return last & LAST_STREAM, code


def settings_said(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values; raises struct.error if the length is not a multiple of 6."""
    return list(_SETTING.iter_unpack(payload))


def settings(values: list[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*value) for value in values))


def only_window_updates(written: bytes) -> bytes:
    """`written` without anything but its WINDOW_UPDATE frames."""
    return b"".join(each.raw for each in Cutter().cut(written) if each.kind == WINDOW_UPDATE)
