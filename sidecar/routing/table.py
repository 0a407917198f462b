"""From a service's name and port to its compiled routes.

Follows `hosts` and precedes the split, the balancer and the attempts machine; takes no part in them. Tables are
compiled when first asked for (`routing/compile.py`), then only looked up. A push recompiles only tables that were made
from something that it changed.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.routing.attach import Attachments
from sidecar.routing.compile import compile_l4_table, compile_table
from sidecar.routing.plan import ClusterPlan, L4Table, RoutePlan, ServiceTable

__all__ = ["ClusterPlan", "L4Table", "RoutePlan", "Router", "ServiceTable", "compile_service"]

MAX_TABLES = 4096  # services times ports that one sidecar calls; beyond it the oldest table is compiled anew

T = TypeVar("T")


class Router:
    """The tables of one worker, compiled when first asked for."""

    __slots__ = ("_attachments", "_l4_tables", "_tables")

    def __init__(self) -> None:
        self._attachments = Attachments(Snapshot())
        self._tables = _Tables(compile_table)
        self._l4_tables = _Tables(compile_l4_table)

    def table(self, snapshot: Snapshot, key: ServiceKey, port: int) -> ServiceTable | None:
        """The table for requests to a port of a service; None when the snapshot does not know the service or the port.

        A None is not remembered, so that names which clients make up take no memory.
        """
        return self._tables.get(self._at(snapshot), ClusterKey(key, port))

    def l4_table(self, snapshot: Snapshot, key: ServiceKey, port: int) -> L4Table | None:
        """The table for connections to a port that are carried unread: its TLSRoutes, else its TCPRoute, else the way
        to the service itself. None as of `table`."""
        return self._l4_tables.get(self._at(snapshot), ClusterKey(key, port))

    def _at(self, snapshot: Snapshot) -> Attachments:
        if snapshot is not self._attachments.snapshot:
            self._attachments = Attachments(snapshot, self._attachments)
            self._tables.turn_to(snapshot)
            self._l4_tables.turn_to(snapshot)
        return self._attachments


class _Tables(Generic[T]):
    """Tables of one sort."""

    __slots__ = ("_before", "_compile", "_now")

    def __init__(self, compile_one: Callable[[Attachments, ClusterKey, T | None], T | None]) -> None:
        self._compile = compile_one
        self._now: dict[ClusterKey, T] = {}
        self._before: dict[ClusterKey, T] = {}  # of earlier snapshots, not asked for since

    def get(self, attachments: Attachments, cluster: ClusterKey) -> T | None:
        table = self._now.get(cluster)
        if table is None:
            table = self._compile(attachments, cluster, self._before.pop(cluster, None))
            if table is not None:
                if len(self._now) >= MAX_TABLES:
                    del self._now[next(iter(self._now))]
                self._now[cluster] = table
        return table

    def turn_to(self, snapshot: Snapshot) -> None:
        """Set all tables aside, to be looked through again when asked for; forget those of services that are gone."""
        earlier = self._before | self._now
        kept = [cluster for cluster in earlier if snapshot.knows(cluster.service) is Known.FOUND]
        self._before = {cluster: earlier[cluster] for cluster in kept[-MAX_TABLES:]}
        self._now = {}


def compile_service(
    snapshot: Snapshot, key: ServiceKey, port: int, previous: ServiceTable | None = None
) -> ServiceTable | None:
    """The table for a port of a service; None when the snapshot does not know the service or the port.

    Returns `previous`, the same object, when every resource that it was made from is unchanged. Else plans of equal
    content are taken over from it. `Router` does the same without reading the whole snapshot for each table.
    """
    return compile_table(Attachments(snapshot), ClusterKey(key, port), previous)
