"""What is simulated: services, who calls them, what goes wrong when, and what must hold.

Frozen values; `read.py` makes them of a file, `world.py` plays them. Times are seconds from the start of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.model.policies import DEFAULT_POLICY, TrafficPolicy


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an endpoint works on a request: log-normal through two percentiles, which fits most services.

    Attributes:
        p50_s, p99_s: Equal ones are a constant.
    """

    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A service and its endpoints, which are alike.

    Attributes:
        endpoints: How many; they are called `NAME-1`, `NAME-2` ...
        latency: Of the work itself, without waiting and without `calls`.
        capacity: Requests that one endpoint works on at once; one that only waits for `calls` counts.
        queue: Requests that wait for that at most; what comes then is answered 503 at once.
        calls: Services that it asks for each request, one after the other; an answer of 5xx makes its own one 503.
        policy: What callers of the service obey.
        zones: Where its endpoints are, in turn; none: nowhere.
        retry_after_s: What its 503s say in `Retry-After`; None: nothing.
    """

    name: str
    endpoints: int
    latency: Latency
    capacity: int = 100
    queue: int = 1000
    calls: tuple[str, ...] = ()
    policy: TrafficPolicy = DEFAULT_POLICY
    zones: tuple[str, ...] = ()
    retry_after_s: float | None = None

    def zone_of(self, number: int) -> str:
        """The zone of an endpoint, counted from 1."""
        return self.zones[(number - 1) % len(self.zones)] if self.zones else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """Somebody who asks, at a rate that does not wait for answers.

    Attributes:
        rate_per_s: Requests of all its instances together, at random moments (Poisson).
        instances: Sidecars that share the rate; each knows only what it saw itself.
        zone: Where they are.
    """

    name: str
    calls: str
    rate_per_s: float
    method: bytes = b"GET"
    instances: int = 1
    zone: str = ""


class Kind(StrEnum):
    """What goes wrong with an endpoint, or with a client."""

    CRASH = "crash"  # connections are refused, and what is under way is reset
    PARTITION = "partition"  # nothing comes through: dials and answers are waited for
    SLOW = "slow"  # takes `amount` times as long
    ERRORS = "errors"  # a share of `amount` is answered `status` at once
    RESETS = "resets"  # the connection is reset after the work, for a share of `amount`
    LOAD = "load"  # of a client: asks `amount` times as often


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong for a while.

    Attributes:
        whom: Endpoints (`orders-1`), or the client of a LOAD.
        until_s: Its end, `inf` for none; one that flaps is there in every other `period_s`, from its start on.
    """

    kind: Kind
    whom: tuple[str, ...]
    from_s: float
    until_s: float
    amount: float = 1.0
    status: int = 503
    period_s: float = 0.0

    def holds(self, now_s: float) -> bool:
        """Whether it is there now."""
        if not self.from_s <= now_s < self.until_s:
            return False
        return not self.period_s or int((now_s - self.from_s) / self.period_s) % 2 == 0


class Measure(StrEnum):
    """What a run is judged by."""

    SUCCESS = "success"  # percent of a client's requests that were answered below 500
    P50 = "p50"  # seconds, of all that a client got, errors too
    P99 = "p99"
    AMPLIFICATION = "amplification"  # tries that reached a service for each request to it
    EJECT = "time-to-eject"  # seconds from the start of the first fault of an endpoint to its first ejection by anybody
    RECOVER = "time-to-recover"  # seconds from the end of the last fault of an endpoint to its next success
    SHARE = "share"  # percent of a service's tries that an endpoint got
    WASTED = "wasted"  # percent of a service's work that nobody waited for any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must hold: the measure of `of`, between two moments, in bounds; either may be None."""

    measure: Measure
    of: str
    from_s: float
    until_s: float
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole run.

    Attributes:
        network_s: From a sidecar to an endpoint, and back, each.
        variants: By name, the policies of some services that differ in it; the same seed plays each.
    """

    name: str
    about: str
    seed: int
    duration_s: float
    network_s: float
    services: Mapping[str, ServiceSpec]
    clients: Mapping[str, ClientSpec]
    faults: tuple[Fault, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    variants: Mapping[str, Mapping[str, TrafficPolicy]] = field(default_factory=dict)
