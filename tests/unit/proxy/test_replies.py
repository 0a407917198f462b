"""Answers that the sidecar makes itself."""

from sidecar import errors
from sidecar.proxy.replies import reply


def test_who_is_to_come_back_later_is_told_when() -> None:
    head, _ = reply(errors.RATE_LIMITED.after(0.2))
    assert head.get(b"retry-after") == b"1"  # whole seconds, and never too early
    head, _ = reply(errors.RATE_LIMITED)
    assert head.get(b"retry-after") is None
