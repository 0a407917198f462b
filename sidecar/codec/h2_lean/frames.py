"""Reads frames: one pass over what came, each frame looked at where it lies, no object for any of them.

server.py and client.py complete it. DATA and header blocks are here, the rest in control.py; what they mean for their
stream is h2_receiving.py's. Refuses to hold: bytes beyond one frame or one header block.
"""

from collections.abc import Callable

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import Note
from sidecar.codec.events import End, Event
from sidecar.codec.grammar import FIELDS_MAX_COUNT, HEAD_MAX_BYTES
from sidecar.codec.h2_abuse import (
    CONTINUATIONS_MAX,
    CONTROL_REPLIES_MAX_BYTES,
    HEADER_BLOCK_MAX_BYTES,
    SMALL_DATA_BYTES,
)
from sidecar.codec.h2_frames import Code
from sidecar.codec.h2_lean import breaches
from sidecar.codec.h2_lean.control import Control
from sidecar.codec.h2_lean.stream import LeanStream
from sidecar.codec.h2_lean.writing import HEAD
from sidecar.codec.h2_states import CLOSED, HALF_CLOSED_REMOTE
from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.errors import HpackError, ListTooLargeError
from sidecar.model.messages import Fields

_PRIORITY = 0x20  # a flag of HEADERS


class LeanMux(Control):
    """See `Mux`."""

    def __init__(self, *, client: bool, streams_max: int) -> None:
        super().__init__(client=client, streams_max=streams_max)
        self._decoder = Decoder(fields_max=FIELDS_MAX_COUNT, bytes_max=HEAD_MAX_BYTES)
        self._held = b""  # of a frame that is not whole
        self._block: list[bytes] = []  # of HEADERS and CONTINUATION, while END_HEADERS is missing
        self._block_bytes = 0
        self._block_of = (0, 0)  # its stream, and the flags of its HEADERS
        self._only_one_may_come = True  # SETTINGS at first, CONTINUATION inside a header block

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """See `Mux`."""
        events: list[Event] = []
        if self.over:
            return events
        if not data:
            self._end("the peer closed the connection", Code.CANCEL, events)
            return events
        self._now_s = now_s
        if self._preface:
            data = self._without_preface(data, events)
        buffer = self._held + data if self._held else data
        at, size = 0, len(buffer)
        while size - at >= wire.HEADER_BYTES:
            word, flags, number = HEAD.unpack_from(buffer, at)
            end = at + wire.HEADER_BYTES + (word >> 8)
            if word > _LONGEST:
                self._wrong(breaches.FRAME_TOO_LONG, events)
                return events
            if end > size:
                break
            kind, number = word & 0xFF, number & wire.LAST_STREAM
            if self._only_one_may_come and not self._may_come(kind, flags, number, events):
                return events
            if kind < len(_READERS):
                _READERS[kind](self, number, flags, buffer[at + wire.HEADER_BYTES : end], events)
            else:
                self._ignored(events)
            if self._over:
                return events
            at = end
        self._held = buffer[at:]
        if self._replies_bytes > CONTROL_REPLIES_MAX_BYTES:
            self._check_backlog(events)
        return events

    def _may_come(self, kind: int, flags: int, number: int, events: list[Event]) -> bool:
        """Whether this frame is the one that has to come; if not, the connection is over."""
        if self._block:
            if kind == wire.CONTINUATION and number == self._block_of[0]:
                return True
            self._wrong(breaches.INSIDE_BLOCK, events)
            return False
        if kind == wire.SETTINGS and not flags & wire.ACK:
            self._only_one_may_come = False
            return True
        self._wrong(breaches.NOT_SETTINGS, events)
        return False

    def _end(self, sentence: str, code: int, events: list[Event]) -> None:
        self._block = []
        self._held = b""
        super()._end(sentence, code, events)

    # DATA (RFC 9113 section 6.1)

    def _data(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        length = len(payload)
        if flags & wire.PADDED:
            if not length or payload[0] >= length:
                self._wrong(breaches.PADDING if length else breaches.FRAME_TOO_SHORT, events)
                return
            payload = payload[1 : length - payload[0]]
        size = len(payload)
        ended = bool(flags & wire.END_STREAM)
        note = self._abuse.data_frame(size, end=ended)
        if note is not None:
            self._abort(note, events)
            return
        stream = self._streams.get(number)
        if stream is None or stream.state >= HALF_CLOSED_REMOTE:
            self._late_data(number, length, ended, stream, events)
            return
        wrong = self._wrong_data(stream, size, ended)
        if wrong is not None:
            self._break(stream, Code.PROTOCOL_ERROR, wrong, events, ended=False)
            if not self._over:
                self._late_data(number, length, ended, None, events)
            return
        if length > self._window or length > stream.window:
            self._wrong(breaches.DATA_BEYOND_WINDOW, events)
            return
        self._window -= length
        stream.window -= length
        if length > size:
            self._give_back(stream, length - size)  # the padding, which nobody forwards
        if stream.expects is not None:
            stream.expects -= size
        handler = stream.handler
        if handler is None:
            if size:
                self._chunk(stream, payload, events)
            if ended and not self._over:
                self._end_received(stream)
                events.append(End(number))
            return
        stream.owed += size
        if 0 < size < SMALL_DATA_BYTES:
            self._hold_small(stream, events)
            if self._over:
                return
        if ended:
            self._end_received(stream)
        if size or ended:
            handler.on_data(payload, ended)

    def _late_data(self, number: int, length: int, ended: bool, stream: LeanStream | None, events: list[Event]) -> None:
        """DATA for nobody: it counts all the same, and its room goes back to the connection."""
        if self._is_idle(number):
            self._wrong(breaches.IDLE_STREAM, events)
            return
        if length > self._window:
            self._wrong(breaches.DATA_BEYOND_WINDOW, events)
            return
        self._window -= length
        self._give_back_to_all(length)
        allowed = self._late.pop(number, None)
        if allowed is None:
            self._put_reset(number, Code.STREAM_CLOSED)
            self._after_end(number, stream, events)
        elif (allowed := allowed - length - wire.HEADER_BYTES) > 0 and not ended:
            self._late[number] = allowed

    # HEADERS and CONTINUATION (sections 6.2 and 6.10)

    def _headers(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if flags & (wire.PADDED | _PRIORITY):
            fragment = self._fragment(number, flags, payload, events)
            if fragment is None:
                return
            payload = fragment
        if flags & wire.END_HEADERS:
            self._whole_block(number, bool(flags & wire.END_STREAM), payload, events)
            return
        self._block.append(payload)
        self._block_bytes = len(payload)
        self._block_of = (number, flags)
        self._only_one_may_come = True

    def _fragment(self, number: int, flags: int, payload: bytes, events: list[Event]) -> bytes | None:
        """A part of a header block without padding and priority; None when the connection is over for them."""
        start, end = 0, len(payload)
        if flags & wire.PADDED:
            start = 1
            end -= payload[0] if payload else 0
        if flags & _PRIORITY:
            start += 5
        if start > len(payload):
            self._wrong(breaches.FRAME_TOO_SHORT, events)
        elif start > end:
            self._wrong(breaches.PADDING, events)
        elif flags & _PRIORITY and number not in self._late and _depends_on(payload, start) == number:
            self._wrong(breaches.DEPENDS_ON_ITSELF, events)
        else:
            return payload[start:end]
        return None

    def _continuation(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        block = self._block
        if not block:
            self._wrong(breaches.CONTINUATION_ALONE, events)
            return
        block.append(payload)
        self._block_bytes += len(payload)
        if len(block) > CONTINUATIONS_MAX or self._block_bytes > HEADER_BLOCK_MAX_BYTES:
            self._abort(Note("head-too-big", "a head takes too many CONTINUATION frames or bytes"), events)
        elif flags & wire.END_HEADERS:
            self._block = []
            self._only_one_may_come = False
            self._whole_block(number, bool(self._block_of[1] & wire.END_STREAM), b"".join(block), events)

    def _whole_block(self, number: int, ended: bool, block: bytes, events: list[Event]) -> None:
        """A header block is complete. It is read whatever it is for: the table of the next ones depends on it."""
        stream = self._streams.get(number)
        begins = stream is None and self._is_idle(number)
        if begins and not self._may_begin(number):
            self._wrong(breaches.IDLE_STREAM, events)
            return
        received: Fields = []
        too_large = ""
        try:
            received = self._decoder.decode(block)
        except HpackError as problem:
            self._wrong(breaches.uncompressed(problem), events)
            return
        except ListTooLargeError as problem:
            too_large = str(problem)
        if begins:
            self._begins(number, received, ended, too_large, events)
        elif stream is None or stream.got_end:
            self._late_headers(number, ended, stream, events)
        elif too_large:
            self._break(stream, Code.PROTOCOL_ERROR, Note("bad-head", too_large), events, ended=ended)
        elif stream.got_head:
            self._trailers(stream, received, ended, events)
        else:
            self._head(stream, received, ended, events)

    def _may_begin(self, number: int) -> bool:
        """Whether the peer may begin stream `number`, which is idle. Only a client may begin any."""
        del number
        return False

    def _begins(self, number: int, received: Fields, ended: bool, too_large: str, events: list[Event]) -> None:
        """The peer begins a stream; a client is never told. `too_large`: why its head was not kept."""

    def _was_skipped(self, number: int) -> bool:
        """Whether stream `number`, which is closed, was never begun."""
        del number
        return False

    def _late_headers(self, number: int, ended: bool, stream: LeanStream | None, events: list[Event]) -> None:
        """HEADERS on a stream that the peer had ended, or that is closed (section 5.1)."""
        if number in self._late:
            if ended:
                del self._late[number]
        elif self._was_skipped(number):
            self._wrong(breaches.SKIPPED_STREAM, events)
        elif number in self._resets or (stream is not None and stream.state != CLOSED):
            self._put_reset(number, Code.STREAM_CLOSED)
            self._after_end(number, stream, events)
        else:
            self._wrong(breaches.CLOSED_STREAM, events)


def _depends_on(payload: bytes, end: int) -> int:
    """The stream that the five bytes before `end` name."""
    return int.from_bytes(payload[end - 5 : end - 1], "big") & wire.LAST_STREAM


_LONGEST = wire.FRAME_MAX_BYTES << 8 | 0xFF  # length and type of the longest frame

# By frame type; functions, not bound methods, which would make a cycle of each connection.
_READERS: tuple[Callable[[LeanMux, int, int, bytes, list[Event]], None], ...] = (
    LeanMux._data,  # noqa: SLF001 - this file's own
    LeanMux._headers,  # noqa: SLF001
    LeanMux._priority_frame,  # noqa: SLF001
    LeanMux._rst_stream,  # noqa: SLF001
    LeanMux._settings,  # noqa: SLF001
    LeanMux._push_promise,  # noqa: SLF001
    LeanMux._ping,  # noqa: SLF001
    LeanMux._goaway_frame,  # noqa: SLF001
    LeanMux._window_update,  # noqa: SLF001
    LeanMux._continuation,  # noqa: SLF001
)
