"""One form for each request path, so that routing, authorization and upstream can never see different ones.

Called for every request by head_rules.py (HTTP/1.1) and by the HTTP/2 servers, before anything is decided. What comes
out is what rules are matched with and what is sent on; nobody decodes a path a second time.

Dot segments are removed and unreserved characters decoded (RFC 3986 section 6.2.2). Escapes that mean something else
than the character they stand for (`%2F`, `%5C`), `//` and `;` stay: merging them would change what they name. What
only an attack writes is refused: see `canonical_target`.
"""

import re
from typing import NoReturn

from sidecar.codec.grammar import shown
from sidecar.errors import MALFORMED, ProxyError

# A target in canonical form already. No segment begins with a dot: `/.well-known/` takes the long way and stays.
CANONICAL = re.compile(rb'(?:/(?!\.)[!"$&-.0->@-\[\]-~]*+)++(?:\?[!"$-~]*+)?+')
_VISIBLE = re.compile(rb"[!-~]*+")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f][0-9A-Fa-f])?+")
# A dot segment to whoever decodes `%2F` or `%5C`, or cuts a segment at `;` (servlet containers do).
_HIDDEN_DOTS = re.compile(rb"(?:/|%2F|%5C)\.\.?+(?:/|%2F|%5C|;|\Z)")
_UNRESERVED = frozenset(b"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def canonical_target(target: bytes) -> bytes:
    """The canonical form of an origin-form target: `/path` or `/path?query`. Of a canonical one, itself.

    The query stays byte for byte. A `..` above the root stays at the root (RFC 3986 section 5.2.4).

    Raises:
        ProxyError: MALFORMED. The target does not begin with a slash, has a fragment or a byte that is not visible
            ASCII; the path has a backslash, a malformed escape (`%zz`, `%4`), an escaped control character, or a dot
            segment that only shows after `%2F` or `%5C` is decoded or a parameter is cut off (`/..%2Fa`, `/..;/a`).
    """
    if CANONICAL.fullmatch(target) is not None:
        return target
    path, mark, query = target.partition(b"?")
    if not path.startswith(b"/"):
        _refuse(f"the target {shown(target)} does not begin with a slash")
    if b"#" in target:
        _refuse(f"the target {shown(target)} has a fragment; those stay with the client")
    if _VISIBLE.fullmatch(target) is None:
        _refuse(f"the target {shown(target)} has a byte that must be percent-encoded")
    if b"\\" in path:
        _refuse(f"the path {shown(path)} has a backslash, which some read as a slash; %5C is allowed")
    if b"%" in path:
        path = _ESCAPE.sub(_one_escape, path)
    if b"/." in path:
        path = _without_dots(path)
    if _HIDDEN_DOTS.search(path) is not None:
        _refuse(f"the path {shown(path)} hides a dot segment behind an escape or a semicolon")
    return path + mark + query


def _one_escape(match: re.Match[bytes]) -> bytes:
    """The one way to write what `match`, a percent sign and perhaps its digits, stands for."""
    digits: bytes | None = match[1]
    if digits is None:
        bad = match.string[match.start() : match.start() + 3]
        _refuse(f"the path has the escape {shown(bad)}; a percent sign takes two hexadecimal digits after it")
    code = int(digits, 16)
    if code < 0x20 or code == 0x7F:
        _refuse(f"the path has the escaped control character {shown(match[0])}")
    return bytes((code,)) if code in _UNRESERVED else b"%" + digits.upper()


def _without_dots(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4 for a path that begins with a slash."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")  # what is left names a folder
    return b"/" + b"/".join(kept)


def _refuse(sentence: str) -> NoReturn:
    raise ProxyError(MALFORMED, sentence)
