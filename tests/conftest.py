"""What holds for every test: the `needs` marker, and hypothesis without chance and without a clock."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support import needs

# The same examples in every run: a failure is a fact about the code, never about the draw. No deadline, because two
# shared cores make time a matter of luck. More examples on purpose: HYPOTHESIS_EXAMPLES=5000 pytest ...
settings.register_profile(
    "mesh",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mesh")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under CI fail, what lacks its system tools."""
    needs.enforce(item, ci=needs.under_ci())
