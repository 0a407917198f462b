"""The interop service as an ASGI application, for uvicorn and hypercorn: the paths of upstreams/__init__.py.

Trailers and early hints go out only where the server offers the extension (hypercorn over HTTP/2).
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
Fields = list[tuple[bytes, bytes]]

ETAG = b'"v1"'
SMALL = b"hello from the interop service\n"
FILLER = b"f" * 65536
_PATTERN = b"0123456789abcdef-"
BIG_BYTES = 10 * 1024 * 1024
BIG = (_PATTERN * (BIG_BYTES // len(_PATTERN) + 1))[:BIG_BYTES]
PLAIN: Fields = [
    (b"content-type", b"text/plain"),
    (b"etag", ETAG),
    (b"accept-ranges", b"bytes"),
    (b"x-mixed-case", b"Yes, with a comma"),
    (b"x-empty", b""),
    (b"set-cookie", b"a=1; Path=/"),
    (b"set-cookie", b"b=2; Path=/"),
]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, or the server's lifespan."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await _echo(scope, receive, send)
        return
    serve = PATHS.get(scope["path"])
    if serve is None:
        await _answer(send, 404, [], b"")
    else:
        await serve(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """A WebSocket, over HTTP/2 (RFC 8441) where the server knows it."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0] if scope["subprotocols"] else None})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})


async def _answer(send: Send, status: int, fields: Iterable[tuple[bytes, bytes]], *pieces: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(fields)})
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1]})


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


async def _small(scope: Scope, receive: Receive, send: Send) -> None:
    asked = dict(scope["headers"])
    if ETAG in asked.get(b"if-none-match", b""):
        await _answer(send, 304, PLAIN, b"")
        return
    body, status, fields = SMALL, 200, PLAIN
    if b"range" in asked:
        first, last = (int(part) for part in asked[b"range"].removeprefix(b"bytes=").split(b"-"))
        body, status = SMALL[first : last + 1], 206
        fields = [*fields, (b"content-range", b"bytes %d-%d/%d" % (first, last, len(SMALL)))]
    await _answer(send, status, [*fields, _length(body)], body)


async def _big(scope: Scope, receive: Receive, send: Send) -> None:
    await _answer(send, 200, [*PLAIN, _length(BIG)], BIG)


async def _json(send: Send, value: object) -> None:
    body = json.dumps(value).encode()
    await _answer(send, 200, [(b"content-type", b"application/json"), _length(body)], body)


async def _seen(scope: Scope, receive: Receive, send: Send) -> None:
    query = scope["query_string"].decode()
    target = scope["raw_path"].decode() + (f"?{query}" if query else "")
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    await _json(send, {"method": scope["method"], "target": target, "fields": fields})


async def _digested(receive: Receive) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    while True:
        message = await receive()
        data = message.get("body", b"")
        digest.update(data)
        length += len(data)
        if not message.get("more_body", False):
            return digest.hexdigest(), length


async def _digest(scope: Scope, receive: Receive, send: Send) -> None:
    sha256, length = await _digested(receive)
    await _json(send, {"sha256": sha256, "length": length})


async def _chunked(scope: Scope, receive: Receive, send: Send) -> None:
    sha256, length = await _digested(receive)
    await _answer(send, 200, [(b"content-type", b"text/plain")], b"[", FILLER, f"{sha256} {length}]".encode())


async def _trailers(scope: Scope, receive: Receive, send: Send) -> None:
    await _digested(receive)
    fields = [(b"content-type", b"text/plain"), (b"trailer", b"x-checksum")]
    if "http.response.trailers" not in scope["extensions"]:
        await _answer(send, 501, [], b"this server sends no trailers over this version\n")
        return
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await send({"type": "http.response.body", "body": b"what comes after the body\n"})
    await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"c0ffee")]})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await _answer(send, 204, [(b"x-mixed-case", b"Yes, with a comma")], b"")


async def _hints(scope: Scope, receive: Receive, send: Send) -> None:
    if "http.response.early_hint" not in scope["extensions"]:
        await _answer(send, 501, [], b"this server sends no early hints over this version\n")
        return
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
    await _small(scope, receive, send)


PATHS = {
    "/small": _small,
    "/big": _big,
    "/seen": _seen,
    "/digest": _digest,
    "/chunked": _chunked,
    "/trailers": _trailers,
    "/nothing": _nothing,
    "/hints": _hints,
}
