"""The streams of one HTTP/2 connection, either end: what is sent on them, and how they and the connection break.

The base of h2_mux.py, which reads. The library (h2_library.py) writes the frames, but for those that it must not know
of: GOAWAY, after which it would do nothing more, and RST_STREAM on a stream that it takes for ended.
"""

from abc import ABC, abstractmethod
from typing import Final

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import CANCEL, Note, Trailing
from sidecar.codec.events import Event, Reset
from sidecar.codec.h2_abuse import RESETS_ABORT, RESETS_CALM, Abuse
from sidecar.codec.h2_frames import Code
from sidecar.codec.h2_heads import trailer_fields
from sidecar.codec.h2_library import STREAM_WINDOW_BYTES, library_connection

SEND_MAX_BYTES = 65_536  # of one DATA frame, whatever the peer would take: others want to send too
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
        got_head, got_end: What the peer sent: its (final) head, its end.
        sent_head, sent_end: What we sent.
        expects: Body bytes that the peer still owes; None when it announced no length.
        left: Body bytes that we still owe; None when we announced no length.
        muted: Our message has no body, whatever is given.
        owed: Bytes given as chunks whose credit has not come back.
        small: Small frames among them.
        interims: 1xx answers so far.
        head_bytes: Size of the request's header list, where it is held.
    """

    __slots__ = ("expects", "got_end", "got_head", "head_bytes", "interims", "left", "method", "muted", "number",
                 "owed", "sent_end", "sent_head", "small", "tunnel")  # fmt: skip

    def __init__(self, number: int, method: bytes, *, tunnel: bool) -> None:
        self.number = number
        self.method = method
        self.tunnel = tunnel
        self.got_head = self.got_end = self.sent_head = self.sent_end = self.muted = False
        self.expects: int | None = None
        self.left: int | None = None
        self.owed = self.small = self.interims = self.head_bytes = 0


class Streams(ABC):
    """See `Mux`."""

    _end_is_all: bool  # when the peer's message is complete, nothing more is told of the stream

    def __init__(self, *, client: bool, streams_max: int) -> None:
        self._library, self._reader = library_connection(client=client, streams_max=streams_max)
        self._out = bytearray()
        self._replies_bytes = 0  # of what `feed` put into `_out`
        self._cutter = wire.Cutter()
        self._streams: dict[int, Stream] = {}
        self._late: dict[int, int] = {}  # stream we reset -> bytes that may still come of it
        self._block: list[wire.Frame] = []  # HEADERS and CONTINUATION, while END_HEADERS is missing
        self._greeted = False  # the peer's first SETTINGS came
        self._settings_acked = False
        self._abuse = Abuse()
        self._notes: list[Note] = []
        self._now_s = 0.0
        self._over = ""
        self._calmed = False  # GOAWAY ENHANCE_YOUR_CALM was said
        self._peer_gone_away = False
        self._pings: list[bytes] = []  # unanswered
        self._pings_sent = 0

    def __del__(self) -> None:
        # The library's connection holds methods of its own, and so itself: what it knows of its streams (2 KiB each)
        # would wait for the collector, which a quiet process calls once in many minutes.
        self._library.streams.clear()

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

    def take(self) -> bytes:
        """See `Mux`."""
        self._collect()
        written = bytes(self._out)
        self._out.clear()
        self._replies_bytes = 0
        return written

    # What we send

    def send_room(self, stream: int) -> int:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end or known.muted:
            return SEND_MAX_BYTES  # vanishes, so nobody need wait
        library = self._library
        room = min(library.local_flow_control_window(stream), library.max_outbound_frame_size, SEND_MAX_BYTES)
        return max(room, 0)

    def send_chunk(self, stream: int, data: bytes) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end or known.muted or not data:
            return
        if known.left is not None:
            if len(data) > known.left:
                raise ValueError(f"{len(data)} body bytes, but only {known.left} of the announced length are left")
            known.left -= len(data)
        self._library.send_data(stream, data)
        self._abuse.data_sent(len(data))

    def send_end(self, stream: int, trailers: Trailing = ()) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or known.sent_end:
            return
        if known.left:
            raise ValueError(f"the body ends, but {known.left} bytes of the announced length are owed")
        fields = () if known.tunnel else trailer_fields(trailers)
        if fields:
            self._library.send_headers(stream, fields, end_stream=True)
        else:
            self._library.end_stream(stream)
        self._we_ended(known)

    def credit(self, stream: int, size: int) -> None:
        """See `Mux`."""
        known = self._streams.get(stream)
        if known is None or (size := min(size, known.owed)) <= 0:
            return
        released = known.small * size // known.owed
        known.small -= released
        self._abuse.small_released(released)
        known.owed -= size
        self._library.acknowledge_received_data(size, stream)

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
        self._library.ping(data)

    def _we_ended(self, stream: Stream) -> None:
        stream.sent_end = True
        if stream.got_end:
            self._done(stream)

    def _done(self, stream: Stream) -> None:  # noqa: ARG002 - the server forgets it
        """Both directions of `stream` are complete."""
        self._abuse.stream_done()

    def _drop(self, stream: Stream) -> None:
        """Nobody calls for `stream` any more: what it still owes belongs to the connection again."""
        del self._streams[stream.number]
        if stream.small:
            self._abuse.small_released(stream.small)
        if stream.owed and not self._over:
            self._library.acknowledge_received_data(stream.owed, stream.number)

    def _write_reset(self, stream: Stream, code: int) -> None:
        self._reset_number(stream.number, code, ended=stream.got_end)

    def _reset_number(self, number: int, code: int, *, ended: bool, written: bool = False) -> None:
        """Write RST_STREAM, unless both sides know that the stream is over.

        `ended`: the peer sends no more on it; `written`: the library has done it already.
        """
        known = self._library.streams.get(number)
        if known is not None and known.open:
            self._library.reset_stream(number, code)
        elif not ended and not written:
            self._write(wire.frame(wire.RST_STREAM, 0, number, code.to_bytes(4, "big")))
        if not ended:
            self._late[number] = STREAM_WINDOW_BYTES
            if len(self._late) > LATE_STREAMS_MAX:
                del self._late[next(iter(self._late))]

    def _collect(self) -> None:
        self._out += self._library.data_to_send()

    def _write(self, raw: bytes) -> None:
        """Write what the library must not know of, after what it has written."""
        self._collect()
        self._out += raw

    # How streams and connections break

    @abstractmethod
    def _is_idle(self, number: int) -> bool:
        """True if no stream `number` ever began."""

    @property
    def _last_taken(self) -> int:
        """The last stream of the peer's that we may have acted on."""
        return 0

    def _break(
        self, stream: Stream, code: int, note: Note, events: list[Event], *, ended: bool, written: bool = False
    ) -> None:
        """Reset `stream` for what the peer did. `ended`: it sends no more on it; `written`: the library reset it."""
        self._reset_number(stream.number, code, ended=ended, written=written)
        self._notes_add(note)
        self._give_up(stream, note.sentence, code, events)
        self._premature(events)

    def _give_up(self, stream: Stream, sentence: str, code: int, events: list[Event]) -> None:
        """`stream` was reset: tell whoever calls for it, unless the peer's message was complete and that was all."""
        if stream.got_end and self._end_is_all:
            stream.sent_end = True
        else:
            self._drop(stream)
            events.append(Reset(False, sentence, code, stream.number))

    def _premature(self, events: list[Event]) -> None:
        """Count a stream that came to nothing."""
        level = self._abuse.premature_reset(self._now_s)
        if level >= RESETS_ABORT:
            self._abort(Note("rapid-reset", f"{level:.0f} streams came to nothing"), events)
        elif level >= RESETS_CALM and not self._calmed:
            self._note("rapid-reset", f"{level:.0f} streams came to nothing; no more are taken")
            self._calm()

    def _calm(self) -> None:
        self._calmed = True
        self._write(wire.goaway(self._last_taken, Code.ENHANCE_YOUR_CALM))

    def _abort(self, note: Note, events: list[Event]) -> None:
        self._notes_add(note)
        self._write(wire.goaway(self._last_taken, Code.ENHANCE_YOUR_CALM))
        self._end(note.sentence, Code.ENHANCE_YOUR_CALM, events)

    def _fail(self, code: Code, sentence: str, events: list[Event]) -> None:
        self._note("protocol-error", sentence)
        self._write(wire.goaway(self._last_taken, code))
        self._end(sentence, code, events)

    def _end(self, sentence: str, code: int, events: list[Event]) -> None:
        self._over = sentence
        events.extend(
            Reset(False, sentence, code, stream.number)
            for stream in self._streams.values()
            if not (stream.got_end and self._end_is_all)
        )
        self._streams.clear()
        self._late.clear()
        self._block = []

    def _note(self, kind: str, sentence: str) -> None:
        self._notes_add(Note(kind, sentence))

    def _notes_add(self, note: Note) -> None:
        if len(self._notes) < NOTES_MAX:
            self._notes.append(note)
