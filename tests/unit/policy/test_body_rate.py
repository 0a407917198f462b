"""A body has to keep coming: neither silence nor a trickle holds a connection for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.body_rate import MinRate


def cut_after_s(rate: MinRate, size_bytes: int, every_s: float, at_most_s: float = 3600.0) -> float | None:
    """When a body of `size_bytes` every `every_s` seconds is cut; None when it never is."""
    now_s = 0.0
    while now_s < at_most_s:
        if rate.left_s < every_s:
            return now_s + rate.left_s
        now_s += every_s
        rate.came(size_bytes, every_s)
    return None


@pytest.mark.parametrize(
    ("size_bytes", "every_s", "cut_s"),
    [
        (1, 31.0, 30.0),  # silence
        (1, 29.0, 30.0),  # one byte now and then
        (1, 1.0, 30.0),
        (512, 1.0, 59.5),  # half of the rate
        (1024, 1.0, None),
        (20_000, 19.0, None),
        (1 << 20, 29.0, None),
        (1 << 20, 31.0, 30.0),
    ],
)
def test_what_is_too_slow_is_cut_after_the_grace(size_bytes: int, every_s: float, cut_s: float | None) -> None:
    assert cut_after_s(MinRate(1024, 30.0), size_bytes, every_s) == (pytest.approx(cut_s, abs=1.0) if cut_s else None)


def test_a_fast_beginning_buys_no_more_than_the_grace() -> None:
    rate = MinRate(1024, 30.0)
    rate.came(1 << 30, 0.001)
    assert rate.left_s == 30.0
    assert cut_after_s(rate, 1, 1.0) == pytest.approx(30.0, abs=0.1)


def test_time_that_nobody_waited_for_the_client_does_not_count() -> None:
    rate = MinRate(1024, 30.0)
    for _ in range(1000):
        rate.came(1, 0.0)
    assert rate.left_s == 30.0


def test_without_a_rate_only_silence_is_too_slow() -> None:
    assert cut_after_s(MinRate(0, 30.0), 1, 29.0) is None
    assert cut_after_s(MinRate(0, 30.0), 1, 31.0) == 30.0


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 100)), max_size=50), st.integers(0, 1 << 20))
def test_what_is_left_stays_between_nothing_and_the_grace(story: list[tuple[int, float]], bytes_per_s: int) -> None:
    rate = MinRate(bytes_per_s, 30.0)
    for size, waited_s in story:
        rate.came(size, waited_s)
        assert 0.0 <= rate.left_s <= 30.0
