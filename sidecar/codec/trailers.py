"""Which fields may come after a body.

Used by both directions of every codec. Whoever merges trailers into the head (RFC 9110 section 6.5.1 lets many do so)
must not be fooled about what the proxy checked there: where the message ends, who sent it, to whom, what it asks for.
"""

from collections.abc import Iterable

from sidecar.model.messages import HOP_BY_HOP, PROTECTED, Fields

_HEAD_ONLY = frozenset(
    (
        *HOP_BY_HOP,
        *PROTECTED,
        b"trailer",  # announces what it would stand among
        # Routing and what proxies tell about a client
        *(b"forwarded", b"via", b"x-real-ip", b"x-request-id", b"tracestate", b"b3"),
        # Who asks, and with what right
        *(b"proxy-authorization", b"proxy-authenticate", b"www-authenticate", b"cookie", b"set-cookie"),
        # What is asked for: controls and conditions
        *(b"cache-control", b"expect", b"max-forwards", b"pragma", b"range", b"idempotency-key", b"grpc-timeout"),
        *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
        # What is answered, and how to read it
        *(b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning"),
        *(b"content-encoding", b"content-range", b"content-type"),
    )
)
_HEAD_ONLY_PREFIXES = (b"x-forwarded-", b"x-mesh-")


def allowed_trailers(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Those of `fields` that cannot be mistaken for a part of the head."""
    return [field for field in fields if _is_allowed(field[0].lower().replace(b"_", b"-"))]  # CGI reads `_` as `-`


def _is_allowed(name: bytes) -> bool:
    return name not in _HEAD_ONLY and not name.startswith(_HEAD_ONLY_PREFIXES)
