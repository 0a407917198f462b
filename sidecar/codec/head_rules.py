"""Raw head bytes to `RequestHead` or `ResponseHead`, or a refusal. Stands in front of every HTTP/1 codec.

Whatever two readers of the same bytes could understand differently is refused here, before anything is forwarded: a
proxy that guesses is how a request hides in another one (reliability.md section 2 is the table). What passes has one
framing, one host and one meaning. Refuses to repair: nothing invalid is mended and passed on.
"""

from sidecar.codec.grammar import (
    ABSOLUTE,
    AUTHORITY,
    DIGITS,
    FIELDS_MAX_COUNT,
    HEAD_MAX_BYTES,
    PROTOCOL,
    REQUEST,
    RESPONSE,
    TARGET_MAX_BYTES,
    fields_of,
    shown,
    too_early,
    why_no_request,
    why_no_response,
)
from sidecar.codec.target import CANONICAL, canonical_target
from sidecar.codec.websocket import WEBSOCKET, WEBSOCKET_KEY, is_key
from sidecar.errors import (
    BODY_TOO_BIG,
    HEAD_TOO_BIG,
    MALFORMED,
    NOT_IMPLEMENTED,
    TARGET_TOO_LONG,
    UPSTREAM_PROTOCOL,
    VERSION_UNSUPPORTED,
    Fault,
    ProxyError,
)
from sidecar.model.messages import PROTECTED, Fields, Head, RequestHead, ResponseHead, nominated

LENGTH_MAX_DIGITS = 18  # below 2**63 in every reader behind us


def request_head(raw: bytes) -> RequestHead:
    """Read a complete request head, `raw` ending in its empty line.

    The path comes in its canonical form (target.py). An absolute target is taken apart: its authority wins over Host,
    which is rewritten (RFC 9112 section 3.2.2); so does the target of CONNECT. The field Upgrade becomes
    `head.upgrade`, or nothing. An offer of HTTP is removed: HTTP/2 comes by ALPN or prior knowledge only.

    Raises:
        ProxyError: a DPE fault with the status to answer.
    """
    match = REQUEST.fullmatch(raw) if len(raw) <= HEAD_MAX_BYTES else None
    if match is None:
        raise ProxyError(too_early(raw, 0) or why_no_request(raw))
    method, target, version = match.groups()
    if len(target) > TARGET_MAX_BYTES:
        raise ProxyError(
            too_early(raw, 0) or TARGET_TOO_LONG.saying(f"the target is longer than {TARGET_MAX_BYTES} bytes")
        )
    if version not in (b"1.1", b"1.0"):
        raise _refused(VERSION_UNSUPPORTED, f"HTTP/{version.decode()} is not supported; HTTP/1.1 and HTTP/1.0 are")
    head = RequestHead(method, target, b"", fields_of(raw, match.end(3) + 2), version=version)
    if len(head.fields) > FIELDS_MAX_COUNT:
        raise _refused(HEAD_TOO_BIG, f"the head has {len(head.fields)} fields; {FIELDS_MAX_COUNT} are allowed")
    head.authority = _host(head)
    _set_framing(head, version, MALFORMED)
    if head.content_length is None and not head.chunked:
        head.content_length = 0  # a request without framing has no body (RFC 9112 section 6.3)
    if CANONICAL.fullmatch(target) is None or method == b"CONNECT":
        head = _retargeted(head)
    if head.get(b"upgrade") is not None or head.get(b"http2-settings") is not None:
        head = _upgrading(head)
    return head


def response_head(raw: bytes, method: bytes) -> ResponseHead:
    """Read a complete response head, interim ones included, answering a request with `method`.

    Raises:
        ProxyError: UPSTREAM_PROTOCOL.
    """
    match = RESPONSE.fullmatch(raw) if len(raw) <= HEAD_MAX_BYTES else None
    if match is None:
        early = too_early(raw, 0)
        raise _refused(
            UPSTREAM_PROTOCOL, f"the answer was not valid: {early.sentence if early else why_no_response(raw)}"
        )
    version, code, reason = match.groups()
    status = int(code)
    fields = fields_of(raw, raw.index(b"\r\n") + 2)
    head = ResponseHead(status, fields, reason=reason or b"", version=version)
    if len(fields) > FIELDS_MAX_COUNT:
        raise _refused(UPSTREAM_PROTOCOL, f"the answer has {len(fields)} fields; {FIELDS_MAX_COUNT} are allowed")
    _set_framing(head, version, UPSTREAM_PROTOCOL)
    if status < 200 or status == 204:
        if head.chunked or head.content_length:
            raise _refused(UPSTREAM_PROTOCOL, f"an answer with status {status} declares a body; it cannot have one")
        head.content_length = 0
    elif status == 304 or method == b"HEAD":
        head.content_length, head.chunked = 0, False  # the fields describe the body that GET would get
    elif method == b"CONNECT" and status < 300:
        head.content_length, head.chunked = 0, False  # a tunnel begins, whatever they say (RFC 9110 section 9.3.6)
    elif head.content_length is None and not head.chunked:
        head.keep_alive = False  # the body runs until the connection closes
    return head


def _set_framing(head: RequestHead | ResponseHead, version: bytes, blame: Fault) -> None:
    """Fill in length, chunked and keep_alive. `get` joins repeated fields by a comma, which no number contains."""
    length = head.get(b"content-length")
    coding = head.get(b"transfer-encoding")
    head.content_length = None
    if coding is not None:
        _check_coding(head, coding, version, blame, length is not None)
        head.chunked = True
    elif length is not None:
        head.content_length = _length(length, blame)
    connection = head.get(b"connection")
    if connection is None:
        head.keep_alive = version == b"1.1"
        return
    options = nominated(connection)
    if not options.isdisjoint(PROTECTED):
        names = ", ".join(sorted(name.decode("latin-1") for name in options & PROTECTED))
        raise _refused(blame, f"Connection names {names}, which would take it from the message")
    head.keep_alive = b"close" not in options and (version == b"1.1" or b"keep-alive" in options)


def _check_coding(head: Head, coding: bytes, version: bytes, blame: Fault, has_length: bool) -> None:
    if has_length:
        raise _refused(
            blame, "the message has both Content-Length and Transfer-Encoding; only one may say where it ends"
        )
    if version == b"1.0":
        raise _refused(blame, "HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() == b"chunked":
        return
    tokens = [token.strip(b" \t").lower() for token in coding.split(b",")]
    times = sum(name.lower() == b"transfer-encoding" for name, _ in head.fields)
    if times > 1 or b"" in tokens or b"identity" in tokens or b"chunked" in tokens[:-1]:
        raise _refused(blame, f"Transfer-Encoding {shown(coding)} is ambiguous; 'chunked', once, is allowed")
    unknown = NOT_IMPLEMENTED if blame is MALFORMED else blame
    raise _refused(unknown, f"Transfer-Encoding {shown(coding)} is not supported; 'chunked' is")


def _length(value: bytes, blame: Fault) -> int:
    if DIGITS.fullmatch(value) is None:
        raise _refused(blame, f"Content-Length {shown(value)} is not one decimal number")
    if len(value) > LENGTH_MAX_DIGITS:
        too_big = BODY_TOO_BIG if blame is MALFORMED else blame
        raise _refused(too_big, f"Content-Length has {len(value)} digits; {LENGTH_MAX_DIGITS} are allowed")
    return int(value)


def _host(head: RequestHead) -> bytes:
    host = head.get(b"host")
    if host is None:
        if head.version == b"1.1":
            raise _refused(MALFORMED, "the request has no Host header")
        return b""
    return _checked_authority(host, "Host")


def _checked_authority(value: bytes, where: str) -> bytes:
    match = AUTHORITY.fullmatch(value)
    if match is None or int(match[1] or b"0") > 65_535:
        raise _refused(MALFORMED, f"{where} {shown(value)} is not one host, with or without a port")
    return value


def _retargeted(head: RequestHead) -> RequestHead:
    """The head for a target that is not simply a path in canonical form."""
    if head.method == b"CONNECT":
        return _connecting(head)
    if head.target.startswith(b"/"):
        head.target = canonical_target(head.target)
        return head
    if head.target == b"*" and head.method == b"OPTIONS":
        return head
    match = ABSOLUTE.fullmatch(head.target)
    if match is None:
        raise _refused(MALFORMED, f"the target {shown(head.target)} is neither a path nor an http:// address")
    authority = _checked_authority(match[1], "the target's host")
    target: bytes = match[2]
    if head.method == b"OPTIONS" and not target:
        target = b"*"
    else:
        target = canonical_target(target if target.startswith(b"/") else b"/" + target)
    return _copy(head, target, authority, _with_host(head.fields, authority))


def _connecting(head: RequestHead) -> RequestHead:
    """The head of a CONNECT request, whose target is an authority with a port."""
    match = AUTHORITY.fullmatch(head.target)
    if match is None or not 0 < int(match[1] or b"0") <= 65_535:
        raise _refused(MALFORMED, f"the target {shown(head.target)} of CONNECT is not a host and a port")
    if head.has_body:
        raise _refused(MALFORMED, "CONNECT has no body; bytes follow when it was answered with 200")
    return _copy(head, head.target, head.target, _with_host(head.fields, head.target))


def _with_host(fields: Fields, authority: bytes) -> Fields:
    return [(b"Host", authority), *[field for field in fields if field[0].lower() != b"host"]]


def _upgrading(head: RequestHead) -> RequestHead:
    """The head with its Upgrade field read: what is asked for, if anything can be."""
    fields = [field for field in head.fields if field[0].lower() not in (b"upgrade", b"http2-settings")]
    settled = _copy(head, head.target, head.authority, fields)
    settled.upgrade = _upgrade(head)
    if settled.upgrade == WEBSOCKET and not is_key(head.get(WEBSOCKET_KEY) or b""):
        raise _refused(MALFORMED, "the upgrade to websocket needs one Sec-WebSocket-Key, 16 bytes in base64")
    return settled


def _upgrade(head: RequestHead) -> bytes:
    """The protocol to ask for; empty where the field has to be ignored.

    A request with a body never asks: what follows its head would be body to the one and the new protocol to the other.
    Neither does HTTP/1.0 (RFC 9110 section 7.8), CONNECT, or a field that `Connection` does not name.
    """
    if head.version != b"1.1" or head.has_body or head.method == b"CONNECT":
        return b""
    if b"upgrade" not in nominated(head.get(b"connection")):
        return b""
    for part in (head.get(b"upgrade") or b"").split(b","):
        name = part.strip(b" \t").lower()
        if PROTOCOL.fullmatch(name) is None or name in (b"h2c", b"h2") or name.startswith(b"http/"):
            continue  # HTTP inside a tunnel would be HTTP that no rule was asked about
        return name if name != WEBSOCKET or head.method == b"GET" else b""
    return b""


def _copy(head: RequestHead, target: bytes, authority: bytes, fields: Fields) -> RequestHead:
    return RequestHead(head.method, target, authority, fields, content_length=head.content_length, chunked=head.chunked,
                       keep_alive=head.keep_alive, version=head.version, upgrade=head.upgrade)  # fmt: skip


def _refused(fault: Fault, sentence: str) -> ProxyError:
    return ProxyError(fault, sentence)
