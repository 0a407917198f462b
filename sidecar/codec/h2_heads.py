"""Header lists of HTTP/2 to `RequestHead` or `ResponseHead`, and back: head_rules.py in HTTP/2's words.

Between HPACK and h2_server.py / h2_client.py. What two readers could understand differently is refused (RFC 9113
section 8.1.1: malformed, and more than that): a body's length, the host, the path, anything that would be a second
field, or a second message, when it is written as HTTP/1.1 on the next hop. Fields are counted as they were received,
before any are joined or left out. Refuses to repair.
"""

import re
from collections.abc import Iterable, Set

from sidecar.codec.grammar import (
    AUTHORITY,
    DIGITS,
    FIELDS_MAX_COUNT,
    HEAD_MAX_BYTES,
    METHOD_MAX_BYTES,
    TARGET_MAX_BYTES,
    TOKEN,
    VALUE,
    shown,
)
from sidecar.codec.hpack_lean.learning import SECRET
from sidecar.codec.target import canonical_target
from sidecar.codec.trailers import allowed_trailers
from sidecar.errors import HEAD_TOO_BIG, MALFORMED, TARGET_TOO_LONG, UPSTREAM_PROTOCOL, Fault, ProxyError
from sidecar.model.messages import Fields, NeverIndexed, RequestHead, ResponseHead

FIELD_OVERHEAD_BYTES = 32  # what RFC 9113 section 6.5.2 adds for each field
LENGTH_MAX_DIGITS = 18  # as head_rules.py: below 2**63 in every reader behind us

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]++")  # a token in lower case
# Fields that connect two hops of HTTP/1 (RFC 9113 section 8.2.2): malformed when received, never written.
_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
# Never written from `fields`: what connects hops, and what this module writes itself.
_OURS = _CONNECTION | {b"http2-settings", b"host", b"te", b"content-length"}
# Of no use to RFC 8441, where the stream itself proves that both sides mean it.
_HANDSHAKE = frozenset((b"sec-websocket-key", b"sec-websocket-accept"))

_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_RESPONSE_PSEUDO = frozenset((b":status",))
_NO_PSEUDO: frozenset[bytes] = frozenset()
_SCHEMES = frozenset((b"http", b"https"))
_STATUS = re.compile(rb"[1-5][0-9][0-9]")

# What is known of names that came before: those of a client come again and again in the same order, whatever their
# values are. When a table is full it begins anew, because names may be a peer's inventions.
_SHAPES_MAX, _SHAPE_MAX_FIELDS, _SHAPE_MAX_BYTES = 256, 32, 1024
_NAMES_MAX, _NAME_MAX_BYTES = 1024, 64
_spellings: dict[bytes, tuple[bytes, int]] = {}  # of names to be written: in lower case, and what is done with them
_NOTICED = frozenset((b"host", b"content-length", b"cookie", b"te"))  # they have rules of their own
_WRITE, _HIDE, _OMIT, _OMIT_IN_TUNNEL, _IMPOSSIBLE = range(5)

# Values are looked at all at once, one a line: NUL for what none may have, a space for white space.
_SORTS = bytes(
    0x0A if byte == 0x0A else 0x20 if byte in b" \t" else 0 if byte < 0x20 or byte == 0x7F else 0x78
    for byte in range(256)
)


def _spelling(name: bytes) -> tuple[bytes, int]:
    """How a name is written, and whether at all."""
    lower = name.lower()
    if lower in _OURS:
        act = _OMIT
    elif lower in _HANDSHAKE:
        act = _OMIT_IN_TUNNEL
    elif _NAME.fullmatch(lower) is None:
        return lower, _IMPOSSIBLE
    else:
        act = _HIDE if lower in SECRET else _WRITE
    found = lower, act
    if len(name) <= _NAME_MAX_BYTES:
        if len(_spellings) >= _NAMES_MAX:
            _spellings.clear()
        _spellings[name] = found
    return found


def _all_fit(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """True: no value has a control character, or white space at an end. False: one may have."""
    values = [field[1] for field in fields]
    lines = b"\n".join(values).translate(_SORTS)
    return (
        b"\0" not in lines
        and b" \n" not in lines
        and b"\n " not in lines
        and lines[:1] != b" "
        and lines[-1:] != b" "
        and (not values or lines.count(b"\n") == len(values) - 1)
    )


_shapes: dict[frozenset[bytes], dict[tuple[bytes, ...], "_Shape"]] = {
    _REQUEST_PSEUDO: {},
    _RESPONSE_PSEUDO: {},
    _NO_PSEUDO: {},
}


def request_head(received: Fields, *, ended: bool, size_bytes: int | None = None) -> RequestHead:
    """Read a request's header list; `ended`: no body follows. `size_bytes`: of the list, where that is known.

    Raises:
        ProxyError: a DPE fault.
    """
    pseudo, fields, noted = _sorted_out(received, _REQUEST_PSEUDO, MALFORMED, size_bytes)
    method = pseudo.get(b":method", b"")
    if TOKEN.fullmatch(method) is None or len(method) > METHOD_MAX_BYTES:
        raise ProxyError(MALFORMED, f":method {shown(method)} is not a method")
    authority, fields = _authority(pseudo.get(b":authority"), fields, noted)
    protocol = pseudo.get(b":protocol")
    if method == b"CONNECT":
        return _tunnel_head(pseudo, protocol, authority, fields, noted)
    if protocol is not None:
        raise ProxyError(MALFORMED, f":protocol is for CONNECT, and the method is {shown(method)}")
    target = _target(pseudo, method)
    length = _length(fields, noted, MALFORMED)
    if ended:
        if length:
            raise ProxyError(MALFORMED, f"the request announces {length} body bytes and ends with its head")
        length = 0
    return RequestHead(method, target, authority, _cookies_joined(fields, noted), content_length=length, version=b"2")


def _tunnel_head(
    pseudo: dict[bytes, bytes], protocol: bytes | None, authority: bytes, fields: Fields, noted: Set[bytes]
) -> RequestHead:
    if _length(fields, noted, MALFORMED):
        raise ProxyError(MALFORMED, "CONNECT announces a body; what comes after it are the tunnel's bytes")
    fields = _cookies_joined(fields, noted)
    if protocol is not None:  # RFC 8441
        if TOKEN.fullmatch(protocol) is None:
            raise ProxyError(MALFORMED, f":protocol {shown(protocol)} is not a token")
        target = _target(pseudo, b"GET")
        return RequestHead(b"GET", target, authority, fields, version=b"2", upgrade=protocol.lower())
    if b":scheme" in pseudo or b":path" in pseudo:
        raise ProxyError(MALFORMED, "CONNECT has :scheme or :path; it names a host and a port only")
    match = AUTHORITY.fullmatch(authority)
    if match is None or not match[1]:
        raise ProxyError(MALFORMED, f"CONNECT names no port: {shown(authority)}")
    return RequestHead(b"CONNECT", authority, authority, fields, version=b"2")


def _target(pseudo: dict[bytes, bytes], method: bytes) -> bytes:
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    if scheme not in _SCHEMES:
        raise ProxyError(MALFORMED, f":scheme {shown(scheme)} is not http or https")
    if len(path) > TARGET_MAX_BYTES:
        raise ProxyError(TARGET_TOO_LONG, f":path is longer than {TARGET_MAX_BYTES} bytes")
    if path == b"*" and method == b"OPTIONS":
        return path
    return canonical_target(path)


def _authority(authority: bytes | None, fields: Fields, noted: Set[bytes]) -> tuple[bytes, Fields]:
    """The host asked for, and the fields without Host, which must not say anything else."""
    if b"host" in noted:
        hosts = [value for name, value in fields if name == b"host"]
        fields = [field for field in fields if field[0] != b"host"]
        if len(hosts) > 1:
            raise ProxyError(MALFORMED, "the request has more than one host field")
        if authority is None:
            authority = hosts[0]
        elif hosts[0].lower() != authority.lower():
            raise ProxyError(MALFORMED, f"host {shown(hosts[0])} is not :authority {shown(authority)}")
    if authority is None:
        raise ProxyError(MALFORMED, "the request has neither :authority nor host")
    match = AUTHORITY.fullmatch(authority)
    if match is None or int(match[1] or b"0") > 65_535:
        raise ProxyError(MALFORMED, f":authority {shown(authority)} is not one host, with or without a port")
    return authority, fields


def response_head(received: Fields, method: bytes, *, ended: bool, size_bytes: int | None = None) -> ResponseHead:
    """Read a response's header list, interim ones included, answering a request with `method`.

    Raises:
        ProxyError: UPSTREAM_PROTOCOL.
    """
    pseudo, fields, noted = _sorted_out(received, _RESPONSE_PSEUDO, UPSTREAM_PROTOCOL, size_bytes)
    code = pseudo.get(b":status", b"")
    if _STATUS.fullmatch(code) is None or code == b"101":
        raise ProxyError(UPSTREAM_PROTOCOL, f"the answer was not valid: :status {shown(code)}")
    status = int(code)
    if status < 200 and ended:
        raise ProxyError(UPSTREAM_PROTOCOL, f"the answer ended with an interim head, status {status}")
    length = _length(fields, noted, UPSTREAM_PROTOCOL)
    if status < 200 or status == 204:
        if length:
            raise ProxyError(UPSTREAM_PROTOCOL, f"an answer with status {status} declares a body; it cannot have one")
        length = 0
    elif status == 304 or method == b"HEAD":
        length = 0  # the fields describe the body that GET would get
    elif ended:
        if length:
            raise ProxyError(UPSTREAM_PROTOCOL, f"the answer announces {length} body bytes and ends with its head")
        length = 0
    return ResponseHead(status, fields, content_length=length, version=b"2")


def trailers(received: Fields, blame: Fault) -> Fields:
    """Read what came after a body; what may stand in a head only is left out. Raises ProxyError, `blame`."""
    _, fields, _ = _sorted_out(received, _NO_PSEUDO, blame)
    return allowed_trailers(fields)


class _Shape:
    """What the names of a whole header list say, when each of them is good and in its place.

    Attributes:
        pseudo: Of pseudo-header fields: name, and where it stands.
        start: Where the others begin.
        noted: Which of `_NOTICED` are among these.
    """

    __slots__ = ("noted", "pseudo", "start")

    def __init__(self, names: tuple[bytes, ...], start: int) -> None:
        self.pseudo = tuple((name, at) for at, name in enumerate(names[:start]))
        self.start = start
        self.noted = _NOTICED.intersection(names)


def _sorted_out(
    received: Fields, allowed: frozenset[bytes], blame: Fault, size_bytes: int | None = None
) -> tuple[dict[bytes, bytes], Fields, Set[bytes]]:
    """Pseudo-header fields, and the others, each of them checked by itself; which of `_NOTICED` are among these."""
    _check_size(received, list_bytes(received) if size_bytes is None else size_bytes, blame)
    names = tuple([field[0] for field in received])
    shape = _shapes[allowed].get(names)
    if shape is None or not _all_fit(received):
        return _looked_at(received, names, allowed, blame)
    pseudo = {name: received[at][1] for name, at in shape.pseudo}
    fields = received[shape.start :]
    if b"te" in shape.noted:
        _check_te(fields, blame)
    return pseudo, fields, shape.noted


def _looked_at(
    received: Fields, names: tuple[bytes, ...], allowed: frozenset[bytes], blame: Fault
) -> tuple[dict[bytes, bytes], Fields, Set[bytes]]:
    """As `_sorted_out`, field by field. Names that pass are remembered in their order."""
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = []
    for field in received:
        name, value = field
        if VALUE.fullmatch(value) is None:
            raise ProxyError(blame, f"the value of {shown(name)} has a control character")
        if name.startswith(b":"):
            if fields or name in pseudo or name not in allowed:
                raise ProxyError(blame, f"{shown(name)} is repeated, unknown, or stands in the wrong place")
            pseudo[name] = value
            continue
        if _NAME.fullmatch(name) is None:
            raise ProxyError(blame, f"{shown(name)} is not a field name in lower case")
        if name in _CONNECTION:
            raise ProxyError(blame, f"the field {shown(name)} has no meaning in HTTP/2")
        if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
            raise ProxyError(blame, f"the value of {shown(name)} begins or ends with white space")
        fields.append(field)
    _check_te(fields, blame)
    if len(names) <= _SHAPE_MAX_FIELDS and b"http2-settings" not in names and sum(map(len, names)) <= _SHAPE_MAX_BYTES:
        shapes = _shapes[allowed]
        if len(shapes) >= _SHAPES_MAX:
            shapes.clear()
        shapes[names] = _Shape(names, len(pseudo))
    fields = [field for field in fields if field[0] != b"http2-settings"]
    return pseudo, fields, _NOTICED.intersection(names)


def _check_te(fields: Fields, blame: Fault) -> None:
    for name, value in fields:
        if name == b"te" and value.lower() != b"trailers":
            raise ProxyError(blame, "the field 'te' has no meaning in HTTP/2, but for 'trailers'")


def list_bytes(received: Fields) -> int:
    """The size of a header list as RFC 9113 section 6.5.2 counts it."""
    return sum([len(name) + len(value) for name, value in received]) + FIELD_OVERHEAD_BYTES * len(received)


def _check_size(received: Fields, size_bytes: int, blame: Fault) -> None:
    too_big = HEAD_TOO_BIG if blame is MALFORMED else blame
    if len(received) > FIELDS_MAX_COUNT:
        raise ProxyError(too_big, f"the head has {len(received)} fields; {FIELDS_MAX_COUNT} are allowed")
    if size_bytes > HEAD_MAX_BYTES:
        raise ProxyError(too_big, f"the head is larger than {HEAD_MAX_BYTES} bytes")


def _length(fields: Fields, noted: Set[bytes], blame: Fault) -> int | None:
    if b"content-length" not in noted:
        return None
    found = [value for name, value in fields if name == b"content-length"]
    if len(found) > 1 or DIGITS.fullmatch(found[0]) is None or len(found[0]) > LENGTH_MAX_DIGITS:
        raise ProxyError(blame, f"content-length {shown(b', '.join(found))} is not one decimal number")
    return int(found[0])


def _cookies_joined(fields: Fields, noted: Set[bytes]) -> Fields:
    """The crumbs of RFC 9113 section 8.2.3 as the one field that HTTP/1.1 knows."""
    if b"cookie" not in noted:
        return fields
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    joined: Fields = []
    for field in fields:
        if field[0] != b"cookie":
            joined.append(field)
        elif crumbs:
            joined.append(NeverIndexed((b"cookie", b"; ".join(crumbs))))
            crumbs = []
    return joined


def request_fields(head: RequestHead, scheme: bytes, *, wants_trailers: bool) -> Fields:
    """What to write for `head`. Raises ValueError: something that HTTP/2 cannot carry."""
    authority = head.get(b"host") or head.authority
    upgrade = head.upgrade
    written: Fields = [(b":method", b"CONNECT" if upgrade else head.method)]
    if head.method != b"CONNECT":
        written += ((b":scheme", scheme), (b":path", head.target))
    if upgrade:
        written.append((b":protocol", upgrade))
    if authority:
        written.append((b":authority", authority if head.method != b"CONNECT" else head.target))
    _check_values(written)
    length = b"" if head.opens_tunnel else _length_to_write(head, describes_other=False)
    if length:
        written.append((b"content-length", length))
    if wants_trailers or b"trailers" in (head.get(b"te") or b"").lower():
        written.append((b"te", b"trailers"))
    return _with_fields(written, head.fields, tunnel=bool(upgrade))


def response_fields(head: ResponseHead, method: bytes, *, tunnel: bool) -> Fields:
    """What to write for `head`, which answers a request with `method`; `tunnel`: agrees to switch.

    Raises:
        ValueError: something that HTTP/2 cannot carry.
    """
    status = 200 if head.status == 101 else head.status
    written: Fields = [(b":status", b"%d" % status)]
    if not tunnel and status >= 200 and status != 204:
        length = _length_to_write(head, describes_other=status == 304 or method == b"HEAD")
        if length:
            written.append((b"content-length", length))
    return _with_fields(written, head.fields, tunnel=tunnel)


def trailer_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """What to write after a body. Raises ValueError: something that HTTP/2 cannot carry."""
    return _with_fields([], allowed_trailers(fields), tunnel=False)


def _length_to_write(head: RequestHead | ResponseHead, *, describes_other: bool) -> bytes:
    """`describes_other`: the length is the one of a body that is not sent (HEAD, 304)."""
    length = head.content_length
    if length:
        return b"%d" % length
    said = head.get(b"content-length") or b""
    if describes_other:
        return said
    return b"0" if said and length == 0 else b""


def _with_fields(written: Fields, fields: Fields, *, tunnel: bool) -> Fields:
    """`written`, and what HTTP/2 may carry of `fields`: the very objects where nothing about them changes."""
    all_fit = _all_fit(fields)
    for field in fields:
        name, value = field
        known = _spellings.get(name)
        lower, act = known if known is not None else _spelling(name)
        if act == _OMIT or (act == _OMIT_IN_TUNNEL and tunnel):
            continue
        if act == _IMPOSSIBLE or (not all_fit and VALUE.fullmatch(value) is None):
            raise ValueError(f"the field {shown(name)} cannot be written in HTTP/2")
        if not all_fit:
            value = value.strip(b" \t")
        if isinstance(field, NeverIndexed) or act == _HIDE:
            same = lower == name and value == field[1] and isinstance(field, NeverIndexed)
            written.append(field if same else NeverIndexed((lower, value)))
        else:
            written.append(field if lower == name and value is field[1] else (lower, value))
    return written


def _check_values(written: Fields) -> None:
    for name, value in written:
        if not value or VALUE.fullmatch(value) is None:
            raise ValueError(f"{shown(name)} cannot be {shown(value)} in HTTP/2")
