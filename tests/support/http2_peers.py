"""HTTP/2 peers on memory streams, with python-h2: a client and an app, both well-behaved unless a test says otherwise.

The raw frames of `http2.py` are for what no library would write; these are for everything else.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events as came
import trio
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import Protocol, Service, ServicePort
from sidecar.model.policies import TrafficPolicy
from sidecar.model.snapshot import Resource
from sidecar.proxy import entry
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.http2 import PREFACE
from tests.support.mesh import ORDERS, PORT, MemoryMesh

Fields = list[tuple[str, str]]
WIDE = 2**31 - 1
SLOW_BYTES = 16_384
_USUAL = {SettingCodes.MAX_CONCURRENT_STREAMS: 100, SettingCodes.ENABLE_PUSH: 0}


@dataclass
class Message:
    """One message of one stream, as far as it came."""

    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields | None = None
    interims: list[Fields] = field(default_factory=list)
    whole: bool = False
    reset: int | None = None  # the code of RST_STREAM
    over: trio.Event = field(default_factory=trio.Event)  # whole, reset, or the connection is gone
    began: trio.Event = field(default_factory=trio.Event)  # its head is here

    @property
    def status(self) -> int:
        """0 when no head came."""
        return int(dict(self.fields).get(":status", "0"))

    def get(self, name: str) -> str | None:
        """A field's value."""
        return dict(self.fields).get(name)

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for each, value in self.fields if each == name]


class Peer:
    """One end of a connection: reads, keeps what came of each stream, acknowledges, gives windows back."""

    def __init__(
        self, stream: MemoryStream, *, client: bool, window: int | None = None, settings: dict[int, int] | None = None
    ) -> None:
        """`window`: of each stream; None: python-h2's 65 535."""
        self.stream = stream
        self._client = client
        config = h2.config.H2Configuration(
            client_side=client, header_encoding="latin-1", validate_inbound_headers=False
        )
        self.http = h2.connection.H2Connection(config)
        self.messages: dict[int, Message] = {}
        self.went_away: list[tuple[int, int]] = []  # last stream and code of each GOAWAY that came
        self.pings = 0
        self._preface = 0 if client else len(PREFACE)
        self._rest = b""  # of a frame that is not whole
        self.credits = True  # give windows back
        self.problem: Exception | None = None  # that ended it
        self.closed = trio.Event()
        self.silent = False  # answers nothing any more
        self.pause_s = 0.0  # between two reads of SLOW_BYTES or a little more
        self._window = window
        self._moved = trio.Event()
        self._writing = trio.Lock()
        self._announced = {SettingCodes(code): value for code, value in (settings or {}).items()}
        if window is not None:
            self._announced[SettingCodes.INITIAL_WINDOW_SIZE] = window

    def greet(self) -> None:
        """Write the first bytes."""
        self.http.local_settings = Settings(client=self._client, initial_values={**_USUAL, **self._announced})
        self.http.initiate_connection()
        if self._window:
            self.http.increment_flow_control_window(WIDE - 65_535)
        self.send()

    def send(self) -> None:
        """Write what there is."""
        data = self.http.data_to_send()
        if data and not self.silent:
            self.stream.write(data)

    async def read(self) -> None:
        """Read until the connection ends; a task of its own."""
        try:
            while data := await self.stream.receive():
                while self.pause_s and len(data) < SLOW_BYTES and (more := self.stream.try_read()):
                    data += more  # a slow reader reads bytes, not writes: each was a write, however small
                if not self.silent:
                    self.feed(data)
                if self.pause_s:
                    await trio.sleep(self.pause_s)
        except (StreamBroken, ProtocolError) as exc:
            self.problem = exc
        self.stream.close()
        self.closed.set()
        self._woken()
        for message in self.messages.values():
            message.over.set()
            message.began.set()

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer. GOAWAY is kept from python-h2, which would do nothing more after it."""
        self._rest += data
        ready = b""
        if self._preface and len(self._rest) >= self._preface:
            ready, self._rest, self._preface = self._rest[: self._preface], self._rest[self._preface :], 0
        while len(self._rest) >= 9 and len(self._rest) >= (size := 9 + int.from_bytes(self._rest[:3], "big")):
            frame, self._rest = self._rest[:size], self._rest[size:]
            if frame[3] == 7:
                self.went_away.append((int.from_bytes(frame[9:13], "big"), int.from_bytes(frame[13:17], "big")))
            else:
                ready += frame
        for event in self.http.receive_data(ready):
            self.on_event(event)
        self.send()
        self._woken()

    def on_event(self, event: came.Event) -> None:
        """Keep what came."""
        number = getattr(event, "stream_id", 0) or 0
        message = self.messages.setdefault(number, Message()) if number else Message()
        if isinstance(event, came.ResponseReceived | came.RequestReceived):
            message.fields = list(event.headers)  # type: ignore[arg-type]
            message.began.set()
        elif isinstance(event, came.InformationalResponseReceived):
            message.interims.append(list(event.headers))  # type: ignore[arg-type]
        elif isinstance(event, came.TrailersReceived):
            message.trailers = list(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, came.DataReceived):
            message.body += event.data
            if self.credits and event.flow_controlled_length:
                self.http.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, came.StreamEnded):
            message.whole = True
            message.over.set()
        elif isinstance(event, came.StreamReset):
            message.reset = int(event.error_code)
            message.began.set()
            message.over.set()
        elif isinstance(event, came.PingReceived):
            self.pings += 1

    def _woken(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def send_body(self, number: int, body: bytes, *, end: bool = True) -> bool:
        """Send as the windows allow; False when the stream or the connection ended first."""
        while body:
            message = self.messages.get(number)
            if self.closed.is_set() or (message is not None and message.reset is not None):
                return False
            try:
                room = min(self.http.local_flow_control_window(number), self.http.max_outbound_frame_size)
            except ProtocolError:
                return False
            if room <= 0:
                await self._moved.wait()
                continue
            self.http.send_data(number, body[:room])
            body = body[room:]
            self.send()
            try:
                async with self._writing:
                    await self.stream.settle()
            except StreamBroken:
                return False
        if end:
            try:
                self.http.end_stream(number)
            except ProtocolError:
                return False
            self.send()
        return True

    def reset(self, number: int, code: int = 8) -> None:
        """Give a stream up."""
        self.http.reset_stream(number, code)
        self.send()


class Client(Peer):
    """A client of the sidecar."""

    def __init__(
        self,
        mesh: MemoryMesh,
        *,
        window: int | None = None,
        settings: dict[int, int] | None = None,
        principal: str = "",
        address: str = "proxy:1",
        greet: bool = True,
    ) -> None:
        super().__init__(mesh.network.dial(address, principal=principal), client=True, window=window, settings=settings)
        if greet:
            self.greet()
        mesh.nursery.start_soon(self.read)

    def begin(
        self, method: str = "GET", path: str = "/", fields: Iterable[tuple[str, str]] = (), *, end: bool = True
    ) -> int:
        """Send a head; returns the stream's number. A field `:authority` or `:scheme` replaces ours."""
        given = list(fields)
        names = {name for name, _ in given}
        ours = [(":method", method), (":scheme", "http"), (":authority", "orders"), (":path", path)]
        number = self.http.get_next_available_stream_id()
        self.messages[number] = Message()
        pseudo = [each for each in given if each[0].startswith(":")]
        rest = [each for each in given if not each[0].startswith(":")]
        self.http.send_headers(number, [each for each in ours if each[0] not in names] + pseudo + rest, end_stream=end)
        self.send()
        return number

    async def request(
        self, method: str = "GET", path: str = "/", body: bytes = b"", fields: Iterable[tuple[str, str]] = ()
    ) -> Message:
        """A whole request, and whatever became of it."""
        number = self.begin(method, path, fields, end=not body)
        if body:
            await self.send_body(number, body)
        return await self.answer(number)

    async def answer(self, number: int) -> Message:
        """Wait until the stream is over."""
        message = self.messages[number]
        await message.over.wait()
        return message


@dataclass
class Call:
    """A request that reached an app, on one stream of one of its connections."""

    peer: "AppConnection"
    number: int

    @property
    def message(self) -> Message:
        """What came of it so far."""
        return self.peer.messages[self.number]

    def head(self, status: int = 200, fields: Iterable[tuple[str, str]] = (), *, end: bool = False) -> None:
        """Send a head, interim or final."""
        self.peer.http.send_headers(self.number, [(":status", str(status)), *fields], end_stream=end)
        self.peer.send()

    async def answer(
        self,
        status: int = 200,
        body: bytes = b"ok",
        fields: Iterable[tuple[str, str]] = (),
        trailers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """A whole answer."""
        trailing = list(trailers)
        self.head(status, fields, end=not body and not trailing)
        if body:
            await self.peer.send_body(self.number, body, end=not trailing)
        if trailing:
            self.peer.http.send_headers(self.number, trailing, end_stream=True)
            self.peer.send()

    def reset(self, code: int = 8) -> None:
        """Give it up."""
        self.peer.reset(self.number, code)

    async def arrived(self) -> Message:
        """Wait for the whole request."""
        await self.message.over.wait()
        return self.message


Behaviour = Callable[[Call], Awaitable[None]]


class AppConnection(Peer):
    """The app's end of a connection."""

    def __init__(self, app: "App", stream: MemoryStream) -> None:
        super().__init__(stream, client=False, window=app.window, settings=app.settings)
        self._app = app
        self.credits = app.credits
        self.nursery: trio.Nursery | None = None

    async def serve(self) -> None:
        """Until the connection ends."""
        self.greet()
        async with trio.open_nursery() as self.nursery:
            await self.read()
            self.nursery.cancel_scope.cancel()
        self.stream.close()

    def on_event(self, event: came.Event) -> None:
        """Start a task for each request."""
        super().on_event(event)
        if isinstance(event, came.RequestReceived):
            call = Call(self, event.stream_id or 0)
            self._app.calls.append(call)
            assert self.nursery is not None
            self.nursery.start_soon(self._behave, call)

    async def _behave(self, call: Call) -> None:
        try:
            await self._app.behave(call)
        except (ProtocolError, StreamBroken):
            pass  # the sidecar gave the stream up

    def go_away(self, last: int, code: int = 0) -> None:
        """Say GOAWAY, and go on as if nothing was: python-h2 would refuse to."""
        self.stream.write(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4, "big") + code.to_bytes(4, "big"))


async def ok(call: Call) -> None:
    """Answer 200 once the request is whole."""
    await call.arrived()
    await call.answer()


@dataclass
class App:
    """An app that speaks HTTP/2 on `NAME:8080`."""

    name: str
    behave: Behaviour = ok
    window: int | None = None
    settings: dict[int, int] = field(default_factory=dict)
    credits: bool = True
    calls: list[Call] = field(default_factory=list)
    connections: list[AppConnection] = field(default_factory=list)

    def start(self, mesh: MemoryMesh) -> "App":
        """Listen."""

        def accept(stream: MemoryStream) -> None:
            connection = AppConnection(self, stream)
            self.connections.append(connection)
            mesh.nursery.start_soon(connection.serve)

        mesh.network.listen(f"{self.name}:{PORT}", accept)
        return self

    @property
    def open(self) -> int:
        """Connections that have not ended."""
        return sum(1 for connection in self.connections if not connection.closed.is_set())


class Http2Mesh(MemoryMesh):
    """A mesh whose sidecar takes both versions of HTTP on `proxy:1`, and calls `orders` in `protocol`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        seed: int = 1,
        *,
        protocol: Protocol = Protocol.HTTP2,
        limits: ProcessLimits | None = None,
    ) -> None:
        super().__init__(nursery, seed)
        self._protocol = protocol
        if limits is not None:
            self.worker.limits = limits

    async def _serve(self, stream: MemoryStream) -> None:
        with self.worker.client("outbound"):
            await (await entry.outbound(stream, self.worker, "outbound", None))

    def configure(self, names: Iterable[str], policy: TrafficPolicy | None = None, *more: Resource) -> None:
        """As the base does; the port declares its protocol."""
        declared = Service(ORDERS, (ServicePort(PORT, self._protocol),))
        super().configure(names, policy, Resource("Service/shop/orders", 1, declared), *more)

    def http2(self, name: str, behave: Behaviour = ok, **more: object) -> App:
        """Start an app that speaks HTTP/2."""
        return App(name, behave, **more).start(self)  # type: ignore[arg-type]

    def shared(self) -> int:
        """Connections to apps that requests share, as the pool counts them."""
        return sum(self.worker.pool.in_use(key) for key in self.worker.live.clusters)
