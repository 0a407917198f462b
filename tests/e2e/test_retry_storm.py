"""A little of the storms that `make prove` plays: the budget bounds the load, and nothing is done twice."""

from pathlib import Path

import pytest

from tests.storm.run import rush, storm
from tests.storm.upstream import Fate

BOTH_PATHS = pytest.mark.parametrize("fast_path", [True, False], ids=["fast-path", "full-path"])


@BOTH_PATHS
@pytest.mark.parametrize("fate", [Fate.FAILED, Fate.RESET_LATE], ids=lambda fate: str(fate.value))
def test_a_service_that_fails_gets_little_more_than_the_requests(tmp_path: Path, fate: Fate, fast_path: bool) -> None:
    came = storm(tmp_path, fate, fast_path=fast_path, per_s=100, seconds=2)
    assert came.sent == 200
    # The budget's own words: a fifth of the requests, and three for each of its ten seconds, which may come at once.
    assert came.sent < came.reached <= 1.2 * came.sent + 3 * 10


@BOTH_PATHS
def test_what_may_not_be_repeated_reaches_the_service_once(tmp_path: Path, fast_path: bool) -> None:
    came = rush(tmp_path, fast_path=fast_path, requests=1000, seed=1)
    assert came.doubled == []
    assert came.reached > 950
    assert came.repeated > 20
    assert 600 < came.good < 1000  # all but the last few of 200, and six of ten of the others
