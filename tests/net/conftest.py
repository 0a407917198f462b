"""Everything about HTTP/2 is played with both codecs."""

import pytest

from tests.support.http2_codecs import http2_served_by, pytest_generate_tests

__all__ = ("http2_served_by", "pytest_generate_tests")


@pytest.fixture(autouse=True)
def _served(request: pytest.FixtureRequest) -> None:
    """Set up what a test is parametrized with, though it does not ask for it by name."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "http2_served_by" in callspec.params:
        request.getfixturevalue("http2_served_by")
