"""What the client saw is counted by version and caller, and a split is judged by exact tails."""

import json
import math
from fractions import Fraction

import pytest

from demo.load import Result
from demo.run import split
from demo.watch import KEPT, Watch, binomial_bound

FRONTEND = "spiffe://mesh.local/ns/shop/sa/frontend"


def answered(at_s: float, version: str, latency_s: float = 0.1) -> Result:
    orders = {"service": "orders", "version": version, "caller": FRONTEND}
    body = {"service": "frontend", "version": "", "caller": "", "called": orders}
    return Result(at_s, latency_s, 200, json.dumps(body).encode())


def test_answers_are_counted_by_version_and_caller() -> None:
    watch = Watch()
    for version in ("v1", "v1", "v2"):
        watch.done(answered(1.0, version))
    watch.done(Result(1.0, 0.5, 503, b"not JSON", "503"))

    assert watch.versions == {"v1": 2, "v2": 1}
    assert watch.callers == {"frontend": {"": 3}, "orders": {FRONTEND: 3}}
    assert watch.first_s == 1.1


def test_the_last_seconds_forget_what_is_older() -> None:
    watch = Watch()
    watch.done(Result(0.0, 0.1, 503))
    for tenth in range(100):
        watch.done(answered(20.0 + tenth / 10, "v1", latency_s=0.05))
    recent = watch.recent(30.0)

    assert recent.success == 1.0
    assert recent.rate == pytest.approx(10, rel=0.05)
    assert recent.p50_ms == pytest.approx(50)
    assert recent.versions == {"v1": 100}
    assert watch.recent(100.0).success is None


def test_what_is_kept_is_bounded() -> None:
    watch = Watch()
    for number in range(KEPT + 10):
        watch.done(Result(number / 1e4, 0.0, 0))

    assert len(watch._recent) == KEPT


@pytest.mark.parametrize(("count", "share"), [(2000, 0.1), (2000, 0.9), (100, 0.5), (7, 0.3), (1, 0.5)])
def test_the_bound_leaves_at_most_a_thousandth_outside_and_is_tight(count: int, share: float) -> None:
    part = Fraction(str(share))

    def tail(first: int, last: int) -> Fraction:
        ways = (math.comb(count, hits) * part**hits * (1 - part) ** (count - hits) for hits in range(first, last))
        return sum(ways, Fraction(0))

    low, high = binomial_bound(count, share)

    assert tail(0, low) < 0.0005 <= tail(0, low + 1)
    assert tail(high + 1, count + 1) < 0.0005 <= tail(high, count + 1)


@pytest.mark.parametrize(("share", "bound"), [(0.0, (0, 0)), (1.0, (50, 50))])
def test_a_share_of_nothing_or_all_has_no_slack(share: float, bound: tuple[int, int]) -> None:
    assert binomial_bound(50, share) == bound


def watched(v1: int, v2: int) -> Watch:
    watch = Watch()
    watch.versions.update({"v1": v1, "v2": v2})
    return watch


def test_the_split_is_judged_only_when_one_held_throughout() -> None:
    wanted = {"v1": 0.9, "v2": 0.1}

    assert all("inside the 99.9 % bound" in line for line in split(watched(1805, 195), [wanted]))
    assert all("OUTSIDE" in line for line in split(watched(1000, 1000), [wanted]))
    assert "not judged" in split(watched(1000, 1000), [wanted, {"v1": 0.5, "v2": 0.5}])[0]
    assert split(Watch(), [wanted]) == []
    assert split(watched(1, 1), []) == []
