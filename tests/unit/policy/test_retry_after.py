"""When to ask again, as answers say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.messages import Fields, ResponseHead
from sidecar.policy.retry_after import retry_after_s

NOON = (b"date", b"Tue, 01 Dec 2026 12:00:00 GMT")


def answer(status: int, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, [*fields])


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([(b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"0")], 0.0),
        ([NOON, (b"retry-after", b"Tue, 01 Dec 2026 12:00:07 GMT")], 7.0),
        ([NOON, (b"retry-after", b"Tue, 01 Dec 2026 11:00:00 GMT")], 0.0),
        ([(b"retry-after", b"Tue, 01 Dec 2026 12:00:07 GMT")], None),  # of which clock?
        ([NOON, (b"retry-after", b"Tuesday, 01-Dec-26 12:00:07 GMT")], None),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"1.5")], None),
        ([(b"retry-after", b"9" * 10)], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"soon\xff")], None),
        ([], None),
    ],
)
def test_seconds_and_dates_are_read_and_nothing_else(fields: Fields, seconds: float | None) -> None:
    assert retry_after_s(answer(503, *fields)) == seconds
    assert retry_after_s(answer(429, *fields)) == seconds
    assert retry_after_s(answer(500, *fields)) is None


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_it_says_is_a_time_to_wait_or_nothing(told: bytes, date: bytes) -> None:
    seconds = retry_after_s(answer(503, (b"retry-after", told), (b"date", date)))
    assert seconds is None or seconds >= 0.0
