"""SIGTERM with everything under way at once: who is connected finishes, whatever it speaks; the next are led away."""

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sidecar.model.bootstrap import HostPort
from tests.support import http2
from tests.support.planes import ANSWER, ask, raw_app
from tests.support.processes import Running, running

REQUESTS, STREAMS = 50, 20
GET = b"GET /held HTTP/1.1\r\nHost: stock\r\n\r\n"
WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\nHost: stock\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
ENDS_S = 20.0


@dataclass
class Service:
    """Holds answers to `/held` until `go`, switches to `/chat`, and echoes what is in a tunnel."""

    held: int = 0
    go: trio.Event = field(default_factory=trio.Event)

    async def answer(self, stream: trio.SocketStream, data: bytes) -> None:
        if data.startswith(b"GET /held"):
            self.held += 1
            await self.go.wait()
            await stream.send_all(ANSWER)
        elif data.startswith(b"GET "):
            await stream.send_all(SWITCH if b" /chat " in data else ANSWER)
        else:
            await stream.send_all(data)


def bootstrap(folder: Path, app: HostPort) -> str:
    (folder / "mesh.d").mkdir()
    for service, protocol in (("stock", "http"), ("db", "tcp")):
        (folder / f"mesh.d/{service}.yaml").write_text(
            "apiVersion: sidecar-mesh.dev/v1alpha1\nkind: Workload\n"
            f"metadata: {{name: {service}-1, namespace: shop}}\n"
            f"spec: {{service: {service}, address: {app.host}, ports: [{{port: {app.port}, protocol: {protocol}}}]}}\n"
        )
    upstreams = ", ".join(
        f"{{service: {service}, port: {app.port}, listen: '127.0.0.1:0'}}" for service in ("stock", "db")
    )
    path = folder / "web.yaml"
    path.write_text(
        "node: {service: web, namespace: shop}\nstatic: ./mesh.d\n"
        f"outbound: {{listen: [], upstreams: [{upstreams}]}}\n"
        "admin: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\n"
        "limits: {drainDelay: 1s, drainTimeout: 30s}\n"
    )
    return str(path)


async def echoes(stream: trio.SocketStream) -> None:
    await stream.send_all(b"still there?")
    assert await stream.receive_some() == b"still there?"


async def refused(address: HostPort) -> None:
    """Wait until nobody listens there any more."""
    while True:
        try:
            await (await trio.open_tcp_stream(*address)).aclose()
        except OSError:
            return


async def ready(made: Running) -> tuple[bytes, object]:
    answer, _ = await ask(made.listening["admin"], b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return answer[9:12], json.loads(answer.partition(b"\r\n\r\n")[2])["ready"]


async def streams_held(address: HostPort) -> tuple[trio.SocketStream, http2.Wire]:
    """A connection of HTTP/2 that waits for many answers."""
    stream, wire = await trio.open_tcp_stream(*address), http2.Wire()
    held = ((":method", "GET"), (":scheme", "http"), (":authority", "stock"), (":path", "/held"))
    requests = b"".join(wire.headers(number, held, end=True) for number in range(1, 2 * STREAMS, 2))
    await stream.send_all(http2.PREFACE + http2.settings() + requests)
    return stream, wire


async def frames(stream: trio.SocketStream, wire: http2.Wire) -> list[http2.Seen]:
    """All that comes until the end; answers the PING between the two GOAWAYs, as clients do."""
    got = bytearray()
    seen: list[http2.Seen] = []
    async with stream:
        async for data in stream:
            got += data
            while len(got) >= 9 and len(got) >= (size := 9 + int.from_bytes(got[:3], "big")):
                [one] = wire.read(bytes(got[:size]))
                del got[:size]
                seen.append(one)
                if one.name == "Ping" and "ACK" not in one.flags:
                    await stream.send_all(http2.ping(one.body, ack=True))
    return seen


async def test_whoever_is_connected_finishes_and_whoever_comes_later_is_led_away(tmp_path: Path) -> None:
    service, answers = Service(), []
    async with raw_app(service.answer) as app:
        file = bootstrap(tmp_path, app.address)
        async with running("sidecar", "run", "-c", file, until="listening outbound db.shop") as made:
            web, tcp = (made.listening[f"outbound {name}.shop:{app.address.port}"] for name in ("stock", "db"))

            async def one() -> None:
                answers.append((await ask(web, GET, ENDS_S))[0])

            many, wire = await streams_held(web)
            chat, raw = await trio.open_tcp_stream(*web), await trio.open_tcp_stream(*tcp)
            await chat.send_all(WEBSOCKET)
            assert (await chat.receive_some()).startswith(b"HTTP/1.1 101 ")
            seen: list[http2.Seen] = []
            with trio.fail_after(ENDS_S):
                async with trio.open_nursery() as nursery:

                    async def read() -> None:
                        seen.extend(await frames(many, wire))

                    nursery.start_soon(read)
                    for _ in range(REQUESTS):
                        nursery.start_soon(one)
                    while service.held < REQUESTS + STREAMS:
                        await trio.testing.wait_all_tasks_blocked(0.01)
                    made.process.send_signal(signal.SIGTERM)
                    await made.until("SIGTERM: draining")

                    assert await ready(made) == (b"503", False)
                    assert (await ask(web, GET.replace(b"/held", b"/new")))[0].startswith(b"HTTP/1.1 200 ")
                    await refused(web)
                    await refused(tcp)
                    assert answers == []
                    await echoes(chat)
                    await echoes(raw)
                    service.go.set()
                assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * REQUESTS
                assert all(b"\r\nConnection: close\r\n" in answer for answer in answers)
                assert [one.last for one in seen if one.name == "GoAway"] == [2**31 - 1, 2 * STREAMS - 1]
                statuses = [one.headers[0] for one in seen if one.name == "Headers"]
                assert statuses == [(b":status", b"200")] * STREAMS
                await echoes(chat)
                await echoes(raw)
                assert made.process.returncode is None
                await chat.aclose()
                await raw.aclose()
                assert await made.process.wait() == 0
