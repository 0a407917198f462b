"""A scenario's file -> `Scenario`, with every problem and its place. The format is told in examples/sim/README.md.

Policies are those of a TrafficPolicy's `spec`, read by the same code.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from sidecar.config.node import Fields, Node, Source
from sidecar.config.policy.traffic import POLICY_FIELDS, policy_of
from sidecar.config.problems import Problems
from sidecar.config.yaml_text import read_yaml
from sidecar.model.policies import DEFAULT_POLICY, TrafficPolicy
from sidecar.sim.scenario import (
    ClientSpec,
    Expectation,
    Fault,
    Kind,
    Latency,
    Measure,
    Scenario,
    ServiceSpec,
)

MAX_DURATION_S = 3600.0
MAX_REQUESTS = 1_000_000  # clients' and services' own, as far as rates say; about 500 bytes each are kept
MAX_SERVICES, MAX_ENDPOINTS, MAX_CLIENTS = 50, 200, 50
MAX_INSTANCES = 100
MAX_FAULTS, MAX_EXPECTATIONS, MAX_VARIANTS = 100, 100, 8
MAX_CALLS = 20
MAX_RATE_PER_S, MAX_TIMES = 100_000.0, 10_000.0
MAX_CAPACITY = 100_000
METHODS = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH")
_MIN_PERIOD_S = 0.01
_SAYS = {  # the fields that a kind of fault has for itself
    Kind.SLOW: ("times",),
    Kind.LOAD: ("times",),
    Kind.ERRORS: ("percent", "status"),
    Kind.RESETS: ("percent",),
}
_OF_CLIENT = frozenset({Measure.SUCCESS, Measure.P50, Measure.P99})
_OF_SERVICE = frozenset({Measure.AMPLIFICATION, Measure.WASTED})
_IN_SECONDS = frozenset({Measure.P50, Measure.P99, Measure.EJECT, Measure.RECOVER})
T = TypeVar("T")


def read_scenario(text: str, file: str) -> tuple[Scenario, list[str]]:
    """The scenario of a file, and warnings.

    Raises:
        ConfigError: Something cannot be used; all problems.
    """
    problems = Problems()
    documents = read_yaml(text, Source(file, problems))
    if len(documents) == 1:
        scenario = _Reader(documents[0]).scenario()
    else:
        scenario = None
        if not problems.errors:
            Node(Source(file, problems), None, 1, 1).complain(f"has {len(documents)} documents; one scenario is needed")
    problems.raise_if_any()
    assert scenario is not None
    return scenario, problems.warning_lines()


class _Reader:
    """Reads one document; what refers to something else is checked when that is known."""

    def __init__(self, document: Node) -> None:
        self._got = document.fields(
            "scenario", "about", "seed", "duration", "network",
            "services", "clients", "faults", "expect", "variants",
        )  # fmt: skip
        self._problems = document.source.problems
        self._services: dict[str, ServiceSpec] = {}
        self._clients: dict[str, ClientSpec] = {}
        self._duration_s = 0.0

    def scenario(self) -> Scenario:
        """The document's; worth nothing if there were problems."""
        got = self._got
        name = got.need("scenario", "the scenario's name").label()
        self._duration_s = self._until(got.need("duration", "how long it is, such as 30s"), MAX_DURATION_S)
        services = got.need("services", "the services, by name")
        clients = got.need("clients", "who asks, by name")
        self._services = self._named(services, "service", MAX_SERVICES, self._service)
        self._check_calls(services)
        self._clients = self._named(clients, "client", MAX_CLIENTS, self._client)
        for name_of_both in self._services.keys() & self._clients.keys():
            clients.at(name_of_both).complain_at_key("is the name of a service too; choose another")
        faults = self._listed("faults", MAX_FAULTS, self._fault)
        made = Scenario(
            name=name,
            about=got.maybe("about", Node.text, ""),
            seed=got.maybe("seed", lambda node: node.integer(0, 2**53), 1),
            duration_s=self._duration_s,
            network_s=got.maybe("network", lambda node: self._until(node, 10.0), 0.001),
            services=self._services,
            clients=self._clients,
            faults=tuple(faults),
            expectations=tuple(self._listed("expect", MAX_EXPECTATIONS, self._expectation)),
            variants=self._variants(),
        )
        if not self._problems.errors:
            self._check_size(made, clients)
        return made

    def _until(self, node: Node, at_most_s: float, at_least_s: float = 0.001) -> float:
        seconds = node.seconds(at_least_s)
        if seconds > at_most_s:
            node.complain(f"{node.value!r} is too long; at most {at_most_s:g}s are simulated")
        return seconds

    def _named(self, node: Node, what: str, at_most: int, read: Callable[[str, Node], T]) -> dict[str, T]:
        entries = node.entries()
        if not entries:
            node.complain(f"names no {what}; at least one is needed")
        if len(entries) > at_most:
            node.complain(f"has {len(entries)} entries; at most {at_most} are allowed")
            return {}
        found = {}
        for name, entry in entries.items():
            label = Node(node.source, name, entry.key_line, entry.key_column)
            label.parent, label.key = node, name
            found[label.label()] = read(name, entry)
        return found

    def _listed(self, field: str, at_most: int, read: Callable[[Node], T]) -> list[T]:
        node = self._got.get(field)
        items = node.items() if node is not None else []
        if node is not None and len(items) > at_most:
            node.complain(f"has {len(items)} entries; at most {at_most} are allowed")
            return []
        return [*map(read, items)]

    # Services and clients

    def _service(self, name: str, node: Node) -> ServiceSpec:
        got = node.fields("endpoints", "latency", "capacity", "queue", "calls", "zones", "retryAfter", "policy")
        calls = got.get("calls")
        asked = calls.items() if calls is not None else []
        if calls is not None and len(asked) > MAX_CALLS:
            calls.complain(f"has {len(asked)} entries; at most {MAX_CALLS} are allowed")
            asked = []
        return ServiceSpec(
            name=name,
            endpoints=got.maybe("endpoints", lambda field: field.integer(1, MAX_ENDPOINTS), 1),
            latency=_latency(got.need("latency", "how long it works, such as {p50: 20ms, p99: 60ms}")),
            capacity=got.maybe("capacity", lambda field: field.integer(1, MAX_CAPACITY), 100),
            queue=got.maybe("queue", lambda field: field.integer(0, MAX_CAPACITY), 1000),
            calls=tuple(item.label() for item in asked),
            policy=got.maybe("policy", _policy, DEFAULT_POLICY),
            zones=tuple(got.maybe("zones", self._zones, ())),
            retry_after_s=got.maybe("retryAfter", Node.seconds, None),
        )

    def _zones(self, node: Node) -> list[str]:
        items = node.items(at_least=1)
        if len(items) > MAX_ENDPOINTS:
            node.complain(f"has {len(items)} entries; at most {MAX_ENDPOINTS} are allowed")
        return [item.label() for item in items[:MAX_ENDPOINTS]]

    def _check_calls(self, services: Node) -> None:
        for name, spec in self._services.items():
            for number, called in enumerate(spec.calls):
                if called and called not in self._services:
                    services.at(name, "calls", number).complain(f"{called!r} is not one of the services")
        for name in self._services:
            if self._comes_back(name):
                services.at(name, "calls").complain("leads back to the service itself: its requests would never end")
                return

    def _comes_back(self, name: str) -> bool:
        seen: set[str] = set()
        ahead = [*self._services[name].calls]
        while ahead:
            called = ahead.pop()
            if called == name:
                return True
            if called in self._services and called not in seen:
                seen.add(called)
                ahead += self._services[called].calls
        return False

    def _client(self, name: str, node: Node) -> ClientSpec:
        got = node.fields("calls", "rate", "method", "instances", "zone")
        called = got.need("calls", "the service that it asks")
        service = called.label()
        if service and service not in self._services:
            called.complain(f"{service!r} is not one of the services")
        return ClientSpec(
            name=name,
            calls=service,
            rate_per_s=got.need("rate", "requests a second").number(0.01, MAX_RATE_PER_S),
            method=got.maybe("method", lambda field: field.one_of(METHODS), "GET").encode(),
            instances=got.maybe("instances", lambda field: field.integer(1, MAX_INSTANCES), 1),
            zone=got.maybe("zone", Node.label, ""),
        )

    def _check_size(self, scenario: Scenario, clients: Node) -> None:
        """Complain of more requests than are simulated."""
        times = math.prod(fault.amount for fault in scenario.faults if fault.kind is Kind.LOAD and fault.amount > 1)
        each = {name: self._requests(name, {}) for name in scenario.services}
        rate_per_s = sum(client.rate_per_s * each[client.calls] for client in scenario.clients.values())
        expected = rate_per_s * times * scenario.duration_s
        if expected > MAX_REQUESTS:
            clients.complain(
                f"about {expected:,.0f} requests (with those that services make); at most {MAX_REQUESTS:,} are "
                "simulated: lower the rates or the duration"
            )

    def _requests(self, service: str, known: dict[str, int]) -> int:
        """How many a request to a service makes, itself included."""
        if service not in known:
            known[service] = 1 + sum(self._requests(called, known) for called in self._services[service].calls)
        return known[service]

    # Faults and expectations

    def _span(self, got: Fields, end_s: float) -> tuple[float, float]:
        from_s = got.maybe("from", lambda node: node.seconds(0.0), 0.0)
        until_s = got.maybe("until", lambda node: node.seconds(0.0), end_s)
        if from_s >= until_s:
            got.node.complain(f"from ({from_s:g}s) must be before until ({until_s:g}s)")
        return from_s, until_s

    def _fault(self, node: Node) -> Fault:
        got = node.fields("kind", "whom", "zone", "from", "until", "times", "percent", "status", "every")
        kind = got.need("kind", "what goes wrong").choice(Kind)
        from_s, until_s = self._span(got, math.inf)
        says = _SAYS.get(kind, ())
        amount = 1.0
        if "times" in says:
            amount = got.need("times", "how many times as much").number(0.001, MAX_TIMES)
        elif "percent" in says:
            amount = got.need("percent", "of the requests").number(0, 100) / 100.0
        for name in ("times", "percent", "status"):
            extra = got.get(name)
            if extra is not None and name not in says:
                extra.complain_at_key(f"says nothing of {kind.value}")
        return Fault(
            kind=kind,
            whom=self._befallen(got, kind),
            from_s=from_s,
            until_s=until_s,
            amount=amount,
            status=got.maybe("status", lambda field: field.integer(400, 599), 503),
            period_s=got.maybe("every", lambda field: self._until(field, MAX_DURATION_S, _MIN_PERIOD_S), 0.0),
        )

    def _befallen(self, got: Fields, kind: Kind) -> tuple[str, ...]:
        """`whom`, or everything in a `zone`."""
        zone = got.get("zone")
        if zone is None:
            return self._whom(got.need("whom", "the endpoints or services that it befalls, or the client"), kind)
        if "whom" in got:
            zone.complain_at_key("beside whom; give one of them")
        if kind is Kind.LOAD:
            zone.complain_at_key("says nothing of load; give whom, a client")
        name = zone.label()
        found = [
            endpoint
            for spec in self._services.values()
            for number, endpoint in enumerate(_endpoints(spec), 1)
            if spec.zone_of(number) == name
        ]
        if name and not found:
            zone.complain(f"no service has an endpoint in {name!r} (services.NAME.zones)")
        return tuple(found)

    def _whom(self, node: Node, kind: Kind) -> tuple[str, ...]:
        """Endpoints, with the name of a service for all of its own; of a load, clients."""
        found: list[str] = []
        for item in node.items(at_least=1):
            name = item.label()
            if kind is Kind.LOAD:
                if name and name not in self._clients:
                    item.complain(f"{name!r} is not one of the clients")
                found.append(name)
            elif name in self._services:
                found += _endpoints(self._services[name])
            elif name and not self._is_endpoint(name):
                item.complain(f"{name!r} is neither a service nor an endpoint of one, such as {self._an_endpoint()}")
            else:
                found.append(name)
        return tuple(dict.fromkeys(found))

    def _is_endpoint(self, name: str) -> bool:
        service = self._services.get(name.rpartition("-")[0])
        return service is not None and name in _endpoints(service)

    def _an_endpoint(self) -> str:
        return f"{next(iter(self._services), 'orders')}-1"

    def _expectation(self, node: Node) -> Expectation:
        got = node.fields("measure", "of", "from", "until", "atLeast", "atMost")
        measure = got.need("measure", "what is measured").choice(Measure)
        of = got.need("of", "whose")
        whose = of.label()
        if measure in _OF_CLIENT:
            known, what = whose in self._clients, "client"
        elif measure in _OF_SERVICE:
            known, what = whose in self._services, "service"
        else:
            known, what = self._is_endpoint(whose), "endpoint"
        if whose and not known:
            of.complain(f"{whose!r} is no {what} here, and {measure.value} is a {what}'s")
        from_s, until_s = self._span(got, self._duration_s)

        def bound(field: Node) -> float:
            return field.seconds(0.0) if measure in _IN_SECONDS else field.number(0, MAX_REQUESTS)

        at_least, at_most = got.maybe("atLeast", bound, None), got.maybe("atMost", bound, None)
        if at_least is None and at_most is None:
            node.complain("has no bound; give atLeast or atMost")
        return Expectation(
            measure=measure, of=whose, from_s=from_s, until_s=until_s, at_least=at_least, at_most=at_most
        )

    # Variants

    def _variants(self) -> Mapping[str, Mapping[str, TrafficPolicy]]:
        node = self._got.get("variants")
        return {} if node is None else self._named(node, "variant", MAX_VARIANTS, self._variant)

    def _variant(self, _name: str, node: Node) -> Mapping[str, TrafficPolicy]:
        found = {}
        for service, policy in node.entries().items():
            if service not in self._services:
                policy.complain_at_key(f"{service!r} is not one of the services")
            found[service] = _policy(policy)
        return found


def _latency(node: Node) -> Latency:
    got = node.fields("p50", "p99")
    p50_s = got.need("p50", "half of the requests take less").seconds()
    p99_s = got.maybe("p99", Node.seconds, p50_s)
    if p99_s < p50_s:
        node.at("p99").complain("must not be less than p50")
    return Latency(p50_s, p99_s)


def _policy(node: Node) -> TrafficPolicy:
    return policy_of(node.fields(*POLICY_FIELDS))


def _endpoints(service: ServiceSpec) -> list[str]:
    return [f"{service.name}-{number}" for number in range(1, service.endpoints + 1)]
