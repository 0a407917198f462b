"""What it means that a frame came, whichever codec has read it: what is told, what is counted, what breaks.

Between h2_streams.py and the codecs (h2_mux.py on python-h2, h2_lean our own), which give payloads that are whole and
header lists that are decoded. Refuses to hold body bytes; those are the reader's, until it credits them.
"""

import struct
from abc import abstractmethod

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import Note
from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.h2_abuse import CONTROL_REPLIES_MAX_BYTES, SMALL_DATA_BYTES
from sidecar.codec.h2_frames import Code, code_name
from sidecar.codec.h2_heads import trailers
from sidecar.codec.h2_states import CLOSED
from sidecar.codec.h2_streams import DRAIN_PING, S, Streams
from sidecar.errors import Fault, ProxyError
from sidecar.model.messages import Fields

_BAD_PRIORITY = "a PRIORITY frame of another size than 5 bytes, on itself, or on no stream (RFC 9113 section 6.3)"


class Receiving(Streams[S]):
    """See `Mux`."""

    _preface: bytes = b""  # what must still come before the first frame
    _blame: Fault  # of heads that break the rules

    def __init__(self) -> None:
        super().__init__()
        self._greeted = False  # the peer's first SETTINGS came
        self._replies_bytes = 0  # of what reading made us write, since `take`

    # Whom what came is told

    def _tell_trailers(self, stream: S, fields: Fields, events: list[Event]) -> None:
        """Trailers came, perhaps none that may be kept; they are the end."""
        if fields:
            events.append(Trailers(fields, stream.number))
        events.append(End(stream.number))

    # What a codec was given

    def _without_preface(self, data: bytes, events: list[Event]) -> bytes:
        preface = self._preface
        size = min(len(preface), len(data))
        if data[:size] != preface[:size]:
            self._fail(Code.PROTOCOL_ERROR, "the peer does not begin as HTTP/2 does (RFC 9113 section 3.4)", events)
            return b""
        self._preface = preface[size:]
        return data[size:]

    def _check_backlog(self, events: list[Event]) -> None:
        if self._replies_bytes > CONTROL_REPLIES_MAX_BYTES:
            note = Note("control-backlog", f"more than {CONTROL_REPLIES_MAX_BYTES} bytes of answers wait to be read")
            self._abort(note, events)

    def _wrong_data(self, stream: S, size: int, ended: bool) -> Note | None:
        if not stream.got_head:
            return Note("protocol-error", "DATA came before the head (RFC 9113 section 8.1)")
        owed = stream.expects
        if owed is not None and (size > owed or (ended and size != owed)):
            return Note("bad-length", "the body is longer or shorter than content-length says (RFC 9113 section 8.1.1)")
        return None

    def _chunk(self, stream: S, body: bytes, events: list[Event]) -> None:
        size = len(body)
        stream.owed += size
        last = events[-1] if events else None
        if isinstance(last, Chunk) and last.stream == stream.number and len(last.data) + size <= wire.FRAME_MAX_BYTES:
            last.data += body  # small frames of one read make one chunk
            last.credit += size
            return
        events.append(Chunk(body, size, stream.number))
        if size < SMALL_DATA_BYTES:
            self._hold_small(stream, events)

    def _hold_small(self, stream: S, events: list[Event]) -> None:
        """A small frame was handed on by itself."""
        stream.small += 1
        note = self._abuse.small_data()
        if note is not None:
            self._abort(note, events)

    def _after_end(self, number: int, stream: S | None, events: list[Event]) -> None:
        """A frame on a stream that the peer had ended was answered with RST_STREAM."""
        sentence = f"a frame came on stream {number} after its end (STREAM_CLOSED, RFC 9113 section 5.1)"
        self._note("frame-after-end", sentence)
        if stream is not None:
            self._give_up(stream, sentence, Code.STREAM_CLOSED, events)
        self._premature(events)

    def _head(self, stream: S, received: Fields, ended: bool, events: list[Event]) -> None:
        """The head of an answer; a server is never asked, its streams begin with their heads."""

    def _trailers(self, stream: S, received: Fields, ended: bool, events: list[Event]) -> None:
        """A header block came after the head."""
        try:
            fields = trailers(received, self._blame)
        except ProxyError as exc:
            self._break(stream, Code.PROTOCOL_ERROR, Note("bad-head", str(exc)), events, ended=ended)
            return
        if stream.tunnel or not ended:
            note = Note("bad-head", "HEADERS came inside a body or a tunnel (RFC 9113 section 8.1)")
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=ended)
        elif stream.expects:
            note = Note("bad-length", f"the body ends {stream.expects} bytes before the length that it announced")
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=True)
        else:
            self._end_received(stream)
            self._tell_trailers(stream, fields, events)

    def _end_received(self, stream: S) -> None:
        """The peer has ended its direction of `stream`."""
        stream.peer_ends()
        if stream.state == CLOSED:
            self._done(stream)

    @abstractmethod
    def _peer_reset(self, stream: S, code: int, events: list[Event]) -> None:
        """The peer gives `stream` up."""

    def _pong(self, answered: bytes) -> None:
        """An answer to a PING of ours, or to none."""
        if answered in self._pings:
            del self._pings[: self._pings.index(answered) + 1]
        elif answered == DRAIN_PING:
            self._drain_heard()

    def _drain_heard(self) -> None:
        """The peer has read the first GOAWAY of a drain."""

    def _goaway(self, number: int, payload: bytes, events: list[Event]) -> None:
        if self._flooded(events):
            return
        if number:
            self._fail(Code.PROTOCOL_ERROR, "GOAWAY on a stream (RFC 9113 section 6.8)", events)
            return
        try:
            last, code = wire.goaway_said(payload)
        except struct.error:
            self._fail(Code.FRAME_SIZE_ERROR, "a GOAWAY shorter than 8 bytes (RFC 9113 section 6.8)", events)
            return
        if code != Code.NO_ERROR:
            self._note("peer-goaway", f"the peer goes away with {code_name(code)}")
        self._peer_gone_away = True
        self._peer_goes_away(last, code, events)

    def _peer_goes_away(self, last: int, code: int, events: list[Event]) -> None:
        """The peer takes no streams of ours above `last`."""

    def _priority(self, number: int, payload: bytes, events: list[Event]) -> None:
        """Priorities of RFC 7540 are deprecated (RFC 9113 section 5.3.2): looked at, and forgotten."""
        self._ignored(events)
        if self._over:
            return
        size = len(payload)
        depends_on_itself = int.from_bytes(payload[:4], "big") & wire.LAST_STREAM == number
        if size == 5 and number and not depends_on_itself:
            return
        stream = self._streams.get(number)
        code = Code.PROTOCOL_ERROR if size == 5 or not number else Code.FRAME_SIZE_ERROR
        if stream is None:
            self._fail(code, _BAD_PRIORITY, events)
        else:
            note = Note("protocol-error", _BAD_PRIORITY)
            self._break(stream, code, note, events, ended=stream.got_end)

    def _ignored(self, events: list[Event]) -> None:
        note = self._abuse.ignored_frame()
        if note is not None:
            self._abort(note, events)

    def _flooded(self, events: list[Event]) -> bool:
        note = self._abuse.control_frame(self._now_s)
        if note is not None:
            self._abort(note, events)
        return note is not None
