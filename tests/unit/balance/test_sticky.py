"""A key stays with its share, shares are the weights, and a change of weights moves only the keys that it must."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from sidecar.balance.sticky import sticky

NAMES = (b"v1.shop:80", b"v2.shop:80", b"v3.shop:80", b"v4.shop:80")
KEYS = [b"user-%d" % number for number in range(20_000)]


def of(key: bytes, weights: Sequence[int]) -> int:
    return sticky(key, NAMES[: len(weights)], [*accumulate(weights)])


def test_the_shares_are_the_weights() -> None:
    for weights in ((90, 10), (1, 1), (70, 20, 10), (1, 0, 1)):
        counts = Counter(of(key, weights) for key in KEYS)
        for index, weight in enumerate(weights):
            wanted = len(KEYS) * weight / sum(weights)
            assert abs(counts[index] - wanted) <= 4 * (wanted * (1 - weight / sum(weights))) ** 0.5  # 4 sigma


def test_a_canary_that_grows_gives_no_key_back() -> None:
    before = [of(key, (90, 10)) for key in KEYS]
    after = [of(key, (80, 20)) for key in KEYS]
    moved = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    assert set(moved) == {(0, 1)}
    assert abs(moved[0, 1] / len(KEYS) - 0.1) < 0.01


def test_a_backend_that_neither_grew_nor_shrank_keeps_its_keys_from_the_one_that_shrank() -> None:
    before = [of(key, (80, 10, 10)) for key in KEYS]
    after = [of(key, (70, 10, 20)) for key in KEYS]
    moved = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    assert {old for old, new in moved if new == 0} == set()
    assert sum(count for (old, new), count in moved.items() if new != 2) < len(KEYS) * 0.02


@given(
    key=st.binary(max_size=40),
    before=st.lists(st.integers(0, 100), min_size=2, max_size=4).filter(any),
    change=st.lists(st.integers(0, 100), min_size=4, max_size=4),
)
def test_a_key_moves_only_to_one_that_grew_in_proportion(key: bytes, before: list[int], change: list[int]) -> None:
    after = change[: len(before)]
    if not any(after):
        return
    old, new = of(key, before), of(key, after)
    assert before[old]
    assert after[new]
    if old != new:
        assert after[new] * before[old] > after[old] * before[new]


@given(st.binary(max_size=40), st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), st.integers(1, 10**6))
def test_only_the_proportions_of_weights_count(key: bytes, weights: list[int], times: int) -> None:
    assert of(key, weights) == of(key, [weight * times for weight in weights])
