"""What an answer says of when to ask again: `Retry-After` (RFC 9110 section 10.2.3).

Read by whoever judges an answer; what is made of it is for `retry.py`. A date is compared with the answer's own `Date`,
so that no clock is asked and a server's wrong one does no harm.
"""

from datetime import UTC, datetime

from sidecar.model.messages import ResponseHead

STATUSES = frozenset((429, 503))  # where it says when to ask again; elsewhere it means something else, or nothing
_MAX_DIGITS = 9
_FORMAT = "%a, %d %b %Y %H:%M:%S GMT"  # IMF-fixdate, the only form that is still written (section 5.6.7)


def retry_after_s(head: ResponseHead) -> float | None:
    """Seconds to wait, from when the answer came; None when it says nothing that can be understood."""
    if head.status not in STATUSES:
        return None
    told = head.get(b"retry-after")
    if told is None:
        return None
    if told.isdigit():
        return float(told) if len(told) <= _MAX_DIGITS else None
    when, now = _date(told), _date(head.get(b"date"))
    return max(0.0, (when - now).total_seconds()) if when is not None and now is not None else None


def _date(text: bytes | None) -> datetime | None:
    try:
        return datetime.strptime((text or b"").decode("ascii"), _FORMAT).replace(tzinfo=UTC)
    except ValueError:  # UnicodeDecodeError is one
        return None
