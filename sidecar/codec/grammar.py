"""The bytes of an HTTP/1 head: patterns, limits, and why a head does not fit them.

One pass of one pattern accepts a whole head or does not; only a head that it does not accept is looked at again, to
say why. Stricter than RFC 9112 where leniency is how requests are smuggled: no bare LF, no bare CR, no folded line, no
control character, no space before a colon.

Every repetition is possessive: a pattern either goes on or gives up, so that time is linear in the number of bytes
whatever a peer sends (a test reads the patterns for it).
"""

import re

from sidecar.errors import HEAD_TOO_BIG, MALFORMED, NOT_IMPLEMENTED, TARGET_TOO_LONG, Fault

HEAD_MAX_BYTES = 60 * 1024  # as Envoy
FIELDS_MAX_COUNT = 100  # as Envoy
TARGET_MAX_BYTES = 8 * 1024
METHOD_MAX_BYTES = 32  # the longest registered one has 17 (IANA: UPDATEREDIRECTREF)
TIMEOUT_MAX_DIGITS = 9  # of Keep-Alive; more seconds than a connection lives
REQUEST_LINE_MAX_BYTES = METHOD_MAX_BYTES + TARGET_MAX_BYTES + len(b"  HTTP/1.1\r\n")

END_OF_HEAD = b"\r\n\r\n"

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t -~\x80-\xff]*+"
_FIELD_LINES = rb"(?:%b:%b\r\n)*+" % (_TOKEN, _VALUE)

# Groups: method, target, version.
REQUEST = re.compile(rb"([-!#$%%&'*+.^_`|~0-9A-Za-z]{1,%d}+) ([!-~]++) HTTP/([0-9]\.[0-9])\r\n" % METHOD_MAX_BYTES
                     + _FIELD_LINES + rb"\r\n")  # fmt: skip
# Groups: version, status, reason. Servers exist that leave the reason out together with its space.
RESPONSE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9])(?: (%b))?+\r\n" % _VALUE + _FIELD_LINES + rb"\r\n")
# What may follow the last chunk, its empty line included.
TRAILERS = re.compile(_FIELD_LINES + rb"\r\n")
# For a head that one of the above accepted: its fields, leading white space of values removed.
_FIELD = re.compile(rb"(%b):[ \t]*+(%b)\r\n" % (_TOKEN, _VALUE))

TOKEN = re.compile(_TOKEN)
VALUE = re.compile(_VALUE)
DIGITS = re.compile(rb"[0-9]++")
PROTOCOL = re.compile(rb"%b(?:/%b)?+" % (_TOKEN, _TOKEN))  # in Upgrade: a name, perhaps a version

# host or host:port; no comma, so that two Host fields, which a look-up joins by one, never pass.
AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}+\]|[-._~%!$&'()*+;=0-9A-Za-z]{1,255}+)(?::([0-9]{0,5}+))?+")
# Groups: authority, the rest.
ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?+://([^/?]*+)(.*+)")

# What no head may contain, wherever it stands. A CR at the end of the bytes at hand may yet get its LF.
_ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


def fields_of(raw: bytes, start: int) -> list[tuple[bytes, bytes]]:
    """The fields of an accepted head whose first field line begins at `start`, in order, names as sent."""
    fields = _FIELD.findall(raw, start)
    if b" \r\n" in raw or b"\t\r\n" in raw:  # rare, and cheaper asked once than matched for every value
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def too_early(buffer: bytes | bytearray, start: int) -> Fault | None:
    """Why the head that begins `buffer` can never become valid, however it goes on; None while it may.

    Reads on from `start`, the number of bytes that earlier calls have seen. Of several reasons the one that stands
    first in the bytes is named, so that the answer does not depend on how they were cut into reads.
    """
    size = len(buffer)
    line_is_long = size > REQUEST_LINE_MAX_BYTES and buffer.find(b"\r\n", 0, REQUEST_LINE_MAX_BYTES) < 0
    limit = REQUEST_LINE_MAX_BYTES if line_is_long else HEAD_MAX_BYTES
    illegal = why_illegal(buffer, start, limit)
    if illegal:
        return MALFORMED.saying(f"the head has {illegal}")
    if line_is_long:
        return TARGET_TOO_LONG.saying(f"the first line is longer than {REQUEST_LINE_MAX_BYTES} bytes")
    if size > HEAD_MAX_BYTES:
        return HEAD_TOO_BIG.saying(f"the head is larger than {HEAD_MAX_BYTES} bytes")
    return None


def why_illegal(buffer: bytes | bytearray, start: int, limit: int = HEAD_MAX_BYTES) -> str:
    """What stands between `start` and `limit` that no field may contain, in words; "" if nothing does."""
    illegal = _ILLEGAL.search(buffer, max(start - 1, 0), limit)
    if illegal is None:
        return ""
    what = _ILLEGAL_NAMES.get(illegal[0], "a control character")
    return f"{what} at byte {illegal.start()}; lines have to end with CR LF"


_ILLEGAL_NAMES = {b"\n": "an LF without CR", b"\r": "a CR without LF", b"\0": "a NUL"}


def why_no_request(raw: bytes) -> Fault:
    """Why REQUEST does not accept `raw`, a head that `too_early` let pass."""
    line, _, rest = raw.partition(b"\r\n")
    return _why_no_request_line(line) or why_no_fields(rest)


def why_no_response(raw: bytes) -> str:
    """Why RESPONSE does not accept `raw`, a head that `too_early` let pass, in words."""
    line, _, rest = raw.partition(b"\r\n")
    if RESPONSE.fullmatch(line + END_OF_HEAD) is None:
        return f"{shown(line)} is not a status line such as 'HTTP/1.1 200 OK'"
    return why_no_fields(rest).sentence


def _why_no_request_line(line: bytes) -> Fault | None:
    parts = line.split(b" ")
    if len(parts) != 3 or not all(parts):
        return MALFORMED.saying(f"the request line {shown(line)} is not 'METHOD TARGET HTTP/1.1' with single spaces")
    method, target, version = parts
    if TOKEN.fullmatch(method) is None:
        return MALFORMED.saying(f"{shown(method)} is not a method: letters, digits and !#$%&'*+-.^_`|~ are allowed")
    if len(method) > METHOD_MAX_BYTES:
        return NOT_IMPLEMENTED.saying(f"the method is longer than {METHOD_MAX_BYTES} bytes")
    if _VERSION.fullmatch(version) is None:
        return MALFORMED.saying(f"{shown(version)} is not an HTTP version such as HTTP/1.1")
    if REQUEST.fullmatch(line + END_OF_HEAD) is None:
        return MALFORMED.saying(f"the target {shown(target)} has a byte that must be percent-encoded")
    return None


def why_no_fields(block: bytes) -> Fault:
    """Why `block`, whose single bytes may all stand in a head, is not a row of field lines."""
    before = b""
    for line in block.split(b"\r\n"):
        name, colon, _ = line.partition(b":")
        where = f"the header line {shown(line)}"
        if line[:1] in (b" ", b"\t"):
            what = "is folded onto the line before it" if before else "begins with white space"
            return MALFORMED.saying(f"{where} {what}; a header is one line that begins with its name")
        if line and not colon:
            return MALFORMED.saying(f"{where} has no colon")
        if line and name.rstrip(b" \t") != name:
            return MALFORMED.saying(f"{where} has white space before its colon")
        if line and TOKEN.fullmatch(name) is None:
            return MALFORMED.saying(f"{where} does not begin with a header name")
        before = line
    return MALFORMED  # nothing else is left to be wrong: `too_early` has seen every byte


def shown(data: bytes) -> str:
    """Peer bytes as they may stand in a message: quoted, ASCII, at most 40 of them."""
    return repr(data[:40])[1:] + ("..." if len(data) > 40 else "")


def promised_s(keep_alive: bytes | None) -> float | None:
    """The time that a value of `Keep-Alive` promises, seconds; None: it promises none that can be read."""
    for part in keep_alive.split(b",") if keep_alive else ():
        name, _, value = part.partition(b"=")
        if name.strip(b" \t").lower() == b"timeout":
            digits = value.strip(b' \t"')
            return float(digits) if DIGITS.fullmatch(digits) and len(digits) <= TIMEOUT_MAX_DIGITS else None
    return None
