"""The API on a real socket in front of a fake control plane, and ways to ask it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import trio
from starlette.types import Receive, Scope, Send

from control_plane.answers import (
    Applied,
    CheckLine,
    Kind,
    MadeToken,
    Refused,
    Rotation,
    StoredResource,
    Version,
    Waited,
)
from control_plane.api import listen
from control_plane.api.guard import Guard, Limits
from control_plane.api.routes import Routes
from control_plane.store.contract import StoreError

TOKEN = "a-token-that-nobody-guesses"
AUTH = {"authorization": f"Bearer {TOKEN}"}
LIMITS = Limits(body_bytes=64 * 1024, answer_s=5.0, longest_wait_s=10.0, in_flight=8)


class FakePlane:
    """Enough of a control plane to see what the API asks of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.never = trio.Event()
        self.waiting = trio.Event()
        self.left = trio.Event()
        self.metrics_sent = trio.Event()
        self.metrics_text = b"control_plane_sessions 0\n"

    async def version(self) -> Version:
        return Version("0.1.0", "mesh.local", 7, 1.5)

    async def apply(self, text: str, source: str = "<input>", *, dry_run: bool = False) -> Applied:
        self.asked.append(("apply", text, source, dry_run))
        if text == "full":
            raise StoreError("data/store.db: database or disk is full")
        if text == "bad":
            raise Refused("1 problem", "mend it", (f"{source}:1:1: what",), Kind.INVALID)
        return Applied(8, ("Service/shop/orders",), (), dry_run)

    async def resources(self, kind: str = "", namespace: str = "") -> list[StoredResource]:
        self.asked.append(("resources", kind, namespace))
        return [StoredResource("Service/shop/orders", "user", 3, {"kind": "Service"})]

    async def resource(self, kind: str, namespace: str, name: str) -> StoredResource:
        if name == "bug":
            raise KeyError("a secret of the program")
        raise Refused(f"no {kind} {namespace}/{name}", kind=Kind.NOT_FOUND)

    async def delete(self, kind: str, namespace: str, name: str, *, dry_run: bool = False) -> Applied:
        self.asked.append(("delete", kind, namespace, name, dry_run))
        return Applied(9, (f"{kind}/{namespace}/{name}",))

    async def traffic_set(self, namespace: str, service: str, weights: Mapping[str, int]) -> None:
        self.asked.append(("traffic", namespace, service, dict(weights)))
        raise Refused("two routes", "name one", (), Kind.AMBIGUOUS)

    async def wait_revision(self, revision: int, timeout_s: float) -> Waited:
        self.waiting.set()
        try:
            with trio.move_on_after(timeout_s):
                await self.never.wait()
        finally:
            self.left.set()
        return Waited(revision, False, (), ("shop/orders-1",), ())

    async def create_token(self, **asked: Any) -> MadeToken:
        self.asked.append(("token", asked))
        return MadeToken("t1", "-----BEGIN", 10.0)

    async def check(self) -> list[CheckLine]:
        await trio.sleep_forever()
        raise AssertionError

    async def rotate(self, spread_s: float = 30.0) -> Rotation:
        return Rotation(2, spread_s)

    def metrics(self) -> bytes:
        return self.metrics_text


class Server:
    """A served fake, and a client of it."""

    def __init__(self, plane: FakePlane, address: str, bugs: list[str]) -> None:
        self.plane = plane
        self.address = address
        self.bugs = bugs

    def client(self, headers: Mapping[str, str] = AUTH) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://{self.address}", headers=headers, trust_env=False, timeout=5)

    async def raw(self, text: bytes) -> bytes:
        """Send bytes on a connection of its own; return everything until the server closes it."""
        host, port = listen.split_address(self.address)
        stream = await trio.open_tcp_stream(host, port)
        async with stream:
            with trio.fail_after(5):
                try:
                    await stream.send_all(text)
                except trio.BrokenResourceError:
                    pass  # it may close before it has read everything
                got = b""
                try:
                    async for piece in stream:
                        got += piece
                except trio.BrokenResourceError:
                    pass
        return got


@asynccontextmanager
async def serving(limits: Limits = LIMITS, **guard: Any) -> AsyncIterator[Server]:
    plane, bugs = FakePlane(), list[str]()
    stop = trio.Event()
    app = Guard(
        Routes(plane, limits).application(),  # type: ignore[arg-type]
        token=TOKEN,
        limits=limits,
        report=lambda where, exc: bugs.append(f"{where}: {exc!r}"),
        **guard,
    )

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope.get("path") == "/metrics":
            plane.metrics_sent.set()

    listener = listen.bind("127.0.0.1:0", unread_s=0.3)
    address = listen.address_of(listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(listen.serve, watched, listener, stop.wait, grace_s=0.1))
        try:
            yield Server(plane, address, bugs)
        finally:
            stop.set()
