"""Plain heads on the full path: read in one pass, and written as they came.

What `plain_head.py` accepts needs no fields to be made of its lines, and none to be written anew, as long as nobody
asks for them: the lines that go on are kept as bytes, and what this hop adds comes behind them. Whoever edits fields
(a filter), or writes them otherwise (HTTP/2), finds them all the same.
"""

from sidecar.codec.grammar import fields_of
from sidecar.codec.plain_head import PlainRequest, PlainResponse
from sidecar.model.messages import Fields, RequestHead, ResponseHead, end_to_end

_NOTHING: frozenset[bytes] = frozenset()


class PlainForward(RequestHead):
    """A plain request as it goes on. `dropped`: what of its fields does not; the lines in `kept` are without them."""

    __slots__ = ("_came", "_dropped", "_read", "kept", "own")

    def __init__(self, came: PlainRequest, own: Fields, dropped: frozenset[bytes]) -> None:
        # Not by the base class: as of PlainRequest.
        self._came = came
        self._dropped = dropped
        self._read: Fields | None = None
        self._index = None
        self.kept = came.kept
        self.own = own
        self.method = came.method
        self.target = came.target
        self.authority = came.authority
        self.content_length = came.content_length
        self.chunked = came.chunked
        self.keep_alive = True
        self.version = b"1.1"
        self.upgrade = b""

    @property
    def fields(self) -> Fields:
        """All fields that go on."""
        if self._read is None:
            self._read = [*end_to_end(self._came.fields, self._dropped), *self.own]
        return self._read

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._read = fields


class PlainAnswer(ResponseHead):
    """A plain answer. `promised_s`: as of `PlainResponse`."""

    __slots__ = ("_read", "kept", "promised_s")

    def __init__(self, plain: PlainResponse) -> None:
        self._read: Fields | None = None
        self._index = None
        self.kept = kept = plain.data[: plain.size - 2]
        self.status = plain.status
        self.reason = kept[13 : kept.index(b"\r")]
        self.version = b"1.1"
        self.content_length = plain.content_length
        self.chunked = plain.content_length is None
        self.keep_alive = plain.keep_alive
        self.promised_s = plain.promised_s

    @property
    def fields(self) -> Fields:
        """All fields that go on."""
        if self._read is None:
            kept = self.kept
            self._read = end_to_end(fields_of(kept + b"\r\n", kept.index(b"\n") + 1), _NOTHING)
        return self._read

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._read = fields
