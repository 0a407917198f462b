"""Requests through a sidecar: as many at once, or as many a second, as it is told. Counts the answers by status."""

import asyncio
from collections import Counter

_PATIENCE_S = 30.0  # the sidecar answers in its own time; a client without one would hide that it does not
_Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_BODY = b'{"amount": 1}'


class Client:
    """Asks the sidecar at `port` for `authority`.

    Attributes:
        statuses: Answers by status; 0: none, or not whole.
    """

    def __init__(self, port: int, authority: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._port = port
        self._authority = authority.encode()
        self._kept: list[_Line] = []

    async def storm(self, per_s: int, seconds: float) -> float:
        """GETs at a fixed rate, waiting for no answer; returns after the last one, with the seconds of the sending."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        asking = []
        for number in range(int(per_s * seconds)):
            await asyncio.sleep(max(0.0, begun_s + number / per_s - loop.time()))
            asking.append(asyncio.ensure_future(self.ask(b"GET", b"/get/%d" % number)))
        took_s = loop.time() - begun_s
        await asyncio.gather(*asking)
        return took_s

    async def rush(self, requests: list[tuple[bytes, bytes]], at_once: int) -> None:
        """All of the (method, path), `at_once` at a time."""
        left = iter(requests)

        async def one_after_the_other() -> None:
            for method, path in left:
                await self.ask(method, path)

        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))

    async def ask(self, method: bytes, path: bytes) -> None:
        """One request, and its whole answer."""
        body = b"" if method == b"GET" else _BODY
        head = b"%s %s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n\r\n" % (method, path, self._authority, len(body))
        status = 0
        try:
            async with asyncio.timeout(_PATIENCE_S):
                line = self._kept.pop() if self._kept else await asyncio.open_connection("127.0.0.1", self._port)
                status = await self._exchange(line, head + body)
        except (OSError, asyncio.IncompleteReadError):
            pass  # no whole answer
        self.statuses[status] += 1

    async def _exchange(self, line: _Line, request: bytes) -> int:
        reusable = False
        try:
            line[1].write(request)
            status, reusable = await _answer(line[0])
        finally:
            if reusable:
                self._kept.append(line)
            else:
                line[1].transport.abort()
        return status

    async def close(self) -> None:
        """Hang up."""
        for _, writer in self._kept:
            writer.close()
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection can be used again."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if line)
    await reader.readexactly(int(fields[b"content-length"]))
    return int(lines[0].split(b" ")[1]), fields.get(b"connection") != b"close"
