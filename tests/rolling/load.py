"""The client: HTTP/1.1, HTTP/2 and gRPC at fixed rates, each request sent once, each answer read and compared.

Clients with real connection handling (httpx, grpcio; http2_client.py), but without retries of their own. Requests begin
on time whether the answers came or not. Says `began` when the first requests are due. The last line of standard output
is JSON: what was sent, and what became of it.

usage: python -m tests.rolling.load PER_SECOND_OF_EACH SECONDS HTTP1_PORT HTTP2_PORT GRPC_PORT
"""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import httpx2

from tests.rolling.http2_client import Http2Client
from tests.rolling.service import answer_for

PATIENCE_S = 90.0  # for one answer; on a busy machine, too, nobody is to give up whose answer would have come
BODIES = (b"", b"x" * 1_000, b"y" * 16_000)
WAITS_S = (0.0, 0.0, 0.0, 0.05, 0.3)
HTTP2_CONNECTIONS = 3

Call = Callable[[str, float, bytes], Awaitable[bytes]]


class WrongAnswerError(Exception):
    """An answer came, but not the service's to this request."""


@asynccontextmanager
async def http1_calls(port: int) -> AsyncIterator[Call]:
    """Calls over a pool of kept connections."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:

        async def call(name: str, wait_s: float, body: bytes) -> bytes:
            method = name.rpartition("-")[2]
            answer = await client.request(method, _path(name, wait_s), content=body if method == "POST" else None)
            return _good(answer.status_code, answer.content)

        yield call


@asynccontextmanager
async def http2_calls(port: int) -> AsyncIterator[Call]:
    """Calls over a few connections in turn."""
    clients = [Http2Client(port) for _ in range(HTTP2_CONNECTIONS)]

    async def call(name: str, wait_s: float, body: bytes) -> bytes:
        _, number, method = name.split("-")
        client = clients[int(number) % len(clients)]
        async with asyncio.timeout(PATIENCE_S):
            return _good(*await client.request(method, _path(name, wait_s), body))

    yield call


def _path(name: str, wait_s: float) -> str:
    return f"/{name}?wait={wait_s}" if wait_s else f"/{name}"


def _good(status: int, body: bytes) -> bytes:
    if status != 200:
        raise WrongAnswerError(f"{status} {body.decode('utf-8', 'replace').strip()}")
    return body


@asynccontextmanager
async def grpc_calls(port: int) -> AsyncIterator[Call]:
    """Calls over one channel. It repeats nothing that was sent; what waits for a connection may get the next one."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary = channel.unary_unary("/rolling.Service/Unary")

        async def call(name: str, wait_s: float, body: bytes) -> bytes:
            answer = await unary(b"%b %b %b" % (name.encode(), str(wait_s).encode(), body), timeout=PATIENCE_S)
            return bytes(answer)

        yield call


class Load:
    """What was sent and what came of it."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.sent: list[str] = []
        self.lost: list[tuple[float, str, str]] = []
        self.took_s: list[float] = []

    async def one(self, call: Call, kind: str, number: int) -> None:
        """Send one request and judge its answer."""
        method = "POST" if kind == "grpc" or number % 2 else "GET"
        name = f"{kind}-{number}-{method}"
        body = BODIES[number % len(BODIES)] if method == "POST" else b""
        self.sent.append(name)
        began_s = time.monotonic()
        try:
            answer = await call(name, WAITS_S[number % len(WAITS_S)], body)
            if answer != answer_for(name, body):
                raise WrongAnswerError(f"not to this request: {hashlib.sha256(answer).hexdigest()}")
        except Exception as exc:
            said = str(exc) if isinstance(exc, WrongAnswerError) else repr(exc)
            self.lost.append((round(began_s - self.began_s, 3), name, " ".join(said.split())[:300]))
        self.took_s.append(time.monotonic() - began_s)

    async def kind(self, kind: str, calls: Call, per_s: int, count: int) -> None:
        """All requests of one protocol."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                await asyncio.sleep(max(0.0, self.began_s + number / per_s - time.monotonic()))
                tasks.create_task(self.one(calls, kind, number))

    def told(self) -> dict[str, object]:
        """For the last line."""
        took_s = sorted(self.took_s)
        return {
            "sent": self.sent,
            "lost": self.lost,
            "p50_ms": round(took_s[len(took_s) // 2] * 1000, 1),
            "p99_ms": round(took_s[len(took_s) * 99 // 100] * 1000, 1),
            "max_ms": round(took_s[-1] * 1000, 1),
        }


async def main(per_s: int, seconds: int, http1: int, http2: int, rpc: int) -> None:
    """Send and tell."""
    async with http1_calls(http1) as h1, http2_calls(http2) as h2, grpc_calls(rpc) as calls:
        load = Load()
        print("began", flush=True)
        async with asyncio.TaskGroup() as tasks:
            for kind, call in (("h1", h1), ("h2", h2), ("grpc", calls)):
                tasks.create_task(load.kind(kind, call, per_s, per_s * seconds))
        print(json.dumps(load.told()))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
