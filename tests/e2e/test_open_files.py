"""A flood of connections takes every descriptor there is: who is being served stays served, nobody spins, it passes."""

import os
import re
from pathlib import Path

import trio

from tests.support.planes import ask, raw_app
from tests.support.processes import BIN, Running, running

OPEN_FILES = 256
FLOOD = 400
GET = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"
LISTENER = "outbound upstream.local:80"


def cpu_s(made: Running) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{made.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(made: Running) -> int:
    """How many descriptors a process has."""
    return len(list(Path(f"/proc/{made.process.pid}/fd").iterdir()))


async def answered(stream: trio.SocketStream) -> bool:
    """Whether a request on `stream` gets an answer."""
    await stream.send_all(GET)
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return False
        data += more
    return data.startswith(b"HTTP/1.1 200 ")


async def test_a_flood_pauses_accepting_and_nothing_else() -> None:
    limited = ("/bin/sh", "-c", f'ulimit -n {OPEN_FILES} && exec "$0" "$@"', str(BIN / "sidecar"))
    async with raw_app() as app:
        one_command = ("run", "--listen", "127.0.0.1:0", "--to", str(app.address))
        async with running(*limited, *one_command, until="listening outbound") as proxy:
            warning = await proxy.until("limits.connections")
            fit = re.search(r"it takes ([0-9]+) ", warning)
            assert fit is not None
            assert int(fit[1]) == (OPEN_FILES - 64) // 2
            address = proxy.listening[LISTENER]

            kept = await trio.open_tcp_stream(address.host, address.port)
            assert await answered(kept)
            flood = [await trio.open_tcp_stream(address.host, address.port) for _ in range(FLOOD)]
            assert await answered(flood[0])
            began_s, used_s = trio.current_time(), cpu_s(proxy)
            for _ in range(20):
                with trio.fail_after(1):
                    assert await answered(kept)
                await trio.sleep(0.1)
            assert cpu_s(proxy) - used_s < 0.1 * (trio.current_time() - began_s)
            assert open_files(proxy) <= OPEN_FILES

            for stream in flood:
                await stream.aclose()
            with trio.fail_after(1):
                answer, _ = await ask(address, GET)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert await answered(kept)
            await kept.aclose()
            assert await proxy.end() == 0
            assert not any("Traceback" in line or "bug" in line for line in proxy.said)
