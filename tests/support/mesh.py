"""The proxy on virtual time: a worker on a memory network, apps with scripted behaviour, a client that speaks HTTP.

Nothing here opens a socket. Apps are functions from a request to what should happen; what a test wants to know
(requests that reached an app, what observers were told) is kept as plain lists.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import h11
import trio

from sidecar.model.bootstrap import NodeInfo
from sidecar.model.clusters import ClusterKey, Endpoint, EndpointSet, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.policies import TargetRef, TrafficPolicy, TrafficPolicyResource
from sidecar.model.snapshot import Resource, Snapshot
from sidecar.policy.outlier import Ejected
from sidecar.proxy import connection, entry
from sidecar.proxy.newcomer import Newcomer
from sidecar.proxy.outbound import Outbound
from sidecar.proxy.worker import Connected, Worker
from sidecar.telemetry.observer import Observer, RequestDone, Tally
from sidecar.transport.dial import MemoryDialer
from sidecar.transport.memory import MemoryNetwork, MemoryStream
from sidecar.transport.stream import StreamBroken

SHOP = "shop"
ORDERS = ServiceKey(SHOP, "orders")
PORT = 8080

Behaviour = Callable[["AppConnection", h11.Request, bytes], Awaitable[None]]


@dataclass
class AppConnection:
    """An app's end of one connection: answer, stay silent or die."""

    stream: MemoryStream
    http: h11.Connection

    async def answer(self, status: int = 200, body: bytes = b"ok", fields: Iterable[tuple[str, str]] = ()) -> None:
        """A whole answer with a counted body."""
        head = [("content-length", str(len(body))), *fields]
        data = self.http.send(h11.Response(status_code=status, headers=head)) or b""
        data += self.http.send(h11.Data(data=body)) or b""
        data += self.http.send(h11.EndOfMessage()) or b""
        await self.stream.send(data)


@dataclass
class App:
    """An HTTP/1.1 app on a memory address; `seen` are the requests that reached it, with their bodies."""

    address: str
    behave: Behaviour
    seen: list[tuple[h11.Request, bytes]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, stream: MemoryStream) -> None:
        """Serve one connection until it ends."""
        self.connections += 1
        app = AppConnection(stream, h11.Connection(h11.SERVER))
        try:
            while True:
                request, body = await self._request(app)
                if request is None:
                    return
                self.seen.append((request, body))
                await self.behave(app, request, body)
                if stream.closed or app.http.our_state is not h11.DONE or app.http.their_state is not h11.DONE:
                    return
                app.http.start_next_cycle()
        except StreamBroken:
            pass
        finally:
            stream.close()

    async def _request(self, app: AppConnection) -> tuple[h11.Request | None, bytes]:
        request, body = None, b""
        while True:
            event = app.http.next_event()
            if event is h11.NEED_DATA:
                app.http.receive_data(await app.stream.receive())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return request, body
            else:
                return None, b""


async def ok(app: AppConnection, request: h11.Request, body: bytes) -> None:
    """Answer 200."""
    await app.answer()


@dataclass
class Told(Observer):
    """Keeps what was told."""

    done: list[RequestDone] = field(default_factory=list)
    ejections: list[Ejected] = field(default_factory=list)
    dials: list[str] = field(default_factory=list)
    tcp: list[str] = field(default_factory=list)  # TCP connections that have their endpoint: who tells it
    detected: list[str] = field(default_factory=list)
    paths: Counter[tuple[str, str]] = field(default_factory=Counter)  # requests by the path that served them, and why
    limits: list[str] = field(default_factory=list)
    shadow: list[str] = field(default_factory=list)

    def request_done(self, done: RequestDone) -> None:
        self.done.append(done)

    def tally(self, done: RequestDone) -> Tally | None:
        del done
        return None  # each is wanted

    def path_taken(self, path: str, why: str, count: int = 1) -> None:
        self.paths[path, why] += count

    def limit_reached(self, limit: str) -> None:
        self.limits.append(limit)

    def shadowed(self, policy: str, service: ServiceKey, decision: str) -> None:
        self.shadow.append(f"{policy} {service} {decision}")

    def ejected(self, event: Ejected) -> None:
        self.ejections.append(event)

    def upstream_dialled(self, cluster: ClusterKey, result: str) -> None:
        self.dials.append(f"{cluster} {result}")

    def tcp_opened(self, done: RequestDone) -> None:
        self.tcp.append(done.reporter)

    def protocol_detected(self, listener: str, kind: str) -> None:
        self.detected.append(f"{listener} {kind}")


@dataclass
class Answered:
    """What a client got: status 0 when the connection ended without a whole answer."""

    status: int
    fields: dict[str, str]
    body: bytes
    complete: bool


class Network(MemoryNetwork):
    """A network that takes a bug in a handler as the reactor does: it ends that connection, and is reported."""

    def __init__(self, on_bug: Callable[[BaseException], None]) -> None:
        super().__init__()
        self._on_bug = on_bug

    def turn(self, stream: MemoryStream) -> None:
        """See `MemoryNetwork`."""
        try:
            stream.on_turn()
        except Exception as exc:
            self._on_bug(exc)
            stream.crash()


class MemoryMesh:
    """One outbound sidecar in front of apps, on virtual time. Use inside a nursery with an autojump clock.

    `found_out`: what its clients speak is found out, as behind a listener; on the fast path they are served without a
    task then, as long as that goes (`proxy/newcomer.py`).
    """

    def __init__(self, nursery: trio.Nursery, seed: int = 1) -> None:
        self.nursery = nursery
        self.bugs: list[BaseException] = []
        self.network = Network(self.bugs.append)
        self.told = Told()
        node = NodeInfo(service="frontend", namespace=SHOP, id="frontend-1", account="frontend")
        self.worker = Worker(
            node, MemoryDialer(self.network), self.told, Random(seed), trio.current_time, on_bug=self.bugs.append
        )
        self.apps: dict[str, App] = {}
        self.found_out = False
        self.newcomers: set[Newcomer] = set()
        nursery.start_soon(self.network.run)
        nursery.start_soon(self.worker.run)
        self.network.listen("proxy:1", self._accept)

    def _accept(self, stream: MemoryStream) -> None:
        if not self.found_out or stream.peer.principal:
            self.nursery.start_soon(self._serve, stream)
        elif self.worker.fast_path:
            newcomer = Newcomer(stream, self.worker, "outbound", None, Protocol.HTTP, self)
            self.newcomers.add(newcomer)
            newcomer.start()
        else:
            self.nursery.start_soon(self._serve_found, stream)

    def begin(self, client: Connected, serving: Coroutine[object, Any, None]) -> None:
        """As of `newcomer.Host`."""

        async def serve() -> None:
            with client:
                await serving

        self.nursery.start_soon(serve)

    def forget(self, newcomer: Newcomer) -> None:
        """As of `newcomer.Host`."""
        self.newcomers.discard(newcomer)

    async def _serve(self, stream: MemoryStream) -> None:
        with self.worker.client("outbound"):
            await connection.serve(stream, lambda: Outbound(self.worker), self.worker)

    async def _serve_found(self, stream: MemoryStream) -> None:
        with self.worker.client("outbound"):
            await (await entry.outbound(stream, self.worker, "outbound", None))

    def app(self, name: str, behave: Behaviour = ok) -> App:
        """Start an app; its address is `NAME:8080`."""
        app = self.apps[name] = App(f"{name}:{PORT}", behave)
        self.network.listen(app.address, lambda stream: self.nursery.start_soon(app.serve, stream))
        return app

    def endpoint(self, name: str, **more: object) -> Endpoint:
        """The endpoint of an app of this name, started or not."""
        return Endpoint(id=name, service_port=PORT, host=name, port=PORT, **more)  # type: ignore[arg-type]

    def configure(self, names: Iterable[str], policy: TrafficPolicy | None = None, *more: Resource) -> None:
        """Make `orders` of the endpoints of these names."""
        endpoints = tuple(self.endpoint(name) for name in names)
        resources = [
            Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(PORT),))),
            Resource("Endpoints/shop/orders", 1, EndpointSet(ORDERS, endpoints)),
            *more,
        ]
        if policy is not None:
            targets = (TargetRef("Service", "orders"),)
            body = TrafficPolicyResource(namespace=SHOP, name="orders", targets=targets, policy=policy)
            resources.append(Resource("TrafficPolicy/shop/orders", 1, body))
        version = self.worker.snapshot.version + 1
        self.worker.switch(Snapshot(complete=True).changed(resources, version=version))

    def in_flight(self) -> int:
        """Requests and tries that live state holds to be under way, over all clusters and endpoints."""
        clusters = self.worker.live.clusters.values()
        return sum(
            cluster.in_flight + cluster.pending + sum(live.in_flight for live in cluster.endpoints.values())
            for cluster in clusters
        )

    async def request(
        self, method: str = "GET", target: str = "/", body: bytes = b"", fields: Iterable[tuple[str, str]] = ()
    ) -> Answered:
        """One request on a connection of its own."""
        stream = self.network.dial("proxy:1")
        try:
            return await exchange(stream, h11.Connection(h11.CLIENT), method, target, body, fields)
        finally:
            stream.close()


async def exchange(
    stream: MemoryStream,
    http: h11.Connection,
    method: str = "GET",
    target: str = "/",
    body: bytes = b"",
    fields: Iterable[tuple[str, str]] = (),
) -> Answered:
    """Send a request and read its answer."""
    given = list(fields)
    if not any(name.lower() == "host" for name, _ in given):
        given.insert(0, ("host", "orders"))
    if body:
        given.append(("content-length", str(len(body))))
    data = http.send(h11.Request(method=method, target=target, headers=given)) or b""
    if body:
        data += http.send(h11.Data(data=body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    await stream.send(data)
    return await read_answer(stream, http)


async def read_answer(stream: MemoryStream, http: h11.Connection) -> Answered:
    """Read one final answer."""
    answered = Answered(0, {}, b"", False)
    while True:
        try:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive())
                continue
        except (StreamBroken, h11.RemoteProtocolError):
            return answered
        if isinstance(event, h11.Response):
            answered.status = event.status_code
            answered.fields = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            answered.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            answered.complete = True
            return answered
        elif not isinstance(event, h11.InformationalResponse):
            return answered
