"""The hostile service: records what reaches it, and answers as the attack at hand wants it to.

It runs in the harness' own process, so that a verdict can look at every byte. Three ports: HTTP/1.1 (also where the
inbound side leads), HTTP/2, and TCP.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import trio

from bench.attacks.site import LOCAL
from tests.support.http2 import OK, PREFACE, Seen, Wire, data, settings

# The kernel's buffer for what a connection's peer does not take yet. It would grow to 4 MiB each, and a thousand such
# fill the TCP memory of the kernel that the sidecar and the victim share with the service here: all would stand still.
SEND_BUFFER_BYTES = 512 * 1024
KEPT_BYTES = 8 << 20  # of what reached it; floods may bring more, which is counted
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Frame2:
    """A frame that reached the HTTP/2 port, and on which connection."""

    connection: int
    frame: Seen


@dataclass
class Service:
    """What reached the service.

    Attributes:
        received: Bytes at the HTTP/1 and the TCP port, all connections, the first KEPT_BYTES.
        received_bytes: Their number, beyond what is kept.
        bodies: The same by connection.
        frames: At the HTTP/2 port.
        connections: Accepted.
        open: Connections open now.
        ends_s: Moments when a client's end was seen, CLOCK_MONOTONIC: a FIN, or a reset.
        resets: How many of them were resets.
        ended, processed: Moments, and how often, by a word of the behaviour's own.
    """

    received: bytearray = field(default_factory=bytearray)
    received_bytes: int = 0
    bodies: dict[int, bytearray] = field(default_factory=dict)
    frames: list[Frame2] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    ends_s: list[float] = field(default_factory=list)
    resets: int = 0
    ended: dict[str, float] = field(default_factory=dict)
    processed: Counter[str] = field(default_factory=Counter)

    def take(self, number: int, piece: bytes) -> None:
        """Bytes came on a connection."""
        self.received_bytes += len(piece)
        if len(self.received) < KEPT_BYTES:
            self.received += piece
            self.bodies.setdefault(number, bytearray()).extend(piece)


class Client:
    """A connection to the service, as a behaviour sees it: `number` counts them."""

    def __init__(self, service: Service, stream: trio.SocketStream) -> None:
        self.service = service
        self.stream = stream
        self.number = service.connections
        self.wire = Wire()
        self._rest = b""

    async def read(self) -> bytes:
        """The next bytes, recorded; empty at the end."""
        try:
            piece = bytes(await self.stream.receive_some(64 * 1024))
        except trio.BrokenResourceError:
            self.service.resets += 1
            piece = b""
        if piece:
            self.service.take(self.number, piece)
        else:
            self.service.ends_s.append(monotonic())
        return piece

    async def frames(self) -> list[Seen]:
        """The next whole frames, recorded; empty at the end. The preface is taken off."""
        while True:
            try:
                piece = bytes(await self.stream.receive_some(64 * 1024))
            except trio.BrokenResourceError:
                self.service.resets += 1
                piece = b""
            if not piece:
                self.service.ends_s.append(monotonic())
                return []
            self._rest += piece
            self._rest = self._rest.removeprefix(PREFACE)
            if found := self._whole():
                return found

    def _whole(self) -> list[Seen]:
        found: list[Seen] = []
        while len(self._rest) >= 9 and not PREFACE.startswith(self._rest[:9]):
            size = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < size:
                break
            raw, self._rest = self._rest[:size], self._rest[size:]
            found += self.wire.read(raw)
        self.service.frames += [Frame2(self.number, frame) for frame in found]
        return found

    async def reset(self) -> None:
        """End it with a reset."""
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(self.stream)


Behaviour = Callable[[Client], Awaitable[None]]


async def answer_heads(client: Client) -> None:
    """One small 200 for each end of a head seen."""
    while piece := await client.read():
        await client.stream.send_all(ANSWER * piece.count(b"\r\n\r\n"))


async def answer_streams(client: Client) -> None:
    """One small 200 for each request whose head has come."""
    await client.stream.send_all(settings())
    while frames := await client.frames():
        for frame in frames:
            if frame.name == "Settings" and "ACK" not in frame.flags:
                await client.stream.send_all(settings(ack=True))
            elif frame.name == "Headers":
                await client.stream.send_all(
                    client.wire.headers(frame.stream, OK) + data(frame.stream, b"ok", end=True)
                )


async def echo(client: Client) -> None:
    """TCP: what comes goes back; an end is answered with an end."""
    while piece := await client.read():
        await client.stream.send_all(piece)


@dataclass(frozen=True, slots=True)
class Behaviours:
    """One for each port."""

    http1: Behaviour = answer_heads
    http2: Behaviour = answer_streams
    tcp: Behaviour = echo


class Hostile:
    """The listeners of the hostile service.

    Attributes:
        ports: Of HTTP/1, HTTP/2 and TCP.
        service: The record since the last `behave`.
    """

    def __init__(self) -> None:
        self.service = Service()
        self.ports = (0, 0, 0)
        self._behaviours = Behaviours()
        self._scopes: set[trio.CancelScope] = set()

    def behave(self, behaviours: Behaviours) -> Service:
        """Begin a new record and serve so from now on; connections that are there end."""
        for scope in self._scopes:
            scope.cancel()
        self._behaviours, self.service = behaviours, Service()
        return self.service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on three free ports until cancelled."""
        async with trio.open_nursery() as nursery:
            ports = []
            for kind in ("http1", "http2", "tcp"):
                [listener] = await trio.open_tcp_listeners(0, host=LOCAL, backlog=4096)
                listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                ports.append(int(listener.socket.getsockname()[1]))
                nursery.start_soon(trio.serve_listeners, partial(self._serve, kind), [listener])
            self.ports = (ports[0], ports[1], ports[2])
            task_status.started()

    async def _serve(self, kind: str, stream: trio.SocketStream) -> None:
        service = self.service
        behaviour: Behaviour = getattr(self._behaviours, kind)
        service.connections += 1
        service.open += 1
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                await behaviour(Client(service, stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the sidecar cut it
        finally:
            self._scopes.discard(scope)
            service.open -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
