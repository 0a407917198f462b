"""Who is alive: one lease for each sidecar, renewed by its beats.

Told by push.py what sidecars say, asked by it once a second whose time is over. Pure: `now_s` (monotonic seconds) is an
argument, nothing here waits or writes; registrations themselves are kept in the store by ledger.py.

The guard: many leases that end together are more likely the fault of the network, or of this process, than of all
those services. So from `GUARD_FROM` registered workloads up, when more than `GUARD_RATIO` of them (and more than
`GUARD_FREE`) ended within one period, the rest is *held*: their endpoints stay, and status shows them. A held lease
lives again at its next beat, and ends when no more than that share is missing any longer, or when its Workload is
deleted by hand. Below ten workloads nothing is held: there, a single machine may well carry half of the mesh.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

LEASE_S = 30.0  # three beats of 10 s; Eureka's worst case of four minutes is the anti-example
GUARD_FROM = 10
GUARD_RATIO = 0.15  # Eureka's threshold
GUARD_FREE = 3


@dataclass(slots=True)
class Lease:
    """A node's right to be an endpoint.

    Attributes:
        instance: The process that renews it; "" until one says hello (after a start of the control plane).
        workload: False for a pure caller: nothing is registered, so nothing is guarded.
        held: Its time is over, but the guard keeps it.
    """

    node: str
    instance: str
    ends_s: float
    workload: bool = True
    held: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a look at the clock found: leases that ended now, and those that the guard took hold of now."""

    ended: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class Registry:
    """All leases, by node (`NAMESPACE/ID`). Bounded by its caller, which bounds sessions and registrations."""

    def __init__(self, period_s: float = LEASE_S) -> None:
        self._period_s = period_s
        self._leases: dict[str, Lease] = {}
        self._ended_s: deque[float] = deque()  # when workloads ended within the last period

    def __len__(self) -> int:
        return len(self._leases)

    def restore(self, nodes: Iterable[str], now_s: float) -> None:
        """Give registered workloads a full new period: while this process was away, nobody could renew."""
        for node in nodes:
            self._leases[node] = Lease(node, "", now_s + self._period_s)

    def hello(self, node: str, instance: str, now_s: float, *, workload: bool = True) -> str:
        """Begin or take over the lease; return the other instance that held it, or "". The newest instance wins."""
        lease = self._leases.get(node)
        if lease is None:
            self._leases[node] = Lease(node, instance, now_s + self._period_s, workload)
            return ""
        replaced = lease.instance if lease.instance != instance else ""
        lease.instance, lease.workload = instance, workload
        self._renew(lease, now_s)
        return replaced

    def beat(self, node: str, instance: str, now_s: float) -> bool:
        """Renew; False when the lease is not that instance's (any more)."""
        lease = self._leases.get(node)
        if lease is None or lease.instance != instance:
            return False
        self._renew(lease, now_s)
        return True

    def bye(self, node: str, instance: str) -> bool:
        """End the lease at once; False when it is not that instance's. A clean end is never held."""
        lease = self._leases.get(node)
        if lease is None or lease.instance != instance:
            return False
        del self._leases[node]
        return True

    def drop(self, node: str) -> None:
        """Forget the lease, whoever has it: its Workload was deleted."""
        self._leases.pop(node, None)

    def sweep(self, now_s: float) -> Sweep:
        """End what is over, or hold it. Call it about once a second."""
        while self._ended_s and self._ended_s[0] <= now_s - self._period_s:
            self._ended_s.popleft()
        over = [lease for lease in self._leases.values() if lease.ends_s <= now_s]
        workloads = [lease for lease in over if lease.workload]
        if self._too_many(len(workloads)):
            newly = [lease for lease in workloads if not lease.held]
            for lease in newly:
                lease.held = True
            return self._end([lease for lease in over if not lease.workload], now_s, held=newly)
        return self._end(over, now_s)

    def left_s(self, node: str, now_s: float) -> float | None:
        """Seconds until the lease ends, at least 0; None without one."""
        lease = self._leases.get(node)
        return None if lease is None else max(0.0, lease.ends_s - now_s)

    def instance(self, node: str) -> str:
        """The process that renews the lease; "" for none."""
        lease = self._leases.get(node)
        return "" if lease is None else lease.instance

    def renew_all(self, now_s: float) -> None:
        """Give every lease a full new period: this process stood still, nobody could renew."""
        for lease in self._leases.values():
            self._renew(lease, now_s)

    def has(self, node: str) -> bool:
        """Whether the node has a lease, alive or held."""
        return node in self._leases

    def is_held(self, node: str) -> bool:
        """Whether the guard keeps the node's lease."""
        lease = self._leases.get(node)
        return lease is not None and lease.held

    def held(self) -> tuple[str, ...]:
        """Nodes that the guard keeps, in order."""
        return tuple(sorted(lease.node for lease in self._leases.values() if lease.held))

    def nodes(self) -> tuple[str, ...]:
        """Every node with a lease, in order."""
        return tuple(sorted(self._leases))

    def _renew(self, lease: Lease, now_s: float) -> None:
        lease.ends_s = now_s + self._period_s
        lease.held = False

    def _too_many(self, over: int) -> bool:
        population = len(self._ended_s) + sum(1 for lease in self._leases.values() if lease.workload)
        missing = len(self._ended_s) + over
        return population >= GUARD_FROM and missing > max(GUARD_FREE, GUARD_RATIO * population)

    def _end(self, leases: list[Lease], now_s: float, held: Iterable[Lease] = ()) -> Sweep:
        for lease in leases:
            del self._leases[lease.node]
            if lease.workload:
                self._ended_s.append(now_s)
        return Sweep(tuple(sorted(each.node for each in leases)), tuple(sorted(each.node for each in held)))
