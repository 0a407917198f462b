"""Random HTTP/2 clients and apps on virtual time: whatever both do, every exchange ends and nothing is left behind.

Apps reset, go away, die, dawdle, answer early or half; clients reset, leave, open no window and stop in their uploads.
A seed is a run: a failure names its seed.
"""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from sidecar.model.policies import Limits, Retries, Timeouts, TrafficPolicy
from tests.support.http2_peers import WIDE, Call, Client, Http2Mesh, Message

HTTP2_CODECS = True  # each test runs with both

APPS = ("a", "b", "c")
CLIENTS = 8
END_S = 400.0  # beyond every bound of the sidecar
BODY = bytes(range(256)) * 40


class Chaos:
    """One run: its dice, what apps took whole, what clients got."""

    def __init__(self, seed: int, mesh: Http2Mesh) -> None:
        self.rng = Random(seed)
        self.mesh = mesh
        self.taken: list[str] = []

    async def app(self, call: Call) -> None:
        rng = self.rng
        if rng.random() < 0.8:
            got = await call.arrived()
            if got.whole:
                assert got.body in (b"", BODY, BODY * 20)
                if got.get(":method") == "POST":
                    self.taken.append(got.get("x-number") or "")
        await trio.sleep(rng.choice((0, 0, 0.01, 1, 7)))
        dice = rng.random()
        if dice < 0.1:
            call.reset(rng.choice((2, 8)))
        elif dice < 0.15:
            call.peer.go_away(WIDE)
            await call.answer()
        elif dice < 0.2:
            call.peer.stream.abort()
        elif dice < 0.25:
            await trio.sleep_forever()
        else:
            if rng.random() < 0.2:
                call.head(103)
            await self.answer(call)

    async def answer(self, call: Call) -> None:
        rng = self.rng
        body = BODY[: rng.choice((0, 1, 5000, len(BODY)))] * rng.choice((1, 1, 30))
        status = rng.choice((200, 200, 200, 404, 500, 502, 503))
        trailers = [("x-end", "1")] if rng.random() < 0.3 else []
        if rng.random() < 0.8:
            length = [("content-length", str(len(body)))] if rng.random() < 0.5 else []
            await call.answer(status, body, length, trailers)
            return
        call.head(status)
        await call.peer.send_body(call.number, body, end=False)
        await trio.sleep(rng.choice((0, 2)))
        call.reset(2)

    async def client(self, number: int) -> None:
        rng = self.rng
        await trio.sleep(rng.random() * 3)
        client = Client(self.mesh, window=rng.choice((None, WIDE)))
        client.credits = rng.random() < 0.9
        client.pause_s = rng.choice((0, 0, 0, 0.05))
        async with trio.open_nursery() as streams:
            for turn in range(rng.choice((1, 5, 30))):
                streams.start_soon(self.stream, client, f"{number}.{turn}")
            if rng.random() < 0.1:
                await trio.sleep(rng.random() * 2)
                client.stream.abort()
        client.stream.close()

    async def stream(self, client: Client, number: str) -> None:
        rng = self.rng
        await trio.sleep(rng.random() * 2)
        if client.closed.is_set() or client.stream.closed:
            return
        method = rng.choice(("GET", "POST", "PUT", "HEAD"))
        body = b"" if method in ("GET", "HEAD") else BODY * rng.choice((1, 1, 20))
        stream = client.begin(method, fields=[("x-number", number)], end=not body)
        if body:
            cut = rng.random() < 0.1
            with trio.move_on_after(END_S):
                await client.send_body(stream, body[: len(body) // 2] if cut else body, end=not cut)
        if rng.random() < 0.15 and not client.messages[stream].over.is_set():
            await trio.sleep(rng.random())
            if not client.messages[stream].over.is_set():
                client.reset(stream)
                return
        with trio.fail_after(END_S):
            judge(await client.answer(stream))


def judge(got: Message) -> None:
    """A whole answer, or one that says that it is none."""
    if got.whole and got.get("content-length") is not None and got.body:
        assert len(got.body) == int(got.get("content-length") or 0)
    if got.whole:
        assert got.status


@pytest.fixture
def seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The seed, which decides as well whose turn it is first: trio draws that at random, by design."""
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", Random(request.param))
    return int(request.param)


@pytest.mark.parametrize("seed", range(12), indirect=True)
async def test_every_stream_ends_and_nothing_is_left_behind(seed: int, autojump_clock: MockClock) -> None:
    policy = TrafficPolicy(
        timeouts=Timeouts(request_s=10.0, per_try_s=3.0, stream_idle_s=20.0),
        retries=Retries(attempts=2, max_body_bytes=20_000),
        limits=Limits(connections=4, pending=20, requests=40),
    )
    async with trio.open_nursery() as nursery:
        mesh = Http2Mesh(nursery, seed)
        chaos = Chaos(seed, mesh)
        apps = [mesh.http2(name, chaos.app, settings={3: 1 + seed % 10}) for name in APPS]
        mesh.configure([*APPS, "nobody"], policy)
        with trio.fail_after(2 * END_S):
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(chaos.client, number)
        await trio.sleep(END_S)

        assert chaos.taken
        assert len(chaos.taken) == len(set(chaos.taken))  # no POST was taken twice
        assert mesh.bugs == []
        assert mesh.in_flight() == 0
        assert mesh.worker.connections == 0
        assert mesh.worker.pool._uses == {}
        shared = mesh.worker.pool._shared
        assert (shared._connections, shared._dialling, shared._waiting) == ({}, {}, {})
        assert sum(app.open for app in apps) == 0
        nursery.cancel_scope.cancel()
