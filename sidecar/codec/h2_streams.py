"""The streams of one HTTP/2 connection, either end: what is sent on them, and how they and the connection break.

The base of both codecs. What it decides holds whichever of them writes the frames: python-h2 (h2_mux.py), or our own
(h2_lean). What arrives is h2_receiving.py's.
"""

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from sidecar.codec.contract import CANCEL, Note, Trailing
from sidecar.codec.events import Event, Reset
from sidecar.codec.h2_abuse import RESETS_ABORT, RESETS_CALM, Abuse
from sidecar.codec.h2_frames import Code
from sidecar.codec.h2_heads import trailer_fields
from sidecar.codec.h2_limits import SEND_MAX_BYTES, STREAM_WINDOW_BYTES
from sidecar.codec.h2_states import AFTER_RECV_ES, AFTER_SEND_ES, CLOSED, GOT_END, OPEN, SENT_END
from sidecar.model.messages import Fields

LATE_STREAMS_MAX = 256  # streams that we reset, whose last frames may be on the way
NOTES_MAX = 100  # between two calls of `notes`
PINGS_MAX = 8
DRAIN_PING = b"drained?"

NOTE_KINDS: Final = (
    "bad-head",  # a head or trailers that break the rules of h2_heads.py
    "bad-length",  # a body is not as long as content-length says
    "control-backlog",  # the peer does not read what it makes us answer
    "control-flood",  # PING and SETTINGS
    "empty-data",
    "frame-after-end",  # on a stream that the peer had ended or reset
    "head-too-big",  # header block, CONTINUATION frames, or what HPACK makes of them
    "ignored-flood",  # PRIORITY, unknown frames
    "interim-flood",  # 1xx answers
    "peer-goaway",  # with an error
    "peer-reset",  # a stream, before it was answered
    "protocol-error",  # any other breach of RFC 9113
    "rapid-reset",  # too many streams came to nothing
    "stream-limit",  # a stream was refused
    "tiny-data",
    "window-overflow",
    "window-update-flood",
)


class Stream:
    """One stream, as long as somebody may call for it.

    Attributes:
        method: The request's. An extended CONNECT is GET to the server and CONNECT to the client.
        tunnel: What follows the head is another protocol's, or will be if the answer agrees.
        state: Of h2_states.py; it began with a HEADERS frame, whoever sent that.
        got_head, sent_head: The peer's (final) head, and ours.
        expects: Body bytes that the peer still owes; None when it announced no length.
        left: Body bytes that we still owe; None when we announced no length.
        muted: Our message has no body, whatever is given.
        owed: Bytes given as chunks whose credit has not come back.
        small: Small frames among them.
        interims: 1xx answers so far.
        head_bytes: What the request's header list takes, where it is held.
    """

    __slots__ = ("expects", "got_head", "head_bytes", "interims", "left", "method", "muted", "number", "owed",
                 "sent_head", "small", "state", "tunnel")  # fmt: skip

    def __init__(self, number: int, method: bytes, *, tunnel: bool) -> None:
        self.number = number
        self.method = method
        self.tunnel = tunnel
        self.state: int = OPEN
        self.got_head = self.sent_head = self.muted = False
        self.expects: int | None = None
        self.left: int | None = None
        self.owed = self.small = self.interims = self.head_bytes = 0

    @property
    def got_end(self) -> bool:
        """The peer has ended its direction."""
        return GOT_END[self.state]

    @property
    def sent_end(self) -> bool:
        """We have ended ours."""
        return SENT_END[self.state]

    def peer_ends(self) -> None:
        """END_STREAM came."""
        self.state = AFTER_RECV_ES[self.state]

    def we_end(self) -> None:
        """END_STREAM was sent, or nobody wants what we would send."""
        self.state = AFTER_SEND_ES[self.state]


S = TypeVar("S", bound=Stream)  # what a codec keeps of a stream


class Streams(ABC, Generic[S]):
    """See `Mux`."""

    _end_is_all: bool  # when the peer's message is complete, nothing more is told of the stream

    def __init__(self) -> None:
        self._streams: dict[int, S] = {}
        self._late: dict[int, int] = {}  # stream we reset -> bytes that may still come of it
        self._settings_acked = False
        self._abuse = Abuse()
        self._notes: list[Note] = []
        self._now_s = 0.0
        self._over = ""
        self._calmed = False  # GOAWAY ENHANCE_YOUR_CALM was said
        self._peer_gone_away = False
        self._pings: list[bytes] = []  # unanswered
        self._pings_sent = 0

    @property
    def over(self) -> str:
        """See `Mux`."""
        return self._over

    @property
    def streams(self) -> int:
        """See `Mux`."""
        return len(self._streams)

    @property
    def pings_unanswered(self) -> int:
        """See `Mux`."""
        return len(self._pings)

    def notes(self) -> list[Note]:
        """See `Mux`."""
        notes, self._notes = self._notes, []
        return notes

    # What a codec keeps, and writes

    @abstractmethod
    def _made(self, number: int, method: bytes, *, tunnel: bool) -> S:
        """A stream that begins."""

    @abstractmethod
    def _put_head(self, number: int, fields: Fields, *, end: bool) -> None:
        """A header block on stream `number`, which may be new."""

    @abstractmethod
    def _put_data(self, stream: S, data: bytes) -> None:
        """A DATA frame within `_room`."""

    @abstractmethod
    def _put_end(self, stream: S) -> None:
        """An empty DATA frame with END_STREAM."""

    @abstractmethod
    def _put_reset(self, number: int, code: int) -> None:
        """RST_STREAM."""

    @abstractmethod
    def _put_ping(self, data: bytes) -> None:
        """A PING of ours."""

    @abstractmethod
    def _put_goaway(self, last: int, code: int) -> None:
        """GOAWAY, behind whatever was written."""

    @abstractmethod
    def _room(self, stream: S) -> int:
        """What one DATA frame may carry now: the peer's windows and frame size."""

    @abstractmethod
    def _give_back(self, stream: S, size: int) -> None:
        """Window of `stream` and of the connection; once `stream` has ended, of the connection."""

    @property
    @abstractmethod
    def _peer_streams_max(self) -> int:
        """What the peer's SETTINGS allow at once."""

    @property
    @abstractmethod
    def _peer_connects(self) -> bool:
        """Whether its SETTINGS allow `:protocol`."""

    # What we send

    def send_room(self, stream: int) -> int:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end or known.muted:
            return SEND_MAX_BYTES  # vanishes, so nobody need wait
        return max(min(self._room(known), SEND_MAX_BYTES), 0)

    def send_chunk(self, stream: int, data: bytes) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end or known.muted or not data:
            return
        self._count_sent(known, len(data))
        self._put_data(known, data)

    def _count_sent(self, stream: S, size: int) -> None:
        """Body bytes are about to be sent. Raises ValueError: more than were announced."""
        if stream.left is not None:
            if size > stream.left:
                raise ValueError(f"{size} body bytes, but only {stream.left} of the announced length are left")
            stream.left -= size
        self._abuse.data_sent(size)

    def send_end(self, stream: int, trailers: Trailing = ()) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end:
            return
        if known.left:
            raise ValueError(f"the body ends, but {known.left} bytes of the announced length are owed")
        fields = () if known.tunnel else trailer_fields(trailers)
        if fields:
            self._put_head(stream, fields, end=True)
        else:
            self._put_end(known)
        self._we_ended(known)

    def credit(self, stream: int, size: int) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or (size := min(size, known.owed)) <= 0:
            return
        if known.small:
            released = known.small * size // known.owed
            known.small -= released
            self._abuse.small_released(released)
        known.owed -= size
        self._give_back(known, size)

    def reset(self, stream: int, code: int = CANCEL) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is not None:
            self._write_reset(known, code)
            self._drop(known)

    def ping(self) -> None:
        """See `Mux`."""
        if self._over or len(self._pings) >= PINGS_MAX:
            return
        self._pings_sent += 1
        data = self._pings_sent.to_bytes(8, "big")
        self._pings.append(data)
        self._put_ping(data)

    def _we_ended(self, stream: S) -> None:
        stream.we_end()
        if stream.state == CLOSED:
            self._done(stream)

    def _done(self, stream: S) -> None:  # noqa: ARG002 - the server forgets it
        """Both directions of `stream` are complete."""
        self._abuse.stream_done()

    def _drop(self, stream: S) -> None:
        """Nobody calls for `stream` any more: what it still owes belongs to the connection again."""
        del self._streams[stream.number]
        if stream.small:
            self._abuse.small_released(stream.small)
        stream.state = CLOSED
        if stream.owed and not self._over:
            owed, stream.owed = stream.owed, 0
            self._give_back(stream, owed)

    def _write_reset(self, stream: S, code: int) -> None:
        self._reset_number(stream.number, code, ended=stream.got_end, silent=stream.state == CLOSED)

    def _reset_number(self, number: int, code: int, *, ended: bool, silent: bool = False) -> None:
        """Write RST_STREAM. `ended`: the peer sends no more on it; `silent`: it knows already that all is over."""
        if not silent:
            self._put_reset(number, code)
        if not ended:
            self._late[number] = STREAM_WINDOW_BYTES
            if len(self._late) > LATE_STREAMS_MAX:
                del self._late[next(iter(self._late))]

    # How streams and connections break

    @abstractmethod
    def _is_idle(self, number: int) -> bool:
        """True if no stream `number` ever began."""

    @property
    def _last_taken(self) -> int:
        """The last stream of the peer's that we may have acted on."""
        return 0

    def _tell_reset(self, stream: S, reset: Reset, events: list[Event]) -> None:
        """Whoever calls for `stream` is told that it is over."""
        del stream
        events.append(reset)

    def _break(
        self, stream: S, code: int, note: Note, events: list[Event], *, ended: bool, written: bool = False
    ) -> None:
        """Reset `stream` for what the peer did. `ended`: it sends no more on it; `written`: it was reset already."""
        self._reset_number(stream.number, code, ended=ended, silent=written or (ended and stream.sent_end))
        self._notes_add(note)
        self._give_up(stream, note.sentence, code, events)
        self._premature(events)

    def _give_up(self, stream: S, sentence: str, code: int, events: list[Event]) -> None:
        """`stream` was reset: tell whoever calls for it, unless the peer's message was complete and that was all."""
        if stream.got_end and self._end_is_all:
            stream.we_end()
        else:
            self._drop(stream)
            self._tell_reset(stream, Reset(False, sentence, code, stream.number), events)

    def _premature(self, events: list[Event]) -> None:
        """Count a stream that came to nothing."""
        level = self._abuse.premature_reset(self._now_s)
        if level >= RESETS_ABORT:
            self._abort(Note("rapid-reset", f"{level:.0f} streams came to nothing"), events)
        elif level >= RESETS_CALM and not self._calmed:
            self._note("rapid-reset", f"{level:.0f} streams came to nothing; no more are taken")
            self._calmed = True
            self._put_goaway(self._last_taken, Code.ENHANCE_YOUR_CALM)

    def _abort(self, note: Note, events: list[Event]) -> None:
        self._notes_add(note)
        self._put_goaway(self._last_taken, Code.ENHANCE_YOUR_CALM)
        self._end(note.sentence, Code.ENHANCE_YOUR_CALM, events)

    def _fail(self, code: int, sentence: str, events: list[Event]) -> None:
        self._note("protocol-error", sentence)
        self._put_goaway(self._last_taken, code)
        self._end(sentence, code, events)

    def _end(self, sentence: str, code: int, events: list[Event]) -> None:
        self._over = sentence
        known = list(self._streams.values())
        self._streams.clear()
        self._late.clear()
        for stream in known:
            if not (stream.got_end and self._end_is_all):
                self._tell_reset(stream, Reset(False, sentence, code, stream.number), events)

    def _note(self, kind: str, sentence: str) -> None:
        self._notes_add(Note(kind, sentence))

    def _notes_add(self, note: Note) -> None:
        if len(self._notes) < NOTES_MAX:
            self._notes.append(note)
