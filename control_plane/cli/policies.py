"""What every field of a TrafficPolicy means, its default and where that is from, its metric and its flag: the manual.

The models are the truth about fields and defaults; this adds the words, as `flags.py` does for flags. Tests hold it
together with the CRD's fields, the metrics and the flags, so that no field is without a line and no line without a
field. `docs/policies.md` is `markdown()`.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from control_plane.cli.complaint import USAGE, Complaint
from sidecar.config.policy.traffic import encode_policy
from sidecar.model.policies import DEFAULT_POLICY

OFF = "off"


@dataclass(frozen=True, slots=True)
class Field:
    """A field's line.

    Attributes:
        name: Its path below `spec`: `retries.backoff.base`.
        means: What it does.
        source: Why the default is what it is, or whose it is.
        metric: What counts it; "" for nothing of its own.
        flag: What a log shows when it refuses, ends or marks a request; "" for none.
        unless_set: The default in words, where the models have none to be written.
    """

    name: str
    means: str
    source: str
    metric: str = ""
    flag: str = ""
    unless_set: str = OFF


REFUSED = "sidecar_retries_refused_total"
EJECTIONS = "sidecar_ejections_total"

FIELDS: tuple[Field, ...] = (
    Field(
        "timeouts.request",
        "time to the answer's head, all tries together; in a route: to its end",
        "Envoy's route timeout",
        flag="UT",
        unless_set="15s",
    ),
    Field("timeouts.perTry", "time of one try, to the answer's head", "a try may use all of the request's", flag="UT"),
    Field(
        "timeouts.connect",
        "time of a dial, with its TLS handshake",
        "Linkerd's; a local network answers in milliseconds",
        "sidecar_upstream_dials_total",
        "UF",
    ),
    Field("timeouts.streamIdle", "an answer's body without one byte", "Envoy's", flag="UT"),
    Field("timeouts.tunnelIdle", "a tunnel without one byte, in either direction", "Envoy's for TCP", flag="SI"),
    Field(
        "retries.attempts",
        "tries after the first",
        "Istio's: enough for one bad endpoint and one in a rolling restart",
        "sidecar_retries_total",
        "URX",
    ),
    Field(
        "retries.on",
        "failures that are worth another try, as far as it is safe (idempotent, or never taken)",
        "what no service means as its answer",
        REFUSED,
    ),
    Field(
        "retries.statuses",
        "statuses from 400 on that are worth another try too; they blame no endpoint below 500",
        "only the service knows",
        REFUSED,
    ),
    Field(
        "retries.headers",
        "fields of an answer, by name and perhaps value, that say so",
        "only the service knows",
        REFUSED,
    ),
    Field("retries.backoff.base", "longest wait before the second try; doubles (full jitter)", "Envoy's"),
    Field("retries.backoff.max", "longest wait before any try", "Envoy's: ten times the base"),
    Field(
        "retries.budget.percent", "retries for each hundred requests of the interval", "Linkerd's, Finagle's", REFUSED
    ),
    Field("retries.budget.interval", "what `percent` looks back over", "Linkerd's, Finagle's"),
    Field("retries.budget.minPerSecond", "retries that are always there, for little traffic", "Envoy's", REFUSED),
    Field("retries.maxBody", "bytes that are kept of a body, so that it can be sent again", "Linkerd's", REFUSED),
    Field(
        "balancing.algorithm",
        "ewma: of two drawn, the one that should answer first by latency, load and recent failures; least-request: the"
        " one with less under way; random; round-robin; ring-hash, maglev: the same key to the same endpoint",
        "Linkerd's, with failures counted: who fails fast must not look quick",
    ),
    Field("balancing.hash.header", "ring-hash, maglev: the key is this header", "a key is the user's to name"),
    Field("balancing.hash.cookie", "the key is this cookie", "the same"),
    Field("balancing.hash.source", "the key is the caller's identity, or else its IP address", "the same"),
    Field("balancing.hash.path", "the key is the path without its query", "the same"),
    Field("balancing.subset.labels", "only endpoints with these labels; `version` is one", "all endpoints are meant"),
    Field(
        "balancing.subset.otherwise",
        "when no endpoint has them: `none` answers 503, `any` asks everybody",
        "who names labels may mean them",
        flag="UH",
        unless_set="none",
    ),
    Field(
        "balancing.zone",
        "`first`: the caller's own zone, as far as it can carry its share 1.4 times over; `any`: no matter",
        "Istio's; says nothing where no zone is set",
    ),
    Field("balancing.slowStart", "how long an endpoint that is new, or back, has less than its share", "Envoy's"),
    Field("balancing.panicPercent", "when fewer of the ready endpoints pass, all are asked; 0: never", "Envoy's"),
    Field("ejection.consecutiveFailures", "failures in a row that take an endpoint out", "Envoy's, Istio's", EJECTIONS),
    Field(
        "ejection.gatewayFailures",
        "502, 503, 504, lost connections and tries' timeouts in a row that do so, counted apart; 0: not apart",
        "Istio's",
        EJECTIONS,
    ),
    Field(
        "ejection.connectFailures",
        "failed dials in a row that do so, counted apart; 0: not apart",
        "no load explains three refused dials in a row",
        EJECTIONS,
    ),
    Field(
        "ejection.success.atLeast",
        "percent of an endpoint's tries that must succeed, or it is taken out; 0: off",
        "Hystrix's",
        EJECTIONS,
    ),
    Field("ejection.success.interval", "what `atLeast` looks back over", "Hystrix's"),
    Field("ejection.success.requests", "tries in the interval below which nothing is concluded", "Hystrix's"),
    Field(
        "ejection.base",
        "how long, the first time; doubles",
        "short: a restart takes seconds; Envoy has 30 s",
    ),
    Field("ejection.max", "how long at most", "Envoy's", "sidecar_ejected_endpoints"),
    Field(
        "ejection.maxPercent",
        "of a service's endpoints that may be out; one always may, the last never",
        "one of three",
    ),
    Field("limits.connections", "to a service, per worker", "Envoy's", "sidecar_upstream_connections", "UO"),
    Field("limits.pending", "requests that wait for a connection", "a quarter of the connections", flag="UO"),
    Field("limits.requests", "requests under way to a service, per worker", "Envoy's", flag="UO"),
    Field(
        "rateLimits",
        "the called side's: requests in an interval, a burst, by header, cookie, caller or path, below a path; 429",
        "only the service knows what it can take; Linkerd's place for it, beside the app",
        flag="RL",
    ),
    Field(
        "fallback.statuses",
        "statuses that the fallback answers instead of, when there is no further try",
        "what says that nobody could answer",
        flag="FB",
    ),
    Field(
        "fallback.status",
        "its status",
        "callers go on",
        flag="FB",
    ),
    Field(
        "fallback.contentType",
        "its media type",
        "most fallbacks are an empty list",
        flag="FB",
    ),
    Field(
        "fallback.body",
        "its text, at most 4096 characters; without it there is no fallback",
        "only the service knows what does no harm",
        flag="FB",
    ),
    Field(
        "faults",
        "on purpose: delay, abort (a status), reset; for percent of tries, the first tries, headers, callers",
        "nobody wants them unasked",
        flag="FI",
    ),
    Field(
        "stickySplit.header",
        "a header's value decides the backend of a route that has several",
        "chance has no memory, and costs nothing",
    ),
    Field(
        "stickySplit.cookie",
        "a cookie's value decides the backend of a route that has several",
        "chance has no memory, and costs nothing",
    ),
    Field(
        "stickySplit.source",
        "the caller's identity, else its address decides the backend of a route that has several",
        "chance has no memory, and costs nothing",
    ),
    Field(
        "stickySplit.path",
        "the path without its query decides the backend of a route that has several",
        "chance has no memory, and costs nothing",
    ),
    Field(
        "mode",
        "`shadow`: count and log what would be refused or ejected, and do nothing",
        "a policy is written to act",
        "sidecar_shadow_decisions_total",
    ),
)


def fields_below(name: str) -> tuple[Field, ...]:
    """The lines of a field, or of all fields of a section such as `retries`; "" for all.

    Raises:
        Complaint: Status 2, with the nearest name.
    """
    found = tuple(field for field in FIELDS if not name or f"{field.name}.".startswith(f"{name}."))
    if not found:
        near = difflib.get_close_matches(name, [field.name for field in FIELDS], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "meshctl explain policy (without a name) lists all"
        raise Complaint(f"unknown field {name!r} of a TrafficPolicy", hint=hint, status=USAGE)
    return found


def default_of(field: Field) -> str:
    """The default as a document would have it."""
    value: Any = encode_policy(DEFAULT_POLICY)
    for key in field.name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return field.unless_set
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def markdown() -> str:
    """The whole table as a document."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Policies of a service's callers"
    yield ""
    yield "Every field of a `TrafficPolicy`'s `spec` (and of a `MeshPolicy`'s `defaults`), its default and where that"
    yield "is from, what counts it, and the flag that a log shows. `meshctl explain policy FIELD` says the same; this"
    yield "file is made by `python -m control_plane.cli.policies`."
    yield ""
    yield "| field | what | default | because | metric | flag |"
    yield "|---|---|---|---|---|---|"
    for field in FIELDS:
        cells = (f"`{field.name}`", field.means, default_of(field), field.source, _code(field.metric), field.flag)
        yield f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    print(markdown(), end="")
