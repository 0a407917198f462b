"""Reads an HTTP/2 peer, either side: one frame at a time, through our rules and counters, then through python-h2.

The reference codec; h2_server.py and h2_client.py complete it. This module sees every frame first, counts it
(h2_abuse.py) and decides what it means for which stream. GOAWAY, PRIORITY and frames of unknown types end here, because
the library would end the connection, or keep things, for them. Refuses to hold: bytes beyond one frame or one header
block, or body bytes; those are the reader's, until it credits them.
"""

import struct
from abc import abstractmethod
from collections.abc import Callable

from h2.events import DataReceived, StreamReset
from h2.events import Event as LibraryEvent
from h2.exceptions import DenialOfServiceError, NoSuchStreamError, ProtocolError
from hpack import HeaderTuple

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import Note
from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.h2_abuse import (
    CONTINUATIONS_MAX,
    CONTROL_REPLIES_MAX_BYTES,
    HEADER_BLOCK_MAX_BYTES,
    SETTINGS_MAX_ENTRIES,
    SMALL_DATA_BYTES,
)
from sidecar.codec.h2_frames import Code, Frame, code_name
from sidecar.codec.h2_heads import trailers
from sidecar.codec.h2_library import settings_to_heed
from sidecar.codec.h2_streams import DRAIN_PING, Stream, Streams
from sidecar.errors import Fault, ProxyError


class H2Mux(Streams):
    """See `Mux`."""

    _preface: bytes = b""  # what must come before the first frame
    _blame: Fault

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
            for frame in self._cutter.cut(self._without_preface(data, events)):
                self._frame(frame, events)
                if self.over:
                    return events
        except wire.OverlongFrame:
            self._fail(Code.FRAME_SIZE_ERROR, f"a frame is longer than {wire.FRAME_MAX_BYTES} bytes", events)
            return events
        self._collect()
        self._replies_bytes += len(self._out) - before
        if self._replies_bytes > CONTROL_REPLIES_MAX_BYTES:
            note = Note("control-backlog", f"more than {CONTROL_REPLIES_MAX_BYTES} bytes of answers wait to be read")
            self._abort(note, events)
        return events

    def _without_preface(self, data: bytes, events: list[Event]) -> bytes:
        preface = self._preface
        if not preface:
            return data
        size = min(len(preface), len(data))
        if data[:size] != preface[:size]:
            self._fail(Code.PROTOCOL_ERROR, "the peer does not begin as HTTP/2 does", events)
            return b""
        self._preface = preface[size:]
        return data[size:]

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
            self._peer_ended(stream, events)

    def _wrong_data(self, stream: Stream, size: int, ended: bool) -> Note | None:
        if not stream.got_head:
            return Note("protocol-error", "DATA came before the head")
        owed = stream.expects
        if owed is not None and (size > owed or (ended and size != owed)):
            return Note("bad-length", "the body is longer or shorter than content-length says")
        return None

    def _chunk(self, stream: Stream, body: bytes, events: list[Event]) -> None:
        size = len(body)
        stream.owed += size
        last = events[-1] if events else None
        if isinstance(last, Chunk) and last.stream == stream.number and len(last.data) + size <= wire.FRAME_MAX_BYTES:
            last.data += body  # small frames of one read make one chunk
            last.credit += size
            return
        events.append(Chunk(body, size, stream.number))
        if size < SMALL_DATA_BYTES:
            stream.small += 1
            note = self._abuse.small_data()
            if note is not None:
                self._abort(note, events)

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

    def _after_end(self, number: int, stream: Stream | None, events: list[Event]) -> None:
        """The library has answered a frame on a stream that the peer had ended, with RST_STREAM."""
        sentence = f"a frame came on stream {number} after its end"
        self._note("frame-after-end", sentence)
        if stream is not None:
            self._give_up(stream, sentence, Code.STREAM_CLOSED, events)
        self._premature(events)

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
        elif stream.got_end:
            if self._read_head(raw, events) is not None:
                self._after_end(first.stream, stream, events)
        elif trailing:
            self._trailers(stream, raw, ended, events)
        else:
            self._head(stream, raw, ended, events)

    def _read_head(self, raw: bytes, events: list[Event], *, interim: bool = False) -> list[HeaderTuple] | None:
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

    def _head(self, stream: Stream, raw: bytes, ended: bool, events: list[Event]) -> None:
        """The head of an answer; a server is never asked, its streams begin with their heads."""

    def _trailers(self, stream: Stream, raw: bytes, ended: bool, events: list[Event]) -> None:
        received = self._read_head(raw, events)
        if received is None:
            return
        try:
            fields = trailers(received, self._blame)
        except ProxyError as exc:
            self._break(stream, Code.PROTOCOL_ERROR, Note("bad-head", str(exc)), events, ended=ended)
            return
        if stream.tunnel or not ended:
            note = Note("bad-head", "HEADERS came inside a body or a tunnel")
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=ended)
        elif stream.expects:
            note = Note("bad-length", f"the body ends {stream.expects} bytes before the length that it announced")
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=True)
        else:
            if fields:
                events.append(Trailers(fields, stream.number))
            self._peer_ended(stream, events)

    def _peer_ended(self, stream: Stream, events: list[Event]) -> None:
        stream.got_end = True
        events.append(End(stream.number))
        if stream.sent_end:
            self._done(stream)

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

    @abstractmethod
    def _peer_reset(self, stream: Stream, code: int, events: list[Event]) -> None:
        """The peer gives `stream` up."""

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
        if self._flooded(events) or self._receive(frame.raw, events) is None or not frame.flags & wire.ACK:
            return
        answered = frame.payload
        if answered in self._pings:
            del self._pings[: self._pings.index(answered) + 1]
        elif answered == DRAIN_PING:
            self._drain_heard()

    def _drain_heard(self) -> None:
        """The peer has read the first GOAWAY of a drain."""

    def _goaway(self, frame: Frame, events: list[Event]) -> None:
        if self._flooded(events):
            return
        if frame.stream:
            self._fail(Code.PROTOCOL_ERROR, "GOAWAY on a stream", events)
            return
        try:
            last, code = wire.goaway_said(frame.payload)
        except struct.error:
            self._fail(Code.FRAME_SIZE_ERROR, "a GOAWAY shorter than 8 bytes", events)
            return
        if code != Code.NO_ERROR:
            self._note("peer-goaway", f"the peer goes away with {code_name(code)}")
        self._peer_gone_away = True
        self._peer_goes_away(last, code, events)

    def _peer_goes_away(self, last: int, code: int, events: list[Event]) -> None:
        """The peer takes no streams of ours above `last`."""

    def _priority(self, frame: Frame, events: list[Event]) -> None:
        """Priorities of RFC 7540 are deprecated (RFC 9113 section 5.3.2): looked at, and forgotten."""
        self._ignored(events)
        if self._over:
            return
        depends_on_itself = int.from_bytes(frame.payload[:4], "big") & wire.LAST_STREAM == frame.stream
        if frame.size == 5 and frame.stream and not depends_on_itself:
            return
        stream = self._streams.get(frame.stream)
        code = Code.PROTOCOL_ERROR if frame.size == 5 or not frame.stream else Code.FRAME_SIZE_ERROR
        if stream is None:
            self._fail(code, "a PRIORITY frame that cannot be", events)
        else:
            note = Note("protocol-error", "a PRIORITY frame that cannot be")
            self._break(stream, code, note, events, ended=stream.got_end)

    def _push_promise(self, frame: Frame, events: list[Event]) -> None:
        del frame
        self._fail(Code.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed", events)

    def _ignored(self, events: list[Event]) -> None:
        note = self._abuse.ignored_frame()
        if note is not None:
            self._abort(note, events)

    def _flooded(self, events: list[Event]) -> bool:
        note = self._abuse.control_frame(self._now_s)
        if note is not None:
            self._abort(note, events)
        return note is not None


# By frame type; functions, not bound methods, which would make a cycle of each connection.
_READERS: tuple[Callable[[H2Mux, Frame, list[Event]], None], ...] = (
    H2Mux._data,  # noqa: SLF001 - this file's own
    H2Mux._headers,  # noqa: SLF001
    H2Mux._priority,  # noqa: SLF001
    H2Mux._rst_stream,  # noqa: SLF001
    H2Mux._settings,  # noqa: SLF001
    H2Mux._push_promise,  # noqa: SLF001
    H2Mux._ping,  # noqa: SLF001
    H2Mux._goaway,  # noqa: SLF001
    H2Mux._window_update,  # noqa: SLF001
    H2Mux._continuation,  # noqa: SLF001
)
