"""Python's clients: everything that each can ask. Usage: python -m tests.recorded.clients.web LIBRARY URL."""

import asyncio
import http.client
import io
import sys
import urllib.error
import urllib.parse
import urllib.request
import xmlrpc.client
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import httpx2
import requests
import urllib3
import websockets.exceptions
from websockets.sync.client import connect

Asks = list[tuple[str, str, dict[str, str], bytes | None]]
ASKS: Asks = [
    *(
        ("GET", path, {}, None)
        for path in ("/json", "/json?q=a%2Fb&c=d+e", "/chunked", "/gzip", "/trailers", "/missing")
    ),
    *(("GET", path, {}, None) for path in ("/empty", "/unchanged", "/cookies", "/close", "/json#here")),
    *((method, "/json", {}, None) for method in ("HEAD", "OPTIONS", "DELETE")),
    *((method, "/echo", {"Content-Type": "application/json"}, b"{}") for method in ("POST", "PUT", "PATCH")),
    ("GET", "/range", {"Range": "bytes=0-3"}, None),
    ("GET", "/json", {"Accept": "text/html, */*;q=0.1", "X-Own": "Mixed Case"}, None),
    ("GET", "/json", {"Cookie": "a=1; b=2", "If-None-Match": '"v1"'}, None),
    ("POST", "/echo", {}, b"x" * 2000),
    ("POST", "/echo", {}, b""),
]


def over_urllib(base: str) -> None:
    for method, path, fields, body in ASKS:
        asked = urllib.request.Request(base + path, body, fields, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                answer.read()
        except urllib.error.HTTPError:
            pass
    for given in (urllib.parse.urlencode({"a": "ä & b"}).encode(), io.BytesIO(b"a file")):
        urllib.request.urlopen(base + "/echo", given, timeout=5).read()


def over_http_client(base: str) -> None:
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=5)
    for method, path, fields, body in ASKS:
        connection.request(method, path.partition("#")[0], body, fields)
        connection.getresponse().read()
    connection.request("POST", "/echo", iter((b"one", b"two")), encode_chunked=True)
    connection.getresponse().read()


def over_urllib3(base: str) -> None:
    pool = urllib3.PoolManager()
    for method, path, fields, body in ASKS:
        pool.request(method, base + path, body=body, headers=fields, redirect=False)
    pool.request("POST", base + "/echo", fields={"a": "1", "file": ("a.txt", b"text")})
    pool.request("POST", base + "/echo", body=io.BytesIO(b"a file"), chunked=True)
    pool.request("GET", base + "/json", headers=urllib3.make_headers(basic_auth="a:b", accept_encoding=True))


def over_requests(base: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for method, path, fields, body in ASKS:
            session.request(method, base + path, headers=fields, data=body, timeout=5)
        session.post(base + "/echo", json={"a": [1]}, timeout=5)
        session.post(base + "/echo", data={"a": "ä & b"}, timeout=5)
        session.post(base + "/echo", files={"file": ("a.txt", b"text")}, timeout=5)
        session.post(base + "/echo", data=iter((b"one", b"two")), timeout=5)
        session.get(base + "/login", auth=("a", "b"), params={"q": "a b/c"}, timeout=5)
        session.get(base + "/redirect", timeout=5)


def over_httpx(base: str) -> None:
    def parts() -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    with httpx2.Client(trust_env=False) as client:
        for method, path, fields, body in ASKS:
            client.request(method, base + path, headers=fields, content=body)
        client.post(base + "/echo", json={"a": [1]})
        client.post(base + "/echo", data={"a": "ä & b"})
        client.post(base + "/echo", files={"file": ("a.txt", b"text")})
        client.post(base + "/echo", content=parts())
        client.get(base + "/login", auth=("a", "b"), params={"q": "a b/c"})
        client.get(base + "/redirect", follow_redirects=True)


def over_aiohttp(base: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            for method, path, fields, body in ASKS:
                async with session.request(method, base + path, headers=fields, data=body) as answer:
                    await answer.read()
            await session.post(base + "/echo", json={"a": [1]})
            await session.post(base + "/echo", data={"a": "ä & b"})
            await session.post(base + "/echo", data=aiohttp.FormData({"a": "1"}, default_to_multipart=True))
            await session.post(base + "/echo", data=parts())
            await session.post(base + "/echo", data=b"text", expect100=True)
            await session.get(base + "/login", auth=aiohttp.BasicAuth("a", "b"), params={"q": "a b/c"})
            await session.get(base + "/redirect")
            try:
                await session.ws_connect(base + "/ws")
            except aiohttp.ClientError:
                pass

    asyncio.run(run())


def over_websockets(base: str) -> None:
    for options in ({}, {"compression": None, "subprotocols": ["a", "b"], "origin": "http://example.com"}):
        try:
            connect(base.replace("http", "ws") + "/ws", proxy=None, **options).close()  # type: ignore[arg-type]
        except websockets.exceptions.WebSocketException:
            pass


def over_xmlrpc(base: str) -> None:
    try:
        xmlrpc.client.ServerProxy(base + "/echo").method(1, "two")
    except xmlrpc.client.Error:
        pass


LIBRARIES: dict[str, Callable[[str], None]] = {
    "urllib": over_urllib,
    "http.client": over_http_client,
    "urllib3": over_urllib3,
    "requests": over_requests,
    "httpx": over_httpx,
    "aiohttp": over_aiohttp,
    "websockets": over_websockets,
    "xmlrpc": over_xmlrpc,
}

if __name__ == "__main__":
    LIBRARIES[sys.argv[1]](sys.argv[2])
