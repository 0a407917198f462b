"""What users ask of the mesh for a service: times, tries, balancing, ejection, limits, access.

Frozen values with the defaults of this product; each default's reason stands beside it. The pure code in
`policy` and `balance` reads them.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.model.balancing import DEFAULT_BALANCING, Balancing, HashKey
from sidecar.model.clusters import ServiceKey
from sidecar.model.fallback import Fallback
from sidecar.model.faults import InjectedFault
from sidecar.model.rates import RateLimit


class Mode(StrEnum):
    """Whether a policy acts, or only counts and logs what it would have done.

    Of a TrafficPolicy it governs ejection; times, tries and limits always act. An AuthorizationPolicy it governs whole.
    """

    ENFORCE = "enforce"
    SHADOW = "shadow"


class RetryOn(StrEnum):
    """Failures that a policy may name as worth another try. What is *safe* to try again is not configurable."""

    CONNECT_FAILURE = "connect-failure"  # dial or TLS failed; the request was never sent
    REFUSED_STREAM = "refused-stream"  # the peer says that it did not process the request
    RESET_BEFORE_REQUEST = "reset-before-request"  # connection lost before a byte of the request was sent
    RESET = "reset"  # connection lost after the request was (partly) sent, before an answer's head
    GATEWAY_ERROR = "gateway-error"  # 502, 503, 504, and what a gateway would answer so: reset, try timeout
    SERVER_ERROR = "5xx"  # any answer from 500 on, and all of the above; Envoy's word
    GRPC_CANCELLED = "grpc-cancelled"  # what the service itself answered, by `grpc-status`; Envoy's names from `grpc-`
    GRPC_DEADLINE_EXCEEDED = "grpc-deadline-exceeded"
    GRPC_INTERNAL = "grpc-internal"
    GRPC_RESOURCE_EXHAUSTED = "grpc-resource-exhausted"
    GRPC_UNAVAILABLE = "grpc-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """All in seconds. `None` means no limit of this kind."""

    request_s: float | None = 15.0  # to the response head; Envoy's route timeout
    request_asked: bool = False  # a user wrote `request`; the default alone does not end gRPC streams and tunnels
    per_try_s: float | None = None  # a try may use what is left of the request
    connect_s: float = 1.0  # Linkerd's; a local network answers in milliseconds
    stream_idle_s: float = 300.0  # an answer's body without progress; Envoy's
    tunnel_idle_s: float | None = 3600.0  # bytes in neither direction of TCP, WebSocket, CONNECT; Envoy's for TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Full jitter: wait between 0 and min(max_s, base_s * 2**(n-1)) before try n + 1."""

    base_s: float = 0.025
    max_s: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPolicy:
    """Retries may add `percent` to the requests of the last `interval_s`, plus `min_per_second`."""

    percent: float = 20.0
    interval_s: float = 10.0
    min_per_second: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """What is tried again, and how often.

    Attributes:
        attempts: Tries after the first.
        statuses, headers: Answers that are worth another try besides `on`: any of these statuses, or a field of this
            name (with exactly this value, if one is given). They blame no endpoint.
    """

    attempts: int = 2
    on: frozenset[RetryOn] = frozenset({RetryOn.CONNECT_FAILURE, RetryOn.REFUSED_STREAM, RetryOn.GATEWAY_ERROR})
    statuses: frozenset[int] = frozenset()
    headers: tuple[tuple[str, str | None], ...] = ()
    backoff: Backoff = field(default_factory=Backoff)
    budget: BudgetPolicy = field(default_factory=BudgetPolicy)
    max_body_bytes: int = 65_536  # what is kept of a body so that it can be sent again; Linkerd's figure

    @property
    def reads_answers(self) -> bool:
        """Whether an answer below 500 may be worth another try."""
        return bool(self.headers) or any(status < 500 for status in self.statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRatio:
    """Of the tries of the last `interval_s`, if there were so many, at least so many percent must succeed; 0: off."""

    at_least_percent: float = 50.0  # Hystrix's three figures
    interval_s: float = 10.0
    min_requests: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """Take an endpoint out for base_s * 2**(times before), at most max_s, when it fails too often; see policy/outlier.

    `consecutive_failures` counts failures of every kind, the other two those of one kind only; 0: not apart.
    """

    consecutive_failures: int = 5
    gateway_failures: int = 0
    connect_failures: int = 3  # no load explains three refused dials in a row
    success: SuccessRatio = field(default_factory=SuccessRatio)
    base_s: float = 5.0
    max_s: float = 300.0
    max_percent: int = 34  # at least one of three, never the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per cluster and worker."""

    connections: int = 1024
    pending: int = 256
    requests: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """Everything a cluster's callers obey. The default value is what a service without a policy gets.

    `rate_limits` alone are kept by the called side, for all callers together.

    `sticky`: where a request's key is that decides its backend, where a route has several; None: chance does.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    balancing: Balancing = DEFAULT_BALANCING
    ejection: Ejection = field(default_factory=Ejection)
    limits: Limits = field(default_factory=Limits)
    rate_limits: tuple[RateLimit, ...] = ()
    sticky: HashKey | None = None
    fallback: Fallback | None = None
    faults: tuple[InjectedFault, ...] = ()
    mode: Mode = Mode.ENFORCE


DEFAULT_POLICY = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class TargetRef:
    """What a policy attaches to: a Service or a route of any kind, optionally one named rule of the route."""

    kind: str
    name: str
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicyResource:
    """A TrafficPolicy object: the policy and what it attaches to, in its own namespace."""

    namespace: str
    name: str
    targets: tuple[TargetRef, ...]
    policy: TrafficPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Callers that may pass: any workload of `services`, or exactly `principals` (SPIFFE IDs)."""

    services: frozenset[ServiceKey] = frozenset()
    principals: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy:
    """An allow-list for the targeted services. No rule at all denies everybody."""

    namespace: str
    name: str
    targets: tuple[TargetRef, ...]
    allow: tuple[AllowRule, ...] = ()
    mode: Mode = Mode.ENFORCE
