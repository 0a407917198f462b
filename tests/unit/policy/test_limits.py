"""A full cluster takes no further request."""

import pytest

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.model.live import ClusterLive
from sidecar.model.policies import Limits
from sidecar.policy.limits import admit


@pytest.mark.parametrize(
    ("in_flight", "pending", "admitted"),
    [(0, 0, True), (9, 0, True), (10, 0, False), (11, 0, False), (5, 3, True), (10, 3, False)],
)
def test_a_request_is_admitted_below_the_limit_whoever_waits(in_flight: int, pending: int, admitted: bool) -> None:
    cluster = ClusterLive(ClusterKey(ServiceKey("shop", "orders"), 8080), in_flight=in_flight, pending=pending)
    assert admit(cluster, Limits(requests=10, pending=0)) is admitted
