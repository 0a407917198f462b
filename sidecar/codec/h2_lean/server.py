"""HTTP/2 towards one client: `MuxServer` of contract.py. What it decides stands in h2_server_side.py.

Beside the contract: `on_request` may take a new stream for itself at once, and is then told of its frames as they are
read (stream.py); heads can be written as fields, without a `ResponseHead`.
"""

from collections import deque
from collections.abc import Callable

from sidecar.codec.events import Event
from sidecar.codec.h2_lean.frames import LeanMux
from sidecar.codec.h2_lean.stream import LeanStream, StreamHandler
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.codec.h2_server_side import ServerSide
from sidecar.model.messages import Fields, RequestHead

# Stream, head, and whether nothing follows. It may answer the stream at once; None: its events go to whoever feeds.
OnRequest = Callable[[LeanStream, RequestHead, bool], StreamHandler | None]

SKIPPED_MAX = 64  # gaps between stream numbers that are remembered


class LeanServer(ServerSide[LeanStream], LeanMux):
    """See `MuxServer`.

    Attributes:
        on_request: Asked about each request that begins, once it is known to be good; None: nobody is.
    """

    _pushes_forbidden = 2

    def __init__(self, *, streams_max: int = STREAMS_MAX, on_request: OnRequest | None = None) -> None:
        super().__init__(client=False, streams_max=streams_max)
        self._streams_max = streams_max
        self.on_request = on_request
        # Numbers that no stream will ever have (RFC 9113 section 5.1.1); clients that count as everybody leave none.
        self._skipped: deque[tuple[int, int]] = deque(maxlen=SKIPPED_MAX)

    def answer(self, stream: LeanStream, fields: Fields, status: int, *, left: int | None, end: bool) -> None:
        """Write a final head as it is: `:status` first, then fields that were checked before, in lower case.

        `left`: the length of the body that they announce; None: none. Raises ValueError: `end`, and a body.
        """
        self._answer(stream, fields, status, switched=False, left=left, end=end)

    def send_trailers(self, stream: LeanStream, fields: Fields) -> None:
        """The end of the answer, with fields that were checked before. Raises ValueError: the body is not complete."""
        if stream.sent_end:
            return
        if stream.left:
            raise ValueError(f"the body ends, but {stream.left} bytes of the announced length are owed")
        self._put_head(stream.number, fields, end=True)
        self._we_ended(stream)

    def _may_begin(self, number: int) -> bool:
        return bool(number & 1)

    def _begins(self, number: int, received: Fields, ended: bool, too_large: str, events: list[Event]) -> None:
        expected = self._highest + 1 | 1
        if number > expected:
            self._skipped.append((expected, number))
        self._highest = number
        self._abuse.stream_begun()
        self._new_request(number, received, self._decoder.size_bytes, ended, events, too_large)

    def _was_skipped(self, number: int) -> bool:
        return any(first <= number < last for first, last in self._skipped)

    def _tell_request(self, stream: LeanStream, head: RequestHead, events: list[Event]) -> None:
        if self.on_request is not None:
            handler = self.on_request(stream, head, stream.got_end)
            if handler is not None:
                stream.handler = handler
                return
        super()._tell_request(stream, head, events)
