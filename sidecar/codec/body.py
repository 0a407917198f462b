"""Where a body ends: one reader for each framing of RFC 9112 section 6.

Used by h1_server.py and h1_client.py after the head. A reader takes bytes, appends `Chunk`, `Trailers` and `End`, and
gives back what lies beyond the end. Chunked bodies are chunks.py's.
"""

from typing import Protocol

from sidecar.codec.chunks import ChunkedBody
from sidecar.codec.events import Chunk, End, Event
from sidecar.errors import Fault


class BodyReader(Protocol):
    """Reads one body. `ends_by_close`: the peer's close is a proper end of it."""

    ends_by_close: bool

    @property
    def owed_bytes(self) -> int:
        """How many bytes at least are to come."""

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        """Append the events of `data`; return the bytes beyond the end, or None while more is to come."""


class CountedBody:
    """A body of `length` bytes, > 0."""

    __slots__ = ("_left",)
    ends_by_close = False

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def owed_bytes(self) -> int:
        """See `BodyReader`."""
        return self._left

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        size = len(data)
        if size < self._left:
            if size:
                self._left -= size
                events.append(Chunk(data, size))
            return None
        mine, rest = (data, b"") if size == self._left else (data[: self._left], data[self._left :])
        events.append(Chunk(mine, len(mine)))
        events.append(End())
        return rest


class BodyUntilClose:
    """A response body, or a tunnel's bytes: the end comes when the connection does."""

    __slots__ = ()
    ends_by_close = True
    owed_bytes = 0

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        if data:
            events.append(Chunk(data, len(data)))
        return None


def body_reader(length: int | None, chunked: bool, blame: Fault) -> BodyReader | None:
    """The reader for a body framed so; None when there is no body."""
    if chunked:
        return ChunkedBody(blame)
    if length is None:
        return BodyUntilClose()
    return CountedBody(length) if length else None
