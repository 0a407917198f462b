"""What the admin endpoints show of the running process: answers from memory, plain values, never a secret."""

from collections import Counter
from typing import TYPE_CHECKING

import trio

from sidecar import __version__
from sidecar.model.bootstrap import LogWhen
from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.telemetry.facts import Facts
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from sidecar.app.holder import Holder


class View:
    """`AdminView` over a `Holder`."""

    def __init__(self, holder: "Holder") -> None:
        self._holder = holder

    @property
    def metrics(self) -> Metrics:
        """See `AdminView`."""
        return self._holder.metrics

    def now_s(self) -> float:
        """See `AdminView`."""
        return trio.current_time()

    def live(self) -> bool:
        """The reactor's task is a child of the process's nursery: as long as somebody answers, it runs."""
        return True

    def ready(self) -> list[str]:
        """See `AdminView`."""
        return self._holder.not_ready()

    def facts(self) -> Facts:
        """See `AdminView`."""
        holder = self._holder
        contexts = holder.data_plane.contexts
        exporter = holder.exporter
        return Facts(
            version=__version__,
            config_version=holder.source.snapshot.version,
            config_age_s=holder.source.age_s(),
            config_rejected=holder.source.rejected_total(),
            cert_not_after_s=contexts.identity.not_after_s if contexts is not None else None,
            log_dropped=holder.log_writer.dropped,
            spans_exported=exporter.exported if exporter is not None else 0,
            spans_dropped=exporter.dropped if exporter is not None else 0,
            upstream_connections=self._connections(),
        )

    def config(self) -> dict[str, object]:
        """See `AdminView`."""
        holder = self._holder
        node, contexts = holder.bootstrap.node, holder.data_plane.contexts
        snapshot = holder.source.snapshot
        return {
            "software": __version__,
            "node": {
                "service": node.service,
                "namespace": node.namespace,
                "version": node.version,
                "id": node.id,
                "account": node.account,
                "zone": node.zone,
                "labels": dict(node.labels),
            },
            "listeners": [{"name": name, "address": address} for name, address in holder.listening],
            "source": holder.source.describe(),
            "version": snapshot.version,
            "age_s": round(holder.source.age_s(), 3),
            "resources": [
                {"name": name, "version": snapshot.resources[name].version} for name in sorted(snapshot.resources)
            ],
            "rejected": holder.source.rejections(),
            "cert": None
            if contexts is None
            else {"spiffe_id": contexts.identity.spiffe_id, "not_after": contexts.identity.not_after_s},
            "draining": holder.draining,
        }

    def clusters(self) -> list[dict[str, object]]:
        """See `AdminView`."""
        live = self._holder.data_plane.worker.live
        return [self._cluster(live.clusters[key]) for key in sorted(live.clusters)]

    def log_requests(self, when: LogWhen) -> None:
        """See `AdminView`."""
        self._holder.access_log.when = when

    def drain(self) -> None:
        """See `AdminView`."""
        self._holder.end(delay=True)

    def quit(self) -> None:
        """See `AdminView`."""
        self._holder.end(delay=False)

    def _cluster(self, cluster: ClusterLive) -> dict[str, object]:
        worker = self._holder.data_plane.worker
        table = worker.router.table(worker.snapshot, *cluster.key)
        plan = table.clusters.get(cluster.key) if table is not None else None
        policy = plan.policy if plan is not None else DEFAULT_POLICY
        endpoints = [self._endpoint(live, trio.current_time()) for live in cluster.endpoints.values()]
        return {
            "cluster": str(cluster.key),
            "mode": policy.mode.value,
            "in_flight": cluster.in_flight,
            "pending": cluster.pending,
            "endpoints": endpoints,
        }

    def _endpoint(self, live: EndpointLive, now_s: float) -> dict[str, object]:
        endpoint = live.endpoint
        return {
            "id": endpoint.id,
            "address": endpoint.address,
            "version": endpoint.version,
            "ready": endpoint.ready,
            "leaving": live.leaving,
            "ejected_for_s": round(max(0.0, live.ejected_until_s - now_s), 3),
            "in_flight": live.in_flight,
            "failures": live.failures,
            "tries": live.tries,
            "failed_tries": live.failed_tries,
            "connections": self._holder.data_plane.worker.pool.idle_count(endpoint) + live.in_flight,
        }

    def _connections(self) -> list[tuple[str, str, int]]:
        """Sums by service: one that has several ports is one row."""
        worker = self._holder.data_plane.worker
        sums: Counter[tuple[str, str]] = Counter()
        for key, cluster in worker.live.clusters.items():
            idle = sum(worker.pool.idle_count(live.endpoint) for live in cluster.endpoints.values())
            sums[str(key.service), "active"] += worker.pool.in_use(key)
            sums[str(key.service), "idle"] += idle
        return [(service, state, count) for (service, state), count in sorted(sums.items())]
