"""A sidecar's outbound side in a simulation: does what the attempts machine returns, as proxy/exchange.py does.

The machine, the balancing, the budget, the ejection and the limits are the product's own; what is simulated is the
network between this and the endpoints. A connection is kept as long as its endpoint lives; one that is kept needs no
dial. How many there may be (`limits.connections`, `limits.pending`) is the pool's, and not simulated.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

from sidecar.balance.balancer import balancer_of
from sidecar.balance.hashing import hash64
from sidecar.errors import CONNECT_FAILED, CONNECT_TIMEOUT, REQUEST_TIMEOUT, TRY_TIMEOUT, UPSTREAM_RESET, Fault
from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.policies import TrafficPolicy
from sidecar.policy import attempts, deadline, retry_after
from sidecar.policy.attempts import Exchange, Try, Wait
from sidecar.policy.retry import Failure
from sidecar.sim.record import Out, Record, Tried
from sidecar.sim.server import Arrival, Server
from sidecar.sim.timeline import Due, Timeline

PORT = 80
USERS = 1000  # different keys of a client's requests, where its policy hashes, whatever it is a hash of
Done = Callable[[int, int, str], None]  # status, tries, why there was no further one


class Destination:
    """A service as its callers know it."""

    def __init__(self, name: str, servers: Sequence[Server], policy: TrafficPolicy) -> None:
        self.key = ClusterKey(ServiceKey("sim", name), PORT)
        self.servers = {server.name: server for server in servers}
        self.endpoints = tuple(
            Endpoint(id=server.name, service_port=PORT, host="sim", port=PORT, zone=server.zone) for server in servers
        )
        self.policy = policy


class Caller:
    """See the module's text. One per instance of a client, and per endpoint that asks others."""

    def __init__(
        self,
        name: str,
        zone: str,
        destinations: Mapping[str, Destination],
        network_s: float,
        timeline: Timeline,
        rng: Random,
        record: Record,
    ) -> None:
        self.name = name
        self.zone = zone
        self.live = LiveRegistry()
        self.destinations = destinations
        self.network_s = network_s
        self.timeline = timeline
        self.rng = rng
        self.record = record
        self._kept: dict[str, tuple[int, int]] = {}  # by endpoint: its life, and connections at rest

    def ask(self, service: str, method: bytes, ends_at_s: float | None, done: Done) -> None:
        """Send a request; `done` is called once. `ends_at_s`: of the request that it is made for."""
        destination, now_s = self.destinations[service], self.timeline.now_s
        told = None if ends_at_s is None else deadline.remaining_header(ends_at_s, now_s)
        cluster, policy = self.live.cluster(destination.key), destination.policy
        balancer = balancer_of(cluster, policy.balancing, self.zone)
        exchange = attempts.start(
            cluster,
            destination.endpoints,
            True,
            policy,
            balancer,
            method=method,
            idempotency_key=False,
            per_try_s=None,
            ends_at_s=deadline.ends_at(destination.policy.timeouts.request_s, told, now_s),
            now_s=now_s,
        )
        if balancer.hash_key is not None:
            exchange.key = hash64(b"%d" % self.rng.randrange(USERS))
        self.record.on_begin(service, exchange, now_s)
        _Call(self, destination, exchange, done).go_on()

    def take_kept(self, server: Server) -> bool:
        """Use a connection that is at rest, if there is one."""
        life, count = self._kept.get(server.name, (0, 0))
        if not count or life != server.lives:
            return False
        self._kept[server.name] = (life, count - 1)
        return True

    def keep(self, server: Server, life: int) -> None:
        """A connection of that life is at rest now."""
        if life == server.lives:
            known, count = self._kept.get(server.name, (life, 0))
            self._kept[server.name] = (life, count + 1 if known == life else 1)


class _Call:
    """One request, until its answer."""

    __slots__ = ("caller", "destination", "done", "exchange", "status")

    def __init__(self, caller: Caller, destination: Destination, exchange: Exchange, done: Done) -> None:
        self.caller = caller
        self.destination = destination
        self.exchange = exchange
        self.done = done
        self.status = 0  # of the last answer

    def go_on(self) -> None:
        """Do what the machine says."""
        caller, exchange = self.caller, self.exchange
        now_s = caller.timeline.now_s
        step = attempts.next_step(exchange, now_s, caller.rng)
        if isinstance(step, Try):
            caller.record.on_pick(exchange, step.endpoint.id, now_s)
            _Attempt(self, self.destination.servers[step.endpoint.id], step.until_s).begin()
        elif isinstance(step, Wait):
            caller.timeline.after(step.delay_s, self.go_on)
        else:
            attempts.finish(exchange)
            caller.record.on_end(exchange, now_s)
            status = step.fault.status if step.fault is not None else self.status
            denied = step.denied or exchange.denied
            self.done(status, exchange.attempt, denied.value if denied is not None else "")

    def on_result(self, server: Server, began_s: float, status: int, failure: Failure | None) -> None:
        """A try has ended."""
        caller, exchange, now_s = self.caller, self.exchange, self.caller.timeline.now_s
        self.status = status
        attempts.outcome(exchange, failure, now_s, caller.rng, shed=status == attempts.SHED_STATUS)
        caller.record.on_try(Tried(caller.name, server.name, began_s, now_s - began_s, failure is None))
        if exchange.over is None:
            caller.record.on_retry(exchange, now_s)
        ejected = exchange.ejected
        if ejected is not None:
            exchange.ejected = None
            if not ejected.shadow:
                caller.record.on_ejection(Out(caller.name, ejected.endpoint, now_s, ejected.for_s))
        self.go_on()


class _Attempt:
    """One try: dial unless a connection is kept, send, wait."""

    __slots__ = ("arrival", "began_s", "call", "connected", "life", "over", "server", "timer", "until_s")

    def __init__(self, call: _Call, server: Server, until_s: float | None) -> None:
        self.call = call
        self.server = server
        self.until_s = until_s
        self.began_s = call.caller.timeline.now_s
        self.connected = False
        self.over = False
        self.life = server.lives
        self.arrival: Arrival | None = None
        self.timer: Due | None = None

    def begin(self) -> None:
        """Send it on a kept connection, or dial."""
        caller = self.call.caller
        timeline = caller.timeline
        if caller.take_kept(self.server):
            self.connected = True
            self._wait(self.until_s)
            timeline.after(caller.network_s, self._arrive)
            return
        dial_s = timeline.now_s + self.call.exchange.policy.timeouts.connect_s
        self._wait(dial_s if self.until_s is None or dial_s < self.until_s else self.until_s)
        timeline.after(caller.network_s, self._knock)

    def _wait(self, until_s: float | None) -> None:
        if self.timer is not None:
            self.timer.drop()
        self.timer = None if until_s is None else self.call.caller.timeline.at(until_s, self._late)

    def _knock(self) -> None:
        if self.over or self.server.unreachable:
            return
        back_s = self.call.caller.network_s
        if self.server.refuses:
            self.call.caller.timeline.after(back_s, partial(self._fail, CONNECT_FAILED, True))
        else:
            self.life = self.server.lives
            self.call.caller.timeline.after(back_s, self._dialled)

    def _dialled(self) -> None:
        if not self.over:
            self.connected = True
            self._wait(self.until_s)
            self.call.caller.timeline.after(self.call.caller.network_s, self._arrive)

    def _arrive(self) -> None:
        server, caller = self.server, self.call.caller
        if self.over or server.unreachable:
            return
        if server.refuses or server.lives != self.life:  # the connection is not there any more
            caller.timeline.after(caller.network_s, partial(self._fail, UPSTREAM_RESET, False))
            return
        caller.record.on_arrival(self.call.exchange, server.name, caller.timeline.now_s)
        self.arrival = Arrival(self._answered, self.call.exchange.ends_at_s)
        server.take(self.arrival)

    def _answered(self, status: int | None) -> None:
        """At the endpoint."""
        if self.over or self.server.unreachable:
            return
        caller = self.call.caller
        back = partial(self._fail, UPSTREAM_RESET, False) if status is None else partial(self._end, status)
        caller.timeline.after(caller.network_s, back)

    def _end(self, status: int) -> None:
        if self.over:
            return
        self.call.caller.keep(self.server, self.life)
        after_s = self.server.retry_after_s if status in retry_after.STATUSES else None
        self._tell(status, Failure(None, status, False, retry_after_s=after_s) if status >= 500 else None)

    def _fail(self, fault: Fault, untouched: bool) -> None:
        if not self.over:
            self._tell(0, Failure(fault, None, untouched))

    def _late(self) -> None:
        now_s, ends_at_s = self.call.caller.timeline.now_s, self.call.exchange.ends_at_s
        if not self.connected:
            self._fail(CONNECT_TIMEOUT, True)
        else:
            self._fail(REQUEST_TIMEOUT if ends_at_s is not None and now_s >= ends_at_s else TRY_TIMEOUT, False)

    def _tell(self, status: int, failure: Failure | None) -> None:
        self.over = True
        if self.arrival is not None:
            self.arrival.left = True
        if self.timer is not None:
            self.timer.drop()
        self.call.on_result(self.server, self.began_s, status, failure)
