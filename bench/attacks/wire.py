"""Clients that write what no library would: bytes over HTTP/1.1, frames over HTTP/2.

They read only to see what becomes of them; a reading task of an HTTP/2 peer can be told to stop, for attacks by not
reading.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from bench.attacks.site import Site
from tests.support.http2 import PREFACE, Seen, Wire, settings

PIECE = 64 * 1024
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


async def exchange(stream: Stream, data: bytes, seconds: float = 5.0) -> tuple[bytes, bool]:
    """Send, and read until the peer closes or is silent for so long; True when it closed."""
    got = bytearray()
    try:
        with trio.move_on_after(seconds):
            await stream.send_all(data)
    except GONE:
        pass  # it may have closed over our bytes; what it said comes first
    while True:
        with trio.move_on_after(seconds) as scope:
            try:
                piece = await stream.receive_some(PIECE)
            except GONE:
                return bytes(got), True
            if not piece:
                return bytes(got), True
            got += piece
        if scope.cancelled_caught:
            return bytes(got), False


async def answer(stream: Stream, data: bytes, seconds: float = 5.0) -> bytes:
    """Send a request, read one answer with a counted body; what came when there is no whole one in time."""
    got = bytearray()
    try:
        with trio.move_on_after(seconds):
            await stream.send_all(data)
            while not whole(bytes(got)) and (piece := await stream.receive_some(PIECE)):
                got += piece
    except GONE:
        pass
    return bytes(got)


def whole(got: bytes) -> bool:
    """True for one final answer with a counted body, in chunks, or without one."""
    head, end, body = got.partition(b"\r\n\r\n")
    while end and head[9:10] == b"1":
        head, end, body = body.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    return head[9:12] in (b"204", b"304")


def status(got: bytes) -> int:
    """Of the first answer; 0 when there is none."""
    return int(got[9:12]) if got.startswith(b"HTTP/1.") and got[9:12].isdigit() else 0


class H2Peer:
    """A client of raw frames. Everything that came is counted; the last frames are kept.

    Attributes:
        closed: Set when the sidecar has closed the connection.
        goaway: Code of its GOAWAY; -1 without one.
        resets: Code by stream.
        statuses: Status by stream.
        ended: Streams whose answer is whole.
        body_bytes: DATA bytes by stream.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.wire = Wire()
        self.closed = trio.Event()
        self.goaway = -1
        self.resets: dict[int, int] = {}
        self.statuses: dict[int, int] = {}
        self.ended: set[int] = set()
        self.body_bytes: Counter[int] = Counter()
        self._news = trio.lowlevel.ParkingLot()
        self._rest = b""

    async def send(self, *frames: bytes) -> bool:
        """Send frames; False when the connection is over."""
        if self.closed.is_set():
            return False
        try:
            await self.stream.send_all(b"".join(frames))
        except GONE:
            self.closed.set()
        return not self.closed.is_set()

    async def until(self, holds: Callable[[], object], seconds: float = 5.0) -> bool:
        """Wait until `holds()` or the connection is over; says whether it holds."""
        with trio.move_on_after(seconds):
            while not holds() and not self.closed.is_set():
                await self._news.park()
        return bool(holds())

    async def pause(self, seconds: float) -> None:
        """Let the sidecar answer, or close."""
        with trio.move_on_after(seconds):
            await self.closed.wait()

    async def read(self) -> None:
        """Read until the end; a task of its own."""
        try:
            while piece := await self.stream.receive_some(PIECE):
                self._take(bytes(piece))
                self._news.unpark_all()
        except GONE:
            pass
        finally:
            self.closed.set()
            self._news.unpark_all()

    def _take(self, piece: bytes) -> None:
        self._rest += piece
        while len(self._rest) >= 9:
            size = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < size:
                return
            raw, self._rest = self._rest[:size], self._rest[size:]
            for frame in self.wire.read(raw):
                self._frame(frame)

    def _frame(self, frame: Seen) -> None:
        if frame.name == "GoAway":
            self.goaway = frame.code
        elif frame.name == "RstStream":
            self.resets[frame.stream] = frame.code
        elif frame.name == "Data":
            self.body_bytes[frame.stream] += len(frame.body)
        elif frame.name == "Headers" and frame.stream not in self.statuses:
            code = int(dict(frame.headers).get(b":status", b"0"))
            if code >= 200:
                self.statuses[frame.stream] = code
        if "END_STREAM" in frame.flags:
            self.ended.add(frame.stream)


@asynccontextmanager
async def http2(
    site: Site, *, secure: bool = False, reads: bool = True, own: bytes = b"", receive_buffer: int = 0, port: int = 0
) -> AsyncIterator[H2Peer]:
    """A connection that has begun; `own` are our SETTINGS when not empty ones. Over TLS to the inbound listener."""
    if secure:
        stream: Stream = await site.secure("h2", receive_buffer)
    else:
        stream = await site.plain(port or site.http1, receive_buffer)
    peer = H2Peer(stream)
    try:
        async with trio.open_nursery() as nursery:
            if reads:
                nursery.start_soon(peer.read)
            await peer.send(PREFACE + (own or settings()))
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
