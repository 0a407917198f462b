"""What is measured: each row of the benchmark as a value.

To add a row, add a `Scenario`; to compare with another proxy, name it in `opponents` (proxies/__init__.py knows them).
The runner takes no other input, so that a row in a result file says completely how it was made.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Heads(StrEnum):
    """What a request carries besides method and path."""

    HOST = "host"  # Host only: what wrk sends by itself, and the proxy's floor
    TWELVE = "twelve"  # Host and 12 more, as browsers and services send them


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """HTTP/1.1 through one proxy, closed loop.

    Attributes:
        connections: Kept connections, each with one request under way.
        fresh: Every head is one that was never sent before; otherwise 4 096 different ones in turn.
        body_bytes: Size of the response's body.
        fast_path: The sidecar's `fast_path`; the opponents have no such thing.
        seconds: Length of one measurement.
        pairs: Measurements of each proxy, in turn: ours, theirs, ours, theirs, ...
    """

    name: str
    heads: Heads
    connections: int = 32
    fresh: bool = False
    body_bytes: int = 80
    fast_path: bool = False
    seconds: float = 6.0
    pairs: int = 5
    opponents: tuple[str, ...] = ("envoy",)


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
    fast_path: bool = False
    goal_mib: float = 45.0


BENCH = (
    Scenario(name="Host only", heads=Heads.HOST),
    Scenario(name="Host + 12", heads=Heads.TWELVE),
    Scenario(name="Host + 12, unseen", heads=Heads.TWELVE, fresh=True),
)


def full() -> tuple[Scenario, ...]:
    """The rows of `make bench-full`: the same loads, longer, over connections and sizes."""
    rows = []
    for base in BENCH:
        for connections in (1, 32, 256):
            name = f"{base.name}, {connections} connections"
            rows.append(replace(base, name=name, connections=connections, seconds=10.0))
    for size in (1024, 16_384):
        name = f"Host + 12, {size // 1024} KiB"
        rows.append(Scenario(name=name, heads=Heads.TWELVE, body_bytes=size, seconds=10.0))
    return tuple(rows)


def smoke(scenario: Scenario) -> Scenario:
    """The same row, long enough only to see that everything works; its figures mean nothing."""
    return replace(scenario, seconds=1.0, pairs=1)
