"""What tells one series from another: labels as plain values, read from what the proxy tells of a request.

Used by `metrics.py` and `tcp.py`; printed by `families.py`. Values are names from the configuration, verified
identities and members of fixed sets, never a path, a host or an address.
"""

from dataclasses import dataclass

from sidecar.model.clusters import ClusterKey, Endpoint, Mesh, ServiceKey
from sidecar.telemetry.observer import SOURCE, RequestDone

OTHER = "other"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Labels:
    """What tells one series from another. Empty text stands for "not known"; `families.py` prints `unknown`."""

    reporter: str
    service: str = ""  # asked for: orders.shop
    backend: str = ""  # led to: orders-v1.shop:8080
    backend_service: ServiceKey | None = None
    workload: ServiceKey | None = None  # the service whose app took it: orders.shop, even through orders-v1.shop
    workload_version: str = ""
    principal: str = ""
    code: str = "0"
    flags: str = "-"
    grpc_status: str = ""  # "" for what is not gRPC
    tls: bool = False


def labels_of(done: RequestDone) -> Labels:
    cluster = done.cluster
    # Behind the destination's own sidecar there is only its own workload: nothing to tell apart.
    endpoint = done.endpoint if done.reporter == SOURCE else None
    return Labels(
        reporter=done.reporter,
        service=str(done.service) if done.service is not None else "",
        backend=str(cluster) if cluster is not None else "",
        backend_service=cluster.service if cluster is not None else done.service,
        workload=_workload(cluster, endpoint),
        workload_version=endpoint.version if endpoint is not None else "",
        principal=done.principal,
        code=str(done.status),
        flags=done.flags,
        grpc_status=done.grpc_status,
        tls=done.tls,
    )


def _workload(cluster: ClusterKey | None, endpoint: Endpoint | None) -> ServiceKey | None:
    """The service that the endpoint's workload registered: its ServerName says so, `PORT.SERVICE.NAMESPACE.mesh`."""
    if endpoint is None or cluster is None:
        return None
    if isinstance(endpoint.hop, Mesh):
        parts = endpoint.hop.server_name.split(".")
        if len(parts) == 4:
            return ServiceKey(parts[2], parts[1])
    return cluster.service


def overflow(labels: Labels) -> Labels:
    """At most a dozen of these exist: two reporters by six classes of status."""
    hundreds = labels.code[0] + "xx" if len(labels.code) == 3 else "0"
    return Labels(reporter=labels.reporter, service=OTHER, backend=OTHER, code=hundreds, flags=OTHER)


def service_name(service: ServiceKey | None) -> str:
    return str(service) if service is not None else UNKNOWN
