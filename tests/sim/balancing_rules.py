"""What must hold of every choice of an endpoint, whatever the algorithm: written down again, as the documents say it.

Keeps a ledger of its own of how long tries took and how they ended. Looks at first tries only: those that follow are
chosen among what is left.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import exp

from sidecar.model.balancing import HASHING, Algorithm, ZoneRule
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.policy.attempts import Exchange
from sidecar.sim.caller import Caller
from sidecar.sim.record import Tried
from sidecar.sim.world import World

DECAY_S = 10.0
SEED_S = 0.030
LEAST_SUCCESS = 0.01
FRESH_S = 0.1  # what was measured less than this ago is taken as it is
ALMOST = 1.03
ENOUGH = 100  # choices at random, after which everybody must have been chosen
SOON = 0.2  # of a slow start
FEW = 30  # choices in that time, from which on shares say something


class Known:
    """What was seen of one endpoint by one caller."""

    def __init__(self) -> None:
        self.rtt_s = SEED_S
        self.errors = 0.0
        self.at_s: float | None = None

    def tell(self, took_s: float, ok: bool, now_s: float) -> None:
        fade = self.fade(now_s)
        if (self.at_s is None and ok) or took_s > self.rtt_s:
            self.rtt_s = took_s
        elif ok:
            self.rtt_s = took_s + (self.rtt_s - took_s) * fade
        self.errors *= fade
        self.errors += 0.1 * ((0.0 if ok else 1.0) - self.errors)
        self.at_s = now_s

    def fade(self, now_s: float) -> float:
        return 0.0 if self.at_s is None else exp(-(now_s - self.at_s) / DECAY_S)

    def cost(self, under_way: int, now_s: float) -> float:
        if self.at_s is None:
            return SEED_S * under_way
        fade = 1.0 if now_s - self.at_s < FRESH_S else self.fade(now_s)
        return self.rtt_s * fade * (under_way + 1) / max(1.0 - self.errors * fade, LEAST_SUCCESS)


class Coming:
    """An endpoint that was not there, or out, and now may be asked."""

    def __init__(self, name: str, until_s: float) -> None:
        self.name = name
        self.until_s = until_s
        self.chosen: Counter[str] = Counter()


class BalancingRules:
    """See the module's text. Its methods return what is broken, or ""."""

    def __init__(self, world: World) -> None:
        self._callers: dict[ClusterLive, Caller] = {}
        self._world = world
        self._known: dict[EndpointLive, Known] = defaultdict(Known)
        self._owner: dict[tuple[ClusterLive, int, frozenset[EndpointLive]], EndpointLive] = {}
        self._turn: dict[ClusterLive, tuple[list[EndpointLive], EndpointLive, int]] = {}
        self._picks: Counter[ClusterLive] = Counter()
        self._random: dict[tuple[ClusterLive, frozenset[EndpointLive]], Counter[str]] = defaultdict(Counter)
        self._passing: dict[ClusterLive, set[EndpointLive]] = {}
        self._coming: dict[ClusterLive, Coming] = {}
        self._came: dict[ClusterLive, float] = {}

    def on_try(self, tried: Tried) -> str:
        """A try has ended, and the machine has heard of it."""
        caller = self._world.callers[tried.caller]
        destination = self._world.destinations[tried.endpoint.rpartition("-")[0]]
        if destination.policy.balancing.algorithm is not Algorithm.EWMA:
            return ""
        live = caller.live.cluster(destination.key).endpoints[tried.endpoint]
        known = self._known[live]
        known.tell(tried.took_s, tried.ok, tried.at_s + tried.took_s)
        told = live.rtt_s, live.error_share
        if not (_near(live.rtt_s, known.rtt_s) and _near(live.error_share, known.errors)):
            return f"{tried.endpoint} counts as {told}, and was {known.rtt_s}, {known.errors}"
        return ""

    def count(self, cluster: ClusterLive) -> None:
        """An endpoint was chosen, whatever for; before anything else is said of it."""
        self._picks[cluster] += 1

    def on_any(self, exchange: Exchange, passing: Sequence[EndpointLive], now_s: float) -> str:
        """An endpoint was chosen, for whatever try: who passes, and so who has come."""
        cluster, policy = exchange.cluster, exchange.policy.balancing
        before, now = self._passing.get(cluster), set(passing)
        self._passing[cluster] = now
        coming = self._coming.get(cluster)
        broken = ""
        if coming is not None and now_s > coming.until_s:
            del self._coming[cluster]
            others = [coming.chosen[each.endpoint.id] for each in now if each.endpoint.id != coming.name]
            mean = sum(others) / max(1, len(others))
            if coming.chosen.total() >= FEW and coming.chosen[coming.name] > 0.6 * mean + 3:
                broken = f"{coming.name} had {coming.chosen[coming.name]} of {coming.chosen.total()} choices at once"
        if before is not None and now != before:
            self._coming.pop(cluster, None)
            come = now - before
            window_s = policy.slow_start_s
            alone = now_s - self._came.get(cluster, -window_s) >= window_s  # else all of them have little
            if come:
                self._came[cluster] = now_s
            if before and len(come) == 1 and window_s and alone:
                (one,) = come
                self._coming[cluster] = Coming(one.endpoint.id, now_s + SOON * window_s)
        return broken

    def on_first(self, exchange: Exchange, may: Sequence[EndpointLive], now_s: float) -> str:
        """An endpoint was chosen for a first try among those that may be asked."""
        policy, chosen = exchange.policy.balancing, exchange.current
        assert chosen is not None
        if policy.algorithm in HASHING:
            return self._same_place(exchange, chosen, frozenset(may))
        zone = self._caller(exchange.cluster).zone if policy.zone is ZoneRule.FIRST else ""
        if any(each.endpoint.zone == zone for each in exchange.cluster.present if zone):
            return self._own_zone(exchange, chosen, [each for each in may if each.endpoint.zone == zone])
        coming = self._coming.get(exchange.cluster)
        if coming is not None and policy.algorithm in (Algorithm.RANDOM, Algorithm.ROUND_ROBIN):
            coming.chosen[chosen.endpoint.id] += 1
        if exchange.cluster.warming_until_s > now_s:
            return ""
        if policy.algorithm is Algorithm.EWMA:
            return self._cheaper(chosen, may, now_s)
        if policy.algorithm is Algorithm.LEAST_REQUEST:
            return _idler(chosen, may)
        if policy.algorithm is Algorithm.ROUND_ROBIN:
            return self._next(exchange.cluster, chosen, list(may))
        self._random[exchange.cluster, frozenset(may)][chosen.endpoint.id] += 1
        return ""

    def at_rest(self) -> str:
        """After the run."""
        for (_, may), counts in self._random.items():
            if counts.total() >= ENOUGH and len(counts) < len(may):
                return f"of {len(may)} endpoints {counts} were chosen at random"
        return ""

    def _caller(self, cluster: ClusterLive) -> Caller:
        if cluster not in self._callers:
            for caller in self._world.callers.values():
                for each in caller.live.clusters.values():
                    self._callers[each] = caller
        return self._callers[cluster]

    def _own_zone(self, exchange: Exchange, chosen: EndpointLive, near: list[EndpointLive]) -> str:
        present = exchange.cluster.present
        fair = len(present) / len({each.endpoint.zone for each in present})
        failed = any(self._known[each].errors for each in near)
        if 1.4 * len(near) < fair or failed or chosen in near:
            return ""
        return f"{chosen.endpoint.id} is of another zone, and the own one in order"

    def _same_place(self, exchange: Exchange, chosen: EndpointLive, may: frozenset[EndpointLive]) -> str:
        cluster, key = exchange.cluster, exchange.key
        if key is None:
            return "no key"
        if len(may) > 1 and self._owner.setdefault((cluster, key, may), chosen) is not chosen:
            return f"{chosen.endpoint.id} was chosen for a key of another"
        owner = self._owner.get((cluster, key, frozenset(cluster.present)))
        if owner is not None and owner in may and owner is not chosen:
            return f"{chosen.endpoint.id} was chosen, and {owner.endpoint.id} is there"
        return ""

    def _cheaper(self, chosen: EndpointLive, may: Sequence[EndpointLive], now_s: float) -> str:
        if len(may) != 2:
            return ""
        other = may[0] if chosen is may[1] else may[1]
        mine = self._known[chosen].cost(chosen.in_flight - 1, now_s)
        theirs = self._known[other].cost(other.in_flight, now_s)
        return f"{chosen.endpoint.id} costs {mine}, the other {theirs}" if mine > theirs * ALMOST else ""

    def _next(self, cluster: ClusterLive, chosen: EndpointLive, may: list[EndpointLive]) -> str:
        before, self._turn[cluster] = self._turn.get(cluster), (may, chosen, self._picks[cluster])
        if before is None or before[0] != may or before[2] != self._picks[cluster] - 1:
            return ""
        due = may[(may.index(before[1]) + 1) % len(may)]
        return f"{chosen.endpoint.id} is not the next one" if chosen is not due else ""


def _idler(chosen: EndpointLive, may: Sequence[EndpointLive]) -> str:
    if len(may) != 2:
        return ""
    other = may[0] if chosen is may[1] else may[1]
    return f"{chosen.endpoint.id} is the busier of the two" if chosen.in_flight - 1 > other.in_flight else ""


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 0.01 * max(one, other) + 1e-4
