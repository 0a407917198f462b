"""HTTP/2 towards one client: `MuxServer` of contract.py, on python-h2.

The reference codec: what it decides stands in h2_server_side.py, how it reads in h2_mux.py. Here is only how the
library learns of a stream that begins.
"""

from sidecar.codec import h2_frames as wire
from sidecar.codec.events import Event
from sidecar.codec.h2_heads import list_bytes
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.codec.h2_mux import H2Mux
from sidecar.codec.h2_server_side import ServerSide
from sidecar.codec.h2_streams import Stream


class H2Server(ServerSide[Stream], H2Mux):
    """See `MuxServer`."""

    def __init__(self, *, streams_max: int = STREAMS_MAX) -> None:
        super().__init__(client=False, streams_max=streams_max)
        self._streams_max = streams_max
        self._library.receive_data(wire.PREFACE)  # the client's own is read by us

    def _unknown_headers(self, number: int, raw: bytes, ended: bool, events: list[Event]) -> None:
        if not self._is_idle(number) or not number & 1:
            super()._unknown_headers(number, raw, ended, events)
            return
        self._highest = number
        self._abuse.stream_begun()
        received = self._read_head(raw, events)
        if received is not None:
            self._new_request(number, received, list_bytes(received), ended, events)
