"""The machine and its policies under random faults: the rules hold, and each planted mistake is found by them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sidecar.model.live import EndpointLive
from sidecar.model.policies import Retries
from sidecar.policy import attempts, budget, deadline, limits, outlier, retry
from sidecar.policy.retry import Failure
from tests.sim import schedules
from tests.sim.schedules import BrokenError, play

SCHEDULES = 200  # `make prove` plays ten thousand
WITHIN = 1_000  # seeds until a mistake has to be found


def test_every_rule_holds() -> None:
    counts = [len(play(seed).asked) for seed in range(SCHEDULES)]
    assert sum(counts) / len(counts) >= 500


def test_the_same_seed_is_the_same_run() -> None:
    for seed in range(10):
        first, second = play(seed), play(seed)
        assert first.tried == second.tried
        assert first.asked == second.asked
        assert first.out == second.out


def _of(function: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its result given to `change`, and its arguments."""

    def changed(*args: Any, **words: Any) -> Any:
        return change(function(*args, **words), *args, **words)

    return changed


def _more_attempts(*args: Any, policy: Retries, attempt: int, **words: Any) -> object:
    return _worth(*args, policy=policy, attempt=min(attempt, 1), **words)


def _half_the_wait(failure: Failure, **words: Any) -> object:
    wait_s = (failure.retry_after_s or 0.0) / 2
    return _worth(replace(failure, retry_after_s=wait_s), **words)


_worth = retry.worth_another_try


def _all_ready(endpoints: Sequence[EndpointLive], *_: object) -> Sequence[EndpointLive]:
    return [each for each in endpoints if each.endpoint.ready]


_probe_due, _too_few_succeed = outlier.probe_due, outlier._too_few_succeed


MISTAKES: dict[str, tuple[object, str, object]] = {
    "budget: always there": (budget, "take_retry", lambda *_: True),
    "budget: every request counts twice": (
        budget,
        "note_request",
        _of(budget.note_request, lambda _, live, *__: live.slots[-1].__setitem__(1, live.slots[-1][1] + 1)),
    ),
    "retry: a POST is safe": (retry, "IDEMPOTENT_METHODS", retry.IDEMPOTENT_METHODS | {b"POST"}),
    "retry: attempts are not counted": (retry, "worth_another_try", _more_attempts),
    "retry: Retry-After is not read": (
        retry,
        "worth_another_try",
        lambda failure, **words: _worth(replace(failure, retry_after_s=None), **words),
    ),
    "retry: half of Retry-After is enough": (retry, "worth_another_try", _half_the_wait),
    "outlier: nobody is out": (outlier, "passing", _all_ready),
    "outlier: everybody asks whether it is back": (outlier, "begin_probe", lambda *_: 0.0),
    "outlier: one asks before its time": (
        outlier,
        "probe_due",
        lambda endpoints, policy, now_s: _probe_due(endpoints, policy, now_s + 0.1),
    ),
    "outlier: all come back together": (outlier, "JITTER_RATIO", 0.0),
    "outlier: a failure of many is too many": (
        outlier,
        "_too_few_succeed",
        lambda live, policy, now_s: _too_few_succeed(live, policy, now_s) or live.failed_tries >= 3,
    ),
    "outlier: the window never ends": (
        outlier,
        "_too_few_succeed",
        lambda live, policy, _: _too_few_succeed(live, policy, 0.0),
    ),
    "outlier: everybody may be ejected": (outlier, "_may_eject", lambda *_: True),
    "limits: none": (limits, "admit", lambda *_: True),
    "limits: one more": (limits, "admit", lambda cluster, policy: cluster.in_flight <= policy.requests),
    "deadline: twice as long": (
        deadline,
        "ends_at",
        _of(deadline.ends_at, lambda end_s, _, __, now_s, **___: None if end_s is None else 2 * end_s - now_s),
    ),
    "deadline: a try goes on": (
        deadline,
        "try_limit_s",
        _of(deadline.try_limit_s, lambda end_s, *_: None if end_s is None else end_s + 1.0),
    ),
    "attempts: tried ones again": (attempts, "_not_last", lambda passing, _last: passing),
    "attempts: the cluster's count is kept": (attempts, "finish", lambda _: None),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, wrong = MISTAKES[name]
    monkeypatch.setattr(module, attribute, wrong)
    with pytest.raises(BrokenError):
        _play_many()


def _play_many() -> None:
    for seed in range(WITHIN):
        schedules.play(seed)
