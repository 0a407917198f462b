"""Random apps and random clients on virtual time: whatever both do, every exchange ends and nothing is left behind.

Apps reset, close, dawdle, talk too much, answer early or send garbage; clients send in pieces, leave, half-close,
pipeline and read slowly. What must hold is in `settled` and `judge`. A seed is a run: a failure names its seed.
"""

from dataclasses import dataclass, field
from random import Random

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Limits, Retries, Timeouts, TrafficPolicy
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import MemoryMesh

CLIENTS = 12
APPS = ("a", "b", "c")
END_S = 400.0  # beyond every bound of the proxy: write progress, stream idle, request, linger
BODY = bytes(range(256)) * 40


def chunked(body: bytes) -> bytes:
    pieces = [body[start : start + 3000] for start in range(0, len(body), 3000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass
class Chaos:
    """One run: its dice, what apps took whole, what clients got."""

    rng: Random
    mesh: MemoryMesh
    taken: list[tuple[bytes, bytes]] = field(default_factory=list)

    def listen(self, nursery: trio.Nursery) -> None:
        for name in APPS:
            self.mesh.network.listen(f"{name}:8080", lambda stream: nursery.start_soon(self.app, stream))

    # Apps.

    async def app(self, stream: MemoryStream) -> None:
        try:
            while await self.answer_one(stream):
                pass
        except (StreamBroken, h11.RemoteProtocolError):
            pass  # reset, or cut inside a request: never taken for a whole one
        finally:
            stream.abort() if self.rng.random() < 0.3 else stream.close()

    async def answer_one(self, stream: MemoryStream) -> bool:
        """Read a request (or a part of it) and do something; False ends the connection."""
        rng = self.rng
        patience = rng.choice((0, 1, 10_000_000, 10_000_000, 10_000_000))
        http = h11.Connection(h11.SERVER)
        got, body = 0, b""
        while got <= patience:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive()
                got += len(data)
                http.receive_data(data)
            elif isinstance(event, h11.Request):
                number = dict(event.headers)[b"x-number"]
                self.taken.append((bytes(event.method), number))
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert body in (b"", BODY, BODY * 20)
                break
            elif isinstance(event, h11.ConnectionClosed):
                return False
        await trio.sleep(rng.choice((0, 0, 0.01, 1, 7)))
        answer = self.answer()
        cut = len(answer) if rng.random() < 0.7 else rng.randrange(len(answer) + 1)
        await self.in_pieces(stream, answer[:cut])
        return cut == len(answer) and http.their_state is h11.DONE and rng.random() < 0.8

    def answer(self) -> bytes:
        rng = self.rng
        body = BODY[: rng.choice((0, 1, 5000, len(BODY)))] * rng.choice((1, 1, 30))
        status = rng.choice((b"200 OK", b"200 OK", b"200 OK", b"404 Not Found", b"500 Oops", b"503 Busy", b"502 Bad"))
        head = b"HTTP/1.1 " + status + b"\r\n"
        interim = rng.choice((b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"))
        framed = rng.choice(
            (
                head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
                head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body),
                head + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"extra",
                head + b"x-mesh-untouched: 1\r\nContent-Length: 0\r\n\r\n",
                b"garbage\r\n\r\n",
                b"HTTP/1.1 204 No Content\r\n\r\n",
            )
        )
        return interim + framed

    async def in_pieces(self, stream: MemoryStream, data: bytes) -> None:
        while data:
            size = self.rng.choice((1, 7, 100, 70_000, 70_000))
            await stream.send(data[:size])
            data = data[size:]
            if self.rng.random() < 0.05:
                await trio.sleep(self.rng.choice((0.001, 2)))

    # Clients.

    async def client(self, number: int) -> None:
        rng = self.rng
        await trio.sleep(rng.random() * 3)
        stream = self.mesh.network.dial("proxy:1")
        method, version = rng.choice(("GET", "POST", "PUT", "HEAD")), rng.choice((b"1.1", b"1.1", b"1.0"))
        times = rng.choice((1, 1, 3))
        sent = b"".join(self.request(f"{number}.{turn}", method, version) for turn in range(times))
        if rng.random() < 0.2:
            sent = sent[: rng.randrange(len(sent))]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.speak, stream, sent)
                if rng.random() < 0.1:
                    await trio.sleep(rng.random() * 2)
                    stream.abort()
                judge(await self.listen_to(stream), method, times)
        finally:
            stream.close()

    def request(self, number: str, method: str, version: bytes) -> bytes:
        body = b"" if method in ("GET", "HEAD") else BODY * self.rng.choice((1, 1, 20))
        head = f"{method} / HTTP/{version.decode()}\r\nHost: orders\r\nx-number: {number}\r\n".encode()
        if not body:
            return head + b"\r\n"
        if version == b"1.1" and self.rng.random() < 0.5:
            expect = b"Expect: 100-continue\r\n" if self.rng.random() < 0.3 else b""
            return head + expect + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body)
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def speak(self, stream: MemoryStream, data: bytes) -> None:
        try:
            await self.in_pieces(stream, data)
            if self.rng.random() < 0.3:
                await stream.flush()
                stream.send_eof()
        except StreamBroken:
            pass

    async def listen_to(self, stream: MemoryStream) -> tuple[bytes, bool]:
        """All that came, and whether the end was an orderly one."""
        slow = self.rng.choice((0, 0, 0, 0.5))
        got = b""
        with trio.move_on_after(END_S) as scope:
            try:
                while data := await stream.receive():
                    got += data
                    await trio.sleep(slow)
            except StreamBroken:
                return got, False
        stream.close()
        return got, not scope.cancelled_caught


def judge(answered: tuple[bytes, bool], method: str, times: int) -> None:
    """Whole answers, and after them at most one that a cut connection, never an orderly end, left incomplete."""
    got, orderly = answered
    rest = got
    for _ in range(times):
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        if method in ("GET", "HEAD"):
            http.send(h11.EndOfMessage())
        http.receive_data(rest)
        if not rest or (method == "HEAD" and rest.startswith(b"the request head did not arrive")):
            return  # the refusal of half a head has a body: nobody knew that it was to be a HEAD
        if orderly:
            http.receive_data(b"")
        while (event := http.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                break
        else:
            assert not orderly
            return
        rest = http.trailing_data[0]
    assert rest == b"" or rest.startswith(b"the request head did not arrive")


@pytest.fixture
def seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The seed, which decides as well whose turn it is first: trio draws that at random, by design."""
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", Random(request.param))
    return int(request.param)


@pytest.mark.parametrize("seed", range(60), indirect=True)
async def test_every_exchange_ends_and_nothing_is_left_behind(seed: int, autojump_clock: MockClock) -> None:
    policy = TrafficPolicy(
        timeouts=Timeouts(request_s=10.0, per_try_s=3.0, stream_idle_s=20.0),
        retries=Retries(attempts=2, max_body_bytes=20_000),
        limits=Limits(connections=4, pending=4, requests=10),
    )
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery, seed)
        chaos = Chaos(Random(seed), mesh)
        chaos.listen(nursery)
        mesh.configure([*APPS, "nobody"], policy)
        with trio.fail_after(2 * END_S):
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(chaos.client, number)
        await trio.sleep(END_S)

        posts = [number for method, number in chaos.taken if method == b"POST"]
        assert len(posts) == len(set(posts))
        assert chaos.taken
        assert mesh.bugs == []
        assert mesh.in_flight() == 0
        assert mesh.worker.connections == 0
        assert mesh.worker.pool._uses == {}
        nursery.cancel_scope.cancel()
