"""Where a body ends: one reader for each framing of RFC 9112 section 6.

Used by h1_server.py and h1_client.py after the head. A reader takes bytes, appends `Chunk`, `Trailers` and `End`, and
gives back what lies beyond the end. Chunk extensions end here; they are never forwarded.

A counted length and "until closed" need no parser. Chunked bodies are h11's work: one h11 connection reads one body.
"""

from typing import Protocol

import h11

from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.grammar import FIELDS_MAX_COUNT, TOKEN, VALUE, shown
from sidecar.errors import Fault, ProxyError
from sidecar.model.messages import HOP_BY_HOP, PROTECTED, Fields

# h11 reads a body only after a head. This one says what the real head said: nothing but "chunked".
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
# Fields that must not come after the body (RFC 9110 section 6.5.1): whoever merges them into the head would be fooled.
_NO_TRAILERS = (
    HOP_BY_HOP
    | PROTECTED
    | frozenset((b"content-encoding", b"content-range", b"content-type", b"cookie", b"expect", b"set-cookie"))
)


class BodyReader(Protocol):
    """Reads one body. `ends_by_close`: the peer's close is a proper end of it."""

    ends_by_close: bool

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        """Append the events of `data`; return the bytes beyond the end, or None while more is to come."""


class CountedBody:
    """A body of `length` bytes, > 0."""

    __slots__ = ("_left",)
    ends_by_close = False

    def __init__(self, length: int) -> None:
        self._left = length

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
    """A response body that ends when the connection does."""

    __slots__ = ()
    ends_by_close = True

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        if data:
            events.append(Chunk(data, len(data)))
        return None


class ChunkedBody:
    """A chunked body, read by h11. `blame` is the fault when it is not valid.

    All data that one read brings comes as one `Chunk`, so that a peer that sends chunks of one byte does not make the
    other side write as many.
    """

    __slots__ = ("_blame", "_h11")
    ends_by_close = False

    def __init__(self, blame: Fault) -> None:
        self._blame = blame
        self._h11 = h11.Connection(h11.SERVER)
        self._h11.receive_data(_CHUNKED_HEAD)
        self._h11.next_event()

    def read(self, data: bytes, events: list[Event]) -> bytes | None:
        if data:  # h11 takes empty for closed
            self._h11.receive_data(data)
        pieces: list[bytes] = []
        end: h11.EndOfMessage | None = None
        while end is None:
            event = self._next()
            if isinstance(event, h11.Data):
                pieces.append(event.data)
            elif isinstance(event, h11.EndOfMessage):
                end = event
            else:
                break
        body = b"".join(pieces)
        if body:
            events.append(Chunk(body, len(body)))
        if end is None:
            return None
        trailers = self._checked(end.headers.raw_items())
        if trailers:
            events.append(Trailers(trailers))
        events.append(End())
        return self._h11.trailing_data[0]

    def _next(self) -> object:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise ProxyError(self._blame, f"the chunked body was not valid: {str(error)[:100]}") from None

    def _checked(self, fields: Fields) -> Fields:
        if len(fields) > FIELDS_MAX_COUNT:
            raise ProxyError(self._blame, f"the body has {len(fields)} trailers; {FIELDS_MAX_COUNT} are allowed")
        kept: Fields = []
        for name, value in fields:
            if TOKEN.fullmatch(name) is None or VALUE.fullmatch(value) is None:
                raise ProxyError(self._blame, f"the trailer {shown(name)} has a control character in its value")
            if name.lower() not in _NO_TRAILERS:
                kept.append((bytes(name), bytes(value)))
        return kept


def body_reader(length: int | None, chunked: bool, blame: Fault) -> BodyReader | None:
    """The reader for a body framed so; None when there is no body."""
    if chunked:
        return ChunkedBody(blame)
    if length is None:
        return BodyUntilClose()
    return CountedBody(length) if length else None
