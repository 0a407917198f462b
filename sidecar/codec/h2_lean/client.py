"""HTTP/2 towards one upstream: `MuxClient` of contract.py. What it decides stands in h2_client_side.py.

Beside the contract: a stream can be begun with fields, without a `RequestHead`, and with a handler that is told of its
frames as they are read (stream.py).
"""

from sidecar.codec.events import Event
from sidecar.codec.h2_client_side import ClientSide
from sidecar.codec.h2_lean.frames import LeanMux
from sidecar.codec.h2_lean.stream import LeanStream, StreamHandler
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.model.messages import Fields, ResponseHead


class LeanClient(ClientSide[LeanStream], LeanMux):
    """See `MuxClient`.

    Args:
        scheme: What `:scheme` says: `https` over TLS.
        streams_max: Streams at once, if the peer allows as many.
    """

    _pushes_forbidden = 1  # RFC 9113 section 6.5.2: a server says 0 or nothing

    def __init__(self, *, scheme: bytes = b"http", streams_max: int = STREAMS_MAX) -> None:
        super().__init__(client=True, streams_max=streams_max)
        self._scheme = scheme
        self._streams_max = streams_max

    @property
    def room_at_once(self) -> int:
        """What a stream that begins now may send at once, in one frame."""
        return min(self._send_window, self._initial_window, self._frame_max)

    def begin(
        self, fields: Fields, method: bytes, *, left: int | None, end: bool, handler: StreamHandler | None
    ) -> LeanStream:
        """Begin a stream with a head as it is: pseudo-header fields first, then fields that were checked before.

        The caller has seen that there is `room`. `left`: the length of the body that they announce; None: none.
        Raises ValueError: `end`, and a body.
        """
        stream = self._begin(fields, method, tunnel=False, left=left, end=end)
        stream.handler = handler
        return stream

    def _tell_answer(self, stream: LeanStream, head: ResponseHead, ended: bool, events: list[Event]) -> None:
        if stream.handler is None:
            super()._tell_answer(stream, head, ended, events)
        else:
            stream.handler.on_head(head, ended)

    def _tell_interim(self, stream: LeanStream, head: ResponseHead, events: list[Event]) -> None:
        if stream.handler is None:
            super()._tell_interim(stream, head, events)
        else:
            stream.handler.on_interim(head)
