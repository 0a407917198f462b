"""What this codec writes: frames into one list, which leaves as one piece. The base of control.py and frames.py.

Windows are numbers here: what the peer lets us send, and what we let it send. Credit is announced when half a window
has come together, or when the peer has none left: a WINDOW_UPDATE for each frame would cost more than the frame.
"""

import struct
from abc import ABC
from typing import Final

from sidecar.codec import h2_frames as wire
from sidecar.codec.events import End, Event, Reset, Trailers
from sidecar.codec.h2_lean.stream import LeanStream
from sidecar.codec.h2_limits import STREAM_WINDOW_BYTES, announced, connection_window
from sidecar.codec.h2_receiving import Receiving
from sidecar.codec.h2_states import HALF_CLOSED_REMOTE
from sidecar.codec.h2_streams import LATE_STREAMS_MAX
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.model.messages import Fields

HEAD: Final = struct.Struct(">LBL")  # length and type, flags, stream
_WINDOW_UPDATE: Final = struct.Struct(">LBLL")
_RST_STREAM: Final = struct.Struct(">LBLL")
_WINDOW_KIND = 4 << 8 | wire.WINDOW_UPDATE
_RESET_KIND = 4 << 8 | wire.RST_STREAM
_PING_KIND = 8 << 8 | wire.PING

UNLIMITED = 2**32  # streams, of a peer that says nothing
STREAM_DUE_BYTES = STREAM_WINDOW_BYTES // 2
LEAST_DUE_BYTES = 1024  # is announced to a peer that has no window left


class Writing(Receiving[LeanStream], ABC):
    """See `Streams`."""

    def __init__(self, *, client: bool, streams_max: int) -> None:
        super().__init__()
        window = connection_window(client=client, streams_max=streams_max)
        settings = wire.settings(list(announced(client=client, streams_max=streams_max).items()))
        more = wire.frame(wire.WINDOW_UPDATE, 0, 0, (window - STREAM_WINDOW_BYTES).to_bytes(4, "big"))
        self._out = [wire.PREFACE if client else b"", settings, more]
        self._encoder = Encoder()
        # What the peer lets us do
        self._frame_max = wire.FRAME_MAX_BYTES
        self._send_window = STREAM_WINDOW_BYTES
        self._initial_window = STREAM_WINDOW_BYTES
        self._streams_allowed = UNLIMITED
        self._connects = False
        # What we let the peer send on all streams, and what of it was credited and not yet announced
        self._window = window
        self._due = 0
        self._due_max = window // 2
        self._resets: dict[int, None] = {}  # the last streams that ended by RST_STREAM, of either side

    def take(self) -> bytes:
        """See `Mux`."""
        written = b"".join(self._out)
        self._out.clear()
        self._replies_bytes = 0
        return written

    # Beside the contract, for whoever relays frame by frame

    def room_of(self, stream: LeanStream) -> int:
        """What the next DATA frame of `stream`, which is open for us, may carry; 0 or less: wait."""
        room = stream.send_window if stream.send_window < self._send_window else self._send_window
        return room if room < self._frame_max else self._frame_max

    def send_data(self, stream: LeanStream, data: bytes, *, end: bool) -> None:
        """One DATA frame of at most `room_of(stream)` bytes, which may be the end as well.

        Nothing is written of a body that may not be, nor on a stream that we have ended.

        Raises:
            ValueError: more than the announced length; `end`, and less.
        """
        if stream.sent_end:
            return
        size = len(data)
        if stream.muted:
            data, size = b"", 0
        elif size:
            self._count_sent(stream, size)
        if end and stream.left:
            raise ValueError(f"the body ends, but {stream.left} bytes of the announced length are owed")
        if size or end:
            self._send_window -= size
            stream.send_window -= size
            self._out += (HEAD.pack(size << 8, end, stream.number), data)
        if end:
            self._we_ended(stream)

    # For `Streams`

    def _made(self, number: int, method: bytes, *, tunnel: bool) -> LeanStream:
        return LeanStream(number, method, tunnel=tunnel, send_window=self._initial_window)

    def _put_head(self, number: int, fields: Fields, *, end: bool) -> None:
        block = self._encoder.encode(fields)
        size, most = len(block), self._frame_max
        if size <= most:
            self._out += (HEAD.pack(size << 8 | wire.HEADERS, wire.END_HEADERS | end, number), block)
            return
        self._out += (HEAD.pack(most << 8 | wire.HEADERS, end, number), block[:most])
        for start in range(most, size, most):
            part = block[start : start + most]
            flags = wire.END_HEADERS if start + most >= size else 0
            self._out += (HEAD.pack(len(part) << 8 | wire.CONTINUATION, flags, number), part)

    def _put_data(self, stream: LeanStream, data: bytes) -> None:
        size = len(data)
        self._send_window -= size
        stream.send_window -= size
        self._out += (HEAD.pack(size << 8, 0, stream.number), data)

    def _put_end(self, stream: LeanStream) -> None:
        self._out.append(HEAD.pack(0, wire.END_STREAM, stream.number))

    def _put_reset(self, number: int, code: int) -> None:
        self._reply(_RST_STREAM.pack(_RESET_KIND, 0, number, code))
        self._was_reset(number)

    def _put_ping(self, data: bytes) -> None:
        self._out.append(HEAD.pack(_PING_KIND, 0, 0) + data)

    def _put_goaway(self, last: int, code: int) -> None:
        self._reply(wire.goaway(last, code))

    def _reply(self, raw: bytes) -> None:
        """Write what the peer may have made us write: that is counted until it is taken."""
        self._out.append(raw)
        self._replies_bytes += len(raw)

    def _was_reset(self, number: int) -> None:
        """What still comes of this stream is a fault of that stream, and not of the connection."""
        self._resets[number] = None
        if len(self._resets) > LATE_STREAMS_MAX:
            del self._resets[next(iter(self._resets))]

    def _room(self, stream: LeanStream) -> int:
        return self.room_of(stream)

    def _give_back(self, stream: LeanStream, size: int) -> None:
        self._give_back_to_all(size)
        if stream.state < HALF_CLOSED_REMOTE:  # else the peer sends no more on it
            due = stream.due = stream.due + size
            if due >= STREAM_DUE_BYTES or (not stream.window and due > LEAST_DUE_BYTES):
                stream.window += due
                stream.due = 0
                self._reply(_WINDOW_UPDATE.pack(_WINDOW_KIND, 0, stream.number, due))

    def _give_back_to_all(self, size: int) -> None:
        """Window of the connection."""
        due = self._due = self._due + size
        if due >= self._due_max or (not self._window and due > LEAST_DUE_BYTES):
            self._window += due
            self._due = 0
            self._reply(_WINDOW_UPDATE.pack(_WINDOW_KIND, 0, 0, due))

    @property
    def _peer_streams_max(self) -> int:
        return self._streams_allowed

    @property
    def _peer_connects(self) -> bool:
        return self._connects

    # Whom what came is told

    def _tell_reset(self, stream: LeanStream, reset: Reset, events: list[Event]) -> None:
        if stream.handler is None:
            events.append(reset)
        else:
            stream.handler.on_reset(reset)

    def _tell_trailers(self, stream: LeanStream, fields: Fields, events: list[Event]) -> None:
        if stream.handler is not None:
            stream.handler.on_trailers(fields)
            return
        if fields:
            events.append(Trailers(fields, stream.number))
        events.append(End(stream.number))
