"""Decide whether a service was asked too often (`rateLimits` of a TrafficPolicy).

Asked by the inbound side once per request, after authorization: it stands before the app whoever calls, and knows who
that is. The algorithm is GCRA, a token bucket that is one number for each key: the moment when the bucket will be full
again (ITU-T I.371; "theoretical arrival time"). A request that any limit refuses takes nothing from the others.

Keys are forgotten when their bucket is full, and the one that was asked longest ago when there are too many: who makes
up keys can at most get rid of others' debts, and has one of its own for each key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.model.rates import RateLimit

MAX_KEYS = 10_000  # of a limit; about 150 bytes each
_SWEPT = 2  # old keys looked at for each new one: what is full goes before anybody has to
_EPSILON_S = 1e-9  # of sums of floating-point numbers


@dataclass(frozen=True, slots=True)
class TooMany:
    """A request that is refused.

    Attributes:
        limit: The limit that it was too much for; of several the one that takes longest.
        retry_after_s: When it would pass.
    """

    limit: RateLimit
    retry_after_s: float


class Buckets:
    """What is known of the keys of one limit. Changed by `take` only."""

    __slots__ = ("full_at_s", "limit")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.full_at_s: dict[bytes, float] = {}  # the one asked longest ago first

    def wait_s(self, key: bytes, now_s: float) -> float:
        """How long until a request of this key passes; 0.0: it does now."""
        limit = self.limit
        each_s = limit.interval_s / limit.requests
        debt_s = max(0.0, self.full_at_s.get(key, 0.0) - now_s)
        wait_s = debt_s - each_s * (limit.burst - 1)
        return wait_s if wait_s > _EPSILON_S else 0.0

    def take(self, key: bytes, now_s: float) -> None:
        """A request of this key passes."""
        known = self.full_at_s
        full_at_s = known.pop(key, None)
        if full_at_s is None:
            self._sweep(now_s)
            full_at_s = now_s
        known[key] = max(full_at_s, now_s) + self.limit.interval_s / self.limit.requests

    def _sweep(self, now_s: float) -> None:
        known = self.full_at_s
        for _ in range(min(_SWEPT, len(known))):
            oldest = next(iter(known))
            full_at_s = known.pop(oldest)
            if full_at_s > now_s and len(known) < MAX_KEYS:
                known[oldest] = full_at_s  # to the back: another one is looked at next time
        while len(known) >= MAX_KEYS:
            del known[next(iter(known))]


def decide(
    buckets: Sequence[Buckets], path: bytes, key_of: Callable[[RateLimit], bytes | None], now_s: float
) -> TooMany | None:
    """Let a request pass, and count it; or say why not.

    Args:
        path: Of the request, without its query.
        key_of: The request's value of a limit's key; None when it has none: it shares one bucket with its like.
    """
    concerned: list[tuple[Buckets, bytes]] = []
    refused: TooMany | None = None
    for each in buckets:
        limit = each.limit
        if limit.path and not _below(path, limit.path.encode("ascii")):
            continue
        key = b"" if limit.key is None else key_of(limit) or b""
        wait_s = each.wait_s(key, now_s)
        if wait_s > (refused.retry_after_s if refused is not None else 0.0):
            refused = TooMany(limit, wait_s)
        concerned.append((each, key))
    if refused is None:
        for each, key in concerned:
            each.take(key, now_s)
    return refused


def _below(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/")
