"""The client with aiohttp. It has no way to send fragments."""

import asyncio

import aiohttp
from aiohttp import WSMsgType

from tests.interop.websocket import script
from tests.interop.websocket.script import Script


def run(port: int, steps: Script, timeout_s: float) -> list[str]:
    """Play the steps on a new connection; return the transcript."""
    return asyncio.run(asyncio.wait_for(_run(port, steps), timeout_s))


async def _run(port: int, steps: Script) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{port}/echo?a=b",
            protocols=(script.SUBPROTOCOL,),
            max_msg_size=0,
            autoping=False,  # pongs are shown then, and pings are ours to answer
            compress=15,
        ) as socket,
    ):
        assert socket.protocol == script.SUBPROTOCOL
        return [await _step(socket, kind, value) for kind, value in steps]


async def _step(socket: aiohttp.ClientWebSocketResponse, kind: str, value: str) -> str:
    if kind == "ping":
        await socket.ping(value.encode())
        message = await socket.receive()
        assert message.type is WSMsgType.PONG
        return f"pong {bytes(message.data).decode()}"
    if kind == "close":
        await socket.close(code=int(value), message=b"so long")
        return f"closed {socket.close_code}"
    if kind == "closed":
        message = await socket.receive()
        assert message.type is WSMsgType.CLOSE, message
        return f"closed {message.data} {message.extra or ''}"
    if kind == "binary":
        await socket.send_bytes(script.bytes_of(int(value)))
    else:
        await socket.send_str(value if kind in ("say", "order") else script.text_of(int(value)))
    if kind == "order":
        return "ordered"
    message = await socket.receive()
    while message.type is WSMsgType.PING:
        await socket.pong(message.data)
        message = await socket.receive()
    assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
    return f"said {message.data!s}" if kind == "say" else script.line(message.data)
