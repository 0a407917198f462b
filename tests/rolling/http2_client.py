"""A client of HTTP/2 that takes GOAWAY for what it is: streams under way go on, the next begins elsewhere.

Clients on python-h2 (httpx) do not: that library allows no frame after a GOAWAY and gives up every stream under way.
So this one is on the sidecar's own codec, with a task that reads. It does not repeat anything.
"""

import asyncio
import time

from sidecar.codec.events import Chunk, End, Event, Head, Reset
from sidecar.codec.h2_client import H2Client
from sidecar.model.messages import RequestHead, ResponseHead

READ_BYTES = 65_536


class BrokenOffError(Exception):
    """No whole answer came."""


class _Answer:
    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.codec = H2Client()
        self._reader, self._writer = reader, writer
        self._answers: dict[int, _Answer] = {}
        self._moved = asyncio.Event()  # something came: there may be room to send
        self._flush()
        self.reading = asyncio.create_task(self._read())

    @property
    def usable(self) -> bool:
        return self.codec.room > 0 and not self.reading.done()

    async def request(self, head: RequestHead, body: bytes) -> tuple[int, bytes]:
        """Send one request; its answer's status and body. Raises BrokenOffError."""
        codec = self.codec
        number = codec.send_request(head, end=not body)
        answer = self._answers[number] = _Answer()
        try:
            while body:
                room = codec.send_room(number)
                if room <= 0:
                    self._moved.clear()
                    await self._moved.wait()
                    continue
                codec.send_chunk(number, body[:room])
                body = body[room:]
                if not body:
                    codec.send_end(number)
                self._flush()
            self._flush()
            await answer.done
            return answer.status, answer.body
        finally:
            del self._answers[number]
            codec.forget(number)
            self._flush()

    async def _read(self) -> None:
        try:
            while not self.codec.over:
                data = await self._reader.read(READ_BYTES)
                for event in self.codec.feed(data, time.monotonic()):
                    self._take(event)
                self._moved.set()
                self._flush()
        except OSError as exc:
            self._broken(str(exc))
        finally:
            self._broken(self.codec.over or "the connection ended")
            self._writer.close()

    def _take(self, event: Event) -> None:
        answer = self._answers.get(event.stream)
        if answer is None or answer.done.done():
            return
        if isinstance(event, Head):
            assert isinstance(event.head, ResponseHead)
            answer.status = event.head.status
        elif isinstance(event, Chunk):
            answer.body += event.data
            self.codec.credit(event.stream, event.credit)
        elif isinstance(event, Reset):
            answer.done.set_exception(BrokenOffError(event.sentence))
        elif isinstance(event, End):
            answer.done.set_result(None)

    def _broken(self, why: str) -> None:
        for answer in self._answers.values():
            if not answer.done.done():
                answer.done.set_exception(BrokenOffError(why))

    def _flush(self) -> None:
        data = self.codec.take()
        if data and not self._writer.is_closing():
            self._writer.write(data)


class Http2Client:
    """Requests to one port of 127.0.0.1, on one connection as long as that takes them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: _Connection | None = None
        self._dialling = asyncio.Lock()

    async def request(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Send one request; its answer's status and body. Raises BrokenOffError, OSError."""
        head = RequestHead(method.encode(), path.encode(), b"orders", [], content_length=len(body), version=b"2")
        async with self._dialling:
            if self._connection is None or not self._connection.usable:
                self._connection = _Connection(*await asyncio.open_connection("127.0.0.1", self._port))
            connection = self._connection
        return await connection.request(head, body)
