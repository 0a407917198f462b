"""A small scenario with a real sidecar and real endpoints: every fault does what the simulator means by it."""

import pytest

from bench.agree.play import play
from bench.process import BenchError
from sidecar.sim.measures import succeeded
from sidecar.sim.read import read_scenario
from sidecar.sim.scenario import Scenario

TEXT = """
scenario: small
about: An endpoint refuses, one resets, one fails; the fourth is in order.
duration: 2s
services:
  stock:
    endpoints: 4
    latency: {p50: 1ms}
    policy: {retries: {attempts: 6, budget: {percent: 100, minPerSecond: 1000}}, ejection: {maxPercent: 0}}
clients: {web: {calls: stock, rate: 40, instances: 2}}
faults:
  - {kind: crash, whom: [stock-1]}
  - {kind: resets, whom: [stock-2], percent: 100}
  - {kind: errors, whom: [stock-3], percent: 100, status: 502}
"""


def _scenario(text: str) -> Scenario:
    return read_scenario(text, "small.yaml")[0]


@pytest.mark.slow
def test_what_breaks_breaks_and_what_is_tried_again_is_seen() -> None:
    record = play(_scenario(TEXT), seed=1)
    assert len(record.asked) > 40
    assert all(succeeded(each) for each in record.asked)
    assert len(record.requests["stock"]) == len(record.asked)
    assert {each.endpoint for each in record.tried} == {"stock-1", "stock-2", "stock-3", "stock-4"}
    assert {each.endpoint for each in record.tried if each.ok} == {"stock-4"}
    assert {each.caller for each in record.tried} == {"1", "2"}
    assert not record.out


@pytest.mark.slow
def test_an_ejection_is_read_from_the_log() -> None:
    text = TEXT.replace("ejection: {maxPercent: 0}", "ejection: {consecutiveFailures: 1, base: 1m}")
    record = play(_scenario(text), seed=1)
    assert {each.endpoint for each in record.out} <= {"stock-1", "stock-2", "stock-3"}
    assert len(record.out) == 2  # no more than a third of four in each sidecar
    assert all(each.for_s >= 60 for each in record.out)


def test_what_cannot_be_played_is_refused() -> None:
    text = TEXT.replace("kind: crash", "kind: partition")
    with pytest.raises(BenchError, match="partitions are not played"):
        play(_scenario(text), seed=1)
