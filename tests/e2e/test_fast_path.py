"""Which path a running sidecar serves requests on, by its own counters; and that it can be told to use the full one."""

import os
import re

import pytest
import trio

from tests.support.planes import ask, raw_app
from tests.support.processes import Running, running

REQUESTS = 20
PLAIN = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"
UNUSUAL = b"GET /a/../x HTTP/1.1\r\nHost: orders\r\n\r\n"
_SAMPLE = re.compile(rb'^sidecar_requests_by_path_total\{path="(\w+)",why="([\w-]*)"\} (\d+)', re.MULTILINE)


async def on_one_connection(proxy: Running, requests: list[bytes]) -> None:
    async with await trio.open_tcp_stream(*proxy.listening["outbound upstream.local:80"]) as stream:
        for request in requests:
            await stream.send_all(request)
            with trio.fail_after(5):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def by_path(proxy: Running) -> dict[tuple[str, str], int]:
    """Requests by path and why they took it."""
    metrics, _ = await ask(proxy.listening["metrics"], b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    found = {(path.decode(), why.decode()): int(count) for path, why, count in _SAMPLE.findall(metrics)}
    return {key: count for key, count in found.items() if count}


@pytest.mark.parametrize("switched", ["", "true", "false"])
async def test_the_path_that_requests_take_shows_and_can_be_switched(switched: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SIDECAR_FAST_PATH"}
    if switched:
        environment["SIDECAR_FAST_PATH"] = switched
    async with raw_app() as app:
        command = ("sidecar", "run", "--listen", "127.0.0.1:0", "--to", str(app.address))
        async with running(*command, until="listening outbound", env=environment) as proxy:
            await on_one_connection(proxy, [PLAIN] * REQUESTS + [UNUSUAL])
            paths = await by_path(proxy)

    if switched == "false":
        assert paths == {("full", "off"): REQUESTS + 1}
    else:
        assert paths == {("fast", ""): REQUESTS, ("full", "target"): 1}
