"""Tell from a connection's first bytes what its client speaks: HTTP/1, HTTP/2, TLS, or something else.

Asked by `proxy/detect.py` on ports whose protocol is not declared, again and again while bytes come in. Answers on the
fewest bytes that are certain and never changes its mind: `G` is not yet HTTP, `GET /` is. Looks at LOOK_BYTES at most,
once, from the left.

What would be refused as HTTP is called HTTP here all the same (two spaces, an empty line in front), so that the strict
parser refuses it, instead of a lenient server behind us reading what no rule has seen. A method alone does not make it
HTTP: SMTP's `EHLO x` and NATS' `CONNECT {` look alike, so the target's beginning decides too.
"""

import re
from enum import StrEnum

LOOK_BYTES = 64  # the longest certain beginning, `OPTIONS` after several empty lines, is far below
METHOD_MAX_BYTES = 24  # the longest registered one has 17 (IANA: UPDATEREDIRECTREF)


class Sniffed(StrEnum):
    """What a client speaks; the values are labels of metrics."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TLS = "tls"
    OPAQUE = "opaque"


_PREFACE = b"PRI * HTTP/2.0"  # RFC 9113 section 3.4, as far as it is text
_NOT_HTTP = re.compile(rb"[^A-Z0-9_-]")  # what no method in use has; lower case is memcached's `get`
_HOST = re.compile(rb"[A-Za-z0-9\[]")
# A record of type handshake, of a version 3.x, with 1 to 16384 bytes, of which the first says ClientHello.
_TLS_HANDSHAKE, _TLS_MAJOR, _TLS_MINOR_MAX, _CLIENT_HELLO = 0x16, 3, 4, 1
_RECORD_MAX_BYTES = 16_384


def classify(data: bytes) -> Sniffed | None:
    """What `data`, the beginning of a connection, is the beginning of; None while that depends on what follows."""
    data = data[:LOOK_BYTES]
    if data[:1] == bytes((_TLS_HANDSHAKE,)):
        return _tls(data)
    text = data.lstrip(b"\r\n")  # a server ignores an empty line before a request (RFC 9112 section 2.2)
    kind = _http(text)
    return Sniffed.OPAQUE if kind is None and len(data) == LOOK_BYTES else kind


def _tls(data: bytes) -> Sniffed | None:
    if len(data) > 1 and data[1] != _TLS_MAJOR:
        return Sniffed.OPAQUE
    if len(data) > 2 and data[2] > _TLS_MINOR_MAX:
        return Sniffed.OPAQUE
    if len(data) > 4 and not 0 < int.from_bytes(data[3:5], "big") <= _RECORD_MAX_BYTES:
        return Sniffed.OPAQUE
    if len(data) < 6:
        return None
    return Sniffed.TLS if data[5] == _CLIENT_HELLO else Sniffed.OPAQUE


def _http(text: bytes) -> Sniffed | None:
    method, space, rest = text.partition(b" ")
    if _NOT_HTTP.search(method) or len(method) > METHOD_MAX_BYTES or (space and not method):
        return Sniffed.OPAQUE
    target = rest.lstrip(b" \t")
    if not target:
        return None
    if method == b"PRI" and target[:1] == b"*":
        return _whole(text, _PREFACE, Sniffed.HTTP2)
    if target[:1] == b"/":
        return Sniffed.HTTP1
    if target[:1] == b"*":
        # RTSP and others have this form too.
        return _whole(target, b"* HTTP/", Sniffed.HTTP1)
    if method == b"CONNECT":
        return Sniffed.HTTP1 if _HOST.match(target) else Sniffed.OPAQUE  # not NATS' `CONNECT {`
    lower = target.lower()
    return _whole(lower, b"https://" if lower[:5] == b"https" else b"http://", Sniffed.HTTP1)


def _whole(have: bytes, want: bytes, kind: Sniffed) -> Sniffed | None:
    """`kind` once all of `want` is there, None while only its beginning is."""
    if have.startswith(want):
        return kind
    return None if want.startswith(have) else Sniffed.OPAQUE
