"""Frames that carry no message: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY. The base of frames.py.

Each is looked at in the order of the RFC's section about it, and counted (h2_abuse.py) before it has any effect.
"""

from typing import Final

from sidecar.codec import h2_frames as wire
from sidecar.codec.contract import Note
from sidecar.codec.events import Event
from sidecar.codec.h2_abuse import SETTINGS_MAX_ENTRIES
from sidecar.codec.h2_frames import Code, Setting
from sidecar.codec.h2_lean import breaches
from sidecar.codec.h2_lean.breaches import Breach
from sidecar.codec.h2_lean.writing import HEAD, Writing
from sidecar.codec.h2_limits import WINDOW_MAX_BYTES
from sidecar.codec.h2_states import CLOSED

_SETTINGS_ACK: Final = wire.frame(wire.SETTINGS, wire.ACK, 0, b"")
_PONG: Final = HEAD.pack(8 << 8 | wire.PING, wire.ACK, 0)
FRAME_SIZE_LIMIT = 2**24 - 1  # RFC 9113 section 6.5.2


class Control(Writing):
    """See `Mux`."""

    _pushes_forbidden: int  # the smallest value of SETTINGS_ENABLE_PUSH that the peer may not say

    def _wrong(self, breach: Breach, events: list[Event]) -> None:
        """The peer has broken the protocol: the connection is over."""
        self._fail(breach.code, breach.sentence, events)

    def _settings(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        self._greeted = True
        if self._flooded(events):
            return
        size = len(payload)
        if flags & wire.ACK:
            if size:
                self._wrong(breaches.SETTINGS_IN_ACK, events)
            elif number:
                self._wrong(breaches.SETTINGS_ON_STREAM, events)
            else:
                self._settings_acked = True
        elif size > 6 * SETTINGS_MAX_ENTRIES:
            self._abort(Note("control-flood", f"more than {SETTINGS_MAX_ENTRIES} settings in a frame"), events)
        elif number:
            self._wrong(breaches.SETTINGS_ON_STREAM, events)
        elif size % 6:
            self._wrong(breaches.SETTINGS_SIZE, events)
        else:
            for code, value in wire.settings_said(payload):
                breach = self._setting(code, value)
                if breach is not None:
                    self._wrong(breach, events)
                    return
            self._reply(_SETTINGS_ACK)

    def _setting(self, code: int, value: int) -> Breach | None:
        """One setting takes effect, in the order in which they stand (RFC 9113 section 6.5.3); unknown ones have none.

        MAX_HEADER_LIST_SIZE is advice, and no head of ours is larger than others take.
        """
        breach: Breach | None = None
        if code == Setting.HEADER_TABLE_SIZE:
            self._encoder.limit_table(value)
        elif code == Setting.ENABLE_PUSH:
            breach = breaches.BAD_PUSH if value >= self._pushes_forbidden else None
        elif code == Setting.MAX_CONCURRENT_STREAMS:
            self._streams_allowed = value
        elif code == Setting.INITIAL_WINDOW_SIZE:
            breach = self._initial_window_is(value)
        elif code == Setting.MAX_FRAME_SIZE:
            if wire.FRAME_MAX_BYTES <= value <= FRAME_SIZE_LIMIT:
                self._frame_max = value
            else:
                breach = breaches.BAD_FRAME_SIZE
        elif code == Setting.ENABLE_CONNECT_PROTOCOL:
            if value > 1:
                breach = breaches.BAD_CONNECT
            else:
                self._connects = value == 1
        return breach

    def _initial_window_is(self, value: int) -> Breach | None:
        """All windows of streams move by the difference, perhaps below 0 (RFC 9113 section 6.9.2)."""
        if value > WINDOW_MAX_BYTES:
            return breaches.BAD_WINDOW
        change = value - self._initial_window
        self._initial_window = value
        for stream in self._streams.values():
            stream.send_window += change
            if stream.send_window > WINDOW_MAX_BYTES:
                return breaches.WINDOW_OVERFLOW_BY_SETTINGS
        return None

    def _ping(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if self._flooded(events):
            return
        if number:
            self._wrong(breaches.PING_ON_STREAM, events)
        elif len(payload) != 8:
            self._wrong(breaches.PING_SIZE, events)
        elif flags & wire.ACK:
            self._pong(payload)
        else:
            self._reply(_PONG + payload)

    def _window_update(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        del flags
        note = self._abuse.window_update()
        if note is not None:
            self._abort(note, events)
            return
        increment = int.from_bytes(payload, "big") & wire.LAST_STREAM
        if number and self._is_idle(number):
            self._wrong(breaches.IDLE_STREAM, events)
        elif len(payload) != 4:
            self._wrong(breaches.WINDOW_OF_3_BYTES, events)
        elif number:
            self._stream_window(number, increment, events)
        elif not increment:
            self._wrong(breaches.WINDOW_OF_0, events)
        else:
            self._send_window += increment
            if self._send_window > WINDOW_MAX_BYTES:
                self._wrong(breaches.WINDOW_OVERFLOW, events)

    def _stream_window(self, number: int, increment: int, events: list[Event]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return  # it was on the way when the stream ended
        if not increment:
            note = Note("protocol-error", breaches.WINDOW_OF_0.sentence)
            self._break(stream, Code.PROTOCOL_ERROR, note, events, ended=stream.got_end)
        elif stream.state != CLOSED:
            stream.send_window += increment
            if stream.send_window > WINDOW_MAX_BYTES:
                note = Note("window-overflow", breaches.WINDOW_OVERFLOW.sentence)
                self._break(stream, Code.FLOW_CONTROL_ERROR, note, events, ended=stream.got_end)

    def _rst_stream(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        del flags
        if self._is_idle(number):
            self._wrong(breaches.IDLE_STREAM, events)
            return
        if len(payload) != 4:
            self._wrong(breaches.RESET_OF_3_BYTES, events)
            return
        stream = self._streams.get(number)
        if stream is not None:
            self._was_reset(number)
            self._peer_reset(stream, int.from_bytes(payload, "big"), events)
        elif self._late.pop(number, None) is None:
            self._ignored(events)

    def _goaway_frame(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        del flags
        self._goaway(number, payload, events)

    def _priority_frame(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        del flags
        self._priority(number, payload, events)

    def _push_promise(self, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        del number, flags, payload
        self._wrong(breaches.PUSHED, events)
