"""What the connections of one worker share: snapshot, routes, live state, pools, observer.

`app.py` makes it and swaps the snapshot; `proxy` reads it. Holds no policy: each rule is asked where it lives.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Protocol

import trio

from sidecar.codec.contract import MuxClient
from sidecar.codec.plain_head import RequestActs, ResponseActs
from sidecar.model.bootstrap import NodeInfo, ProcessLimits
from sidecar.model.clusters import ServiceKey
from sidecar.model.live import EndpointLive, LiveRegistry
from sidecar.model.policies import AuthorizationPolicy, TrafficPolicy
from sidecar.model.snapshot import Known, Snapshot
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.policy.limits import lifetime_s
from sidecar.proxy.codecs import http2_client
from sidecar.proxy.edits import NOT_FROM_CLIENTS, REQUEST_ID
from sidecar.proxy.places import Places
from sidecar.proxy.pool import Pool
from sidecar.proxy.rates import Rates, rates_of
from sidecar.proxy.replies import UNTOUCHED
from sidecar.proxy.timer import Timer
from sidecar.proxy.way import Way
from sidecar.routing.plan import RoutePlan, ServiceTable
from sidecar.routing.table import Router
from sidecar.telemetry.observer import Observer, Tally
from sidecar.transport.dial import Dialer
from sidecar.transport.stream import Peer

MAX_ASKED = 1_024  # names by which clients ask; each may be spelled in many ways
MAX_WAYS = 16_384  # rules that requests took since the last snapshot
MAX_TALLIES = 4_096  # kinds of requests: rules by endpoints, statuses, and identities of callers
Asked = bytes | tuple[ServiceKey, int]
# Rule, endpoint, status, caller or endpoint; of HTTP/2 also the status of gRPC, "" for what is none.
TallyKey = tuple[RoutePlan, EndpointLive | None, int, str] | tuple[RoutePlan, EndpointLive | None, int, str, str]
UNKNOWN_WAIT_S = 1.0  # how long a request for a service that nobody asked for yet waits for the control plane


class Waiting(Protocol):
    """A wait of a connection at rest."""

    def cancel(self) -> None:
        """End it."""


class FastLane(Protocol):
    """A connection on the fast path."""

    def part(self) -> None:
        """End if you are between two requests."""


class Directory(Protocol):
    """Whom to ask for a service that the snapshot does not know; the control client, or nobody."""

    def used(self, key: ServiceKey) -> None:
        """A request for this service was routed: keep subscribing to it."""

    async def find(self, key: ServiceKey, timeout_s: float) -> Known:
        """Ask for a service and wait until the snapshot says FOUND or ABSENT, or the time is over."""


class NoDirectory:
    """A static folder: what is not in it does not exist."""

    def used(self, key: ServiceKey) -> None:
        """See `Directory`."""

    async def find(self, key: ServiceKey, timeout_s: float) -> Known:
        """See `Directory`."""
        del key, timeout_s
        await trio.lowlevel.checkpoint()
        return Known.ABSENT


class Worker:
    """See the module's text.

    Attributes:
        snapshot: The current configuration; set by `switch`.
        live, pool: The outbound side's; `inbound_live`, `inbound_pool` the app's hop, apart because both are keyed by
            service and a service may call itself.
        identity: Own SPIFFE ID, or "".
        draining: Every answer from now on is the last of its connection.
        closing: Connections end as soon as they are at rest.
        on_bug: Told of what no code expected; it ended one connection, and nothing else.
        fast_path: Whether plain requests may be served without a task, and HTTP/2 by our own codec.
        timer: For what waits without one; `lanes` are the connections on the fast path.
        request_acts, response_acts: What is done with the fields of plain heads, by name.
        tables, ways, tallies: Where names and rules lead and what counts requests, as long as the snapshot lasts.
        fast_requests: Its one number counts requests that the fast path served.
    """

    def __init__(
        self,
        node: NodeInfo,
        dialer: Dialer,
        observer: Observer,
        rng: Random,
        now: Callable[[], float],
        *,
        on_bug: Callable[[BaseException], None],
        limits: ProcessLimits | None = None,
        directory: Directory | None = None,
        sample: float = 0.0,
        places: Places | None = None,
        fast_path: bool = True,
    ) -> None:
        """`places`: shared with another Worker of the process that has other listeners."""
        self.node = node
        self.observer = observer
        self.rng = rng
        self.now = now
        self.on_bug = on_bug
        self.limits = limits or ProcessLimits()
        self.directory: Directory = directory or NoDirectory()
        self.sample = sample
        self.snapshot = Snapshot(complete=True)
        self.router = Router()
        self.live = LiveRegistry()
        self.response_acts = ResponseActs((UNTOUCHED,))
        self.timer = Timer(now, on_bug)
        shared = (dialer, observer, now, self.limits, on_bug, self.response_acts, self._http2_client, self.timer)
        self.pool = Pool(*shared)
        self.inbound_live = LiveRegistry()
        self.inbound_pool = Pool(*shared)
        self.identity = ""
        self.draining = False
        self.closing = False
        self.fast_path = fast_path
        self.lanes: set[FastLane] = set()
        self.request_acts = RequestActs(
            dropped=NOT_FROM_CLIENTS, taken=(DEADLINE_HEADER,), noted=(REQUEST_ID, b"idempotency-key")
        )
        self.tables: dict[Asked, tuple[ServiceKey, ServiceTable]] = {}
        self.ways: dict[RoutePlan, tuple[Way, ...]] = {}
        self.tallies: dict[TallyKey, Tally] = {}
        self.fast_requests = [0]
        self.places = places or Places(self.limits.connections, lambda: observer.limit_reached("connections"))
        self._connections = 0
        self._idle: set[Waiting] = set()
        self._drain_calls: set[Callable[[], None]] = set()
        self._rates: tuple[Snapshot, dict[ServiceKey, Rates | None]] = (self.snapshot, {})
        self._access: tuple[Snapshot, dict[ServiceKey, tuple[AuthorizationPolicy, ...]]] = (self.snapshot, {})

    def _http2_client(self) -> MuxClient:
        return http2_client(self.limits.http2_streams, lean=self.fast_path)

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with `snapshot`; those under way keep theirs.

        Endpoints that left are dropped from live state at once, so that no retry goes there any more.
        """
        self.snapshot = snapshot
        self.tables.clear()
        self.tallies.clear()
        self.ways.clear()
        for key in list(self.live.clusters):
            cluster = self.live.clusters[key]
            table = self.router.table(snapshot, key.service, key.port)
            plan = table.clusters.get(key) if table is not None else None
            if plan is not None:
                cluster.current(plan.endpoints)
                continue
            endpoints = snapshot.endpoints(key.service)
            cluster.current(endpoints.of_port(key.port) if endpoints is not None else ())
            if table is None and not (cluster.endpoints or cluster.in_flight or cluster.pending):
                del self.live.clusters[key]

    def keep_table(self, asked: Asked, key: ServiceKey, table: ServiceTable) -> tuple[ServiceKey, ServiceTable]:
        """Remember where a name leads, until the next snapshot."""
        if len(self.tables) >= MAX_ASKED:
            self.tables.clear()
        found = self.tables[asked] = (key, table)
        return found

    def ways_of(self, plan: RoutePlan, registry: LiveRegistry) -> tuple[Way, ...]:
        """Where plain requests of a rule go, looked up once per snapshot; empty for a rule that is not plain."""
        ways: tuple[Way, ...] = ()
        if plan.filters is None and not plan.backend_filters and all(map(_is_plain, plan.policies)):
            backends = zip(plan.backends, plan.policies, strict=True)
            ways = tuple(Way(cluster, policy, registry, self.node.zone) for cluster, policy in backends)
        if len(self.ways) >= MAX_WAYS:
            self.ways.clear()
        self.ways[plan] = ways
        return ways

    def keep_tally(self, key: TallyKey, tally: Tally) -> None:
        """Remember what counts requests of one kind, until the next snapshot."""
        if len(self.tallies) >= MAX_TALLIES:
            self.tallies.clear()
        self.tallies[key] = tally

    def access_policies(self, service: ServiceKey) -> tuple[AuthorizationPolicy, ...]:
        """The authorization policies of `service`, looked up once per snapshot."""
        snapshot, found = self._access
        if snapshot is not self.snapshot:
            found = {}
            self._access = (self.snapshot, found)
        policies = found.get(service)
        if policies is None:
            policies = found[service] = _targeting(self.snapshot, service)
        return policies

    def rate_limits(self, service: ServiceKey) -> Rates | None:
        """What keeps the rates of `service`; None when nobody asks for any. Looked up once per snapshot.

        A push that leaves a limit as it is leaves its buckets as they are.
        """
        snapshot, found = self._rates
        if snapshot is not self.snapshot:
            found = {key: rates_of(self.snapshot, key, kept) for key, kept in found.items()}
            self._rates = (self.snapshot, found)
        if service not in found:
            found[service] = rates_of(self.snapshot, service, None)
        return found[service]

    def connection_ends_s(self, peer: Peer) -> float:
        """When a connection of `peer` that begins now is to end in order: those with an identity live so long only."""
        return self.now() + lifetime_s(self.limits.connection_age_s, self.rng) if peer.principal else math.inf

    @property
    def connections(self) -> int:
        """Client connections now; of another Worker's listeners none."""
        return self._connections

    async def room(self) -> None:
        """Wait until another client connection is allowed."""
        await self.places.wait()

    def client(self, listener: str) -> "Connected":
        """A client is connected to `listener` from now until the block of `with` is left, or `gone` is called."""
        return Connected(self, listener)

    def connected(self, listener: str, change: int) -> None:
        """One client more, or one less (-1)."""
        self._connections += change
        if change > 0:
            self.observer.downstream_opened(listener)
            self.places.take()
        else:
            self.places.free()
            self.observer.downstream_closed(listener)

    async def run(self) -> None:
        """Background work of the worker, for ever."""
        self.now = trio.lowlevel.current_clock().current_time  # the same clock, three times cheaper to read
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pool.run)
            nursery.start_soon(self.inbound_pool.run)
            nursery.start_soon(self.timer.run)

    def idle(self, waiting: Waiting) -> None:
        """A connection waits for its next request; the end of a drain ends the wait."""
        if self.closing:
            waiting.cancel()
        else:
            self._idle.add(waiting)

    def busy(self, waiting: Waiting) -> None:
        """The wait is over."""
        self._idle.discard(waiting)

    @contextmanager
    def told_of_drain(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` when a drain begins, or now if it has; as long as this lasts."""
        if self.draining:
            callback()
        self._drain_calls.add(callback)
        try:
            yield
        finally:
            self._drain_calls.discard(callback)

    def lead_away(self) -> None:
        """Begin a drain: every answer says that its connection ends (`Connection: close`, GOAWAY); none is closed."""
        if self.draining:
            return
        self.draining = True
        for callback in list(self._drain_calls):
            callback()

    def drain(self) -> None:
        """Let every connection end with the answers under way; idle ones end now."""
        self.lead_away()
        self.closing = True
        for waiting in list(self._idle):
            waiting.cancel()
        self._idle.clear()
        for lane in list(self.lanes):
            lane.part()


def _is_plain(policy: TrafficPolicy) -> bool:
    """False for what only the full path does: judging answers that look good to everybody else, injecting faults."""
    fallback = policy.fallback
    judges = policy.retries.reads_answers or (fallback is not None and fallback.reads_answers)
    return not judges and not policy.faults


def _targeting(snapshot: Snapshot, service: ServiceKey) -> tuple[AuthorizationPolicy, ...]:
    bodies = [resource.body for resource in snapshot.of_kind("AuthorizationPolicy")]
    return tuple(
        body
        for body in bodies
        if isinstance(body, AuthorizationPolicy)
        and body.namespace == service.namespace
        and any(target.kind == "Service" and target.name == service.name for target in body.targets)
    )


class Connected:
    """While a client is connected; see `Worker.client`. A bug met while serving it goes no further: the task's nursery
    holds all connections, and whatever one peer causes must not end the others.

    A class, because each generator of `contextmanager` would be 430 bytes of every idle connection.
    """

    __slots__ = ("_listener", "_worker")

    def __init__(self, worker: Worker, listener: str) -> None:
        self._worker = worker
        self._listener = listener
        worker.connected(listener, 1)

    def gone(self) -> None:
        """It is connected no more."""
        self._worker.connected(self._listener, -1)

    def __enter__(self) -> None:
        """See the class."""

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        del kind, trace
        try:
            return problem is not None and self._contained(problem)
        finally:
            self.gone()

    def _contained(self, problem: BaseException) -> bool:
        """Tell of a bug; True if there is nothing else. Raises what is left of a group."""
        if not isinstance(problem, BaseExceptionGroup):
            if isinstance(problem, Exception):
                self._worker.on_bug(problem)
                return True
            return False
        bugs, rest = problem.split(Exception)
        if bugs is None:
            return False
        self._worker.on_bug(bugs.exceptions[0] if len(bugs.exceptions) == 1 else bugs)
        if rest is not None:
            raise rest
        return True
