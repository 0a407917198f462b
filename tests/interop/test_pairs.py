"""The selection of cases: every pair that can be, no case that cannot, and the same in every run."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.interop import cases, pairs


@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_every_pair_of_any_candidate_is_in_the_selection(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    axes = [[f"{axis}{number}" for number in range(size)] for axis, size in enumerate(sizes)]
    candidates = pairs.possible(axes, lambda _: "no" if rng.random() < 0.3 else "")
    chosen = pairs.select(candidates)
    assert set(chosen) <= set(candidates)
    assert len(set(chosen)) == len(chosen)
    wanted = {part for candidate in candidates for part in pairs.parts(candidate, 2)}
    assert {part for case in chosen for part in pairs.parts(case, 2)} == wanted
    assert pairs.select(candidates) == chosen


def test_triples_fill_up() -> None:
    axes = [["a", "b"], ["c", "d"], ["e", "f"]]
    everything = pairs.possible(axes, lambda _: "")
    assert len(pairs.select(everything)) == 4
    assert sorted(pairs.select(everything, at_least=100)) == everything


def test_every_choice_has_a_case() -> None:
    chosen = pairs.select(pairs.possible(cases.AXES, cases.why_not))
    for number, axis in enumerate(cases.AXES):
        assert {case[number] for case in chosen} == set(axis)


def test_the_reasons_are_used() -> None:
    # A reason that excludes nothing by itself is out of date.
    for (upstream, version, feature), why in cases.NOT_AT.items():
        clients = [
            (c, t)
            for c in cases.AXES[0]
            for t in cases.TRANSPORTS
            if cases.TRANSPORTS[t].upstream == version or not version
        ]
        assert any(cases.why_not((client, way, upstream, feature)) == why for client, way in clients), why
    for (client, feature), why in cases.NOT_WITH.items():
        ways = [(t, u) for t in cases.TRANSPORTS for u in cases.AXES[2]]
        assert any(cases.why_not((client, way, upstream, feature)) == why for way, upstream in ways), why
