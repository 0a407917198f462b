"""The client's side of an exchange: its stream, its codec, and the events not yet taken.

Turns stream failures into CLIENT_GONE; decides nothing. HTTP/2 will give each of its streams one of these.
"""

from collections import deque

import trio

from sidecar.codec.contract import ServerCodec
from sidecar.codec.events import Event
from sidecar.errors import CLIENT_GONE, ProxyError
from sidecar.transport.stream import HIGH_WATER_BYTES, Stream, StreamBroken

# A client that takes not one byte for so long is not slow but gone; NGINX's send_timeout is 60 s.
WRITE_PROGRESS_S = 30.0


class Downstream:
    """See the module's text. `cut` is set once the connection must not be used any further."""

    __slots__ = ("codec", "cut", "events", "stream")

    def __init__(self, stream: Stream, codec: ServerCodec) -> None:
        self.stream = stream
        self.codec = codec
        self.events: deque[Event] = deque()
        self.cut = False

    def pop(self) -> Event | None:
        """The next event already received, or None."""
        return self.events.popleft() if self.events else None

    async def fill(self) -> None:
        """Wait for bytes of the client. Raises ProxyError: CLIENT_GONE, or a row of DPE."""
        try:
            data = await self.stream.receive()
        except StreamBroken as exc:
            raise ProxyError(CLIENT_GONE, f"the client left: {exc}") from None
        self.events.extend(self.codec.feed(data))

    def fill_now(self) -> bool:
        """Take what is there without waiting; False when nothing is. Raises as `fill`."""
        try:
            data = self.stream.try_read()
        except StreamBroken as exc:
            raise ProxyError(CLIENT_GONE, f"the client left: {exc}") from None
        if data is None:
            return False
        self.events.extend(self.codec.feed(data))
        return True

    async def send(self, data: bytes) -> None:
        """Write to the client; waits while it is slow, as long as it makes progress. Raises ProxyError CLIENT_GONE."""
        if not self.stream.write(data):
            await self._until_queued(HIGH_WATER_BYTES)

    async def flush(self) -> None:
        """Wait until the client has taken everything, as long as it makes progress. Raises ProxyError CLIENT_GONE."""
        await self._until_queued(0)

    async def _until_queued(self, most: int) -> None:
        stream = self.stream
        try:
            while (queued := stream.queued_bytes) > most:
                with trio.move_on_after(WRITE_PROGRESS_S) as scope:
                    await stream.flush()
                if scope.cancelled_caught and stream.queued_bytes >= queued:
                    raise ProxyError(CLIENT_GONE, f"the client took nothing for {WRITE_PROGRESS_S:g}s")
            await stream.settle()
        except StreamBroken as exc:
            raise ProxyError(CLIENT_GONE, f"the client left: {exc}") from None

    def cut_short(self) -> None:
        """End the connection so that the client cannot take what it got for a whole answer."""
        self.cut = True
        self.stream.abort()
