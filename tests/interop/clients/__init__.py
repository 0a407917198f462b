"""The clients of the interop matrix. Each `run(version, port, ask)` sends one request and gives back what it saw.

Afterwards it sends GET /small, which must get 200, and tells whether that went over the same connection.
"""

from collections.abc import Callable

from tests.interop.clients import curl, node, over_aiohttp, over_grpcio, over_httpx, over_requests
from tests.interop.record import Ask, Record

Run = Callable[[str, int, Ask], Record]

RUN: dict[str, Run] = {
    "curl": curl.run,
    "httpx": over_httpx.run,
    "aiohttp": over_aiohttp.run,
    "requests": over_requests.run,
    "node-http": node.run,
    "node-http2": node.run,
    "grpcio": over_grpcio.run,
}
