"""The called service: HTTP/1.1 and h2c on one port (hypercorn), gRPC on another (grpcio); notes each request it takes.

A request is `/KIND-NUMBER-METHOD` with an optional `?wait=SECONDS`; a call of gRPC begins its message with the same
words. Its name is appended to a file that outlives the process: a name that stands there twice was taken twice. Ends
in order at SIGTERM, as a service has to: no new requests, and an answer to those under way.

usage: python -m tests.rolling.service LEDGER HTTP_PORT GRPC_PORT
"""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from hypercorn.asyncio import serve
from hypercorn.config import Config

GRACE_S = 60.0

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Ledger:
    """The names of all requests, one a line; a line of an O_APPEND file is written whole."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def take(self, name: str) -> None:
        """Note a request."""
        os.write(self._file, f"{name}\n".encode())


def answer_for(name: str, body: bytes) -> bytes:
    """What only the service can say, and only to this request."""
    return f"{name} {hashlib.sha256(body).hexdigest()}".encode()


async def http(ledger: Ledger, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    name = scope["path"][1:]
    ledger.take(name)
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    if scope["query_string"]:
        await asyncio.sleep(float(scope["query_string"].removeprefix(b"wait=")))
    answer = answer_for(name, body)
    fields = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": answer})


async def main(path: str, http_port: str, grpc_port: str) -> None:
    """Serve until SIGTERM."""
    ledger = Ledger(path)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)

    async def unary(message: bytes, context: Any) -> bytes:
        name, wait, body = message.split(b" ", 2)
        ledger.take(name.decode())
        await asyncio.sleep(float(wait))
        return answer_for(name.decode(), body)

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await http(ledger, scope, receive, send)

    calls = grpc.aio.server()
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
    calls.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rolling.Service", handlers),))
    if not calls.add_insecure_port(f"127.0.0.1:{grpc_port}"):
        raise SystemExit(f"cannot listen on 127.0.0.1:{grpc_port}")
    await calls.start()
    config = Config()
    config.bind = [f"127.0.0.1:{http_port}"]
    config.graceful_timeout = GRACE_S
    config.keep_alive_max_requests = 1_000_000  # at its limit it breaks off what is under way on an HTTP/2 connection
    await serve(app, config, shutdown_trigger=ending.wait)  # type: ignore[arg-type]  # its types are its own
    await calls.stop(GRACE_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
