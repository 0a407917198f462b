"""A stream as this codec keeps it, and who may hear of it in the place of events."""

from typing import Protocol

from sidecar.codec.events import Reset
from sidecar.codec.h2_limits import STREAM_WINDOW_BYTES
from sidecar.codec.h2_streams import Stream
from sidecar.model.messages import Fields, ResponseHead


class StreamHandler(Protocol):
    """Told of one stream's frames inside `feed`, as they are read; in the place of events.

    It may call the codec for any stream, this one too, but not `feed`. What it raises comes out of `feed`, and the
    connection is of no more use.
    """

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx answer; of a client's stream only."""

    def on_head(self, head: ResponseHead, end: bool) -> None:
        """The final head; of a client's stream only. `end`: nothing follows."""

    def on_data(self, data: bytes, end: bool) -> None:
        """A DATA frame: empty only with `end`. Its length is owed as credit."""

    def on_trailers(self, fields: Fields) -> None:
        """Fields that came after the body, perhaps none that may be kept; they are the end."""

    def on_reset(self, reset: Reset) -> None:
        """The stream is gone, whoever gave it up but the handler itself."""


class LeanStream(Stream):
    """See `Stream`.

    Attributes:
        handler: Who is told; None: whoever called `feed`, by events. May be set to None at any time.
        send_window: What the peer lets us send; below 0 after it took some back (RFC 9113 section 6.9.2).
        window: What we let it send.
        due: Credited and not yet announced by a WINDOW_UPDATE.
    """

    __slots__ = ("due", "handler", "send_window", "window")

    def __init__(self, number: int, method: bytes, *, tunnel: bool, send_window: int) -> None:
        super().__init__(number, method, tunnel=tunnel)
        self.handler: StreamHandler | None = None
        self.send_window = send_window
        self.window = STREAM_WINDOW_BYTES
        self.due = 0
