"""What each sidecar has, is owed, and refused: subscriptions, pushes in flight, ACK and NACK.

push.py tells it what arrived and sends what `plan` returns; status and `--wait` read it. Pure: nothing here sends.

One push is in flight for each session; the newest state goes out after its ACK. A NACK refuses one resource of the push
under way: the sidecar keeps its last good version of that one, the rest of the push is in force, and that version is
never sent to this process again. So a bad policy never stands in the way of an endpoint update; and of a refused route,
the old version's backends are kept up to date, because that version is what the sidecar goes on with.
"""

from dataclasses import dataclass, field
from enum import Enum

from control_plane.closure import Closures
from sidecar.model.clusters import ServiceKey
from sidecar.model.routes import AnyRoute
from sidecar.model.snapshot import Resource, Snapshot

MAX_WANTS = 4_096  # services that one sidecar may subscribe to
MAX_TOUCHED = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """A push to send: put `resources`, drop `unset`; a wanted service that does not exist is in `unset`."""

    version: int
    resources: tuple[Resource, ...]
    unset: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A NACK: the version of the resource that was refused, and why."""

    version: int
    reason: str


@dataclass(slots=True)
class Flight:
    """A push that was sent and not yet acknowledged."""

    change: Change
    sent_s: float
    nacked: dict[str, str] = field(default_factory=dict)


class Standing(Enum):
    """How a sidecar stands towards a revision."""

    UNCONCERNED = "unconcerned"
    ACKED = "acked"
    WAITING = "waiting"
    REJECTED = "rejected"


@dataclass(slots=True, eq=False)
class Session:
    """One sidecar process's subscription.

    Attributes:
        node: `NAMESPACE/ID`.
        own, version: The service that it stands beside.
        has: Version by name of the resources that it serves from, as far as it acknowledged.
        told_absent: `Service/NS/NAME` of wanted services that it was told do not exist.
        applied: Version of the newest push that it acknowledged.
        synced: Revision up to which nothing is owed.
        touched: Version of the last push that put or dropped a name.
        routes: The routes that it serves from.
    """

    node: str
    instance: str
    own: ServiceKey
    version: str
    wants: set[ServiceKey] = field(default_factory=set)
    has: dict[str, int] = field(default_factory=dict)
    told_absent: set[str] = field(default_factory=set)
    flight: Flight | None = None
    applied: int = 0
    synced: int = -1
    rejected: dict[str, Rejection] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)
    routes: dict[str, AnyRoute] = field(default_factory=dict)
    connected: bool = True

    def plan(self, closures: Closures, now_s: float) -> Change | None:
        """The next push, taken as sent; None when one is in flight or nothing is owed."""
        if self.flight is not None:
            return None
        snapshot = closures.snapshot
        names = self._names(closures)
        put = [snapshot.resources[name] for name in sorted(names) if self._owed(snapshot.resources[name])]
        unset = {name for name in self.has if name not in names} | self._newly_absent(closures)
        for name in [name for name in self.rejected if name not in names]:
            del self.rejected[name]
        if not put and not unset:
            self.synced = snapshot.version
            return None
        change = Change(snapshot.version, tuple(put), tuple(sorted(unset)))
        self.flight = Flight(change, now_s)
        return change

    def ack(self, version: int) -> bool:
        """The push under way is in force, but for what was refused. False: it is not the one under way."""
        flight = self.flight
        if flight is None or flight.change.version != version:
            return False
        self.flight = None
        for resource in flight.change.resources:
            if resource.name in flight.nacked:
                self.rejected[resource.name] = Rejection(resource.version, flight.nacked[resource.name])
            else:
                self._took(resource)
            self._touch(resource.name, version)
        for name in flight.change.unset:
            self.has.pop(name, None)
            self.routes.pop(name, None)
            self._touch(name, version)
        self.applied = self.synced = version
        return True

    def nack(self, version: int, name: str, reason: str) -> bool:
        """Note a refusal; it counts from the push's ACK on. False: no such push under way, or no such name in it."""
        flight = self.flight
        if flight is None or flight.change.version != version:
            return False
        if all(resource.name != name for resource in flight.change.resources):
            return False
        flight.nacked[name] = reason
        return True

    def want(self, services: set[ServiceKey]) -> bool:
        """Subscribe; False, and no change, when that would be above MAX_WANTS."""
        if len(self.wants | services) > MAX_WANTS:
            return False
        self.wants |= services
        # Asked again for what it was told is absent: it wants to hear it again (its own memory of that ends).
        self.told_absent -= {_name(service) for service in services}
        return True

    def unwant(self, services: set[ServiceKey]) -> None:
        """End subscriptions."""
        self.wants -= services
        self.told_absent -= {_name(service) for service in services}

    def standing(self, revision: int, names: frozenset[str] | None, closures: Closures) -> Standing:
        """How this sidecar stands towards what `revision` changed.

        Args:
            names: What it changed; None when that is no longer known: then everybody is concerned.
        """
        if names is not None and not self._concerned(revision, names, closures):
            return Standing.UNCONCERNED
        if not self.connected or self.synced < revision:
            return Standing.WAITING
        refused = self.rejected if names is None else self.rejected.keys() & names
        return Standing.REJECTED if refused else Standing.ACKED

    def forget_unknown(self, snapshot: Snapshot) -> None:
        """The stream is gone. What it says that it has, a new hello will say again; made-up names need not stay."""
        self.has = {name: version for name, version in self.has.items() if name in snapshot.resources}

    def resume(self, former: "Session") -> None:
        """Take over what the same process refused on a connection before."""
        if former.instance == self.instance:
            self.rejected = former.rejected
            self.routes = former.routes
            self.applied = former.applied

    def _names(self, closures: Closures) -> frozenset[str]:
        """What it should have: the closure of its wants, and what refused routes still lead to in their old version."""
        names = closures.of(self.own, self.version, frozenset(self.wants))
        for name in self.rejected.keys() & self.routes.keys() & names:
            names |= closures.led_to(self.routes[name])
        return names

    def _took(self, resource: Resource) -> None:
        self.has[resource.name] = resource.version
        self.rejected.pop(resource.name, None)
        if isinstance(resource.body, AnyRoute):
            self.routes[resource.name] = resource.body

    def _owed(self, resource: Resource) -> bool:
        if self.has.get(resource.name) == resource.version:
            self._took(resource)  # also when it had refused one in between: that one is gone
            return False
        refused = self.rejected.get(resource.name)
        return refused is None or refused.version != resource.version

    def _newly_absent(self, closures: Closures) -> set[str]:
        absent = {name for name in map(_name, self.wants) if name not in closures.snapshot.resources}
        new = absent - self.told_absent
        self.told_absent = absent
        return new

    def _concerned(self, revision: int, names: frozenset[str], closures: Closures) -> bool:
        if not names.isdisjoint(self._names(closures)):
            return True
        return any(self.touched.get(name, -1) >= revision or name in self.has for name in names)

    def _touch(self, name: str, version: int) -> None:
        self.touched.pop(name, None)
        self.touched[name] = version
        while len(self.touched) > MAX_TOUCHED:
            del self.touched[next(iter(self.touched))]


class Debounce:
    """Gathers changes: due `quiet_s` after the last one, at most `most_s` after the first."""

    def __init__(self, quiet_s: float, most_s: float) -> None:
        self._quiet_s = quiet_s
        self._most_s = most_s
        self._first_s: float | None = None
        self._last_s = 0.0

    def changed(self, now_s: float) -> None:
        """Something changed."""
        if self._first_s is None:
            self._first_s = now_s
        self._last_s = now_s

    @property
    def due_s(self) -> float | None:
        """When to act; None with nothing gathered."""
        return None if self._first_s is None else min(self._last_s + self._quiet_s, self._first_s + self._most_s)

    def done(self) -> None:
        """What was gathered is acted upon."""
        self._first_s = None


def _name(service: ServiceKey) -> str:
    return f"Service/{service.namespace}/{service.name}"
