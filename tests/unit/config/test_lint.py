"""Contradictions in a policy; what users read about them is in tests/golden/resources/contradictions.txt."""

import dataclasses

import pytest

from sidecar.config.lint import contradictions
from sidecar.model.policies import (
    DEFAULT_POLICY,
    Ejection,
    Limits,
    Retries,
    SuccessRatio,
    Timeouts,
    TrafficPolicy,
)


def fields(policy: TrafficPolicy, *written: str) -> list[str]:
    return [field for field, _ in contradictions(policy, lambda field: not written or field in written)]


def test_the_products_own_policy_does_not_contradict_itself() -> None:
    assert fields(DEFAULT_POLICY) == []


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (TrafficPolicy(timeouts=Timeouts(per_try_s=4.9)), []),  # three tries, and 25 and 50 ms between them
        (TrafficPolicy(timeouts=Timeouts(per_try_s=4.98)), ["timeouts.perTry"]),
        (TrafficPolicy(timeouts=Timeouts(per_try_s=9.0), retries=Retries(on=frozenset(), attempts=2)),
         ["retries.attempts"]),
        (TrafficPolicy(timeouts=Timeouts(request_s=None, per_try_s=60.0)), []),
        (TrafficPolicy(timeouts=Timeouts(connect_s=1.0, per_try_s=1.0)), ["timeouts.connect"]),
        (TrafficPolicy(ejection=Ejection(gateway_failures=5)), []),
        (TrafficPolicy(ejection=Ejection(gateway_failures=6)), ["ejection.gatewayFailures"]),
        (TrafficPolicy(ejection=Ejection(success=SuccessRatio(at_least_percent=0.0))), ["ejection.success.interval"]),
        (TrafficPolicy(limits=Limits(connections=10, pending=10, requests=10)), []),
        (TrafficPolicy(limits=Limits(connections=11, pending=11, requests=10)),
         ["limits.connections", "limits.pending"]),
    ],
)  # fmt: skip
def test_what_contradicts_is_told_and_what_just_fits_is_not(policy: TrafficPolicy, told: list[str]) -> None:
    assert fields(policy) == told


def test_nobody_is_told_about_a_field_that_they_did_not_write() -> None:
    policy = TrafficPolicy(limits=Limits(requests=10))
    assert fields(policy, "limits.requests") == []
    off = TrafficPolicy(ejection=dataclasses.replace(Ejection(), max_percent=0), retries=Retries(attempts=0))
    assert fields(off, "ejection.maxPercent", "retries.attempts") == []
    assert fields(off, "ejection.base", "retries.on") == ["retries.on", "ejection.base"]
