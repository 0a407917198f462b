"""A service of several endpoints that fails as it is told, and counts what reached it.

A request counts as soon as its first line is there, whatever becomes of it: from then on an application may have
acted. Its name is its path. Plain asyncio and no HTTP library: what is measured is the sidecar.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from enum import Enum
from random import Random

_LINGER = struct.pack("ii", 1, 0)  # close with a reset
_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_FAILED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Fate(Enum):
    """What becomes of a request."""

    GOOD = "good"
    FAILED = "failed"  # 503
    RESET_EARLY = "reset-early"  # when its first bytes are there
    RESET_LATE = "reset-late"  # when all of it is there
    RESET_IN_HEAD = "reset-in-head"  # after a part of the answer's head
    RESET_IN_BODY = "reset-in-body"  # after the head and a part of the body
    LEFT = "left"  # answered well; the connection is closed without a word as soon as it idles


Draw = Callable[[Random], Fate]


class Upstream:
    """Endpoints on `hosts`, all on one port.

    Attributes:
        taken: How often each request reached an endpoint.
        open, quiet: Connections; set when the last one of those that were open is gone.
    """

    def __init__(self, hosts: list[str], port: int, draw: Draw, rng: Random) -> None:
        self.taken: Counter[bytes] = Counter()
        self.open: set[asyncio.Transport] = set()
        self.quiet = asyncio.Event()
        self._hosts, self._port = hosts, port
        self._draw, self._rng = draw, rng
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Upstream":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._hosts, self._port, backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.quiet.clear()
        for transport in [*self.open]:
            transport.abort()
        if self.open:
            await self.quiet.wait()

    def fate(self) -> Fate:
        """Of the next request."""
        return self._draw(self._rng)


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._got = b""
        self._fate: Fate | None = None  # of the request that is coming in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.open.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        assert self._transport is not None
        self._upstream.open.discard(self._transport)
        if not self._upstream.open:
            self._upstream.quiet.set()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._fate is None and b"\r\n" in self._got:
            self._upstream.taken[self._got.split(b" ", 2)[1]] += 1
            self._fate = self._upstream.fate()
            if self._fate is Fate.RESET_EARLY:
                self._reset()
                return
        head, end, body = self._got.partition(_END)
        if self._fate is not None and end and len(body) >= _length(head):
            self._got = body[_length(head) :]
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        fate, self._fate = self._fate, None
        if fate is Fate.RESET_LATE:
            self._reset()
        elif fate is Fate.RESET_IN_HEAD:
            self._transport.write(_OK[:20])
            self._reset_soon()
        elif fate is Fate.RESET_IN_BODY:
            self._transport.write(_OK[:-1])
            self._reset_soon()
        else:
            self._transport.write(_FAILED if fate is Fate.FAILED else _OK)
            if fate is Fate.LEFT:
                self._transport.close()

    def _reset_soon(self) -> None:
        """What was written has to leave first: a reset takes it back."""
        asyncio.get_running_loop().call_soon(self._reset)

    def _reset(self) -> None:
        assert self._transport is not None
        raw: socket.socket = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._transport.abort()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
