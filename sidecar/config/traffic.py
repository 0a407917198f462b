"""`TrafficPolicy`: times, tries, balancing, ejection and limits of a service; documents <-> model.

What a document leaves out keeps the product's default (`model/policies.py`). `0s` switches the timeouts `request`,
`perTry` and `tunnelIdle` off. The checks across fields see to it that no part of a policy makes another one
meaningless.
"""

from sidecar.config import grammar
from sidecar.config.header import OWN_API, Metadata, document
from sidecar.config.node import Fields, Json, Node
from sidecar.config.targets import encode_targets, parse_targets
from sidecar.model.policies import (
    DEFAULT_POLICY,
    Algorithm,
    Backoff,
    BudgetPolicy,
    Ejection,
    Limits,
    Mode,
    Retries,
    RetryOn,
    Timeouts,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.routes import ROUTE_KINDS

POLICY_FIELDS = ("timeouts", "retries", "balancing", "ejection", "limits", "mode")
MAX_ATTEMPTS = 10  # more is a storm, not a retry; the budget would stop it anyway
MAX_REPLAY_BYTES = 1_048_576  # kept for every request under way
MAX_LIMIT = 1_000_000
_EWMA = "ewma"


def parse_traffic_policy(meta: Metadata, spec: Node) -> TrafficPolicyResource:
    """A TrafficPolicy and what it attaches to."""
    got = spec.fields("targetRefs", *POLICY_FIELDS)
    targets = parse_targets(got, ("Service", *ROUTE_KINDS))
    return TrafficPolicyResource(namespace=meta.namespace, name=meta.name, targets=targets, policy=policy_of(got))


def policy_of(got: Fields) -> TrafficPolicy:
    """The policy in the fields of a TrafficPolicy's `spec`, or of a MeshPolicy's `defaults`."""
    base = DEFAULT_POLICY
    return TrafficPolicy(
        timeouts=got.maybe("timeouts", _timeouts, base.timeouts),
        retries=got.maybe("retries", _retries, base.retries),
        algorithm=got.maybe("balancing", _algorithm, base.algorithm),
        ejection=got.maybe("ejection", _ejection, base.ejection),
        limits=got.maybe("limits", _limits, base.limits),
        mode=got.maybe("mode", lambda node: node.choice(Mode), base.mode),
    )


def _timeouts(node: Node) -> Timeouts:
    got, base = node.fields("request", "perTry", "connect", "streamIdle", "tunnelIdle"), Timeouts()
    seen = node.source.problems.count
    made = Timeouts(
        request_s=got.maybe("request", _optional, base.request_s),
        request_asked="request" in got,
        per_try_s=got.maybe("perTry", _optional, base.per_try_s),
        connect_s=got.maybe("connect", Node.seconds, base.connect_s),
        stream_idle_s=got.maybe("streamIdle", Node.seconds, base.stream_idle_s),
        tunnel_idle_s=got.maybe("tunnelIdle", _optional, base.tunnel_idle_s),
    )
    if node.source.problems.count != seen or made.request_s is None:
        return made
    request = f"request ({grammar.format_duration(made.request_s)}{'' if 'request' in got else ', the default'})"
    if made.per_try_s is not None and made.per_try_s >= made.request_s:
        node.at("perTry").complain(
            f"perTry ({grammar.format_duration(made.per_try_s)}) must be less than {request}, "
            "or no time is left for a second try"
        )
    if "connect" in got and made.connect_s > made.request_s:
        node.at("connect").complain(
            f"connect ({grammar.format_duration(made.connect_s)}) must not be more than {request}"
        )
    return made


def _optional(node: Node) -> float | None:
    return node.seconds(at_least=0.0) or None


def _retries(node: Node) -> Retries:
    got, base = node.fields("attempts", "on", "backoff", "budget", "maxBody"), Retries()
    return Retries(
        attempts=got.maybe("attempts", lambda field: field.integer(0, MAX_ATTEMPTS), base.attempts),
        on=got.maybe("on", _retry_on, base.on),
        backoff=got.maybe("backoff", _backoff, base.backoff),
        budget=got.maybe("budget", _budget, base.budget),
        max_body_bytes=got.maybe(
            "maxBody", lambda field: field.quantity_bytes(0, MAX_REPLAY_BYTES), base.max_body_bytes
        ),
    )


def _retry_on(node: Node) -> frozenset[RetryOn]:
    return frozenset(item.choice(RetryOn) for item in node.items())


def _backoff(node: Node) -> Backoff:
    got, base = node.fields("base", "max"), Backoff()
    made = Backoff(
        base_s=got.maybe("base", Node.seconds, base.base_s), max_s=got.maybe("max", Node.seconds, base.max_s)
    )
    _base_below_max(node, made.base_s, made.max_s)
    return made


def _base_below_max(node: Node, base_s: float, max_s: float) -> None:
    if base_s > max_s:
        node.complain(
            f"base ({grammar.format_duration(base_s)}) must not be more than max ({grammar.format_duration(max_s)})"
        )


def _budget(node: Node) -> BudgetPolicy:
    got, base = node.fields("percent", "interval", "minPerSecond"), BudgetPolicy()
    return BudgetPolicy(
        percent=got.maybe("percent", lambda field: field.number(0, 100), base.percent),
        interval_s=got.maybe("interval", lambda field: field.seconds(at_least=1.0), base.interval_s),
        min_per_second=got.maybe("minPerSecond", lambda field: field.number(0, 1000), base.min_per_second),
    )


def _algorithm(node: Node) -> Algorithm:
    field = node.fields("algorithm").need("algorithm", "how an endpoint is chosen")
    word = field.one_of((*(member.value for member in Algorithm), _EWMA))
    if word != _EWMA:
        return Algorithm(word)
    field.warn("ewma is not in this version; least-request is used, which also follows how busy an endpoint is")
    return Algorithm.LEAST_REQUEST


def _ejection(node: Node) -> Ejection:
    got, base = node.fields("consecutiveFailures", "base", "max", "maxPercent"), Ejection()
    made = Ejection(
        consecutive_failures=got.maybe(
            "consecutiveFailures", lambda field: field.integer(1, 1000), base.consecutive_failures
        ),
        base_s=got.maybe("base", Node.seconds, base.base_s),
        max_s=got.maybe("max", Node.seconds, base.max_s),
        max_percent=got.maybe("maxPercent", lambda field: field.integer(0, 100), base.max_percent),
    )
    _base_below_max(node, made.base_s, made.max_s)
    return made


def _limits(node: Node) -> Limits:
    got, base = node.fields("connections", "pending", "requests"), Limits()
    return Limits(
        connections=got.maybe("connections", lambda field: field.integer(1, MAX_LIMIT), base.connections),
        pending=got.maybe("pending", lambda field: field.integer(0, MAX_LIMIT), base.pending),
        requests=got.maybe("requests", lambda field: field.integer(1, MAX_LIMIT), base.requests),
    )


def encode_traffic_policy(resource: TrafficPolicyResource) -> dict[str, Json]:
    """The document of a TrafficPolicy; values are written, defaults too, so that `/config` shows what holds.

    But for `request`: that somebody asked for it means more than its value (`Timeouts.request_asked`).
    """
    spec: dict[str, Json] = {"targetRefs": encode_targets(resource.targets), **encode_policy(resource.policy)}
    return document(OWN_API, "TrafficPolicy", resource.namespace, resource.name, spec)


def encode_policy(policy: TrafficPolicy) -> dict[str, Json]:
    """The fields that `policy_of` reads."""
    times, retries, ejection, limits = policy.timeouts, policy.retries, policy.ejection, policy.limits
    timeouts: dict[str, Json] = {
        "connect": grammar.format_duration(times.connect_s),
        "streamIdle": grammar.format_duration(times.stream_idle_s),
        "tunnelIdle": grammar.format_duration(times.tunnel_idle_s or 0.0),
    }
    if times.request_asked:  # written, it would be read as a user's word, and end gRPC streams
        timeouts["request"] = grammar.format_duration(times.request_s or 0.0)
    if times.per_try_s is not None:
        timeouts["perTry"] = grammar.format_duration(times.per_try_s)
    return {
        "timeouts": timeouts,
        "retries": {
            "attempts": retries.attempts,
            "on": [*sorted(failure.value for failure in retries.on)],
            "backoff": _encode_span(retries.backoff.base_s, retries.backoff.max_s),
            "budget": {
                "percent": retries.budget.percent,
                "interval": grammar.format_duration(retries.budget.interval_s),
                "minPerSecond": retries.budget.min_per_second,
            },
            "maxBody": grammar.format_quantity(retries.max_body_bytes),
        },
        "balancing": {"algorithm": policy.algorithm.value},
        "ejection": {
            "consecutiveFailures": ejection.consecutive_failures,
            "maxPercent": ejection.max_percent,
            **_encode_span(ejection.base_s, ejection.max_s),
        },
        "limits": {"connections": limits.connections, "pending": limits.pending, "requests": limits.requests},
        "mode": policy.mode.value,
    }


def _encode_span(base_s: float, max_s: float) -> dict[str, Json]:
    return {"base": grammar.format_duration(base_s), "max": grammar.format_duration(max_s)}
