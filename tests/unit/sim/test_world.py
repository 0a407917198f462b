"""Small worlds whose outcome can be told beforehand."""

import math
from dataclasses import replace
from typing import Any

import pytest

from sidecar.model.policies import Ejection, Limits, Retries, Timeouts, TrafficPolicy
from sidecar.sim.record import Record
from sidecar.sim.scenario import ClientSpec, Fault, Kind, Latency, Scenario, ServiceSpec
from sidecar.sim.world import play

ONCE = TrafficPolicy(retries=Retries(attempts=0), ejection=Ejection(max_percent=0))


def world(
    *faults: Fault, policy: TrafficPolicy = ONCE, endpoints: int = 1, rate_per_s: float = 20.0, **service: Any
) -> Scenario:
    """One service that works 100 ms, and somebody who asks it for ten seconds."""
    spec = ServiceSpec(name="stock", endpoints=endpoints, latency=Latency(0.1, 0.1), policy=policy)
    return Scenario(
        name="small",
        about="",
        seed=1,
        duration_s=10.0,
        network_s=0.01,
        services={"stock": replace(spec, **service)},
        clients={"web": ClientSpec(name="web", calls="stock", rate_per_s=rate_per_s)},
        faults=faults,
    )


def fault(kind: Kind, whom: str = "stock-1", **changes: Any) -> Fault:
    return replace(Fault(kind=kind, whom=(whom,), from_s=0.0, until_s=math.inf), **changes)


def statuses(record: Record) -> set[int]:
    return {asked.status for asked in record.asked}


def test_a_request_takes_the_network_and_the_work_and_the_first_a_dial() -> None:
    record = play(world(rate_per_s=1.0))
    first, *others = sorted(record.asked, key=lambda asked: asked.at_s)
    assert first.took_s == pytest.approx(0.14)
    assert {round(asked.took_s, 6) for asked in others} <= {0.12, 0.14}  # two at once need two connections
    assert min(asked.took_s for asked in others) == pytest.approx(0.12)
    assert statuses(record) == {200}


def test_about_as_many_requests_come_as_the_rate_says() -> None:
    assert len(play(world(rate_per_s=100.0)).asked) == pytest.approx(1000, abs=100)


def test_who_crashes_refuses_and_resets_what_is_under_way() -> None:
    record = play(world(fault(Kind.CRASH, from_s=5.0, until_s=6.0)))
    failed = [asked for asked in record.asked if asked.status != 200]
    assert {asked.status for asked in failed} == {503}
    assert all(4.8 < asked.at_s < 6.0 for asked in failed)
    assert max(asked.took_s for asked in failed) < 0.1 + 0.04


def test_a_fault_that_flaps_is_there_every_other_period() -> None:
    record = play(world(fault(Kind.CRASH, period_s=2.0), rate_per_s=50.0))
    inside = [asked for asked in record.asked if 0.2 < asked.at_s % 2.0 < 1.8]
    assert {(int(asked.at_s / 2.0) % 2, asked.status) for asked in inside} == {(0, 503), (1, 200)}


def test_silence_is_waited_for() -> None:
    policy = replace(ONCE, timeouts=Timeouts(request_s=0.5, connect_s=0.3))
    record = play(world(fault(Kind.PARTITION), policy=policy))
    assert {round(asked.took_s, 6) for asked in record.asked} == {0.3}
    assert statuses(record) == {504}


def test_who_gives_up_leaves_work_behind_that_is_wasted() -> None:
    record = play(world(policy=replace(ONCE, timeouts=Timeouts(request_s=0.05))))
    assert statuses(record) == {504}
    assert record.worked
    assert all(worked.wasted for worked in record.worked)


def test_a_queue_that_is_full_answers_503_at_once() -> None:
    record = play(world(capacity=1, queue=0, rate_per_s=200.0))
    assert statuses(record) == {200, 503}
    assert len(record.worked) == pytest.approx(100, abs=10)  # one after the other, ten seconds long


def test_what_waits_is_worked_on_in_order() -> None:
    record = play(world(capacity=1, queue=1000, rate_per_s=8.0))
    ends = [asked.at_s + asked.took_s for asked in sorted(record.asked, key=lambda asked: asked.at_s)]
    assert statuses(record) == {200}
    assert ends == sorted(ends)


def test_retries_go_to_another_endpoint() -> None:
    record = play(world(fault(Kind.ERRORS), endpoints=2, policy=TrafficPolicy()))
    assert statuses(record) == {200}
    assert {asked.tries for asked in record.asked} == {1, 2}
    assert [out.endpoint for out in record.out] == ["stock-1", "stock-1"]


def test_an_error_has_the_status_that_the_fault_says_and_a_share_of_the_requests() -> None:
    record = play(world(fault(Kind.ERRORS, amount=0.5, status=429), rate_per_s=100.0))
    assert statuses(record) == {200, 429}
    assert sum(asked.status == 429 for asked in record.asked) == pytest.approx(len(record.asked) / 2, rel=0.15)


def test_a_reset_comes_after_the_work() -> None:
    record = play(world(fault(Kind.RESETS)))
    assert statuses(record) == {503}
    assert len(record.worked) == len(record.asked)


def test_limits_answer_what_is_too_much() -> None:
    policy = replace(ONCE, limits=Limits(requests=1))
    record = play(world(policy=policy, rate_per_s=100.0))
    refused = [asked for asked in record.asked if asked.status == 503]
    assert refused
    assert {(asked.took_s, asked.tries) for asked in refused} == {(0.0, 0)}


def test_a_client_may_ask_more_for_a_while() -> None:
    record = play(world(fault(Kind.LOAD, whom="web", amount=10.0, from_s=5.0, until_s=6.0), rate_per_s=50.0))
    usual, more = (sum(at_s <= asked.at_s < at_s + 1 for asked in record.asked) for at_s in (3.0, 5.0))
    assert more > 5 * usual


def test_calls_are_made_one_after_the_other_and_their_failure_is_told() -> None:
    one = world()
    called = replace(one.services["stock"], name="stock", calls=("ledger", "ledger"))
    ledger = ServiceSpec(name="ledger", endpoints=1, latency=Latency(0.2, 0.2), policy=ONCE)
    both = replace(one, services={"stock": called, "ledger": ledger})
    assert sorted(asked.took_s for asked in play(both).asked)[0] == pytest.approx(0.12 + 2 * 0.22)
    broken = replace(both, faults=(fault(Kind.CRASH, whom="ledger-1"),))
    assert statuses(play(broken)) == {503}


def test_what_is_left_of_the_time_goes_with_a_call() -> None:
    policy = replace(ONCE, timeouts=Timeouts(request_s=0.3))
    one = world(policy=policy)
    called = replace(one.services["stock"], calls=("ledger",))
    ledger = ServiceSpec(name="ledger", endpoints=1, latency=Latency(5.0, 5.0), policy=TrafficPolicy())
    record = play(replace(one, services={"stock": called, "ledger": ledger}))
    to_ledger = [tried for tried in record.tried if tried.endpoint == "ledger-1"]
    assert to_ledger
    assert max(tried.took_s for tried in to_ledger) < 0.3


def test_a_variant_meets_the_same_requests() -> None:
    scenario = replace(world(fault(Kind.ERRORS, amount=0.5)), variants={"more": {"stock": TrafficPolicy()}})
    own, more = play(scenario), play(scenario, "more")
    assert sorted(asked.at_s for asked in own.asked) == sorted(asked.at_s for asked in more.asked)
    assert len(more.tried) > len(own.tried)


def test_another_seed_is_another_run() -> None:
    assert play(world()).asked == play(world()).asked
    assert play(world()).asked != play(world(), seed=2).asked


def test_what_nothing_bounds_is_a_request_without_an_answer() -> None:
    policy = replace(ONCE, timeouts=Timeouts(request_s=None))
    record = play(world(fault(Kind.PARTITION, from_s=2.0), policy=policy, rate_per_s=50.0))
    lost = [asked for asked in record.asked if asked.status == 0]
    assert len(lost) == record.unfinished > 0
    assert all(asked.at_s + asked.took_s == pytest.approx(10.0, abs=1.0) for asked in lost)
