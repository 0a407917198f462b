"""A rate is kept, a burst is allowed, keys are apart, and nothing grows without bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.balancing import HashKey, HashOf
from sidecar.model.rates import RateLimit
from sidecar.policy import rates
from sidecar.policy.rates import Buckets, TooMany, decide

TEN = RateLimit(requests=10, interval_s=1.0, burst=5)
EACH = RateLimit(requests=10, interval_s=1.0, burst=1, key=HashKey(HashOf.HEADER, "x-user"))


def ask(*buckets: Buckets, now_s: float = 100.0, path: bytes = b"/", user: bytes | None = None) -> TooMany | None:
    return decide(buckets, path, lambda _: user, now_s)


def test_a_burst_passes_and_what_follows_has_to_wait_for_its_turn() -> None:
    one = Buckets(TEN)
    assert [ask(one) for _ in range(5)] == [None] * 5
    refused = ask(one)
    assert refused == TooMany(TEN, pytest.approx(0.1))  # type: ignore[arg-type]
    assert ask(one, now_s=100.09) is not None
    assert ask(one, now_s=100.1) is None
    assert ask(one, now_s=100.1) is not None


def test_after_a_rest_there_is_a_burst_again_and_no_more() -> None:
    one = Buckets(TEN)
    for now_s in (100.0, 200.0, 200.5):
        passed = sum(ask(one, now_s=now_s) is None for _ in range(20))
        assert passed == 5


def test_keys_have_the_rate_each_and_those_without_share_one() -> None:
    one = Buckets(EACH)
    assert ask(one, user=b"ada") is None
    assert ask(one, user=b"bob") is None
    assert ask(one, user=b"ada") is not None
    assert ask(one) is None
    assert ask(one) is not None


def test_a_request_that_one_limit_refuses_takes_nothing_from_the_others() -> None:
    wide, narrow = Buckets(TEN), Buckets(EACH)
    assert ask(wide, narrow) is None
    assert ask(wide, narrow) == TooMany(EACH, pytest.approx(0.1))  # type: ignore[arg-type]
    assert [ask(wide) for _ in range(5)].count(None) == 4


def test_of_two_that_refuse_the_longer_wait_is_told() -> None:
    slow = RateLimit(requests=1, interval_s=60.0, burst=1)
    first, second = Buckets(TEN), Buckets(slow)
    for _ in range(5):
        ask(first)
    ask(second)
    refused = ask(first, second)
    assert refused is not None
    assert (refused.limit, round(refused.retry_after_s)) == (slow, 60)


@pytest.mark.parametrize(
    ("path", "counts"), [(b"/search", True), (b"/search/x", True), (b"/searching", False), (b"/", False)]
)
def test_a_path_is_whole_segments(path: bytes, counts: bool) -> None:
    one = Buckets(RateLimit(requests=1, interval_s=60.0, burst=1, path="/search"))
    ask(one, path=path)
    assert (ask(one, path=path) is not None) == counts


def test_keys_that_are_made_up_do_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_KEYS", 100)
    one = Buckets(EACH)
    for number in range(1_000):
        assert ask(one, user=b"%d" % number, now_s=100.0) is None
    assert len(one.full_at_s) <= 100
    for number in range(200):
        ask(one, user=b"later %d" % number, now_s=200.0 + number)
    assert len(one.full_at_s) <= 3  # what is full again goes


@given(
    requests=st.integers(1, 100),
    interval_s=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    gaps_s=st.lists(st.floats(0, 2), max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(
    requests: int, interval_s: float, burst: int, gaps_s: list[float]
) -> None:
    one = Buckets(RateLimit(requests=requests, interval_s=interval_s, burst=burst))
    now_s, passed = 100.0, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        refused = ask(one, now_s=now_s)
        if refused is None:
            passed.append(now_s)
        else:
            assert refused.retry_after_s > 0
            assert one.wait_s(b"", now_s + refused.retry_after_s + 1e-6) == 0.0
    for first, since_s in enumerate(passed):
        for count, until_s in enumerate(passed[first:], 1):
            assert count <= burst + (until_s - since_s) * requests / interval_s + 1e-6
