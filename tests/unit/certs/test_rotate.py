"""When certificates are renewed: spread around half of their life, and again soon enough after failures."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from certs import rotate

UNIX_S = st.floats(0, 4e9)
SEEDS = st.integers(0, 2**32)


@given(UNIX_S, st.floats(0, 1e9), SEEDS)
def test_renewal_is_at_half_of_the_life_give_or_take_a_tenth(begins_s: float, life_s: float, seed: int) -> None:
    renew_s = rotate.renew_at_s(begins_s, begins_s + life_s, Random(seed))
    slack_s = 1e-6 * max(1.0, begins_s)
    assert begins_s + 0.45 * life_s - slack_s <= renew_s <= begins_s + 0.55 * life_s + slack_s


def test_renewals_of_one_moment_are_spread() -> None:
    rng = Random(1)
    times_s = sorted(rotate.renew_at_s(0.0, 86_400.0, rng) for _ in range(1000))
    assert times_s[-1] - times_s[0] > 0.95 * 0.1 * 86_400
    assert len(set(times_s)) == 1000


def test_a_certificate_without_a_life_is_renewed_at_once() -> None:
    assert rotate.renew_at_s(100.0, 50.0, Random(1)) == 100.0


@given(st.integers(1, 10**9), st.floats(-1e9, 1e9), SEEDS)
def test_a_retry_is_never_sooner_than_half_a_second_nor_later_than_five_minutes(
    failures: int, left_s: float, seed: int
) -> None:
    assert 0.5 <= rotate.retry_after_s(failures, left_s, Random(seed)) <= rotate.MAX_RETRY_S


@given(st.integers(1, 10**6), st.floats(10, 1e9), SEEDS)
def test_near_the_end_there_is_time_for_ten_more_tries(failures: int, left_s: float, seed: int) -> None:
    assert rotate.retry_after_s(failures, left_s, Random(seed)) * 10 <= left_s * (1 + 1e-9)


def test_retries_back_off_from_a_second_to_five_minutes() -> None:
    rng = Random(1)
    means_s = [sum(rotate.retry_after_s(n, 1e9, rng) for _ in range(200)) / 200 for n in range(1, 13)]
    assert 0.7 < means_s[0] < 0.8
    assert all(later > 1.8 * sooner for sooner, later in pairwise(means_s[:9]))
    assert 210 < means_s[-1] < 240
