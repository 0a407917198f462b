"""aiohttp, with its own C parser where there is one. Shows no interim answers and no trailers."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import aiohttp

from tests.interop.clients.common import CLIENT_TIMEOUT_S, FOLLOW_UP, body_facts, decoded, pieces
from tests.interop.record import Ask, Record


def run(version: str, port: int, ask: Ask) -> Record:
    """Send `ask` and the request after it."""
    return asyncio.run(_run(port, ask))


async def _run(port: int, ask: Ask) -> Record:
    timeout = aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S)
    made: list[int] = []

    async def count(*_: object) -> None:
        made.append(1)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trace_configs=[trace]) as session:
        answer, body = await _send(session, port, ask)
        followed, _ = await _send(session, port, FOLLOW_UP)
        assert followed.status == 200, f"the request after it got {followed.status}"
        version = answer.version
        assert version is not None
        return Record(
            version=f"{version.major}.{version.minor}",
            status=answer.status,
            fields=decoded(answer.raw_headers),
            reused=len(made) == 1,
            **body_facts(ask, body),
        )


async def _send(session: aiohttp.ClientSession, port: int, ask: Ask) -> tuple[aiohttp.ClientResponse, bytes]:
    content: BytesIO | AsyncIterator[bytes] | None = None
    if ask.body is not None:
        content = BytesIO(ask.body.read_bytes()) if ask.counted else _pieces(ask.body)
    async with session.request(
        ask.method,
        f"http://127.0.0.1:{port}{ask.path}",
        headers=list(ask.fields),
        data=content,
        expect100=ask.expect,
        allow_redirects=False,
    ) as answer:
        return answer, await answer.read()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    for piece in pieces(path):
        yield piece
