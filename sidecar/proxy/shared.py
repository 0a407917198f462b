"""Connections to endpoints that many exchanges share (HTTP/2): who gets which, and when another one is dialled.

Part of the pool. The first connection with room is used, so that the others can empty and end; another one is dialled
when none has room. Requests that come while one is being dialled wait for it together, and share its failure. Where the
cluster may have no more connections, they wait for room on those that it has, in order of arrival and at most
`limits.pending` of them.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from sidecar.codec.contract import MuxClient
from sidecar.errors import CONNECT_FAILED, OVERFLOW, ProxyError
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import ClusterKey, Endpoint, Hop, Mesh
from sidecar.model.live import ClusterLive
from sidecar.model.policies import TrafficPolicy
from sidecar.proxy.mux_client import MuxLease, MuxUpstream
from sidecar.proxy.timer import Timer
from sidecar.telemetry.observer import Observer
from sidecar.transport.stream import Stream

APP_IDLE_S = 30.0  # HTTP/2 says GOAWAY before it closes, so that an idle connection costs no request
MESH_IDLE_S = 300.0
# A tunnel may rest for an hour with a window full of bytes that its reader does not take. So many leave one window's
# worth of the connection's own (codec/h2_limits.py) free, or else the rest of some would be everybody's.
MAX_TUNNELS = 15  # of one connection: 64 KiB each, of 1 MiB
MAX_PER_ENDPOINT = 256  # connections of 100 streams, or 15 tunnels, each; more is a leak

_Key = tuple[ClusterKey, str, int, Hop]


class Places(Protocol):
    """What a cluster may use; the pool. Each connection has a place from before it is dialled until it is closed."""

    def has_place(self, cluster: ClusterLive, policy: TrafficPolicy) -> bool:
        """True if `place` would not wait."""

    async def place(self, cluster: ClusterLive, policy: TrafficPolicy) -> None:
        """Wait until the cluster may use one more connection, and count it. Raises ProxyError OVERFLOW."""

    async def dial(self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy) -> Stream:
        """A new connection on a place, which is given back if there is none. Raises ProxyError."""

    def free(self, key: ClusterKey) -> None:
        """A place is not used any more."""


class _Dialling:
    """A dial under way and who waits for it. `placed`: the cluster has room for it."""

    __slots__ = ("done", "placed", "problem")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.placed = False
        self.problem: ProxyError | None = None


class SharedConnections:
    """See the module's text. `nursery` is where connections are read; set by the pool's task."""

    def __init__(
        self,
        places: Places,
        now: Callable[[], float],
        limits: ProcessLimits,
        observer: Observer,
        on_bug: Callable[[BaseException], None],
        codec: Callable[[], MuxClient],
        timer: Timer,
    ) -> None:
        """`codec`: makes one for a new connection."""
        self.nursery: trio.Nursery | None = None
        self._places = places
        self._now = now
        self._limits = limits
        self._observer = observer
        self._on_bug = on_bug
        self._codec = codec
        self._timer = timer
        self._connections: dict[_Key, list[MuxUpstream]] = {}
        self._dialling: dict[_Key, _Dialling] = {}
        self._waiting: dict[tuple[_Key, bool], deque[trio.Event]] = {}  # for room; those who want tunnels apart

    async def lease(
        self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy, *, tunnel: bool = False
    ) -> MuxLease:
        """A stream to `endpoint`, for a tunnel of bytes or for a request. Raises ProxyError: as `Pool.lease`."""
        key = (cluster.key, endpoint.host, endpoint.port, endpoint.hop)
        lease = self.lend(cluster, endpoint, tunnel=tunnel)
        while lease is None:
            dialling = self._dialling.get(key)
            if dialling is not None:
                await self._dialled(cluster, policy, dialling)
            elif key not in self._connections or self._places.has_place(cluster, policy):
                return MuxLease(await self._connect(key, cluster, endpoint, policy), fresh=True, tunnel=tunnel)
            else:
                await self._room(cluster, policy, (key, tunnel))
            lease = self._with_room(key, tunnel=tunnel)
        return lease

    def lend(self, cluster: ClusterLive, endpoint: Endpoint, *, tunnel: bool = False) -> MuxLease | None:
        """`lease` where that needs no waiting; None: it does."""
        key = (cluster.key, endpoint.host, endpoint.port, endpoint.hop)
        if (key, tunnel) in self._waiting:
            return None  # nobody overtakes those who wait
        return self._with_room(key, tunnel=tunnel)

    def share(self, cluster: ClusterLive, endpoint: Endpoint) -> MuxUpstream | None:
        """A connection on which a request may begin a stream at once; None: there is none, or somebody was first."""
        key = (cluster.key, endpoint.host, endpoint.port, endpoint.hop)
        if not self._waiting or (key, False) not in self._waiting:
            for connection in self._connections.get(key, ()):
                if connection.room > 0:
                    return connection
        return None

    def _with_room(self, key: _Key, *, tunnel: bool) -> MuxLease | None:
        for connection in self._connections.get(key, ()):
            if connection.room > 0 and (not tunnel or connection.tunnels < MAX_TUNNELS):
                lease = MuxLease(connection, fresh=connection.used == 0, tunnel=tunnel)
                if self._waiting:
                    self._room_came(key, connection)
                return lease
        return None

    async def _dialled(self, cluster: ClusterLive, policy: TrafficPolicy, dialling: _Dialling) -> None:
        """Wait for a dial of somebody else's; raises what it raised."""
        if dialling.placed:
            await dialling.done.wait()
        else:
            with _pending(cluster, policy):
                await dialling.done.wait()
        if dialling.problem is not None:
            raise ProxyError(dialling.problem.fault)

    async def _room(self, cluster: ClusterLive, policy: TrafficPolicy, key: tuple[_Key, bool]) -> None:
        """Wait for room on a connection that there is, or for its end. Raises ProxyError OVERFLOW."""
        with _pending(cluster, policy):
            came = trio.Event()
            self._waiting.setdefault(key, deque()).append(came)
            try:
                await came.wait()
            except trio.Cancelled:
                if came.is_set():
                    self._wake(key)  # it came too late for us
                else:
                    self._waiting[key].remove(came)
                    if not self._waiting[key]:
                        del self._waiting[key]
                raise

    def _wake(self, key: tuple[_Key, bool]) -> None:
        waiting = self._waiting.get(key)
        if waiting:
            waiting.popleft().set()
            if not waiting:
                del self._waiting[key]

    def _room_came(self, key: _Key, connection: MuxUpstream) -> None:
        """Let the first of those who wait look again."""
        if self._waiting and connection.room > 0:
            self._wake((key, False))
            if connection.tunnels < MAX_TUNNELS:
                self._wake((key, True))

    def _ended(self, key: _Key) -> None:
        """A place of the cluster is free again: let all look who wait for one of its endpoints."""
        for waiting in [each for each in self._waiting if each[0][0] == key[0]]:
            while waiting in self._waiting:
                self._wake(waiting)

    def count(self, endpoint: Endpoint) -> int:
        """Connections to an endpoint."""
        return sum(
            len(connections)
            for (_, host, port, hop), connections in self._connections.items()
            if (host, port, hop) == (endpoint.host, endpoint.port, endpoint.hop)
        )

    def expire(self, now_s: float) -> None:
        """Retire what has been idle too long at `now_s`; `math.inf` closes all that is idle."""
        for key, connections in self._connections.items():
            limit_s = MESH_IDLE_S if isinstance(key[3], Mesh) else APP_IDLE_S
            for connection in list(connections):
                if not connection.link.ends and not connection.promised and now_s - connection.rest_s >= limit_s:
                    connection.retire()
                    if now_s == math.inf:
                        connection.link.stream.close()

    async def _connect(self, key: _Key, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy) -> MuxUpstream:
        """Dial for everybody who waits."""
        if len(self._connections.get(key, ())) >= MAX_PER_ENDPOINT:
            raise ProxyError(OVERFLOW, f"endpoint {endpoint.id} has {MAX_PER_ENDPOINT} connections, all full")
        dialling = self._dialling[key] = _Dialling()
        try:
            dialling.placed = self._places.has_place(cluster, policy)
            await self._places.place(cluster, policy)
            dialling.placed = True
            stream = await self._places.dial(cluster, endpoint, policy)
        except ProxyError as exc:
            dialling.problem = exc
            raise
        finally:
            del self._dialling[key]
            dialling.done.set()
        if self.nursery is None:
            stream.close()
            self._places.free(cluster.key)
            raise ProxyError(CONNECT_FAILED, "this sidecar is about to end")
        connection = MuxUpstream(
            stream,
            self._codec(),
            endpoint,
            self._observer,
            self._now,
            self._limits,
            self._timer,
            lambda: self._room_came(key, connection),
        )
        self._connections.setdefault(key, []).append(connection)
        self.nursery.start_soon(self._read, key, connection)
        return connection

    async def _read(self, key: _Key, connection: MuxUpstream) -> None:
        try:
            await connection.run()
        except Exception as bug:
            self._on_bug(bug)  # one connection's, and nobody else's
        finally:
            connections = self._connections[key]
            connections.remove(connection)
            if not connections:
                del self._connections[key]
            self._places.free(key[0])
            self._ended(key)


@contextmanager
def _pending(cluster: ClusterLive, policy: TrafficPolicy) -> Iterator[None]:
    """A request waits because its cluster may use no more connections. Raises ProxyError OVERFLOW."""
    if cluster.pending >= policy.limits.pending:
        raise ProxyError(
            OVERFLOW,
            f"{cluster.key} uses all its connections (limits.connections) and "
            f"{cluster.pending} requests wait for one (limits.pending)",
        )
    cluster.pending += 1
    try:
        yield
    finally:
        cluster.pending -= 1
