"""Raw HTTP/2 for tests: frames that no library would send, written byte by byte, and frames read back."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hpack import Decoder, Encoder
from hyperframe.frame import Frame, HeadersFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = ((":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/"))
POST = ((":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", "/"))
OK = ((":status", "200"),)

Header = tuple[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame at all."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def data(stream: int, body: bytes = b"", *, end: bool = False, pad: int | None = None) -> bytes:
    """DATA; `pad` makes it a padded one."""
    payload = body if pad is None else bytes((pad,)) + body + bytes(pad)
    return frame(0, (1 if end else 0) | (0 if pad is None else 8), stream, payload)


def rst(stream: int, code: int = 8) -> bytes:
    """RST_STREAM."""
    return frame(3, 0, stream, struct.pack(">L", code))


def settings(*values: tuple[int, int], ack: bool = False) -> bytes:
    """SETTINGS."""
    return frame(4, 1 if ack else 0, 0, b"".join(struct.pack(">HL", *value) for value in values))


def ping(body: bytes = b"12345678", *, ack: bool = False) -> bytes:
    """PING."""
    return frame(6, 1 if ack else 0, 0, body)


def goaway(last: int, code: int = 0) -> bytes:
    """GOAWAY."""
    return frame(7, 0, 0, struct.pack(">LL", last, code))


def window(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(8, 0, stream, struct.pack(">L", increment))


def priority(stream: int, depends_on: int = 0) -> bytes:
    """PRIORITY."""
    return frame(2, 0, stream, struct.pack(">LB", depends_on, 15))


@dataclass
class Seen:
    """A frame that came back. `code` of RST_STREAM and GOAWAY, `last` of GOAWAY, `headers` of HEADERS."""

    name: str
    stream: int
    flags: set[str]
    body: bytes = b""
    code: int = -1
    last: int = -1
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Wire:
    """One end of a connection, as bytes: keeps the HPACK tables of both directions."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder()

    def block(self, headers: Iterable[Header]) -> bytes:
        """A header block."""
        return self.encoder.encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])

    def headers(self, stream: int, headers: Iterable[Header], *, end: bool = False, whole: bool = True) -> bytes:
        """HEADERS; `whole` False leaves END_HEADERS out."""
        return frame(1, (1 if end else 0) | (4 if whole else 0), stream, self.block(headers))

    def read(self, written: bytes) -> list[Seen]:
        """The frames in `written`."""
        seen: list[Seen] = []
        while written:
            parsed, length = Frame.parse_frame_header(memoryview(written[:9]))
            body = written[9 : 9 + length]
            written = written[9 + length :]
            parsed.parse_body(memoryview(body))
            one = Seen(type(parsed).__name__.removesuffix("Frame"), parsed.stream_id, set(parsed.flags), body)
            one.code = getattr(parsed, "error_code", -1)
            one.last = getattr(parsed, "last_stream_id", -1)
            if isinstance(parsed, HeadersFrame):
                one.headers = tuple((bytes(n), bytes(v)) for n, v in self.decoder.decode(parsed.data, raw=True))
            seen.append(one)
        return seen
