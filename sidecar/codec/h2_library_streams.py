"""Writes an HTTP/2 connection with python-h2 (h2_library.py); the base of h2_mux.py, which reads.

The library writes all frames but for those that it must not know of: GOAWAY, after which it would do nothing more, and
RST_STREAM on a stream that it takes for ended.
"""

from sidecar.codec import h2_frames as wire
from sidecar.codec.h2_library import indexable, library_connection
from sidecar.codec.h2_receiving import Receiving
from sidecar.codec.h2_streams import Stream
from sidecar.model.messages import Fields


class LibraryStreams(Receiving[Stream]):
    """See `Streams`."""

    def __init__(self, *, client: bool, streams_max: int) -> None:
        super().__init__()
        self._library, self._reader = library_connection(client=client, streams_max=streams_max)
        self._out = bytearray()

    def __del__(self) -> None:
        # The library's connection holds methods of its own, and so itself: what it knows of its streams (2 KiB each)
        # would wait for the collector, which a quiet process calls once in many minutes.
        self._library.streams.clear()

    def take(self) -> bytes:
        """See `Mux`."""
        self._collect()
        written = bytes(self._out)
        self._out.clear()
        self._replies_bytes = 0
        return written

    def _collect(self) -> None:
        self._out += self._library.data_to_send()

    def _made(self, number: int, method: bytes, *, tunnel: bool) -> Stream:
        return Stream(number, method, tunnel=tunnel)

    def _put_head(self, number: int, fields: Fields, *, end: bool) -> None:
        self._library.send_headers(number, [indexable(field) for field in fields], end_stream=end)

    def _put_data(self, stream: Stream, data: bytes) -> None:
        self._library.send_data(stream.number, data)

    def _put_end(self, stream: Stream) -> None:
        self._library.end_stream(stream.number)

    def _put_ping(self, data: bytes) -> None:
        self._library.ping(data)

    def _put_goaway(self, last: int, code: int) -> None:
        self._collect()
        self._out += wire.goaway(last, code)

    def _put_reset(self, number: int, code: int) -> None:
        known = self._library.streams.get(number)
        if known is not None and known.open:
            self._library.reset_stream(number, code)
        else:
            self._collect()
            self._out += wire.frame(wire.RST_STREAM, 0, number, code.to_bytes(4, "big"))

    def _room(self, stream: Stream) -> int:
        library = self._library
        return min(library.local_flow_control_window(stream.number), library.max_outbound_frame_size)

    def _give_back(self, stream: Stream, size: int) -> None:
        self._library.acknowledge_received_data(size, stream.number)

    @property
    def _peer_streams_max(self) -> int:
        return self._library.remote_settings.max_concurrent_streams

    @property
    def _peer_connects(self) -> bool:
        return self._library.remote_settings.enable_connect_protocol == 1
