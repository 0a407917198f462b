"""Everything about HTTP/2 is played with both codecs."""

from tests.support.http2_codecs import http2_served_by, pytest_generate_tests

__all__ = ("http2_served_by", "pytest_generate_tests")
