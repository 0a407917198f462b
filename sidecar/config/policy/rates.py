"""`rateLimits` of a TrafficPolicy; document <-> model."""

import re

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.config.policy.balancing import encode_hash_key, parse_hash_key
from sidecar.config.policy.headers import few
from sidecar.model.rates import RateLimit

MAX_REQUESTS = 1_000_000
_PATH = re.compile(r"/[!-~]{0,255}")


def parse_rate_limits(node: Node) -> tuple[RateLimit, ...]:
    """Each by itself: a request has to pass all that concern it."""
    return tuple(_rate_limit(item) for item in few(node))


def _rate_limit(node: Node) -> RateLimit:
    got = node.fields("requests", "interval", "burst", "by", "path")
    requests = got.need("requests", "how many may come in an interval").integer(1, MAX_REQUESTS)
    return RateLimit(
        requests=requests,
        interval_s=got.maybe("interval", lambda field: field.seconds(at_least=1.0), 1.0),
        burst=got.maybe("burst", lambda field: field.integer(1, MAX_REQUESTS), requests),
        key=got.maybe("by", parse_hash_key, None),
        path=got.maybe("path", lambda field: field.parsed(_path, "/", 256), ""),
    )


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a path such as /search")
    return text


def encode_rate_limits(limits: tuple[RateLimit, ...]) -> list[Json]:
    """What `parse_rate_limits` reads."""
    return [_encode(limit) for limit in limits]


def _encode(limit: RateLimit) -> dict[str, Json]:
    made: dict[str, Json] = {
        "requests": limit.requests,
        "interval": grammar.format_duration(limit.interval_s),
        "burst": limit.burst,
    }
    if limit.key is not None:
        made["by"] = encode_hash_key(limit.key)
    if limit.path:
        made["path"] = limit.path
    return made
