"""From a service's name and port to its compiled routes.

Follows `hosts` and precedes the split, the balancer and the attempts machine; takes no part in them. Tables are
compiled when first asked for (`routing/compile.py`), then only looked up. A push recompiles only tables that were made
from something that it changed.
"""

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.routing.attach import Attachments
from sidecar.routing.compile import compile_table
from sidecar.routing.plan import ClusterPlan, RoutePlan, ServiceTable

__all__ = ["ClusterPlan", "RoutePlan", "Router", "ServiceTable", "compile_service"]

MAX_TABLES = 4096  # services times ports that one sidecar calls; beyond it the oldest table is compiled anew


class Router:
    """The tables of one worker, compiled when first asked for."""

    __slots__ = ("_attachments", "_before", "_tables")

    def __init__(self) -> None:
        self._attachments = Attachments(Snapshot())
        self._tables: dict[ClusterKey, ServiceTable] = {}
        self._before: dict[ClusterKey, ServiceTable] = {}  # of earlier snapshots, not asked for since

    def table(self, snapshot: Snapshot, key: ServiceKey, port: int) -> ServiceTable | None:
        """The table for a port of a service; None when the snapshot does not know the service or the port.

        A None is not remembered, so that names which clients make up take no memory.
        """
        if snapshot is not self._attachments.snapshot:
            self._turn_to(snapshot)
        cluster = ClusterKey(key, port)
        table = self._tables.get(cluster)
        if table is None:
            table = compile_table(self._attachments, cluster, self._before.pop(cluster, None))
            if table is not None:
                if len(self._tables) >= MAX_TABLES:
                    del self._tables[next(iter(self._tables))]
                self._tables[cluster] = table
        return table

    def _turn_to(self, snapshot: Snapshot) -> None:
        """Set all tables aside, to be looked through again when asked for; forget those of services that are gone."""
        self._attachments = Attachments(snapshot, self._attachments)
        earlier = self._before | self._tables
        kept = [cluster for cluster in earlier if snapshot.knows(cluster.service) is Known.FOUND]
        self._before = {cluster: earlier[cluster] for cluster in kept[-MAX_TABLES:]}
        self._tables = {}


def compile_service(
    snapshot: Snapshot, key: ServiceKey, port: int, previous: ServiceTable | None = None
) -> ServiceTable | None:
    """The table for a port of a service; None when the snapshot does not know the service or the port.

    Returns `previous`, the same object, when every resource that it was made from is unchanged. Else plans of equal
    content are taken over from it. `Router` does the same without reading the whole snapshot for each table.
    """
    return compile_table(Attachments(snapshot), ClusterKey(key, port), previous)
