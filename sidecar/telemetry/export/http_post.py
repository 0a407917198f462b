"""POST bytes to one HTTP/1.1 server over a kept connection: as much of an HTTP client as the span exporter needs.

Plain text, because a collector is nearby; every wait lies in the caller's deadline; the answer is bounded. Follows no
redirect, reads no cookie, trusts no length.
"""

from dataclasses import dataclass

import h11
import trio

from sidecar.model.bootstrap import HostPort

MAX_ANSWER_BYTES = 65_536
_READ_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """Status, body (at most 64 KiB) and the seconds of a `Retry-After`, 0.0 when there is none that can be read."""

    status: int
    body: bytes
    retry_after_s: float


class PostError(Exception):
    """No complete answer came; str() is the sentence."""


class Poster:
    """Keeps one connection to `address`. One `post` at a time; `close()` when done."""

    def __init__(self, address: HostPort, path: str, content_type: str, user_agent: str) -> None:
        self._address = address
        self._path = path
        self._fields = [
            ("Host", str(address)),
            ("Content-Type", content_type),
            ("User-Agent", user_agent),
        ]
        self._stream: trio.SocketStream | None = None
        self._codec = h11.Connection(h11.CLIENT)

    async def post(self, body: bytes) -> PostAnswer:
        """Send `body` and return the answer. No deadline of its own. Raises PostError; the connection is then closed.

        A kept connection that the server has closed meanwhile is replaced, once.
        """
        kept = self._stream is not None
        try:
            try:
                return await self._exchange(body)
            except PostError:
                if not kept:
                    raise
                self.close()
            return await self._exchange(body)
        except BaseException:  # a cancelled exchange leaves a connection that nobody can go on with
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None

    async def _exchange(self, body: bytes) -> PostAnswer:
        try:
            if self._stream is None:
                self._stream = await trio.open_tcp_stream(self._address.host, self._address.port)
                self._codec = h11.Connection(h11.CLIENT)
            answer = await self._send_and_read(self._stream, body)
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as exc:
            self.close()
            raise PostError(f"{self._address}: {str(exc) or type(exc).__name__}") from None
        if self._codec.our_state is h11.DONE and self._codec.their_state is h11.DONE:
            self._codec.start_next_cycle()
        else:
            self.close()
        return answer

    async def _send_and_read(self, stream: trio.SocketStream, body: bytes) -> PostAnswer:
        fields = [*self._fields, ("Content-Length", str(len(body)))]
        head = self._codec.send(h11.Request(method="POST", target=self._path, headers=fields)) or b""
        await stream.send_all(head + (self._codec.send(h11.Data(data=body)) or b""))
        self._codec.send(h11.EndOfMessage())
        status, retry_after_s, kept, size = 0, 0.0, bytearray(), 0
        while True:
            event = self._codec.next_event()
            if event is h11.NEED_DATA:
                self._codec.receive_data(await stream.receive_some(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                retry_after_s = _seconds(dict(event.headers).get(b"retry-after", b""))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > MAX_ANSWER_BYTES:
                    raise PostError(f"{self._address}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
                kept += event.data
            elif isinstance(event, h11.EndOfMessage):
                return PostAnswer(status, bytes(kept), retry_after_s)
            elif isinstance(event, h11.ConnectionClosed):
                raise PostError(f"{self._address}: the connection was closed before an answer came")


def _seconds(value: bytes) -> float:
    """Of a `Retry-After` in seconds; its other form, a date, would need a wall clock and is not worth one."""
    return float(value) if value.isdigit() and len(value) <= 6 else 0.0
