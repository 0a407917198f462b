"""Connections to endpoints that many exchanges share (HTTP/2): who gets which, and when another one is dialled.

Part of the pool. The first connection with room is used, so that the others can empty and end; another one is dialled
when none has room. Requests that come while one is being dialled wait for it together, and share its failure.
"""

import math
from collections.abc import Awaitable, Callable

import trio

from sidecar.errors import CONNECT_FAILED, ProxyError
from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import ClusterKey, Endpoint, Hop, Mesh
from sidecar.model.live import ClusterLive
from sidecar.model.policies import TrafficPolicy
from sidecar.proxy.mux_client import MuxLease, MuxUpstream
from sidecar.telemetry.observer import Observer
from sidecar.transport.stream import Stream

APP_IDLE_S = 30.0  # HTTP/2 says GOAWAY before it closes, so that an idle connection costs no request
MESH_IDLE_S = 300.0
# A tunnel may rest for an hour with a window full of bytes that its reader does not take. So many leave one window's
# worth of the connection's own (codec/h2_library.py) free, or else the rest of some would be everybody's.
MAX_TUNNELS = 15  # of one connection: 64 KiB each, of 1 MiB
MAX_PER_ENDPOINT = 256  # connections of 100 streams, or 15 tunnels, each; more is a leak

_Key = tuple[ClusterKey, str, int, Hop]
Dial = Callable[[ClusterLive, Endpoint, TrafficPolicy], Awaitable[Stream]]


class _Dialling:
    """A dial under way and who waits for it."""

    __slots__ = ("done", "problem")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.problem: ProxyError | None = None


class SharedConnections:
    """See the module's text. `nursery` is where connections are read; set by the pool's task."""

    def __init__(
        self,
        dial: Dial,
        free: Callable[[ClusterKey], None],
        now: Callable[[], float],
        limits: ProcessLimits,
        observer: Observer,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self.nursery: trio.Nursery | None = None
        self._dial = dial
        self._free = free
        self._now = now
        self._limits = limits
        self._observer = observer
        self._on_bug = on_bug
        self._connections: dict[_Key, list[MuxUpstream]] = {}
        self._dialling: dict[_Key, _Dialling] = {}

    async def lease(
        self, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy, *, tunnel: bool = False
    ) -> MuxLease:
        """A stream to `endpoint`, for a tunnel of bytes or for a request. Raises ProxyError: as `Pool.lease`."""
        key = (cluster.key, endpoint.host, endpoint.port, endpoint.hop)
        while True:
            for connection in self._connections.get(key, ()):
                if connection.room > 0 and (not tunnel or connection.tunnels < MAX_TUNNELS):
                    return MuxLease(connection, fresh=connection.used == 0, tunnel=tunnel)
            dialling = self._dialling.get(key)
            if dialling is None:
                return MuxLease(await self._connect(key, cluster, endpoint, policy), fresh=True, tunnel=tunnel)
            await dialling.done.wait()
            if dialling.problem is not None:
                raise ProxyError(dialling.problem.fault)

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
                if not connection.link.ends and now_s - connection.rest_s >= limit_s:
                    connection.retire()
                    if now_s == math.inf:
                        connection.link.stream.close()

    async def _connect(self, key: _Key, cluster: ClusterLive, endpoint: Endpoint, policy: TrafficPolicy) -> MuxUpstream:
        """Dial for everybody who waits."""
        if len(self._connections.get(key, ())) >= MAX_PER_ENDPOINT:
            raise ProxyError(CONNECT_FAILED, f"endpoint {endpoint.id} has {MAX_PER_ENDPOINT} connections, all full")
        dialling = self._dialling[key] = _Dialling()
        try:
            stream = await self._dial(cluster, endpoint, policy)
        except ProxyError as exc:
            dialling.problem = exc
            raise
        finally:
            del self._dialling[key]
            dialling.done.set()
        connection = MuxUpstream(stream, endpoint, self._observer, self._now, self._limits)
        if self.nursery is None:
            stream.close()
            raise ProxyError(CONNECT_FAILED, "this sidecar is about to end")
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
            self._free(key[0])
