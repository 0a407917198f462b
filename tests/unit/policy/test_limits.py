"""A full cluster takes no further request, and connections that began together do not end together."""

import math
from random import Random

import pytest

from sidecar.model.clusters import ClusterKey, ServiceKey
from sidecar.model.live import ClusterLive
from sidecar.model.policies import Limits
from sidecar.policy.limits import admit, lifetime_s


@pytest.mark.parametrize(
    ("in_flight", "pending", "admitted"),
    [(0, 0, True), (9, 0, True), (10, 0, False), (11, 0, False), (5, 3, True), (10, 3, False)],
)
def test_a_request_is_admitted_below_the_limit_whoever_waits(in_flight: int, pending: int, admitted: bool) -> None:
    cluster = ClusterLive(ClusterKey(ServiceKey("shop", "orders"), 8080), in_flight=in_flight, pending=pending)
    assert admit(cluster, Limits(requests=10, pending=0)) is admitted


def test_lifetimes_differ_by_a_tenth_at_most() -> None:
    rng = Random(7)
    made = [lifetime_s(3600.0, rng) for _ in range(1000)]
    assert min(made) >= 3240.0
    assert max(made) <= 3960.0
    assert max(made) - min(made) > 600.0


def test_no_age_is_for_ever() -> None:
    assert lifetime_s(0.0, Random(7)) == math.inf
