"""Which tries meet a fault that somebody asked for."""

from random import Random

import pytest

from sidecar.errors import INJECTED, UPSTREAM_RESET
from sidecar.model.clusters import ServiceKey
from sidecar.model.faults import InjectedFault
from sidecar.model.messages import RequestHead
from sidecar.policy.faults import Injection, injection
from sidecar.policy.retry import Failure, conditions

CALLER = ServiceKey("shop", "frontend")
ABORT = InjectedFault(status=503)


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/", b"orders", [(b"host", b"orders"), *fields])


def meets(
    *faults: InjectedFault, fields: tuple[tuple[bytes, bytes], ...] = (), attempt: int = 1, caller: ServiceKey = CALLER
) -> Injection | None:
    return injection(faults, head(*fields), caller, attempt, Random(1))


def test_what_is_asked_for_is_what_happens() -> None:
    assert meets() is None
    assert meets(ABORT) == Injection(0.0, INJECTED)
    assert meets(InjectedFault(status=418)) == Injection(0.0, INJECTED.answering(418))
    assert meets(InjectedFault(delay_s=0.2)) == Injection(0.2, None)
    reset = meets(InjectedFault(reset=True))
    assert reset is not None
    assert reset.fault is not None
    assert reset.fault.flag == UPSTREAM_RESET.flag


def test_delays_add_up_and_the_first_answer_counts() -> None:
    faults = (InjectedFault(delay_s=0.2, status=500), InjectedFault(delay_s=0.1, status=503))
    assert meets(*faults) == Injection(pytest.approx(0.3), INJECTED.answering(500))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (InjectedFault(status=503, tries=1), [True, False, False]),
        (InjectedFault(status=503, tries=2), [True, True, False]),
        (InjectedFault(status=503), [True, True, True]),
    ],
)
def test_only_the_first_tries_of_a_request(fault: InjectedFault, hit: list[bool]) -> None:
    assert [meets(fault, attempt=number) is not None for number in (1, 2, 3)] == hit


def test_only_requests_with_all_the_fields() -> None:
    fault = InjectedFault(status=503, headers=(("x-test", "1"), ("x-any", None)))
    assert meets(fault) is None
    assert meets(fault, fields=((b"x-test", b"1"),)) is None
    assert meets(fault, fields=((b"x-test", b"2"), (b"x-any", b""))) is None
    assert meets(fault, fields=((b"x-test", b"1"), (b"x-any", b"whatever"))) is not None


def test_only_some_callers() -> None:
    fault = InjectedFault(status=503, callers=frozenset({CALLER}))
    assert meets(fault) is not None
    assert meets(fault, caller=ServiceKey("shop", "other")) is None


def test_a_share_is_a_share() -> None:
    rng, fault = Random(7), InjectedFault(status=503, percent=10.0)
    hit = sum(injection((fault,), head(), CALLER, 1, rng) is not None for _ in range(10_000))
    assert abs(hit - 1_000) <= 3.29 * (10_000 * 0.1 * 0.9) ** 0.5
    assert not any(injection((InjectedFault(status=503, percent=0.0),), head(), CALLER, 1, rng) for _ in range(1_000))


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503, 504])
def test_an_injected_answer_is_tried_again_like_a_real_one(status: int) -> None:
    injected = Failure(INJECTED.answering(status), status, False)
    assert conditions(injected) == conditions(Failure(None, status, False))
