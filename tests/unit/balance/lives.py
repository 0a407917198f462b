"""Live endpoints for tests of balancing."""

from collections.abc import Sequence

from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import ClusterLive, EndpointLive

KEY = ClusterKey(ServiceKey("shop", "orders"), 8080)


def endpoint(
    name: str, weight: int = 1, zone: str = "", version: str = "", ready: bool = True, **labels: str
) -> Endpoint:
    return Endpoint(
        id=name, service_port=8080, host="127.0.0.1", port=9000, weight=weight, zone=zone, version=version, ready=ready,
        labels=labels,
    )  # fmt: skip


def cluster(*endpoints: Endpoint) -> tuple[ClusterLive, Sequence[EndpointLive]]:
    made = ClusterLive(KEY)
    return made, made.current(endpoints)


def names(lives: Sequence[EndpointLive]) -> list[str]:
    return [live.endpoint.id for live in lives]
