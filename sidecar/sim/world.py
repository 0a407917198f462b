"""Build what a scenario describes, and let it happen.

Everybody draws from a generator of their own, made of the seed and their name: another policy meets the same requests
at the same moments, and an endpoint that is not asked changes nothing for the others.
"""

from collections.abc import Mapping
from functools import partial
from random import Random

from sidecar.model.policies import TrafficPolicy
from sidecar.sim.caller import Caller, Destination
from sidecar.sim.record import Asked, Record
from sidecar.sim.scenario import ClientSpec, Fault, Kind, Scenario
from sidecar.sim.server import Ask, Server
from sidecar.sim.timeline import Timeline


class World:
    """See the module's text.

    Attributes:
        callers: By name, clients' and endpoints'.
    """

    def __init__(self, scenario: Scenario, policies: Mapping[str, TrafficPolicy], seed: int, record: Record) -> None:
        """`policies`: those of a variant, by service; the others have the scenario's."""
        self.scenario = scenario
        self.record = record
        self.timeline = Timeline()
        self.callers: dict[str, Caller] = {}
        self.destinations: dict[str, Destination] = {}
        self._seed = seed
        self._open: dict[int, tuple[str, float]] = {}  # by number: whose, since when
        self._number = 0
        for name, spec in scenario.services.items():
            servers = []
            for number in range(1, spec.endpoints + 1):
                endpoint = f"{name}-{number}"
                zone = spec.zone_of(number)
                rng, ask = self._rng(endpoint), self._asks(endpoint, zone, calls=bool(spec.calls))
                servers.append(
                    Server(spec, endpoint, zone, scenario.faults, scenario.duration_s, self.timeline, rng, ask, record)
                )
            self.destinations[name] = Destination(name, servers, policies.get(name, spec.policy))
        for client in scenario.clients.values():
            self._start(client)

    def run(self) -> Record:
        """Until the last request that came in time has ended. What nothing bounds has no answer then: status 0."""
        self.timeline.run_out()
        ends_s = max(self.timeline.now_s, self.scenario.duration_s)
        for client, at_s in self._open.values():
            self.record.on_answer(Asked(client, at_s, ends_s - at_s, 0, 0, ""))
        self.record.unfinished = len(self._open)
        return self.record

    def _rng(self, name: str) -> Random:
        return Random(f"{self._seed}/{name}")

    def _caller(self, name: str, zone: str) -> Caller:
        made = self.callers[name] = Caller(
            name,
            zone,
            self.destinations,
            self.scenario.network_s,
            self.timeline,
            self._rng(f"{name}'s sidecar"),
            self.record,
        )
        return made

    def _asks(self, endpoint: str, zone: str, *, calls: bool) -> Ask:
        if not calls:
            return _asks_nobody
        caller = self._caller(endpoint, zone)
        return lambda service, ends_at_s, done: caller.ask(
            service, b"GET", ends_at_s, lambda status, _tries, _denied: done(status)
        )

    def _start(self, client: ClientSpec) -> None:
        faults = [each for each in self.scenario.faults if each.kind is Kind.LOAD and client.name in each.whom]
        instances = [self._caller(f"{client.name}-{number}", client.zone) for number in range(1, client.instances + 1)]
        rng = self._rng(client.name)
        turn = 0

        def next_one() -> None:
            rate_per_s = client.rate_per_s * _times(faults, self.timeline.now_s)
            at_s = self.timeline.now_s + rng.expovariate(rate_per_s)
            if at_s < self.scenario.duration_s:
                self.timeline.at(at_s, ask)

        def ask() -> None:
            nonlocal turn
            caller = instances[turn % len(instances)]
            turn += 1
            self._number += 1
            self._open[self._number] = (client.name, self.timeline.now_s)
            caller.ask(client.calls, client.method, None, partial(self._answered, self._number))
            next_one()

        next_one()

    def _answered(self, number: int, status: int, tries: int, denied: str) -> None:
        client, at_s = self._open.pop(number)
        self.record.on_answer(Asked(client, at_s, self.timeline.now_s - at_s, status, tries, denied))


def play(scenario: Scenario, variant: str = "", seed: int | None = None) -> Record:
    """What happens in a scenario, with its own policies or a variant's, and its own seed or another."""
    policies = scenario.variants[variant] if variant else {}
    return World(scenario, policies, scenario.seed if seed is None else seed, Record()).run()


def _times(faults: list[Fault], now_s: float) -> float:
    times = 1.0
    for fault in faults:
        if fault.holds(now_s):
            times *= fault.amount
    return times


def _asks_nobody(service: str, _ends_at_s: float | None, _done: object) -> None:
    raise AssertionError(f"an endpoint without calls asked {service}")
