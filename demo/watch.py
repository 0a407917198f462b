"""What the demo's client has seen: which version answered, as whom each service was called; and how to judge a split.

Pure: told of each result of the load, asked by screen and summary. Reads the answers' bodies, in which every service of
the chain has put its name, its version and the identity of its caller.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from demo.load import Result, percentile_ms

WINDOW_S = 10.0
KEPT = 5_000


class Recent(NamedTuple):
    """The last seconds as the client saw them."""

    rate: float
    success: float | None
    p50_ms: float | None
    p99_ms: float | None
    versions: Counter[str]


@dataclass
class Watch:
    """Totals since the start, and the last WINDOW_S.

    Attributes:
        service: Whose versions are counted.
        versions: Answers by version of `service`; those without a failure.
        callers: Identities that each service saw, by service.
    """

    service: str = "orders"
    versions: Counter[str] = field(default_factory=Counter)
    callers: dict[str, Counter[str]] = field(default_factory=dict)
    first_s: float | None = None
    _recent: deque[tuple[float, bool, float, str]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def done(self, result: Result) -> None:
        """Take a result of the load."""
        done_s, version = result.at_s + result.latency_s, ""
        if result.ok:
            self.first_s = self.first_s or done_s
            for said in chain(result.body):
                self.callers.setdefault(said["service"], Counter())[said["caller"]] += 1
                if said["service"] == self.service:
                    version = said["version"]
            self.versions[version] += 1
        self._recent.append((done_s, result.ok, result.latency_s, version))

    def recent(self, now_s: float) -> Recent:
        """The last seconds."""
        last = [entry for entry in self._recent if entry[0] > now_s - WINDOW_S]
        span_s = now_s - last[0][0] if last else 0.0
        latencies = sorted(latency_s for _, _, latency_s, _ in last)
        return Recent(
            len(last) / span_s if span_s > 0 else 0.0,
            sum(ok for _, ok, _, _ in last) / len(last) if last else None,
            percentile_ms(latencies, 0.5),
            percentile_ms(latencies, 0.99),
            Counter(version for _, ok, _, version in last if ok),
        )


def chain(body: bytes) -> Iterator[dict[str, Any]]:
    """What each service on the way said, the nearest first."""
    said: object = json.loads(body)
    while isinstance(said, dict):
        yield said
        said = said.get("called")


def binomial_bound(count: int, share: float, outside: float = 0.001) -> tuple[int, int]:
    """The least and the most of `count` draws that may fall on `share`; fewer, or more, is as rare as `outside`.

    Exact tails, half of `outside` each: at 99.9 % a right split is called wrong once in a thousand runs.
    """
    if not 0.0 < share < 1.0:
        return (0, 0) if share <= 0.0 else (count, count)
    logs = math.log(share), math.log1p(-share)
    top = math.lgamma(count + 1)

    def chance(hits: int) -> float:
        ways = top - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        return math.exp(ways + hits * logs[0] + (count - hits) * logs[1])

    low, below = 0, chance(0)
    while below < outside / 2:
        low += 1
        below += chance(low)
    high, above = count, chance(count)
    while above < outside / 2:
        high -= 1
        above += chance(high)
    return low, high
