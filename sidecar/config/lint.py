"""Contradictions in policies: what is allowed, but does nothing, or less than its author will think.

Called by `check.py` over documents that are fine by themselves. All of it is a warning, at a field that the author
wrote: the product's defaults contradict each other nowhere, and nobody is told about what they did not say. What can
have no meaning at all is an error of the section's own reader (`policy/timeouts.py`).

`contradictions` needs of a policy its values and which fields are written; `_Others` needs the other documents too:
which protocols a service speaks, what a route's rules allow a request.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sidecar.config.grammar import format_duration
from sidecar.config.idle_routes import Spoken, spoken_of
from sidecar.config.node import Node
from sidecar.config.problems import Problems
from sidecar.config.resources import Parsed
from sidecar.model.clusters import Protocol, ServiceKey
from sidecar.model.faults import InjectedFault
from sidecar.model.mesh import MeshPolicy
from sidecar.model.policies import Ejection, Limits, Retries, Timeouts, TrafficPolicy, TrafficPolicyResource
from sidecar.model.routes import HttpRoute

Written = Callable[[str], bool]  # whether a field, as `retries.attempts` or `faults.0`, is in the document
Finding = tuple[str, str]  # such a field, and what is doubtful about it
_NO_GRPC = (Protocol.HTTP, Protocol.TCP, Protocol.TLS)
_NO_TRIES = frozenset(("TCPRoute", "TLSRoute"))  # bytes are read once: there is nothing to try again


def warn_of_contradictions(documents: Sequence[Parsed], problems: Problems) -> None:
    """Warn at each field that does nothing, or less than it says."""
    others = _Others(documents)
    for parsed in documents:
        body = parsed.body
        if isinstance(body, TrafficPolicyResource):
            node = parsed.node.at("spec")
            found = [*contradictions(body.policy, partial(_has, node)), *others.against(body)]
        elif isinstance(body, MeshPolicy) and body.defaults is not None:
            node = parsed.node.at("spec", "defaults")
            found = [*contradictions(body.defaults, partial(_has, node))]
        else:
            continue
        for field, message in found:
            if _has(node, field):
                problems.warn(node.at(*_keys(field)).problem(message))


def contradictions(policy: TrafficPolicy, written: Written) -> Iterator[Finding]:
    """What one policy says against itself; of several fields the first that is written is told."""
    for fields, message in _all(policy, written):
        told = next((field for field in fields if written(field)), None)
        if told is not None:
            yield told, message


def _all(policy: TrafficPolicy, written: Written) -> Iterator[tuple[tuple[str, ...], str]]:
    yield from _of_tries(policy.retries)
    yield from _of_times(policy.timeouts, policy.retries)
    yield from _of_ejection(policy.ejection, written)
    yield from _of_limits(policy.limits)
    yield from _of_faults(policy.faults)


def _of_tries(retries: Retries) -> Iterator[tuple[tuple[str, ...], str]]:
    what = ("retries.on", "retries.statuses", "retries.headers")
    if not retries.attempts:
        if retries.on or retries.statuses or retries.headers:
            yield what, "attempts is 0: nothing is tried again, whatever is named here"
        budget = ("retries.budget", "retries.backoff", "retries.maxBody")
        yield budget, "attempts is 0: there is no try that this could be about"
        return
    if not (retries.on or retries.statuses or retries.headers):
        yield ("retries.attempts", "retries.on"), "on, statuses and headers name nothing: there is no second try"
    if not retries.budget.percent and not retries.budget.min_per_second:
        message = "percent and minPerSecond are 0: only what was refused unread is tried again"
        yield ("retries.budget.percent", "retries.budget.minPerSecond"), message


def _of_times(times: Timeouts, retries: Retries) -> Iterator[tuple[tuple[str, ...], str]]:
    request_s, per_try_s = times.request_s, times.per_try_s
    if times.connect_s >= (per_try_s or times.connect_s + 1):
        message = (
            f"perTry ({format_duration(per_try_s or 0.0)}) ends a dial first: what connect would have told apart "
            "(connect-failure, safe for every method) is a try's timeout then"
        )
        yield ("timeouts.connect",), message
    if request_s is None:
        return
    request = f"request ({format_duration(request_s)})"
    if per_try_s and retries.attempts and (retries.on or retries.statuses or retries.headers):
        waits_s = sum(
            min(retries.backoff.max_s, retries.backoff.base_s * 2.0**number) for number in range(retries.attempts)
        )
        longest_s = (retries.attempts + 1) * per_try_s + waits_s
        if longest_s > request_s:
            message = (
                f"{retries.attempts + 1} tries of {format_duration(per_try_s)} and up to {_rounded(waits_s)} between "
                f"them are more than {request}: the last are cut short, or not made"
            )
            yield ("timeouts.perTry", "retries.attempts", "timeouts.request"), message
    if retries.attempts and retries.backoff.base_s >= request_s:
        message = (
            f"base ({format_duration(retries.backoff.base_s)}) is not less than {request}: "
            "most waits before a second try would end after it"
        )
        yield ("retries.backoff.base",), message


def _rounded(seconds: float) -> str:
    return format_duration(round(seconds, 3))


def _of_ejection(ejection: Ejection, written: Written) -> Iterator[tuple[tuple[str, ...], str]]:
    if not ejection.max_percent:
        for field in ("consecutiveFailures", "gatewayFailures", "connectFailures", "success", "base", "max"):
            yield (f"ejection.{field}",), "maxPercent is 0: nobody is ejected"
        return
    kinds = (("gatewayFailures", ejection.gateway_failures), ("connectFailures", ejection.connect_failures))
    for field, streak in kinds:
        if streak > ejection.consecutive_failures:
            message = (
                f"{field} ({streak}) is never reached: after consecutiveFailures ({ejection.consecutive_failures}), "
                "of whatever kind, the endpoint is out already"
            )
            yield (f"ejection.{field}",), message
    if not ejection.success.at_least_percent and written("ejection.success"):
        fields = ("ejection.success.interval", "ejection.success.requests")
        yield fields, "atLeast is 0: the share of good answers ejects nobody"


def _of_limits(limits: Limits) -> Iterator[tuple[tuple[str, ...], str]]:
    if limits.connections > limits.requests:
        message = (
            f"connections ({limits.connections}) is more than requests ({limits.requests}): "
            "requests that are under way use one each, or share them"
        )
        yield ("limits.connections",), message
    if limits.pending > limits.requests:
        message = (
            f"pending ({limits.pending}) is more than requests ({limits.requests}): who waits is one of those, "
            "and the queue is never full"
        )
        yield ("limits.pending",), message


def _of_faults(faults: Sequence[InjectedFault]) -> Iterator[tuple[tuple[str, ...], str]]:
    for index, fault in enumerate(faults):
        where = (f"faults.{index}",)
        if not fault.percent:
            yield (f"faults.{index}.percent",), "is 0: nothing is done to any try"
        elif (
            (fault.status or fault.reset)
            and fault.percent == 100.0
            and not (fault.tries or fault.headers or fault.callers)
        ):
            yield where, "every try of everybody fails: nothing reaches the service as long as this is here"


class _Others:
    """The documents that a policy is read beside."""

    def __init__(self, documents: Sequence[Parsed]) -> None:
        bodies = [parsed.body for parsed in documents]
        self._spoken: dict[ServiceKey, Spoken] = spoken_of(documents)
        self._routes = [body for body in bodies if isinstance(body, HttpRoute)]
        self._with_own = {
            (body.namespace, target.name)
            for body in bodies
            if isinstance(body, TrafficPolicyResource)
            for target in body.targets
            if target.kind == "HTTPRoute"
        }

    def against(self, resource: TrafficPolicyResource) -> Iterator[Finding]:
        """What a policy says against the things that it attaches to."""
        retries, per_try_s = resource.policy.retries, resource.policy.timeouts.per_try_s
        kinds = {target.kind for target in resource.targets}
        if kinds <= _NO_TRIES:
            yield "retries", f"a {min(kinds)} carries bytes that are read once: there is no second try"
        grpc = sorted(each.value for each in retries.on if each.value.startswith("grpc-"))
        if grpc and kinds == {"Service"} and self._speak_no_grpc(resource):
            yield "retries.on", f"{grpc[0]} never happens: no port of what this attaches to speaks grpc, http2 or auto"
        for route, request_s in self._bounds(resource) if per_try_s else ():
            if per_try_s and per_try_s >= request_s:
                message = (
                    f"perTry ({format_duration(per_try_s)}) is not less than timeouts.request "
                    f"({format_duration(request_s)}) of HTTPRoute {route.namespace}/{route.name}: "
                    "no time is left for a second try there"
                )
                yield "timeouts.perTry", message

    def _speak_no_grpc(self, resource: TrafficPolicyResource) -> bool:
        """False also when a service may still come."""
        keys = [ServiceKey(resource.namespace, target.name) for target in resource.targets]
        ports = [self._spoken.get(key, {}) for key in keys]
        return all(ports) and all(each in _NO_GRPC for spoken in ports for each in spoken.values())

    def _bounds(self, resource: TrafficPolicyResource) -> Iterator[tuple[HttpRoute, float]]:
        """Routes whose rules give a request a time of their own, and tries that of the policy."""
        named = {(target.kind, target.name) for target in resource.targets if not target.section}
        for route in self._routes:
            here = route.namespace == resource.namespace and ("HTTPRoute", route.name) in named
            own = (route.namespace, route.name) in self._with_own
            for rule in route.rules:
                leads = any(
                    each.service.namespace == resource.namespace and ("Service", each.service.name) in named
                    for each in rule.backends
                )
                if rule.request_s and rule.backend_request_s is None and (here or (leads and not own)):
                    yield route, rule.request_s


def _has(node: Node, field: str) -> bool:
    return node.find(*_keys(field)) is not None


def _keys(field: str) -> list[str | int]:
    return [int(key) if key.isdigit() else key for key in field.split(".")]
