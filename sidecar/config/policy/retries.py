"""`retries` of a TrafficPolicy; document <-> model."""

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.config.policy.headers import encode_headers, few, parse_headers
from sidecar.config.policy.span import base_below_max, encode_span
from sidecar.model.policies import Backoff, BudgetPolicy, Retries, RetryOn

MAX_ATTEMPTS = 10  # more is a storm, not a retry; the budget would stop it anyway
MAX_REPLAY_BYTES = 1_048_576  # kept for every request under way


def parse_retries(node: Node) -> Retries:
    """What is tried again, how often, and within which budget."""
    got, base = node.fields("attempts", "on", "statuses", "headers", "backoff", "budget", "maxBody"), Retries()
    return Retries(
        attempts=got.maybe("attempts", lambda field: field.integer(0, MAX_ATTEMPTS), base.attempts),
        on=got.maybe("on", _retry_on, base.on),
        statuses=got.maybe("statuses", _statuses, base.statuses),
        headers=got.maybe("headers", parse_headers, base.headers),
        backoff=got.maybe("backoff", _backoff, base.backoff),
        budget=got.maybe("budget", _budget, base.budget),
        max_body_bytes=got.maybe(
            "maxBody", lambda field: field.quantity_bytes(0, MAX_REPLAY_BYTES), base.max_body_bytes
        ),
    )


def _retry_on(node: Node) -> frozenset[RetryOn]:
    return frozenset(item.choice(RetryOn) for item in node.items())


def _statuses(node: Node) -> frozenset[int]:
    return frozenset(item.integer(400, 599) for item in few(node))


def _backoff(node: Node) -> Backoff:
    got, base = node.fields("base", "max"), Backoff()
    made = Backoff(
        base_s=got.maybe("base", Node.seconds, base.base_s), max_s=got.maybe("max", Node.seconds, base.max_s)
    )
    base_below_max(node, made.base_s, made.max_s)
    return made


def _budget(node: Node) -> BudgetPolicy:
    got, base = node.fields("percent", "interval", "minPerSecond"), BudgetPolicy()
    return BudgetPolicy(
        percent=got.maybe("percent", lambda field: field.number(0, 100), base.percent),
        interval_s=got.maybe("interval", lambda field: field.seconds(at_least=1.0), base.interval_s),
        min_per_second=got.maybe("minPerSecond", lambda field: field.number(0, 1000), base.min_per_second),
    )


def encode_retries(retries: Retries) -> dict[str, Json]:
    """What `parse_retries` reads."""
    return {
        "attempts": retries.attempts,
        "on": [*sorted(failure.value for failure in retries.on)],
        "statuses": [*sorted(retries.statuses)],
        "headers": encode_headers(retries.headers),
        "backoff": encode_span(retries.backoff.base_s, retries.backoff.max_s),
        "budget": {
            "percent": retries.budget.percent,
            "interval": grammar.format_duration(retries.budget.interval_s),
            "minPerSecond": retries.budget.min_per_second,
        },
        "maxBody": grammar.format_quantity(retries.max_body_bytes),
    }
