"""What is measured: each row of the benchmark as a value.

To add a row, add a `Scenario`; to compare with another proxy, name it in `proxies` (proxies/__init__.py knows them).
The runner takes no other input, so that a row in a result file says completely how it was made. rows.py has the list.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

FAST, FULL = "sidecar", "sidecar-full-path"  # ours, with `fast_path` on and off
POLICIES_OFF, POLICIES_ON = "sidecar-policies-off", "sidecar-policies-on"  # ours: what the common policies cost
EQUAL_H2 = "envoy-http2"  # the same, but the two sidecars of a pair speak HTTP/2
OURS = (FAST, FULL)
MINIMAL, EQUAL = "envoy-minimal", "envoy"  # router and retries only; and with all that ours does
DIRECT = "direct"  # no proxy at all: what added latency is added to


class Heads(StrEnum):
    """What a request carries besides method and path."""

    HOST = "host"  # Host only: what wrk sends by itself, and the proxy's floor
    TWELVE = "twelve"  # Host and 12 more, as browsers and services send them


class Kind(StrEnum):
    """What is between load and backend, and what is spoken there."""

    HTTP1 = "http1"  # one proxy
    MESH = "mesh"  # two, with mutual TLS between them
    EXCHANGE = "exchange"  # one that reads nothing: requests and responses over kept TCP connections
    BULK = "bulk"  # the same for one long stream; what is counted is not a request but a megabyte
    HTTP2 = "http2"  # one proxy, HTTP/2 on both sides
    GRPC = "grpc"  # the same for unary calls


class Log(StrEnum):
    """Which requests get a line in the access log, as our bootstrap names it."""

    ERRORS = "errors"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load through proxies, in turn.

    Attributes:
        proxies: All that are measured, in turn. Every one of ours is compared with every one of the others.
        connections: Kept connections, each with one request under way.
        fresh: Every head is one that was never sent before; otherwise 4 096 different ones in turn.
        new_connections: Each request has a connection of its own.
        body_bytes: Size of the response's body.
        eligible_percent: Requests that a fast path may serve; the others are chunked uploads with a trailer.
        routes: In the proxy's configuration; requests are spread over all of them.
        rate: Requests a second, sent at fixed times whether answers come or not; None sends the next request when the
            last answer is there.
        load_percent: Instead of `rate`: this share of the saturation of `load_of`, which is a proxy, or `slower`: the
            slowest of the row.
        handshakes_per_s: Mutual TLS connections that are made to the proxy meanwhile.
        door: The proxy has its side for other sidecars, though nothing comes there by itself.
        pushes: A configuration that differs in one route is put in force each second.
        streams: HTTP/2 streams under way on each connection.
        seconds: Length of one measurement.
        pairs: Measurements of each proxy: ours, theirs, ours, theirs, ...
    """

    name: str
    kind: Kind = Kind.HTTP1
    heads: Heads = Heads.TWELVE
    proxies: tuple[str, ...] = (FAST, FULL, MINIMAL, EQUAL)
    connections: int = 32
    fresh: bool = False
    new_connections: bool = False
    body_bytes: int = 80
    eligible_percent: int = 100
    routes: int = 100
    log: Log = Log.ERRORS
    rate: float | None = None
    load_percent: int = 0
    load_of: str = EQUAL
    handshakes_per_s: int = 0
    door: bool = False
    pushes: bool = False
    streams: int = 1
    seconds: float = 3.0
    pairs: int = 5

    @property
    def has_door(self) -> bool:
        """Whether the proxy takes mutual TLS too."""
        return self.door or self.handshakes_per_s > 0

    @property
    def ours(self) -> tuple[str, ...]:
        """Our proxies among those of the row; of two commits, the second."""
        return tuple(name for name in self.proxies if name in OURS) or self.proxies[-1:]

    @property
    def opponents(self) -> tuple[str, ...]:
        """The others, but for `direct`, which is no proxy."""
        return tuple(name for name in self.proxies if name not in (*self.ours, DIRECT))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryScenario:
    """Two sidecars with mutual TLS between them, everything on; their memory after some traffic.

    Attributes:
        routes: Routes in each sidecar's configuration.
        goal_mib: What one sidecar may take.
    """

    name: str = "memory, two sidecars"
    requests: int = 10_000
    connections: int = 32
    routes: int = 100
    fast_path: bool = True
    goal_mib: float = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesScenario:
    """Memory with so many routes, at rest and after `seconds` of load, and what a lookup costs."""

    name: str
    routes: int
    seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleScenario:
    """Memory of connections that had one request and wait: plain ones of callers, or mutual TLS of other sidecars."""

    name: str
    connections: int
    mtls: bool = False


AnyScenario = Scenario | MemoryScenario | RoutesScenario | IdleScenario


def smoke(row: AnyScenario) -> AnyScenario:
    """The same row, long enough only to see that everything works; its figures mean nothing."""
    if isinstance(row, Scenario):
        return replace(row, seconds=1.0, pairs=1)
    if isinstance(row, MemoryScenario):
        return replace(row, requests=200)
    if isinstance(row, RoutesScenario):
        return replace(row, seconds=1.0)
    return replace(row, connections=100)
