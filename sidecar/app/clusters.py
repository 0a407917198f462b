"""What `/clusters` and the connection gauges show of a proxy's live state: plain values, read when somebody asks."""

from collections import Counter

from sidecar.balance.balancer import balancer_of
from sidecar.balance.ewma import recent_errors
from sidecar.model.live import NEVER_S, ClusterLive, EndpointLive
from sidecar.model.policies import DEFAULT_POLICY, TrafficPolicy
from sidecar.policy import outlier
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
        "algorithm": policy.balancing.algorithm.value,
        "panic": _panics(worker, cluster, policy),
        "in_flight": cluster.in_flight,
        "pending": cluster.pending,
        "endpoints": [_endpoint(worker, live) for live in cluster.endpoints.values()],
    }


def _panics(worker: Worker, cluster: ClusterLive, policy: TrafficPolicy) -> bool:
    """Whether endpoints are asked that are out, because too few others are left."""
    balancer = balancer_of(cluster, policy.balancing, worker.node.zone)
    members = cluster.present if balancer.members is None else balancer.members(cluster)
    asked = balancer.unless_panic(outlier.passing(members, policy.ejection), members)
    return any(live.ejected_until_s for live in asked)


def _endpoint(worker: Worker, live: EndpointLive) -> dict[str, object]:
    endpoint, now_s = live.endpoint, worker.now()
    asked = live.measured_s != NEVER_S
    return {
        "id": endpoint.id,
        "address": endpoint.address,
        "version": endpoint.version,
        "zone": endpoint.zone,
        "ready": endpoint.ready,
        "leaving": live.leaving,
        "state": outlier.state(live, now_s).value,
        "ejected_for_s": round(max(0.0, live.ejected_until_s - now_s), 3),
        "in_flight": live.in_flight,
        "failures": live.failures,
        "tries": live.tries,
        "failed_tries": live.failed_tries,
        "rtt_ms": round(live.rtt_s * 1e3, 3) if asked else None,  # known where the algorithm is ewma
        "success_percent": round(100.0 * (1.0 - recent_errors(live, now_s)), 1) if asked else None,
        "connections": worker.pool.idle_count(endpoint) + live.in_flight,
    }
