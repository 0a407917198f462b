"""Read a chunked body (RFC 9112 section 7.1): data without its framing, trailers, and where it ends.

Made by body.py for each body of that framing. Stricter than the RFC asks where readers are known to differ: lines end
with CR LF and nothing else, a size has at most 16 digits, extensions are bounded, dropped and never forwarded. h11 is
the oracle of the tests: what is accepted here it reads alike, what it refuses is refused.

One pass over each read, one match for each chunk. What is left of a line at the end of a read is held, and refused as
soon as no bytes could complete it.
"""

import re

from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.grammar import (
    END_OF_HEAD,
    FIELDS_MAX_COUNT,
    HEAD_MAX_BYTES,
    TRAILERS,
    fields_of,
    shown,
    why_illegal,
    why_no_fields,
)
from sidecar.codec.trailers import allowed_trailers
from sidecar.errors import Fault, ProxyError

SIZE_MAX_DIGITS = 16  # 64 bits; readers with less would count differently beyond theirs
EXTENSION_MAX_BYTES = 256  # nobody uses them but to send what no limit counts (CVE-2023-39326)
TRAILERS_MAX_BYTES = HEAD_MAX_BYTES

_SIZE = rb"[0-9A-Fa-f]{1,%d}+" % SIZE_MAX_DIGITS
# Blanks after the size are no extension, but servers exist that pad it, and nobody reads them as anything.
_REST = rb"(?:;[\t -~\x80-\xff]{0,%d}+|[\t ]{1,%d}+)?+" % (EXTENSION_MAX_BYTES - 1, EXTENSION_MAX_BYTES)
# The line before the first chunk's data; before every other one stands the end of the chunk before. Group: size.
_FIRST = re.compile(rb"(%b)%b\r\n" % (_SIZE, _REST))
_NEXT = re.compile(rb"\r\n(%b)%b\r\n" % (_SIZE, _REST))
# What may still become such a line.
_FIRST_BEGUN = re.compile(rb"(?:%b%b\r?+)?+" % (_SIZE, _REST))
_NEXT_BEGUN = re.compile(rb"(?:\r(?:\n(?:%b%b\r?+)?+)?+)?+" % (_SIZE, _REST))

_FRAMING = (b"content-length", b"transfer-encoding")


class ChunkedBody:
    """A `BodyReader` (body.py). `blame` is the fault when the body is not valid.

    All data that one read brings comes as one `Chunk`, so that a peer that sends chunks of one byte does not make the
    other side write as many.
    """

    __slots__ = ("_blame", "_first", "_held", "_left", "_scanned", "_trailing")
    ends_by_close = False

    def __init__(self, blame: Fault) -> None:
        self._blame = blame
        self._first = True  # no chunk was seen yet
        self._left = 0  # bytes that the chunk still owes
        self._held = bytearray()  # a part of a line, or of the trailers
        self._trailing = False  # the last chunk was seen
        self._scanned = 0  # bytes of `_held` that are known to hold no end of the trailers

    @property
    def owed_bytes(self) -> int:
        """See `BodyReader`."""
        return self._left + 1  # a line at least follows, of which a part may be here

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        """See `BodyReader`."""
        if self._trailing:
            return self._read_trailers(data, events)
        left = self._left
        if left > len(data):
            if data:
                self._left = left - len(data)
                events.append(Chunk(data, len(data)))
            return None
        if self._held:  # then `left` is 0
            data = bytes(self._held) + data
            self._held.clear()
        pieces = [data[:left]]
        trailers_at = self._read_chunks(data, left, pieces)
        body = b"".join(pieces)
        if body:
            events.append(Chunk(body, len(body)))
        if trailers_at < 0:
            return None
        self._trailing = True
        return self._read_trailers(data[trailers_at:], events)

    def _read_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take the chunks of `data` from `at`, where a line begins. Returns where the trailers begin, or -1.

        They begin with the end of the last chunk's line, so that they end with an empty line in any case.
        """
        line = _FIRST if self._first else _NEXT
        end = len(data)
        while at < end and (match := line.match(data, at)) is not None:  # a size may be more than `match` can take
            size = int(match[1], 16)
            start = match.end()
            if not size:
                return start - 2
            at = start + size
            pieces.append(data[start:at])
            line = _NEXT
        self._first = line is _FIRST
        self._left = max(at - end, 0)
        rest = data[at:]
        if (_FIRST_BEGUN if self._first else _NEXT_BEGUN).fullmatch(rest) is None:
            raise self._refused(_why_no_line(rest, first=self._first))
        self._held += rest
        return -1

    def _read_trailers(self, data: bytes, events: list[Event]) -> bytes | None:
        held = self._held
        held += data
        end = held.find(END_OF_HEAD, max(0, self._scanned - 3))
        size = end if end >= 0 else len(held)
        if end != 0:
            illegal = why_illegal(held, self._scanned, size)
            if illegal:
                raise self._refused(f"the trailers have {illegal}")
            if size > TRAILERS_MAX_BYTES:
                raise self._refused(f"the trailers are larger than {TRAILERS_MAX_BYTES} bytes")
        if end < 0:
            self._scanned = size
            return None
        if end:
            trailers = self._checked(bytes(held[2 : end + 4]))
            if trailers:
                events.append(Trailers(trailers))
        events.append(End())
        return bytes(held[end + 4 :])

    def _checked(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of the trailers `block` that may be forwarded."""
        if TRAILERS.fullmatch(block) is None:
            raise self._refused(why_no_fields(block).sentence)
        fields = fields_of(block, 0)
        if len(fields) > FIELDS_MAX_COUNT:
            raise self._refused(f"the body has {len(fields)} trailers; {FIELDS_MAX_COUNT} are allowed")
        for name, _ in fields:
            if name.lower() in _FRAMING:
                raise self._refused(f"the trailer {shown(name)} would say again where the message ends")
        return allowed_trailers(fields)

    def _refused(self, why: str) -> ProxyError:
        return ProxyError(self._blame, f"the chunked body was not valid: {why}")


def _why_no_line(rest: bytes, *, first: bool) -> str:
    """Why `rest` cannot begin a chunk's line."""
    if not first and not b"\r\n".startswith(rest[:2]):
        return f"a chunk goes on beyond its size, with {shown(rest[:16])}"
    line = (rest if first else rest[2:]).partition(b"\n")[0]
    count = len(line) - len(line.lstrip(b"0123456789abcdefABCDEF"))
    if count > SIZE_MAX_DIGITS:
        return f"a chunk size has more than {SIZE_MAX_DIGITS} digits"
    if len(line) > count + EXTENSION_MAX_BYTES:
        return f"a chunk extension is longer than {EXTENSION_MAX_BYTES} bytes"
    return f"{shown(line)} is not a chunk size in hexadecimal digits, with CR LF after it"
