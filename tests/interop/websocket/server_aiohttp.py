"""The echo server with aiohttp. usage: python -m tests.interop.websocket.server_aiohttp PORT"""

import asyncio
import sys
from collections import defaultdict

from aiohttp import WSMsgType, web

from tests.interop.websocket.script import SUBPROTOCOL

_endings: defaultdict[str, "asyncio.Future[str]"] = defaultdict(lambda: asyncio.get_running_loop().create_future())


async def _handle(request: web.Request) -> web.WebSocketResponse:
    # autoping off: a pong that is answered inside of aiohttp could not be told of
    socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=0, autoping=False)
    await socket.prepare(request)
    token, why = "", ""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            await socket.send_str("!ponged")
        elif message.type is not WSMsgType.TEXT:
            why = message.extra or "" if message.type is WSMsgType.CLOSE else why
            break
        elif message.data.startswith("!"):
            token = await _command(socket, message.data) or token
        else:
            await socket.send_str(message.data)
    if token:
        _endings[token].set_result(f"{socket.close_code} {why}")
    return socket


async def _command(socket: web.WebSocketResponse, command: str) -> str | None:
    word, _, rest = command.partition(" ")
    if word == "!ping":
        await socket.ping(b"from the server")
    elif word == "!close":
        code, _, why = rest.partition(" ")
        await socket.close(code=int(code), message=why.encode())
    elif word == "!name":
        await socket.send_str("!named")
        return rest
    elif word == "!ended":
        await socket.send_str("!" + await asyncio.wait_for(_endings[rest], 5))
    return None


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{any:.*}", _handle)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
