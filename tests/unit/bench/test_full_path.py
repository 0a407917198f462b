"""What the run with the fast path switched off makes of pytest's words."""

import pytest

from tests.e2e.full_path import figure


def test_the_figure_is_what_pytest_counted() -> None:
    said = "....\n1234 passed, 2 skipped in 301.20s (0:05:01)\n"
    assert figure(said, 0) == "1,234 tests passed with the fast path switched off"


@pytest.mark.parametrize(
    ("said", "status"),
    [("1 failed, 9 passed in 3.00s\n", 1), ("no tests ran in 0.01s\n", 5), ("", 0), ("9 passed in 3.00s\n", 1)],
)
def test_anything_else_is_a_failure(said: str, status: int) -> None:
    with pytest.raises(AssertionError):
        figure(said, status)
