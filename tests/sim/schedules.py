"""Random scenarios, and what must hold in every one of them whatever the policies and the faults.

The rules are written down again here, as a reader of the documents would, and not asked of the code under test.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing import Pool
from random import Random

from bench.progress import Say
from sidecar.model.balancing import HASHING, Algorithm, Balancing, HashKey, HashOf, ZoneRule
from sidecar.model.live import EndpointLive
from sidecar.model.policies import (
    Backoff,
    BudgetPolicy,
    Ejection,
    Limits,
    Retries,
    SuccessRatio,
    Timeouts,
    TrafficPolicy,
)
from sidecar.policy.attempts import Exchange
from sidecar.sim.record import Out, Record, Tried
from sidecar.sim.scenario import ClientSpec, Fault, Kind, Latency, Scenario, ServiceSpec
from sidecar.sim.world import World
from tests.sim.balancing_rules import BalancingRules

PROVEN = 10_000
CORES = 2
SECONDS = 6.0
ZONES = ("a", "b", "c")
RATE_PER_S = 90.0  # more than 500 requests each
_EPSILON_S = 1e-6
_ROUNDED_S = 0.001  # the budget counts in milliseconds
SAFE = frozenset({b"GET", b"PUT"})  # of those that are asked here


class BrokenError(AssertionError):
    """A rule that did not hold, and when."""


class Rules(Record):
    """Looks at each thing as it happens. Raises BrokenError."""

    balancing: BalancingRules  # set before the run

    def __init__(self, policies: Mapping[str, TrafficPolicy]) -> None:
        super().__init__()
        self.policies = policies
        self.began: dict[Exchange, float] = {}
        self.ended: Counter[Exchange] = Counter()
        self.arrived: dict[Exchange, set[str]] = defaultdict(set)
        self.probes: dict[EndpointLive, tuple[Exchange, float]] = {}
        self._not_before: dict[Exchange, float] = {}  # as the last answer has it
        self._told: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
        self._out: dict[tuple[str, str], float] = {}
        self._requests: dict[object, list[float]] = defaultdict(list)
        self._retries: dict[object, list[float]] = defaultdict(list)

    def on_begin(self, service: str, exchange: Exchange, now_s: float) -> None:
        super().on_begin(service, exchange, now_s)
        self.began[exchange] = now_s
        if exchange.over is None:
            self._requests[exchange.cluster].append(now_s)
        most = exchange.policy.limits.requests
        _expect(exchange.cluster.in_flight <= most, f"{exchange.cluster.in_flight} in flight, {most} allowed", now_s)

    def on_pick(self, exchange: Exchange, endpoint: str, now_s: float) -> None:
        cluster, chosen, policy = exchange.cluster, exchange.current, exchange.policy
        assert chosen is not None
        before = exchange.tried[:-1]
        passing = [each for each in cluster.present if not each.ejected_until_s]
        last = not passing or (len(passing) == 1 and passing[0].failures >= policy.ejection.consecutive_failures)
        panic = last or len(passing) < len(cluster.present) * policy.balancing.panic_percent / 100
        may = cluster.present if panic else passing
        untried = [each for each in may if each not in before]
        if chosen.ejected_until_s:
            self._expect_probe(exchange, chosen, panic or not untried, now_s)
        elif chosen in before:
            _expect(not untried, f"{endpoint} was tried already, and others were not", now_s)
            _expect(chosen is not before[-1] or len(may) == 1, f"{endpoint} has just failed", now_s)
        _expect(exchange.attempt <= 1 + policy.retries.attempts, f"try {exchange.attempt}", now_s)
        if exchange.ends_at_s is not None:
            _expect(now_s < exchange.ends_at_s, "a try after the request's end", now_s)
        not_before_s = self._not_before.get(exchange, now_s)
        _expect(now_s >= not_before_s - _EPSILON_S, f"a try {not_before_s - now_s:.3f} s before it is wanted", now_s)
        out, count = len(cluster.present) - len(passing), len(cluster.present)
        most = max(1, count * policy.ejection.max_percent // 100) if count > 1 else 0
        _expect(out <= most, f"{out} of {count} are ejected", now_s)
        self.balancing.count(cluster)
        if before or not chosen.ejected_until_s:  # else it is a probe, and nobody's choice
            broken = self.balancing.on_any(exchange, cluster.present if last else passing, now_s)
            if not before and not panic and not broken:
                broken = self.balancing.on_first(exchange, passing, now_s)
            _expect(not broken, broken, now_s)

    def _expect_probe(self, exchange: Exchange, chosen: EndpointLive, needed: bool, now_s: float) -> None:
        """One request at a time asks whether an endpoint is back, and none before its time is over."""
        name = chosen.endpoint.id
        if needed:
            return
        before, since_s = self.probes.get(chosen, (exchange, now_s))
        self.probes[chosen] = exchange, now_s
        _expect(chosen.ejected_until_s <= now_s and len(exchange.tried) == 1, f"{name} is ejected, and chosen", now_s)
        alone = before is exchange or before.current is not chosen
        patience_s = exchange.policy.ejection.base_s - _EPSILON_S
        _expect(alone or now_s - since_s >= patience_s, f"{name} is probed by two", now_s)

    def on_try(self, tried: Tried) -> None:
        super().on_try(tried)
        broken = self.balancing.on_try(tried)
        _expect(not broken, broken, tried.at_s + tried.took_s)
        self._told[tried.caller, tried.endpoint].append((tried.at_s + tried.took_s, tried.ok))

    def on_ejection(self, out: Out) -> None:
        """There is a reason, and the length is one that others do not have."""
        super().on_ejection(out)
        who = out.caller, out.endpoint
        policy = self.policies[out.endpoint.rpartition("-")[0]].ejection
        doublings = math.log2(out.for_s / policy.base_s)
        _expect(out.for_s >= policy.base_s, f"{out.endpoint} is out for {out.for_s:.3f} s only", out.at_s)
        _expect(doublings != round(doublings), f"{out.endpoint} comes back with others", out.at_s)
        again, self._out[who] = who in self._out, out.at_s
        told = self._told[who]
        streak = next((number for number, (_, ok) in enumerate(reversed(told)) if ok), len(told))
        lately = [ok for at_s, ok in told if at_s >= out.at_s - policy.success.interval_s]
        few = any(_too_few(lately[at:], policy.success) for at, ok in enumerate(lately) if not ok)
        longest = min(filter(None, (policy.consecutive_failures, policy.gateway_failures, policy.connect_failures)))
        _expect(again or few or streak >= longest, f"{out.endpoint} is ejected for {streak} failures", out.at_s)

    def on_arrival(self, exchange: Exchange, endpoint: str, now_s: float) -> None:
        there = self.arrived[exchange]
        there.add(endpoint)
        if exchange.method not in SAFE:
            _expect(len(there) == 1, f"a {exchange.method.decode()} reached {sorted(there)}", now_s)

    def on_retry(self, exchange: Exchange, now_s: float) -> None:
        last, budget = exchange.last, exchange.policy.retries.budget
        assert last is not None
        self._not_before[exchange] = now_s + (last.retry_after_s or 0.0)
        retries, requests = self._retries[exchange.cluster], self._requests[exchange.cluster]
        retries.append(now_s)
        since_s = now_s - budget.interval_s
        made = sum(at_s >= since_s + _ROUNDED_S for at_s in retries)
        allowed = sum(at_s >= since_s - _ROUNDED_S for at_s in requests) * budget.percent / 100.0
        allowed += budget.min_per_second * budget.interval_s
        _expect(made <= allowed + _EPSILON_S, f"{made} retries, {allowed:.1f} allowed", now_s)

    def on_end(self, exchange: Exchange, now_s: float) -> None:
        self.ended[exchange] += 1
        request_s = exchange.policy.timeouts.request_s
        if request_s:
            took_s = now_s - self.began[exchange]
            _expect(took_s <= request_s + _EPSILON_S, f"a request of {request_s} s took {took_s:.3f} s", now_s)
        if exchange.ends_at_s is not None:
            _expect(now_s <= exchange.ends_at_s + _EPSILON_S, "a request ended after its end", now_s)

    def at_rest(self, world: World) -> None:
        """After the run: everything has ended once, and nothing is held."""
        now_s = world.timeline.now_s
        broken = self.balancing.at_rest()
        _expect(not broken, broken, now_s)
        _expect(not self.unfinished, f"{self.unfinished} requests have no answer", now_s)
        _expect(set(self.ended) == set(self.began), "a request has not ended", now_s)
        _expect(set(self.ended.values()) <= {1}, "a request ended twice", now_s)
        for caller in world.callers.values():
            for cluster in caller.live.clusters.values():
                _expect(cluster.in_flight == 0, f"{cluster.in_flight} are in flight at {cluster.key}", now_s)
                for live in cluster.endpoints.values():
                    _expect(live.in_flight == 0, f"{live.in_flight} are in flight at {live.endpoint.id}", now_s)


def _too_few(told: Sequence[bool], wanted: SuccessRatio) -> bool:
    return len(told) >= wanted.min_requests and sum(told) * 100 < len(told) * wanted.at_least_percent


def _expect(holds: bool, sentence: str, now_s: float) -> None:
    if not holds:
        raise BrokenError(f"at {now_s:.3f} s: {sentence}")


def schedule(seed: int) -> Scenario:
    """A scenario drawn from a seed: small services, tight policies, two to five faults at once."""
    rng = Random(f"schedule {seed}")
    services = {"back": _service("back", rng, ())}
    if rng.random() < 0.3:
        services["front"] = replace(_service("front", rng, ("back",)), endpoints=rng.randint(1, 2))
    entry = "front" if "front" in services else "back"
    share = rng.uniform(0.3, 0.7)
    clients = {
        "reader": ClientSpec(
            name="reader",
            calls=entry,
            rate_per_s=RATE_PER_S * share,
            method=rng.choice((b"GET", b"PUT")),
            instances=rng.randint(1, 2),
            zone="a",
        ),
        "writer": ClientSpec(name="writer", calls=entry, rate_per_s=RATE_PER_S * (1 - share), method=b"POST"),
    }
    names = [f"{each.name}-{number}" for each in services.values() for number in range(1, each.endpoints + 1)]
    return Scenario(
        name="random",
        about="",
        seed=seed,
        duration_s=SECONDS,
        network_s=rng.choice((0.0005, 0.005)),
        services=services,
        clients=clients,
        faults=tuple(_fault(names, rng) for _ in range(rng.randint(2, 5))),
    )


def _service(name: str, rng: Random, calls: tuple[str, ...]) -> ServiceSpec:
    p50_s = rng.choice((0.002, 0.02, 0.08))
    return ServiceSpec(
        name=name,
        endpoints=rng.randint(1, 5),
        latency=Latency(p50_s, p50_s * rng.choice((1.0, 4.0))),
        capacity=rng.choice((2, 8, 100)),
        queue=rng.choice((0, 5, 100)),
        calls=calls,
        policy=_policy(rng),
        zones=rng.choice(((), ZONES[:1], ZONES[:2], ZONES)),
        retry_after_s=rng.choice((None, None, 0.05, 1.0)),
    )


def _policy(rng: Random) -> TrafficPolicy:
    request_s = rng.choice((0.1, 0.5, 2.0))
    return TrafficPolicy(
        timeouts=Timeouts(
            request_s=request_s, per_try_s=rng.choice((None, request_s / 3)), connect_s=rng.choice((0.05, 1.0))
        ),
        retries=Retries(
            attempts=rng.randint(0, 3),
            backoff=Backoff(base_s=0.01, max_s=rng.choice((0.01, 0.1))),
            budget=BudgetPolicy(
                percent=rng.choice((0.0, 10.0, 50.0)),
                interval_s=rng.choice((1.0, 3.0)),
                min_per_second=rng.choice((0.0, 1.0, 10.0)),
            ),
        ),
        balancing=_balancing(rng),
        ejection=Ejection(
            consecutive_failures=rng.choice((1, 2, 4, 1000)),
            gateway_failures=rng.choice((0, 0, 3)),
            connect_failures=rng.choice((0, 0, 2)),
            success=SuccessRatio(
                at_least_percent=rng.choice((0.0, 50.0, 90.0)), interval_s=rng.choice((1.0, 3.0)), min_requests=10
            ),
            base_s=rng.choice((0.2, 1.0)),
            max_s=5.0,
            max_percent=rng.choice((0, 34, 34, 60)),
        ),
        limits=Limits(requests=rng.choice((4, 20, 1024))),
    )


def _balancing(rng: Random) -> Balancing:
    algorithm = rng.choice((*Algorithm, Algorithm.EWMA))
    panic_percent = rng.choice((0, 50, 50, 90))
    if algorithm in HASHING:
        return Balancing(algorithm=algorithm, hash_key=HashKey(HashOf.PATH), panic_percent=panic_percent)
    return Balancing(
        algorithm=algorithm,
        zone=rng.choice((ZoneRule.FIRST, ZoneRule.ANY)),
        slow_start_s=rng.choice((0.0, 3.0)),
        panic_percent=panic_percent,
    )


def _fault(names: list[str], rng: Random) -> Fault:
    kind = rng.choice([kind for kind in Kind if kind is not Kind.LOAD] + [Kind.LOAD])
    from_s = rng.uniform(0.0, SECONDS - 1.0)
    whom = rng.choice(("reader", "writer")) if kind is Kind.LOAD else ""
    amounts = {Kind.SLOW: rng.choice((5.0, 50.0)), Kind.LOAD: 3.0}
    return Fault(
        kind=kind,
        whom=(whom,) if whom else tuple(rng.sample(names, rng.randint(1, len(names)))),
        from_s=from_s,
        until_s=from_s + rng.uniform(0.2, 4.0),
        amount=amounts.get(kind, rng.choice((0.2, 0.7, 1.0))),
        status=rng.choice((500, 503)),
        period_s=rng.choice((0.0, 0.0, 0.3)),
    )


def play(seed: int) -> Rules:
    """One schedule, under all rules. Raises BrokenError."""
    scenario = schedule(seed)
    rules = Rules({name: spec.policy for name, spec in scenario.services.items()})
    world = World(scenario, {}, seed, rules)
    rules.balancing = BalancingRules(world)
    world.run()
    rules.at_rest(world)
    return rules


def _requests(seed: int) -> int:
    try:
        return len(play(seed).asked)
    except BrokenError as broken:
        raise BrokenError(f"seed {seed}: {broken}") from None


def prove(say: Say) -> str:
    """PROVEN schedules; the figure for the ledger. Raises BrokenError."""
    total = 0
    with Pool(CORES) as pool:
        for number, count in enumerate(pool.imap_unordered(_requests, range(PROVEN), chunksize=20), 1):
            total += count
            if number % 1000 == 0:
                say(f"{number:,} of {PROVEN:,} schedules")
    return f"{PROVEN:,} schedules of {total / PROVEN:,.0f} requests: every rule held"
