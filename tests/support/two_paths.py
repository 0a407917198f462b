"""One scenario played on both paths of the proxy, and what came of it in values that can be compared.

Endpoints follow scripts: what to send, how long to wait, how to end. Clients write raw bytes and keep what they got.
Times are virtual; ids that are drawn (trace, request id) are left out, because each path draws in its own order.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import h11
import trio

from sidecar.errors import CLIENT_GONE
from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.policies import TrafficPolicy
from sidecar.model.snapshot import Resource
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.mesh import PORT, MemoryMesh

WARM = b"GET /warm HTTP/1.1\r\nHost: orders\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUIET_S = 5.0  # a connection of which nothing is heard for so long stays open
GONE_S = 700.0  # beyond every bound of the proxy: then all gauges are at rest
DRAWN = frozenset((b"traceparent", b"x-request-id", b"x-mesh-timeout-ms"))
Fields = Counter[tuple[bytes, bytes]]


class Then(Enum):
    """How a script may go on."""

    CLOSE = auto()
    RESET = auto()
    HANG = auto()


Step = bytes | float | Then
Script = tuple[Step, ...]


@dataclass
class Asked:
    """A request as an endpoint saw it."""

    line: bytes
    fields: Fields
    body: bytes

    def comparable(self) -> object:
        """Without what is drawn, and without how the body was framed."""
        framing = (b"content-length", b"transfer-encoding")
        names = Counter(name for name, _ in self.fields if name in DRAWN)
        kept = {field: n for field, n in self.fields.items() if field[0] not in DRAWN and field[0] not in framing}
        return self.line, names, kept, self.body


class Backend:
    """An endpoint that follows scripts, one for each request; the last one for all that follow. `/warm` is answered.

    `visits` counts the requests of all endpoints that have it in common.
    """

    def __init__(self, mesh: MemoryMesh, name: str, scripts: Sequence[Script], visits: list[str]) -> None:
        self.scripts = scripts
        self.visits = visits
        self._name = name
        self.seen: list[Asked] = []
        self.open: list[MemoryStream] = []
        mesh.network.listen(f"{name}:{PORT}", lambda stream: mesh.nursery.start_soon(self._serve, stream))

    async def _serve(self, stream: MemoryStream) -> None:
        self.open.append(stream)
        try:
            buffer = b""
            while True:
                asked, buffer = await _request(stream, buffer)
                if b" /warm " in asked.line:
                    await stream.send(OK)
                    continue
                self.seen.append(asked)
                self.visits.append(self._name)
                if not await self._follow(stream, self.scripts[min(len(self.visits), len(self.scripts)) - 1]):
                    return
        except StreamBroken:
            pass
        finally:
            self.open.remove(stream)
            stream.close()

    async def _follow(self, stream: MemoryStream, script: Script) -> bool:
        for step in script:
            if isinstance(step, bytes):
                await stream.send(step)
            elif isinstance(step, float):
                await trio.sleep(step)
            elif step is Then.HANG:
                await trio.sleep_forever()
            else:
                if step is Then.RESET:
                    stream.abort()
                return False
        return True


async def _request(stream: MemoryStream, buffer: bytes) -> tuple[Asked, bytes]:
    """One request of a well-behaved peer, which the proxy is. Raises StreamBroken at the end."""

    async def more() -> None:
        nonlocal buffer
        data = await stream.receive()
        if not data:
            raise StreamBroken("the end")
        buffer += data

    while b"\r\n\r\n" not in buffer:
        await more()
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    parted = [each.partition(b":") for each in lines]
    fields: Fields = Counter((name.lower(), value.strip(b" \t")) for name, _, value in parted)
    known = dict(fields)
    body = b""
    if (b"transfer-encoding", b"chunked") in known:
        while True:
            while b"\r\n" not in buffer:
                await more()
            size_line, _, buffer = buffer.partition(b"\r\n")
            size = int(size_line, 16)
            while len(buffer) < size + 2:
                await more()
            body, buffer = body + buffer[:size], buffer[size + 2 :]
            if not size:
                return Asked(line, fields, body), buffer
    length = next((int(value) for name, value in fields if name == b"content-length"), 0)
    while len(buffer) < length:
        await more()
    return Asked(line, fields, buffer[:length]), buffer[length:]


@dataclass
class Got:
    """An answer; status 0 when none came, `complete` False when it was cut."""

    status: int = 0
    fields: Fields = field(default_factory=Counter)
    body: bytes = b""
    complete: bool = False
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    interim: tuple[int, ...] = ()


class Client:
    """A client's connection; `got` are its answers, `end` how the connection was left: open, closed or reset."""

    def __init__(self, mesh: MemoryMesh, stream: MemoryStream) -> None:
        self.mesh = mesh
        self.stream = stream
        self.got: list[Got] = []
        self.end = ""
        self._rest = b""
        self._ended = False

    async def send(self, data: bytes) -> None:
        try:
            await self.stream.send(data)
        except StreamBroken:
            pass  # it shows at the next read

    async def answer(self, method: str = "GET", between: Callable[[], Awaitable[None]] | None = None) -> Got:
        """Read one final answer, doing something between two reads."""
        got = Got()
        self.got.append(got)
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        http.send(h11.EndOfMessage())
        if self._rest:
            http.receive_data(self._rest)
            self._rest = b""
        while True:
            try:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    if between is not None:
                        await between()
                    http.receive_data(await self.stream.receive())
                    continue
            except (StreamBroken, h11.RemoteProtocolError) as exc:
                self.end = "reset" if isinstance(exc, StreamBroken) else "closed"
                return got
            if isinstance(event, h11.InformationalResponse):
                got.interim += (event.status_code,)
            elif isinstance(event, h11.Response):
                got.status = event.status_code
                got.fields = Counter((name, value) for name, value in event.headers)
            elif isinstance(event, h11.Data):
                got.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                got.complete = True
                got.trailers = tuple(event.headers)
                self._rest = http.trailing_data[0]
                return got
            else:
                self.end = "closed"
                return got

    async def leave(self) -> None:
        """See how the connection is, then close it. Nothing may have come that was not asked for."""
        assert self._rest == b"", "an answer that nobody asked for"
        if not self.end:
            with trio.move_on_after(QUIET_S):
                try:
                    more = await self.stream.receive()
                    assert more == b"", f"{more!r} came unasked"
                    self.end = "closed"
                except StreamBroken:
                    self.end = "reset"
        self.end = self.end or "open"
        self.stream.close()


@dataclass
class World:
    """What a scenario acts on."""

    mesh: MemoryMesh
    backends: dict[str, Backend]
    clients: list[Client] = field(default_factory=list)
    fast: bool = False

    def client(self, address: str = "proxy:1", principal: str = "") -> Client:
        """Connect."""
        made = Client(self.mesh, self.mesh.network.dial(address, principal=principal))
        self.clients.append(made)
        return made

    async def warm(self, address: str = "proxy:1", principal: str = "") -> None:
        """Leave an idle connection to each backend, and forget that it was done."""
        for _ in self.backends:
            stream = self.mesh.network.dial(address, principal=principal)
            await stream.send(WARM)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
            stream.close()
        await trio.sleep(0.1)
        self.mesh.told.done.clear()
        self.mesh.told.paths.clear()
        self.mesh.worker.fast_requests[0] = 0


Play = Callable[[World], Awaitable[None]]


@dataclass
class Outcome:
    """What can be compared."""

    answers: list[list[Got]]
    ends: list[str]
    asked: dict[str, list[object]]
    told: list[dict[str, object]]
    full: Counter[str]
    fast: int
    limits: list[str]


_TOLD = (
    *("reporter", "method", "target", "authority", "protocol", "route", "service", "cluster", "status", "flags"),
    *("details", "attempts", "tried", "retry_denied", "bytes_received", "bytes_sent", "principal", "tls"),
    *("user_agent", "config_version"),
)


def told_of(done: RequestDone) -> dict[str, object]:
    """Everything that is the same whichever path served it; spans without their ids and times.

    How a client's leaving shows first, at a read or at a write, is a matter of chance, and so is its sentence.
    """
    told: dict[str, object] = {name: getattr(done, name) for name in _TOLD}
    if done.flags == CLIENT_GONE.flag:
        del told["details"]
    told["endpoint"] = done.endpoint.id if done.endpoint is not None else ""
    told["sampled"] = done.trace is not None and done.trace.sampled
    told["server span"] = bool(done.span_id)
    told["spans"] = [
        (span.endpoint.id if span.endpoint else "", span.status, span.error, span.resend_count) for span in done.spans
    ]
    return told


async def play(
    scenario: Play,
    *,
    fast: bool,
    scripts: Sequence[Script] = ((OK,),),
    backends: Sequence[str] = ("a",),
    policy: TrafficPolicy | None = None,
    more: Sequence[Resource] = (),
    set_up: Callable[[MemoryMesh], None] | None = None,
    gone_s: float = GONE_S,
    bugs: bool = False,
) -> Outcome:
    """Play `scenario` on one path, see that nothing is left of it, and say what came of it."""
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(nursery)
        mesh.worker.fast_path = fast
        mesh.found_out = True
        if set_up is not None:
            set_up(mesh)
        mesh.configure(backends, policy or TrafficPolicy(balancing=Balancing(algorithm=Algorithm.ROUND_ROBIN)), *more)
        visits: list[str] = []
        world = World(mesh, {name: Backend(mesh, name, scripts, visits) for name in backends}, fast=fast)
        await world.warm()
        await scenario(world)
        for client in world.clients:
            client.stream.close()
        await trio.sleep(gone_s)
        told = mesh.told
        assert bugs or mesh.bugs == []
        at_rest(mesh)
        outcome = Outcome(
            [client.got for client in world.clients],
            [client.end for client in world.clients],
            {name: [asked.comparable() for asked in backend.seen] for name, backend in world.backends.items()},
            [told_of(done) for done in told.done],
            Counter({why: count for (path, why), count in told.paths.items() if path == "full"}),
            mesh.worker.fast_requests[0],
            told.limits,
        )
        nursery.cancel_scope.cancel()
    return outcome


def at_rest(mesh: MemoryMesh) -> None:
    """Every gauge is back at zero, and nothing waits any more."""
    worker = mesh.worker
    assert mesh.in_flight() == 0
    assert worker.connections == 0
    assert worker.lanes == set()
    assert mesh.newcomers == set()
    assert len(worker.timer) == 0
    for pool in (worker.pool, worker.inbound_pool):
        assert pool._uses == {}
        assert pool._idle == {}


def alike(fast: Outcome, full: Outcome) -> None:
    """Neither client nor endpoints nor observers can tell the paths by anything. Raises AssertionError."""
    found = _differences(fast, full)
    assert not found, "\n".join(found)


def _differences(fast: Outcome, full: Outcome) -> list[str]:
    found = [f"{name}: {ours!r:.600} is {theirs!r:.600} on the full path"
             for name in ("answers", "ends", "asked", "limits")
             if (ours := getattr(fast, name)) != (theirs := getattr(full, name))]  # fmt: skip
    if len(fast.told) != len(full.told):
        found.append(f"told of {len(fast.told)} requests, on the full path of {len(full.told)}")
    for number, (one, other) in enumerate(zip(fast.told, full.told, strict=False)):
        found += [
            f"request {number}: {name} {one[name]!r}, on the full path {other[name]!r}"
            for name in one
            if one[name] != other[name]
        ]
    if full.fast or set(full.full) - {"off"}:
        found.append(f"not on the full path: {full.fast} {full.full}")
    return found
