"""The attempts machine with plain values: what it returns, in order, for every way a try can end."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.balance.balancer import balancer_of
from sidecar.errors import (
    CONNECT_FAILED,
    NO_IDENTITY,
    OVERFLOW,
    QUEUE_TIMEOUT,
    UPSTREAM_CUT_OFF,
    UPSTREAM_PROTOCOL,
    UPSTREAM_REFUSED,
    UPSTREAM_RESET,
    Fault,
)
from sidecar.model.clusters import ClusterKey, Endpoint, ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.policies import (
    DEFAULT_POLICY,
    BudgetPolicy,
    Ejection,
    Limits,
    Retries,
    RetryOn,
    Timeouts,
    TrafficPolicy,
)
from sidecar.policy import attempts
from sidecar.policy.attempts import Answer, Exchange, Step, Try, Wait
from sidecar.policy.grpc import RESOURCE_EXHAUSTED
from sidecar.policy.retry import CUT_OFF_MAX, Failure, GiveUp

KEY = ClusterKey(ServiceKey("shop", "orders"), 8080)
RESET = Failure(UPSTREAM_RESET, None, False)
REFUSED = Failure(CONNECT_FAILED, None, True)


class Machine:
    """One cluster and its exchanges, on a clock of its own."""

    def __init__(self, names: Sequence[str] = ("a", "b", "c"), policy: TrafficPolicy = DEFAULT_POLICY) -> None:
        self.live = LiveRegistry()
        self.endpoints = tuple(Endpoint(id=name, service_port=8080, host=name, port=1) for name in names)
        self.policy = policy
        self.rng = Random(7)
        self.now_s = 100.0

    def start(self, method: bytes = b"GET", *, key: bool = False, ends_in_s: float | None = 15.0) -> Exchange:
        cluster = self.live.cluster(KEY)
        return attempts.start(
            cluster,
            self.endpoints,
            True,
            self.policy,
            balancer_of(cluster, self.policy.balancing, ""),
            method=method,
            idempotency_key=key,
            per_try_s=None,
            ends_at_s=None if ends_in_s is None else self.now_s + ends_in_s,
            now_s=self.now_s,
        )

    def next(self, exchange: Exchange) -> Step:
        return attempts.next_step(exchange, self.now_s, self.rng)

    def tell(self, exchange: Exchange, result: Failure | None) -> None:
        attempts.outcome(exchange, result, self.now_s, self.rng)

    def play(self, exchange: Exchange, results: Sequence[Failure | None]) -> tuple[list[str], Answer]:
        """Let tries end as told until the machine answers; endpoints tried, and the answer."""
        tried = []
        left = list(results)
        while True:
            step = self.next(exchange)
            if isinstance(step, Try):
                tried.append(step.endpoint.id)
                self.tell(exchange, left.pop(0))
            elif isinstance(step, Wait):
                assert 0.0 < step.delay_s <= 0.25
                self.now_s += step.delay_s
            else:
                return tried, step


def test_a_first_success_is_forwarded() -> None:
    machine = Machine()
    exchange = machine.start()
    tried, answer = machine.play(exchange, [None])

    assert len(tried) == 1
    assert answer == Answer(None, None)
    attempts.finish(exchange)


def test_the_endpoint_stays_busy_until_finish_and_is_given_back_once() -> None:
    machine = Machine(["a"])
    exchange = machine.start()
    machine.play(exchange, [None])
    cluster = machine.live.cluster(KEY)
    assert (cluster.in_flight, cluster.endpoints["a"].in_flight) == (1, 1)
    attempts.finish(exchange)
    attempts.finish(exchange)

    assert (cluster.in_flight, cluster.endpoints["a"].in_flight) == (0, 0)


def test_every_try_goes_somewhere_new_while_it_can() -> None:
    machine = Machine()
    tried, answer = machine.play(machine.start(), [RESET, RESET, RESET])

    assert sorted(tried) == ["a", "b", "c"]
    assert answer == Answer(UPSTREAM_RESET, GiveUp.ATTEMPTS)


def test_with_two_endpoints_a_third_try_does_not_repeat_the_last() -> None:
    tried, _ = Machine(["a", "b"]).play(Machine(["a", "b"]).start(), [RESET, RESET, RESET])
    assert tried[0] != tried[1] != tried[2]


@pytest.mark.parametrize(("failure", "second"), [(REFUSED, "a"), (Failure(None, 503, True), "a"), (RESET, "b")])
def test_an_ejected_endpoint_is_asked_rather_than_one_that_takes_nothing(failure: Failure, second: str) -> None:
    machine = Machine(["a", "b"])
    exchange = machine.start()
    machine.live.cluster(KEY).endpoints["a"].ejected_until_s = machine.now_s + 60.0
    machine.live.cluster(KEY).somebody_out = True
    tried, answer = machine.play(exchange, [failure, None])
    assert (tried, answer.fault) == (["b", second], None)
    assert (machine.live.cluster(KEY).endpoints["a"].ejected_until_s == 0.0) == (second == "a")


def test_a_single_endpoint_is_tried_again() -> None:
    machine = Machine(["a"])
    tried, answer = machine.play(machine.start(), [RESET, None])
    assert (tried, answer.fault) == (["a", "a"], None)


@pytest.mark.parametrize(("key", "tries"), [(False, 1), (True, 2)])
def test_a_post_that_may_have_been_taken_needs_an_idempotency_key(key: bool, tries: int) -> None:
    machine = Machine()
    tried, answer = machine.play(machine.start(b"POST", key=key), [RESET, None])

    assert len(tried) == tries
    assert answer.denied is (None if key else GiveUp.METHOD)


@pytest.mark.parametrize("failure", [REFUSED, Failure(UPSTREAM_REFUSED, None, True), Failure(None, 503, True)])
def test_an_untouched_post_goes_elsewhere_at_once(failure: Failure) -> None:
    machine = Machine()
    exchange = machine.start(b"POST")
    assert isinstance(machine.next(exchange), Try)
    machine.tell(exchange, failure)
    assert isinstance(machine.next(exchange), Try)


def test_a_503_is_tried_again_and_forwarded_when_tries_are_used_up() -> None:
    machine = Machine()
    busy = Failure(None, 503, False)
    exchange = machine.start()
    tried, answer = machine.play(exchange, [busy, busy, busy])

    assert len(tried) == 3
    assert answer == Answer(None, GiveUp.ATTEMPTS)
    assert exchange.current is not None, "its answer is still to be forwarded"
    attempts.finish(exchange)
    assert all(live.in_flight == 0 for live in machine.live.cluster(KEY).endpoints.values())


def test_a_500_counts_against_the_endpoint_and_is_forwarded() -> None:
    machine = Machine()
    exchange = machine.start()
    tried, answer = machine.play(exchange, [Failure(None, 500, False)])

    assert answer == Answer(None, None)
    assert machine.live.cluster(KEY).endpoints[tried[0]].failures == 1


def test_a_body_that_is_gone_is_not_sent_again() -> None:
    machine = Machine()
    exchange = machine.start()
    machine.next(exchange)
    exchange.replayable = False
    machine.tell(exchange, RESET)

    assert machine.next(exchange) == Answer(UPSTREAM_RESET, GiveUp.BODY_TOO_BIG)


def test_no_try_begins_after_the_deadline() -> None:
    machine = Machine()
    exchange = machine.start(ends_in_s=1.0)
    machine.next(exchange)
    machine.now_s += 1.0
    machine.tell(exchange, RESET)
    step = machine.next(exchange)

    assert isinstance(step, Answer)
    assert step.denied is GiveUp.DEADLINE


def test_a_request_whose_time_is_over_is_answered_504() -> None:
    machine = Machine()
    exchange = machine.start(ends_in_s=0.0)
    step = machine.next(exchange)

    assert isinstance(step, Answer)
    assert step.fault is not None
    assert (step.fault.flag, step.fault.status) == ("UT", 504)


def test_a_try_has_its_own_end_within_the_request() -> None:
    machine = Machine(policy=TrafficPolicy(timeouts=Timeouts(per_try_s=3.0)))
    early, late = machine.next(machine.start(ends_in_s=15.0)), machine.next(machine.start(ends_in_s=1.0))

    assert isinstance(early, Try)
    assert isinstance(late, Try)
    assert (early.until_s, late.until_s) == (103.0, 101.0)


@pytest.mark.parametrize("names", [[], ["a"]])
def test_no_endpoint_is_uh(names: list[str]) -> None:
    machine = Machine(names)
    machine.endpoints = tuple(Endpoint(id=name, service_port=8080, host=name, port=1, ready=False) for name in names)
    step = machine.next(machine.start())

    assert isinstance(step, Answer)
    assert step.fault is not None
    assert (step.fault.flag, step.fault.status) == ("UH", 503)


def test_a_full_cluster_refuses_without_counting() -> None:
    machine = Machine(policy=TrafficPolicy(limits=Limits(requests=1)))
    first, second = machine.start(), machine.start()
    step = machine.next(second)

    assert isinstance(step, Answer)
    assert step.fault is not None
    assert step.fault.flag == "UO"
    attempts.finish(second)
    assert machine.live.cluster(KEY).in_flight == 1
    attempts.finish(first)


@pytest.mark.parametrize(
    "refused",
    [
        Failure(None, 429, False, named=True),
        Failure(None, None, False, grpc_status=RESOURCE_EXHAUSTED),
    ],
)
def test_who_says_that_it_is_asked_too_much_is_asked_less_and_not_blamed(refused: Failure) -> None:
    machine = Machine(["a"])
    exchange = machine.start()
    machine.next(exchange)
    machine.tell(exchange, refused)
    (live,) = machine.live.cluster(KEY).endpoints.values()
    assert (live.failures, live.failed_tries) == (0, 0)
    assert live.error_share == pytest.approx(0.1)
    attempts.finish(exchange)


def test_a_route_to_an_unknown_service_is_answered_500() -> None:
    machine = Machine()
    cluster = machine.live.cluster(KEY)
    exchange = attempts.start(
        cluster, (), False, DEFAULT_POLICY, balancer_of(cluster, DEFAULT_POLICY.balancing, ""),
        method=b"GET", idempotency_key=False, per_try_s=None, ends_at_s=None, now_s=0.0,
    )  # fmt: skip
    step = machine.next(exchange)

    assert isinstance(step, Answer)
    assert step.fault is not None
    assert (step.fault.flag, step.fault.status) == ("NC", 500)


def test_a_failing_endpoint_is_ejected_and_told() -> None:
    machine = Machine(policy=TrafficPolicy(ejection=Ejection(consecutive_failures=1), retries=Retries(attempts=0)))
    exchange = machine.start()
    tried, _ = machine.play(exchange, [RESET])

    assert exchange.ejected is not None
    assert exchange.ejected.endpoint == tried[0]
    others = {machine.play(machine.start(), [None])[0][0] for _ in range(30)}
    assert others == {"a", "b", "c"} - set(tried)


@pytest.mark.parametrize("fault", [OVERFLOW, QUEUE_TIMEOUT, NO_IDENTITY])
def test_our_own_limits_eject_nobody(fault: Fault) -> None:
    machine = Machine(policy=TrafficPolicy(ejection=Ejection(consecutive_failures=1), retries=Retries(attempts=0)))
    for _ in range(5):
        exchange = machine.start()
        machine.play(exchange, [Failure(fault, None, True)])
        assert exchange.ejected is None
        attempts.finish(exchange)


def answered_grpc(status: int) -> Failure:
    return Failure(None, 200, False, status)


def test_what_an_answer_of_grpc_says_of_its_endpoint_is_in_its_trailers() -> None:
    machine = Machine(policy=TrafficPolicy(ejection=Ejection(consecutive_failures=2)))
    ejected = []
    for _ in range(12):
        exchange = machine.start(b"POST")
        step = machine.next(exchange)
        assert isinstance(step, Try)
        attempts.outcome(exchange, None, machine.now_s, machine.rng, judged=False)  # a head, and no word of success
        assert machine.next(exchange) == Answer(None, None)
        attempts.ended(exchange, answered_grpc(13) if step.endpoint.id == "a" else None, machine.now_s, machine.rng)
        ejected += [exchange.ejected.endpoint] if exchange.ejected is not None else []
        attempts.finish(exchange)

    assert ejected == ["a"]
    endpoints = machine.live.cluster(KEY).endpoints
    assert (endpoints["a"].failed_tries, endpoints["b"].failed_tries) == (2, 0)


def test_a_call_whose_end_nobody_saw_says_nothing_of_its_endpoint() -> None:
    machine = Machine(["a"])
    exchange = machine.start(b"POST")
    machine.next(exchange)
    only = machine.live.cluster(KEY).endpoints["a"]
    only.failures = 3
    attempts.outcome(exchange, None, machine.now_s, machine.rng, judged=False)
    attempts.finish(exchange)
    attempts.ended(exchange, None, machine.now_s, machine.rng)  # too late: the endpoint is given back

    assert only.failures == 3


@pytest.mark.parametrize("status", [1, 8])
def test_a_quota_or_a_cancelled_call_may_be_tried_elsewhere_and_ejects_nobody(status: int) -> None:
    on = frozenset({RetryOn.GRPC_CANCELLED, RetryOn.GRPC_RESOURCE_EXHAUSTED})
    policy = TrafficPolicy(retries=Retries(on=on), ejection=Ejection(consecutive_failures=1))
    machine = Machine(policy=policy)
    exchange = machine.start(b"POST")
    tried, answer = machine.play(exchange, [answered_grpc(status), None])

    assert (len(set(tried)), answer, exchange.ejected) == (2, Answer(None, None), None)


def test_a_status_that_the_policy_does_not_name_is_forwarded_and_counts_against_the_endpoint() -> None:
    machine = Machine(policy=TrafficPolicy(ejection=Ejection(consecutive_failures=1)))
    exchange = machine.start(b"POST")
    tried, answer = machine.play(exchange, [answered_grpc(2)])

    assert (len(tried), answer) == (1, Answer(None, None))
    assert exchange.ejected is not None


def test_a_call_that_failed_everywhere_brings_the_last_answer() -> None:
    machine = Machine(policy=TrafficPolicy(retries=Retries(on=frozenset({RetryOn.GRPC_UNAVAILABLE}))))
    exchange = machine.start(b"POST")
    tried, answer = machine.play(exchange, [answered_grpc(14)] * 3)

    assert (len(tried), answer) == (3, Answer(None, GiveUp.ATTEMPTS))
    assert exchange.current is not None  # its answer is being forwarded


def test_retries_stay_within_the_budget() -> None:
    machine = Machine(policy=TrafficPolicy(ejection=Ejection(max_percent=0)))
    retries = 0
    for _ in range(1000):
        exchange = machine.start()
        tried, _ = machine.play(exchange, [RESET, RESET, RESET])
        retries += len(tried) - 1
        attempts.finish(exchange)
        machine.now_s += 0.01

    assert retries <= 1000 * 0.2 + 3 * 20


NO_BUDGET = TrafficPolicy(retries=Retries(attempts=5, budget=BudgetPolicy(percent=0, min_per_second=0)))
UNREAD = Failure(UPSTREAM_REFUSED, None, True)
CUT_OFF = Failure(UPSTREAM_CUT_OFF, None, True)


@pytest.mark.parametrize("failures", [[UNREAD], [CUT_OFF], [CUT_OFF] * CUT_OFF_MAX, [UNREAD, *[CUT_OFF] * CUT_OFF_MAX]])
def test_what_was_not_read_is_sent_again_though_nothing_of_the_budget_is_left(failures: list[Failure]) -> None:
    machine = Machine(["a"], NO_BUDGET)
    for _ in range(100):
        assert machine.play(machine.start(b"POST"), [*failures, None])[1] == Answer(None, None)


def test_a_request_is_spared_the_budget_once_for_refusals_and_a_few_times_for_goaways() -> None:
    machine = Machine(policy=NO_BUDGET)
    assert machine.play(machine.start(), [UNREAD, UNREAD])[1] == Answer(UPSTREAM_REFUSED, GiveUp.BUDGET)
    assert machine.play(machine.start(), [UNREAD, RESET])[1] == Answer(UPSTREAM_RESET, GiveUp.BUDGET)
    assert machine.play(machine.start(), [CUT_OFF, UNREAD, RESET])[1] == Answer(UPSTREAM_RESET, GiveUp.BUDGET)
    too_many = [CUT_OFF] * (CUT_OFF_MAX + 1)
    assert machine.play(machine.start(), too_many)[1] == Answer(UPSTREAM_CUT_OFF, GiveUp.BUDGET)


def test_goaways_leave_a_request_all_its_tries() -> None:
    machine = Machine(["a"])
    tried, answer = machine.play(machine.start(), [CUT_OFF, CUT_OFF, RESET, CUT_OFF, RESET, RESET])
    assert (len(tried), answer) == (6, Answer(UPSTREAM_RESET, GiveUp.ATTEMPTS))


def test_a_goaway_says_nothing_about_its_endpoint() -> None:
    machine = Machine(["a", "b"], TrafficPolicy(ejection=Ejection(consecutive_failures=2)))
    lives = machine.live.cluster(KEY).endpoints
    for _ in range(20):
        machine.play(machine.start(), [CUT_OFF, CUT_OFF, None])
        assert [live.ejected_until_s for live in lives.values()] == [0.0, 0.0]
    lives["a"].failures = lives["b"].failures = 1
    machine.play(machine.start(), [CUT_OFF, CUT_OFF, CUT_OFF, UNREAD, None])
    assert sum(live.ejected_until_s > 0.0 for live in lives.values()) == 1  # a refusal does


def test_dials_that_failed_are_not_spared_it() -> None:
    machine = Machine(policy=NO_BUDGET)
    assert machine.play(machine.start(), [REFUSED])[1] == Answer(CONNECT_FAILED, GiveUp.BUDGET)


RESULTS = st.sampled_from(
    [None, RESET, REFUSED, Failure(None, 503, False), Failure(None, 503, True), Failure(None, 500, False),
     Failure(UPSTREAM_PROTOCOL, None, False), UNREAD, CUT_OFF]
)  # fmt: skip


@given(
    results=st.lists(RESULTS, min_size=12, max_size=12),
    names=st.lists(st.sampled_from("abcd"), unique=True, max_size=4),
    method=st.sampled_from([b"GET", b"POST", b"PUT"]),
    key=st.booleans(),
    extra=st.integers(0, 5),
)
def test_whatever_happens_it_ends_and_gives_everything_back(
    results: list[Failure | None], names: list[str], method: bytes, key: bool, extra: int
) -> None:
    machine = Machine(names, TrafficPolicy(retries=Retries(attempts=extra)))
    exchange = machine.start(method, key=key)
    tried, answer = machine.play(exchange, results)
    attempts.finish(exchange)
    cluster = machine.live.cluster(KEY)

    cut_off = min(CUT_OFF_MAX, results[: len(tried)].count(CUT_OFF))
    assert len(tried) <= extra + 1 + (extra > 0 and cut_off + (UNREAD in results[: len(tried)]))
    assert all(one != other for one, other in pairwise(tried)) or len(names) == 1
    assert cluster.in_flight == 0
    assert all(live.in_flight == 0 for live in cluster.endpoints.values())
    assert (answer.fault is None) == (
        bool(tried) and (results[len(tried) - 1] is None or not _is_fault(results, tried))
    )
    for number, result in enumerate(results[: max(0, len(tried) - 1)]):
        assert result is not None
        assert result.untouched or method != b"POST" or key, f"try {number} of a POST was repeated"


def _is_fault(results: list[Failure | None], tried: list[str]) -> bool:
    last = results[len(tried) - 1]
    return last is not None and last.fault is not None
