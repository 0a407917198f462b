"""Reads an HTTP/2 peer, either side: one frame at a time, through our rules and counters, then through python-h2.

The reference codec; h2_server.py and h2_client.py complete it, h2_library_streams.py writes for it. This module sees
every frame first, counts it (h2_abuse.py) and decides what it means for which stream. GOAWAY, PRIORITY and frames of
unknown types end here, because the library would end the connection, or keep things, for them. Refuses to hold: bytes
beyond one frame or one header block.
"""

from collections.abc import Callable

from h2.events import DataReceived, StreamReset
from h2.events import Event as LibraryEvent
from h2.exceptions import DenialOfServiceError, NoSuchStreamError, ProtocolError

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import Note
from sidecar.codec.events import End, Event
from sidecar.codec.h2_abuse import CONTINUATIONS_MAX, HEADER_BLOCK_MAX_BYTES, SETTINGS_MAX_ENTRIES
from sidecar.codec.h2_frames import Code, Frame
from sidecar.codec.h2_library import settings_to_heed
from sidecar.codec.h2_library_streams import LibraryStreams
from sidecar.codec.h2_streams import Stream
from sidecar.model.messages import Fields


class H2Mux(LibraryStreams):
    """See `Mux`."""

    def __init__(self, *, client: bool, streams_max: int) -> None:
        super().__init__(client=client, streams_max=streams_max)
        self._cutter = wire.Cutter()
        self._block: list[Frame] = []  # HEADERS and CONTINUATION, while END_HEADERS is missing

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """See `Mux`."""
        events: list[Event] = []
        if self._over:
            return events
        if not data:
            self._end("the peer closed the connection", Code.CANCEL, events)
            return events
        self._now_s = now_s
        self._collect()
        before = len(self._out)
        try:
            for frame in self._cutter.cut(self._without_preface(data, events) if self._preface else data):
                self._frame(frame, events)
                if self.over:
                    return events
        except wire.OverlongFrame:
            self._fail(Code.FRAME_SIZE_ERROR, f"a frame is longer than {wire.FRAME_MAX_BYTES} bytes", events)
            return events
        self._collect()
        self._replies_bytes += len(self._out) - before
        self._check_backlog(events)
        return events

    def _frame(self, frame: Frame, events: list[Event]) -> None:
        kind = frame.kind
        block = self._block
        if block and (kind != wire.CONTINUATION or frame.stream != block[0].stream):
            self._fail(Code.PROTOCOL_ERROR, "another frame stands inside a header block", events)
        elif not self._greeted and (kind != wire.SETTINGS or frame.flags & wire.ACK):
            self._fail(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS: this is not HTTP/2", events)
        elif kind < len(_READERS):
            _READERS[kind](self, frame, events)
        else:
            self._ignored(events)

    def _receive(self, raw: bytes, events: list[Event]) -> list[LibraryEvent] | None:
        """Give whole frames to the library; None when the connection is over for them."""
        try:
            return self._library.receive_data(raw)
        except ProtocolError as error:  # it has written the GOAWAY
            too_big = isinstance(error, DenialOfServiceError)
            known = isinstance(error, NoSuchStreamError)  # says nothing but the number
            sentence = f"the peer broke the protocol: {'a closed stream is used, ' if known else ''}{error}"[:200]
            self._note("head-too-big" if too_big else "protocol-error", sentence)
            self._collect()
            self._end(sentence, error.error_code, events)
            return None

    def _end(self, sentence: str, code: int, events: list[Event]) -> None:
        self._block = []
        super()._end(sentence, code, events)

    def _data(self, frame: Frame, events: list[Event]) -> None:
        stream = self._streams.get(frame.stream)
        ended = bool(frame.flags & wire.END_STREAM)
        size = wire.body_size(frame)
        note = self._abuse.data_frame(size, end=ended)
        if note is not None:
            self._abort(note, events)
            return
        if stream is None or stream.got_end:
            self._late_data(frame, stream, events)
            return
        wrong = self._wrong_data(stream, size, ended)
        if wrong is not None:
            self._break(stream, Code.PROTOCOL_ERROR, wrong, events, ended=False)
            if not self._over:
                self._late_data(frame, None, events)
            return
        received = self._receive(frame.raw, events)
        if received is None:
            return
        data = received[0]
        assert isinstance(data, DataReceived), "the library and we agree on which streams are open"
        if data.flow_controlled_length > size:
            self._library.acknowledge_received_data(data.flow_controlled_length - size, stream.number)
        if stream.expects is not None:
            stream.expects -= size
        if size:
            self._chunk(stream, data.data, events)
        if ended and not self._over:
            self._end_received(stream)
            events.append(End(stream.number))

    def _late_data(self, frame: Frame, stream: Stream | None, events: list[Event]) -> None:
        """DATA for nobody: the library counts it and gives its room back to the connection."""
        number = frame.stream
        if self._is_idle(number):
            self._fail(Code.PROTOCOL_ERROR, f"DATA on stream {number}, which nobody has begun", events)
            return
        self._collect()
        received = self._receive(frame.raw, events)
        if received is None:
            return
        allowed = self._late.pop(number, None)
        if allowed is not None:
            self._out += wire.only_window_updates(self._library.data_to_send())
            allowed -= len(frame.raw)
            if allowed > 0 and not frame.flags & wire.END_STREAM:
                self._late[number] = allowed
            return
        self._after_end(number, stream, events)

    def _headers(self, frame: Frame, events: list[Event]) -> None:
        self._block.append(frame)
        if frame.flags & wire.END_HEADERS:
            self._whole_block(events)

    def _continuation(self, frame: Frame, events: list[Event]) -> None:
        block = self._block
        if not block:
            self._fail(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS", events)
            return
        block.append(frame)
        if len(block) > CONTINUATIONS_MAX or sum(part.size for part in block) > HEADER_BLOCK_MAX_BYTES:
            self._abort(Note("head-too-big", "a head takes too many CONTINUATION frames or bytes"), events)
        elif frame.flags & wire.END_HEADERS:
            self._whole_block(events)

    def _whole_block(self, events: list[Event]) -> None:
        first = self._block[0]
        ended = bool(first.flags & wire.END_STREAM)
        stream = self._streams.get(first.stream)
        trailing = stream is not None and stream.got_head and not stream.got_end
        parts = [part.raw for part in self._block]
        if trailing and not ended:  # malformed; the library would end the connection, `_trailers` ends the stream
            parts[0] = wire.with_flag(first, wire.END_STREAM)
        self._block = []
        raw = b"".join(parts)
        if stream is None:
            self._unknown_headers(first.stream, raw, ended, events)
            return
        may_be_interim = not trailing and not stream.got_end and not ended
        received = self._read_head(raw, events, interim=may_be_interim)
        if received is None:
            return
        if stream.got_end:
            self._after_end(first.stream, stream, events)
        elif trailing:
            self._trailers(stream, received, ended, events)
        else:
            self._head(stream, received, ended, events)

    def _read_head(self, raw: bytes, events: list[Event], *, interim: bool = False) -> Fields | None:
        """The header list of a whole header block; None when the connection is over for it."""
        reader = self._reader
        reader.may_be_interim = interim
        if self._receive(raw, events) is None:
            return None
        received, reader.received = reader.received, []
        return received

    def _unknown_headers(self, number: int, raw: bytes, ended: bool, events: list[Event]) -> None:
        """A header block on a stream that nobody calls for."""
        if self._is_idle(number):
            self._fail(Code.PROTOCOL_ERROR, f"HEADERS on stream {number}, which nobody has begun", events)
            return
        self._collect()
        if self._read_head(raw, events) is None:
            return
        if number not in self._late:
            self._after_end(number, None, events)
            return
        self._library.data_to_send()  # its RST_STREAM: the peer has one already
        if ended:
            del self._late[number]

    def _rst_stream(self, frame: Frame, events: list[Event]) -> None:
        number = frame.stream
        stream = self._streams.get(number)
        if self._is_idle(number):
            self._fail(Code.PROTOCOL_ERROR, f"RST_STREAM on stream {number}, which nobody has begun", events)
        elif stream is None and frame.size == 4:
            if self._late.pop(number, None) is None:
                self._ignored(events)
        elif self._receive(frame.raw, events) is not None and stream is not None:
            self._peer_reset(stream, int.from_bytes(frame.payload, "big"), events)

    def _window_update(self, frame: Frame, events: list[Event]) -> None:
        note = self._abuse.window_update()
        if note is not None:
            self._abort(note, events)
            return
        number = frame.stream
        stream = self._streams.get(number)
        if number and self._is_idle(number):
            self._fail(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {number}, which nobody has begun", events)
        elif number and frame.size == 4 and stream is None:
            pass  # it was on the way when the stream ended
        elif stream is not None and frame.size == 4 and not int.from_bytes(frame.payload, "big") & wire.LAST_STREAM:
            note = Note("protocol-error", "a WINDOW_UPDATE of 0")
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=stream.got_end)
        else:
            received = self._receive(frame.raw, events)
            if stream is not None and received and any(isinstance(event, StreamReset) for event in received):
                note = Note("window-overflow", "WINDOW_UPDATE frames add up to more than a window may be")
                self._break(stream, Code.FLOW_CONTROL_ERROR, note, events, ended=stream.got_end, written=True)

    def _settings(self, frame: Frame, events: list[Event]) -> None:
        self._greeted = True
        if self._flooded(events):
            return
        raw = frame.raw
        if frame.flags & wire.ACK:
            if frame.size:
                self._fail(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with settings in it", events)
                return
            self._settings_acked = True
        elif frame.size > 6 * SETTINGS_MAX_ENTRIES:
            self._abort(Note("control-flood", f"more than {SETTINGS_MAX_ENTRIES} settings in a frame"), events)
            return
        elif not frame.stream and not frame.size % 6:
            raw = settings_to_heed(frame)
        self._receive(raw, events)

    def _ping(self, frame: Frame, events: list[Event]) -> None:
        if not self._flooded(events) and self._receive(frame.raw, events) is not None and frame.flags & wire.ACK:
            self._pong(frame.payload)

    def _goaway_frame(self, frame: Frame, events: list[Event]) -> None:
        self._goaway(frame.stream, frame.payload, events)

    def _priority_frame(self, frame: Frame, events: list[Event]) -> None:
        self._priority(frame.stream, frame.payload, events)

    def _push_promise(self, frame: Frame, events: list[Event]) -> None:
        del frame
        self._fail(Code.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed", events)


# By frame type; functions, not bound methods, which would make a cycle of each connection.
_READERS: tuple[Callable[[H2Mux, Frame, list[Event]], None], ...] = (
    H2Mux._data,  # noqa: SLF001 - this file's own
    H2Mux._headers,  # noqa: SLF001
    H2Mux._priority_frame,  # noqa: SLF001
    H2Mux._rst_stream,  # noqa: SLF001
    H2Mux._settings,  # noqa: SLF001
    H2Mux._push_promise,  # noqa: SLF001
    H2Mux._ping,  # noqa: SLF001
    H2Mux._goaway_frame,  # noqa: SLF001
    H2Mux._window_update,  # noqa: SLF001
    H2Mux._continuation,  # noqa: SLF001
)
