"""What `/clusters` and the connection gauges show of a proxy's live state: plain values, read when somebody asks."""

from collections import Counter

from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.proxy.worker import Worker


def clusters(worker: Worker) -> list[dict[str, object]]:
    """Each cluster with its policy's mode and its endpoints, in order of name."""
    live = worker.live.clusters
    return [_cluster(worker, live[key]) for key in sorted(live)]


def connections(worker: Worker) -> list[tuple[str, str, int]]:
    """(service, `active` or `idle`, how many): a service that has several ports is one row."""
    sums: Counter[tuple[str, str]] = Counter()
    for key, cluster in worker.live.clusters.items():
        idle = sum(worker.pool.idle_count(live.endpoint) for live in cluster.endpoints.values())
        sums[str(key.service), "active"] += worker.pool.in_use(key)
        sums[str(key.service), "idle"] += idle
    return [(service, state, count) for (service, state), count in sorted(sums.items())]


def _cluster(worker: Worker, cluster: ClusterLive) -> dict[str, object]:
    table = worker.router.table(worker.snapshot, *cluster.key)
    plan = table.clusters.get(cluster.key) if table is not None else None
    policy = plan.policy if plan is not None else DEFAULT_POLICY
    return {
        "cluster": str(cluster.key),
        "mode": policy.mode.value,
        "in_flight": cluster.in_flight,
        "pending": cluster.pending,
        "endpoints": [_endpoint(worker, live) for live in cluster.endpoints.values()],
    }


def _endpoint(worker: Worker, live: EndpointLive) -> dict[str, object]:
    endpoint = live.endpoint
    return {
        "id": endpoint.id,
        "address": endpoint.address,
        "version": endpoint.version,
        "ready": endpoint.ready,
        "leaving": live.leaving,
        "ejected_for_s": round(max(0.0, live.ejected_until_s - worker.now()), 3),
        "in_flight": live.in_flight,
        "failures": live.failures,
        "tries": live.tries,
        "failed_tries": live.failed_tries,
        "connections": worker.pool.idle_count(endpoint) + live.in_flight,
    }
