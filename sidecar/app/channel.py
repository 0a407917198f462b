"""Frames between the holder and a worker process: a 4-byte length, then one JSON object with a `type`.

Over a socket pair that nobody else has. Both ends run one version of this code, so what does not fit is a bug, and
raises; a closed channel means that the other process is gone. Secrets travel here too: never on disk, never in argv.
"""

import json
import socket
from typing import Any

import trio

_LENGTH_BYTES = 4
_READ_BYTES = 65_536
# A snapshot travels in parts (handoff.py); one document is bounded where it is read. Beyond this a length is nonsense.
MAX_FRAME_BYTES = 64 * 1024 * 1024

Message = dict[str, Any]


class ChannelClosed(Exception):  # noqa: N818 - an event in the life of a process, not a fault
    """The other process is gone."""


class Channel:
    """One end. Any task may send; one task receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._sending = trio.Lock()
        self._buffer = bytearray()

    async def send(self, message: Message) -> None:
        """Send one message whole; waits while the other end does not read. Raises ChannelClosed."""
        body = json.dumps(message, separators=(",", ":")).encode("ascii")
        async with self._sending:
            try:
                await self._stream.send_all(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ChannelClosed from None

    async def receive(self) -> Message:
        """The next message. Raises ChannelClosed."""
        await self._fill(_LENGTH_BYTES)
        length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes on the channel between processes")
        await self._fill(_LENGTH_BYTES + length)
        body = bytes(self._buffer[_LENGTH_BYTES : _LENGTH_BYTES + length])
        del self._buffer[: _LENGTH_BYTES + length]
        message: Message = json.loads(body)
        return message

    def close(self) -> None:
        """Close; the other end sees it."""
        self._stream.socket.close()

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ChannelClosed from None
            if not data:
                raise ChannelClosed
            self._buffer += data
