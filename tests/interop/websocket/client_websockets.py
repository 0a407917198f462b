"""The client with websockets."""

import asyncio
from collections.abc import Iterable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.interop.websocket import script
from tests.interop.websocket.script import Script


def run(port: int, steps: Script, timeout_s: float) -> list[str]:
    """Play the steps on a new connection; return the transcript."""
    return asyncio.run(asyncio.wait_for(_run(port, steps), timeout_s))


async def _run(port: int, steps: Script) -> list[str]:
    async with connect(
        f"ws://127.0.0.1:{port}/echo?a=b",
        subprotocols=[Subprotocol(script.SUBPROTOCOL)],
        max_size=None,
        proxy=None,
    ) as connection:
        assert connection.subprotocol == script.SUBPROTOCOL
        return [await _step(connection, kind, value) for kind, value in steps]


async def _step(connection: ClientConnection, kind: str, value: str) -> str:
    if kind == "ping":
        await (await connection.ping(value))
        return f"pong {value}"
    if kind == "close":
        await connection.close(int(value), "so long")
        return f"closed {connection.close_code}"
    if kind == "closed":
        return await _closed(connection)
    await connection.send(_message(kind, value))
    if kind == "order":
        return "ordered"
    got = await connection.recv()
    return f"said {got!s}" if kind == "say" else script.line(got)


async def _closed(connection: ClientConnection) -> str:
    try:
        message = await connection.recv()
    except ConnectionClosed as closed:
        return f"closed {closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "cut off without a close frame"
    raise AssertionError(f"{message!r} instead of an end")


def _message(kind: str, value: str) -> str | bytes | Iterable[str]:
    if kind in ("say", "order"):
        return value
    if kind == "fragments":
        return script.pieces_of(int(value))  # an iterable is one message in fragments
    return script.text_of(int(value)) if kind == "text" else script.bytes_of(int(value))
