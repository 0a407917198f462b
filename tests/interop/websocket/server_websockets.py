"""The echo server with websockets. usage: python -m tests.interop.websocket.server_websockets PORT"""

import asyncio
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.interop.websocket.script import SUBPROTOCOL

_endings: defaultdict[str, asyncio.Future[str]]


async def _handle(connection: ServerConnection) -> None:
    token = ""
    while True:
        try:
            message = await connection.recv()
        except ConnectionClosed:
            break
        if not isinstance(message, str) or not message.startswith("!"):
            await connection.send(message)
            continue
        word, _, rest = message.partition(" ")
        if word == "!ping":
            await (await connection.ping(b"from the server"))
            await connection.send("!ponged")
        elif word == "!close":
            code, _, why = rest.partition(" ")
            await connection.close(int(code), why)
        elif word == "!name":
            token = rest
            await connection.send("!named")
        elif word == "!ended":
            await connection.send("!" + await asyncio.wait_for(_endings[rest], 5))
    if token:
        _endings[token].set_result(f"{connection.close_code} {connection.close_reason}")


async def _main(port: int) -> None:
    global _endings
    loop = asyncio.get_running_loop()
    _endings = defaultdict(loop.create_future)
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    async with serve(_handle, "127.0.0.1", port, subprotocols=subprotocols, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
