"""Upstream connections kept for the next request, shared by all clients of a worker.

Lends leases (`upstream.py`). HTTP/1: the newest idle connection goes out first, so that the rest can age and close.
Idle ones are watched: an endpoint that closes is noticed at once. HTTP/2: `shared.py`. Raw TCP: a new one each time.
Counts what each cluster uses, and makes requests above `limits.connections` wait, at most `limits.pending` of them, in
order of arrival; a shared connection counts once, however many streams it carries.

How long an idle connection is kept: 3 s to an app, below every common keep-alive, so that the app does not close under
a request (Linkerd's figure), or what the app said in `Keep-Alive: timeout` less 2 s; 5 minutes between sidecars, where
a handshake costs a millisecond of CPU.
"""

import math
from collections import deque
from collections.abc import Callable

import trio

from sidecar.codec.contract import MuxClient
from sidecar.codec.h1_client import H1Client
from sidecar.codec.plain_head import ResponseActs
from sidecar.errors import CONNECT_TIMEOUT, OVERFLOW, ProxyError
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import ClusterKey, Endpoint, Mesh, Wire
from sidecar.model.live import ClusterLive
from sidecar.model.policies import TrafficPolicy
from sidecar.proxy.mux_client import MuxUpstream
from sidecar.proxy.raw import RawLease
from sidecar.proxy.shared import SharedConnections
from sidecar.proxy.timer import Timer
from sidecar.proxy.upstream import ConnectionHome, Http1Lease, Lease, LeaseHome, UpstreamConnection
from sidecar.telemetry.observer import Observer
from sidecar.transport.dial import Dialer, Dialled, Dialling
from sidecar.transport.stream import Stream

APP_IDLE_S = 3.0
APP_IDLE_MAX_S = 60.0  # whatever an app promises: it may restart
KEEP_ALIVE_MARGIN_S = 2.0  # its clock starts earlier than ours, and a request takes time to get there
MESH_IDLE_S = 300.0
HTTP1 = ("http/1.1",)
HTTP2 = ("h2",)
SWEEP_S = 1.0
MAX_IDLE_PER_ENDPOINT = 128  # descriptors held for an endpoint that nobody calls now


class _Use:
    """What one cluster uses now, and who waits for it."""

    __slots__ = ("connections", "waiting")

    def __init__(self) -> None:
        self.connections = 0
        self.waiting: deque[trio.Event] = deque()


class _PlaceHolder(LeaseHome):
    """Where a lease goes back: to the pool, and its place to the cluster."""

    __slots__ = ("_key", "_pool")

    def __init__(self, pool: "Pool", key: ClusterKey) -> None:
        self._pool = pool
        self._key = key

    def take_back(self, connection: UpstreamConnection) -> None:
        """See `LeaseHome`."""
        self._pool.keep(connection)
        self._pool.free(self._key)


class Pool(ConnectionHome):
    """See the module's text. One per worker; `run` is its task."""

    def __init__(
        self,
        dialer: Dialer,
        observer: Observer,
        now: Callable[[], float],
        limits: ProcessLimits,
        on_bug: Callable[[BaseException], None],
        acts: ResponseActs,
        codec: Callable[[], MuxClient],
        timer: Timer,
    ) -> None:
        """`acts`: what is done with the lines of plain answers. `codec`: makes one of HTTP/2."""
        self._acts = acts
        self._dialer = dialer
        self._observer = observer
        self._now = now
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._uses: dict[ClusterKey, _Use] = {}
        self._homes: dict[ClusterKey, _PlaceHolder] = {}
        self._shared = SharedConnections(self, now, limits, observer, on_bug, codec, timer)

    async def lease(self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy, wire: Wire) -> Lease:
        """A way to `endpoint` for one exchange, kept or new. The caller bounds the whole; the dial has its own bound.

        Raises:
            ProxyError: OVERFLOW, CONNECT_FAILED, CONNECT_TIMEOUT, TLS_FAILED; the request was not sent.
        """
        key = cluster.key
        if _is_shared(endpoint, wire):
            return await self._shared.lease(cluster, endpoint, policy, tunnel=wire is Wire.RAW)
        await self.place(cluster, policy)
        try:
            if wire is Wire.RAW:
                stream = await self._dial(key, endpoint, policy.timeouts.connect_s, ())
                return RawLease(stream, endpoint, lambda: self.free(key))
            connection = self._reuse(endpoint)
            if connection is not None:
                return Http1Lease(connection, self._homes[key], fresh=False)
            stream = await self._dial(key, endpoint, policy.timeouts.connect_s, HTTP1)
        except BaseException:
            self.free(key)
            raise
        return Http1Lease(self._new(stream, endpoint), self._homes[key], fresh=True)

    def _new(self, stream: Stream, endpoint: Endpoint) -> UpstreamConnection:
        connection = UpstreamConnection(stream, H1Client(self._acts), endpoint, self)
        connection.idle_s = idle_s(endpoint, None)
        return connection

    def lease_now(self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy, wire: Wire) -> Lease | None:
        """`lease` where that needs no waiting; None: it does."""
        if _is_shared(endpoint, wire):
            return self._shared.lend(cluster, endpoint, tunnel=wire is Wire.RAW)
        if wire is Wire.RAW or not self.has_place(cluster, policy):
            return None
        connection = self._reuse(endpoint)
        if connection is None:
            return None
        use = self._uses.get(cluster.key) or self._begin_use(cluster.key)
        use.connections += 1
        return Http1Lease(connection, self._homes[cluster.key], fresh=False)

    # Without a lease, and without waiting: for the fast path.

    def take_idle(self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy) -> UpstreamConnection | None:
        """A kept connection to `endpoint`, with a place; None: there is none, or no place. For `give_back`.

        Whether the endpoint is still there is for `Stream.put` to ask, before a byte is written.
        """
        use = self._uses.get(cluster.key) or self._begin_use(cluster.key)
        if use.connections >= policy.limits.connections:
            return None
        idle = self._idle.get(endpoint.place)
        if not idle:
            return None
        connection = idle.pop()
        connection.endpoint = endpoint
        use.connections += 1
        return connection

    def share(self, cluster: ClusterLive, endpoint: Endpoint) -> MuxUpstream | None:
        """A connection of HTTP/2 to `endpoint` with room for a stream that begins at once; None: `lease` has to wait.

        It counts for the cluster already, whoever uses it.
        """
        return self._shared.share(cluster, endpoint) if _is_shared(endpoint, Wire.H2) else None

    def begin_dial(
        self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy, waiting: Dialled
    ) -> UpstreamConnection | Dialling | None:
        """A new connection to `endpoint`, or one under way, with a place; None: somebody has to wait for either.

        Raises:
            ProxyError: CONNECT_FAILED; there is no place to be freed.
        """
        use = self._uses.get(cluster.key) or self._begin_use(cluster.key)
        if use.connections >= policy.limits.connections:
            return None
        try:
            begun = self._dialer.begin(endpoint, waiting)
        except ProxyError as exc:
            self._observer.upstream_dialled(cluster.key, exc.fault.flag)
            raise
        if begun is None:
            return None
        use.connections += 1
        return self.dialled(cluster, endpoint, begun) if isinstance(begun, Stream) else begun

    def dialled(self, cluster: ClusterLive, endpoint: Endpoint, stream: Stream) -> UpstreamConnection:
        """What `begin_dial` has begun is connected. For `give_back`."""
        self._observer.upstream_dialled(cluster.key, "ok")
        connection = self._new(stream, endpoint)
        stream.handle_with(connection)
        return connection

    def not_dialled(self, cluster: ClusterLive, problem: ProxyError) -> None:
        """What `begin_dial` has begun has failed."""
        self._observer.upstream_dialled(cluster.key, problem.fault.flag)
        self.free(cluster.key)

    def dial_timed_out(self, cluster: ClusterLive, endpoint: Endpoint, connect_s: float) -> ProxyError:
        """What `begin_dial` has begun took too long: what is to be said of it."""
        self.free(cluster.key)
        return self._too_long(cluster.key, endpoint, connect_s)

    def give_back(self, cluster: ClusterLive, connection: UpstreamConnection, now_s: float, *, reusable: bool) -> None:
        """What `take_idle` or `begin_dial` gave; its exchange is over."""
        stream = connection.stream
        idle = self._idle.get(connection.endpoint.place)
        if idle is not None and reusable and len(idle) < MAX_IDLE_PER_ENDPOINT and stream.settled:
            connection.idle_until_s = now_s + connection.idle_s  # `_keep`, for a stream that is watched already
            connection.used += 1
            idle.append(connection)
        elif reusable:
            self._keep(connection, now_s)
        else:
            stream.close()
        self.free(cluster.key)

    def lease_of(self, cluster: ClusterLive, connection: UpstreamConnection) -> Lease:
        """What `take_idle` or `begin_dial` gave, as a lease whose request was written."""
        return Http1Lease(connection, self._homes[cluster.key], fresh=not connection.used)

    def has_place(self, cluster: ClusterLive, policy: TrafficPolicy) -> bool:
        """See `Places`."""
        use = self._uses.get(cluster.key)
        return use is None or use.connections < policy.limits.connections

    async def place(self, cluster: ClusterLive, policy: TrafficPolicy) -> None:
        """See `Places`."""
        key = cluster.key
        use = self._uses.get(key) or self._begin_use(key)
        if use.connections >= policy.limits.connections:
            await self._queue(cluster, use, policy)
        else:
            use.connections += 1

    def _begin_use(self, key: ClusterKey) -> _Use:
        use = self._uses[key] = _Use()
        self._homes[key] = _PlaceHolder(self, key)
        return use

    async def dial(self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy) -> Stream:
        """See `Places`."""
        try:
            return await self._dial(cluster.key, endpoint, policy.timeouts.connect_s, HTTP2)
        except BaseException:
            self.free(cluster.key)
            raise

    def in_use(self, key: ClusterKey) -> int:
        """Connections of a cluster that requests use now."""
        use = self._uses.get(key)
        return use.connections if use is not None else 0

    def keep(self, connection: UpstreamConnection) -> None:
        """Take a connection whose exchange is over; close it unless it can carry another."""
        if connection.codec.reusable:
            connection.promised_s = connection.codec.keep_alive_s
            connection.idle_s = idle_s(connection.endpoint, connection.promised_s)
            self._keep(connection, self._now())
        else:
            connection.stream.close()

    def _keep(self, connection: UpstreamConnection, now_s: float) -> None:
        stream = connection.stream
        if not stream.settled:
            stream.close()
            return
        endpoint = connection.endpoint
        idle = self._idle.setdefault(endpoint.place, [])
        if len(idle) >= MAX_IDLE_PER_ENDPOINT:
            stream.close()
            return
        connection.idle_until_s = now_s + connection.idle_s
        connection.used += 1
        idle.append(connection)
        stream.handle_with(connection)

    def free(self, key: ClusterKey) -> None:
        """One connection of the cluster is not used any more: let the longest waiting request have its place."""
        use = self._uses[key]
        if use.waiting:
            use.waiting.popleft().set()  # the place goes over to the waiter: the count stays
        else:
            use.connections -= 1

    def forget(self, connection: UpstreamConnection) -> None:
        """Close an idle connection."""
        endpoint = connection.endpoint
        idle = self._idle.get(endpoint.place)
        if idle is not None and connection in idle:
            idle.remove(connection)
        connection.stream.close()

    def idle_count(self, endpoint: Endpoint) -> int:
        """Idle connections to an endpoint."""
        return len(self._idle.get(endpoint.place, ()))

    async def run(self) -> None:
        """Read the shared connections, and close those of both kinds that were idle for too long; for ever."""
        try:
            async with trio.open_nursery() as nursery:
                self._shared.nursery = nursery
                while True:
                    await trio.sleep(SWEEP_S)
                    self.expire(self._now())
        finally:
            self._shared.nursery = None

    def expire(self, now_s: float) -> None:
        """Close what has been idle too long at `now_s`; `math.inf` closes all."""
        for key in list(self._idle):
            idle = self._idle[key]
            for connection in [each for each in idle if each.idle_until_s <= now_s]:
                idle.remove(connection)
                connection.stream.close()
            if not idle:
                del self._idle[key]
        self._shared.expire(now_s)
        for cluster in [key for key, use in self._uses.items() if not use.connections]:
            del self._uses[cluster], self._homes[cluster]  # made again on first use: clusters come and go

    def close(self) -> None:
        """Close every idle connection."""
        self.expire(math.inf)

    def _reuse(self, endpoint: Endpoint) -> UpstreamConnection | None:
        idle = self._idle.get(endpoint.place)
        while idle:
            connection = idle.pop()
            if connection.usable():
                connection.stream.takeover()
                connection.endpoint = endpoint
                return connection
            connection.stream.close()
        return None

    async def _dial(self, key: ClusterKey, endpoint: Endpoint, connect_s: float, alpn: tuple[str, ...]) -> Stream:
        with trio.move_on_after(connect_s):
            try:
                stream = await self._dialer.dial(endpoint, alpn)
            except ProxyError as exc:
                self._observer.upstream_dialled(key, exc.fault.flag)
                raise
            self._observer.upstream_dialled(key, "ok")
            return stream
        raise self._too_long(key, endpoint, connect_s)

    def _too_long(self, key: ClusterKey, endpoint: Endpoint, connect_s: float) -> ProxyError:
        self._observer.upstream_dialled(key, "timeout")
        return ProxyError(
            CONNECT_TIMEOUT,
            f"endpoint {endpoint.id} at {endpoint.address} did not accept a connection within {connect_s:g}s",
        )

    async def _queue(self, cluster: ClusterLive, use: _Use, policy: TrafficPolicy) -> None:
        if cluster.pending >= policy.limits.pending:
            raise ProxyError(
                OVERFLOW,
                f"{cluster.key} uses {use.connections} connections (limits.connections) and "
                f"{cluster.pending} requests wait for one (limits.pending)",
            )
        cluster.pending += 1
        place = trio.Event()
        use.waiting.append(place)
        try:
            await place.wait()
        except trio.Cancelled:
            if place.is_set():
                self.free(cluster.key)  # the place came too late for us
            else:
                use.waiting.remove(place)
            raise
        finally:
            cluster.pending -= 1


def _is_shared(endpoint: Endpoint, wire: Wire) -> bool:
    """True where a connection carries many exchanges. To a sidecar that speaks no HTTP/2 yet the request goes by
    HTTP/1.1: that one translates, or refuses."""
    over_mesh = isinstance(endpoint.hop, Mesh)
    if wire is Wire.H1 or (wire is Wire.RAW and not over_mesh):
        return False
    return not isinstance(endpoint.hop, Mesh) or "h2" in endpoint.hop.alpn


def idle_s(endpoint: Endpoint, promised_s: float | None) -> float:
    """How long a connection to `endpoint` may be kept that nobody uses; `promised_s`: what it said last, if it did."""
    if isinstance(endpoint.hop, Mesh):
        return MESH_IDLE_S
    if promised_s is None:
        return APP_IDLE_S
    return max(0.0, min(promised_s - KEEP_ALIVE_MARGIN_S, APP_IDLE_MAX_S))
