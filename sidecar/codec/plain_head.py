"""Heads that may go on nearly as they came: the strict one-pass reading of the fast path.

What `head_rules.py` reads into fields and writes anew, this reads in one pass over the lines and keeps as bytes: lines
that nobody changes are forwarded as they are, lines of the hop are left out, the few values that decide something are
noted. It accepts only what head_rules accepts, and means the same by it (tests/fuzz/test_plain_head.py); for anything
unusual it answers why not, and the caller takes the other way. It never refuses: that is head_rules' to say.

Names are remembered with what is to be done with them, in the spelling they came in, in a bounded table; whole heads
are not. Linear in the number of bytes: the patterns are possessive, and each line is looked at once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from sidecar.codec.grammar import (
    AUTHORITY,
    DIGITS,
    FIELDS_MAX_COUNT,
    HEAD_MAX_BYTES,
    REQUEST,
    RESPONSE,
    TARGET_MAX_BYTES,
    fields_of,
)
from sidecar.codec.head_rules import LENGTH_MAX_DIGITS
from sidecar.codec.target import CANONICAL
from sidecar.model.messages import Fields, RequestHead

NAMES_MAX = 4_096  # spellings remembered for each direction; applications use a few dozen
NAME_MAX_BYTES = 64  # a longer one is not remembered: the table stays below half a megabyte
HOSTS_MAX = 1_024


class Act(Enum):
    """What is done with a field."""

    NOTE = auto()  # its value decides something; the line goes on
    TAKE = auto()  # so, but the line does not
    DROP = auto()  # the line does not go on
    FAR = auto()  # X-Forwarded-...: taken where a value of ours takes its place, else left alone
    LEAVE = auto()  # not for the fast path


Acts = dict[bytes, tuple[Act, bytes] | None]  # by spelling; None: the line goes on
_NOTE, _DROP, _FAR, _LEAVE = Act.NOTE, Act.DROP, Act.FAR, Act.LEAVE  # a look-up in an Enum costs 40 ns

# How the names begin that something may be done with: looking at those lines only halves the cost of a long head.
# Groups: name, value. For a head that REQUEST or RESPONSE accepted.
_FIRST_LETTERS = rb"[Cc][Oo][Nn][NnTt]|[Hh][OoTt]|[Kk][Ee]|[Pp][Rr]|[Tt][EeRr]|[Uu][Pp]"
_LINE = rb"\r\n((?:%b)[^:\r]*+):([^\r]*+)"
_NOTABLE_IN_REQUEST = re.compile(_LINE % (_FIRST_LETTERS + rb"|[Bb]3|[Ee][Xx]|[Ii][Dd]|[Xx][-_]"))
_NOTABLE_IN_ANSWER = re.compile(_LINE % (_FIRST_LETTERS + rb"|[Xx]-[Mm][Ee]"))
_FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding"))


class PlainRequest(RequestHead):
    """A request's head as bytes; what else a `RequestHead` has is read from them when somebody asks.

    Attributes:
        kept: Request line and lines to forward, each with its line end; the empty line is still to come.
        noted: The values that decided something, by lower-case name.
        size: Bytes of the head as it came.
    """

    __slots__ = ("_raw", "_read", "_start", "kept", "noted", "size")

    def __init__(self, raw: bytes, start: int, size: int, method: bytes, target: bytes, kept: bytes,
                 noted: dict[bytes, bytes], content_length: int | None) -> None:  # fmt: skip
        # Not by the base class: this is made for every request, and two calls less are a tenth of a microsecond each.
        self._raw = raw
        self._start = start
        self._read: Fields | None = None
        self._index = None
        self.size = size
        self.method = method
        self.target = target
        self.authority = noted[b"host"]
        self.kept = kept
        self.noted = noted
        self.content_length = content_length
        self.chunked = content_length is None
        self.keep_alive = True
        self.version = b"1.1"
        self.upgrade = b""

    @property
    def raw(self) -> bytes:
        """The head as it came."""
        return self._raw[: self.size]

    @property
    def fields(self) -> Fields:
        """All fields as received."""
        if self._read is None:
            self._read = fields_of(self._raw[: self.size], self._start)
        return self._read

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._read = fields


@dataclass(slots=True)
class PlainResponse:
    """An answer's head as bytes.

    Attributes:
        kept: Status line and lines to forward, each with its line end.
        content_length: Bytes of the body; None when it is chunked.
        keep_alive: The endpoint keeps the connection.
        promised: Value of `Keep-Alive`; empty: none.
        size: Bytes of the head as it came.
    """

    status: int
    kept: bytes
    content_length: int | None
    keep_alive: bool
    promised: bytes
    size: int


def plain_request(data: bytes, acts: "RequestActs", *, far: bool) -> PlainRequest | str:
    """The request that `data` begins with, or why it is not for the fast path, in a word of a fixed set.

    Args:
        far: The client's address is to be told (`proxy/edits.py`): fields of its kind are taken.
    """
    match = REQUEST.match(data)
    if match is None:
        return "head"  # not complete, or not valid
    method, target, version = match.groups()
    size = match.end()
    if version != b"1.1" or method == b"CONNECT":
        return "version" if version != b"1.1" else "connect"
    if CANONICAL.fullmatch(target) is None or len(target) > TARGET_MAX_BYTES:
        return "target"
    if size > HEAD_MAX_BYTES or data.count(b"\r\n", 0, size) > FIELDS_MAX_COUNT + 2:
        return "head"
    kept = data[: size - 2]
    noted: dict[bytes, bytes] = {}
    known = acts.known
    for name, value in _NOTABLE_IN_REQUEST.findall(kept):
        act = known[name] if name in known else acts.learn(name)
        if act is None:
            continue
        what, lower = act
        if what is _LEAVE:
            return "field"
        if what is _FAR and not far:
            continue
        if what is not _NOTE:
            kept = kept.replace(b"\r\n%b:%b\r\n" % (name, value), b"\r\n", 1)
            if what is _DROP:
                continue
        if lower in noted:
            return "repeated"
        noted[lower] = value.strip(b" \t")
    content_length: int | None = 0
    if noted.keys() & _FRAMING:
        why, content_length = _framed(noted)
        if why:
            return why
    host = noted.get(b"host")
    if host is None or (host not in acts.hosts and not acts.may_host(host)):
        return "host"
    return PlainRequest(data, match.end(3) + 2, size, method, target, kept, noted, content_length)


def _framed(noted: dict[bytes, bytes]) -> tuple[str, int | None]:
    """Why the connection or the body is not plain, or "" and the body's length; None: chunked."""
    connection = noted.get(b"connection")
    if connection is not None and connection.lower() != b"keep-alive":
        return "connection", None
    length = noted.get(b"content-length")
    coding = noted.get(b"transfer-encoding")
    if coding is not None:
        return ("framing" if length is not None or coding.lower() != b"chunked" else ""), None
    if length is None:
        return "", 0
    if DIGITS.fullmatch(length) is None or len(length) > LENGTH_MAX_DIGITS:
        return "framing", None
    return "", int(length)


def plain_response(data: bytes, acts: "ResponseActs", method: bytes) -> PlainResponse | str:
    """The final answer that `data` begins with, to a request of `method`; or why it is not for the fast path."""
    match = RESPONSE.match(data)
    if match is None:
        return "answer-head"
    version, code, reason = match.groups()
    status = int(code)
    size = match.end()
    if version != b"1.1" or reason is None:
        return "answer-version"
    if not 200 <= status < 500:
        return "answer-status"  # interim, or for the attempts machine to judge
    if size > HEAD_MAX_BYTES or data.count(b"\r\n", 0, size) > FIELDS_MAX_COUNT + 2:
        return "answer-head"
    kept = data[: size - 2]
    keep_alive = True
    promised = b""
    length: bytes | None = None
    chunked = False
    known = acts.known
    for name, value in _NOTABLE_IN_ANSWER.findall(kept):
        act = known[name] if name in known else acts.learn(name)
        if act is None:
            continue
        what, lower = act
        if what is _LEAVE:
            return "answer-field"
        if what is not _NOTE:
            kept = kept.replace(b"\r\n%b:%b\r\n" % (name, value), b"\r\n", 1)
            if what is _DROP:
                continue
        value = value.strip(b" \t")
        if lower == b"content-length":
            if length is not None or DIGITS.fullmatch(value) is None or len(value) > LENGTH_MAX_DIGITS:
                return "answer-framing"
            length = value
        elif lower == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                return "answer-framing"
            chunked = True
        elif lower == b"keep-alive":
            promised = value
        elif value != b"keep-alive" and (option := value.lower()) != b"keep-alive":  # connection
            if option != b"close":
                return "answer-connection"
            keep_alive = False
    content_length: int | None
    if chunked:
        if length is not None or method == b"HEAD" or status in (204, 304):
            return "answer-framing"
        content_length = None
    elif method == b"HEAD" or status == 304:
        content_length = 0
    elif length is not None and status != 204:
        content_length = int(length)
    elif status == 204 and length is None:
        content_length = 0
    else:
        return "answer-framing"  # until the connection closes, or a length where there is no body
    return PlainResponse(status, kept, content_length, keep_alive, promised, size)


class _Names:
    """A bounded table from spellings of names to what is done with the field."""

    __slots__ = ("_by_lower", "known")

    def __init__(self, by_lower: dict[bytes, Act], notable: re.Pattern[bytes]) -> None:
        for name in by_lower:
            assert notable.match(b"\r\n" + name + b":"), f"{name!r} begins with letters that are not looked for"
        self._by_lower = by_lower
        self.known: Acts = {}

    def learn(self, name: bytes) -> tuple[Act, bytes] | None:
        """What is done with a field of a name not seen before."""
        lower = name.lower()
        act = self._by_lower.get(lower)
        found = (act, lower) if act is not None else None
        if len(name) <= NAME_MAX_BYTES:
            if len(self.known) >= NAMES_MAX:
                self.known.clear()
            self.known[name] = found
        return found


class RequestActs(_Names):
    """What is done with the fields of requests. One for each worker.

    Attributes:
        hosts: Values of Host that were found valid.
    """

    __slots__ = ("hosts",)

    def __init__(self, *, dropped: Iterable[bytes], taken: Iterable[bytes], noted: Iterable[bytes]) -> None:
        """Names, lower case: that no client may set; whose values the caller wants, without or with the line."""
        by_lower = dict.fromkeys(dropped, Act.DROP)
        by_lower |= dict.fromkeys(taken, Act.TAKE) | dict.fromkeys(noted, Act.NOTE)
        super().__init__(by_lower | _REQUEST, _NOTABLE_IN_REQUEST)
        self.hosts: set[bytes] = set()

    def may_host(self, host: bytes) -> bool:
        """True for a valid value of Host, which is then remembered."""
        match = AUTHORITY.fullmatch(host)
        if match is None or int(match[1] or b"0") > 65_535:
            return False
        if len(self.hosts) >= HOSTS_MAX:
            self.hosts.clear()
        self.hosts.add(host)
        return True


class ResponseActs(_Names):
    """What is done with the fields of answers. One for each worker."""

    __slots__ = ()

    def __init__(self, left: Iterable[bytes]) -> None:
        """`left`: names, lower case, of fields that only the full path understands."""
        super().__init__(_RESPONSE | dict.fromkeys(left, Act.LEAVE), _NOTABLE_IN_ANSWER)


_REQUEST = {
    b"host": Act.NOTE,
    b"content-length": Act.NOTE,
    b"transfer-encoding": Act.NOTE,
    b"connection": Act.TAKE,
    b"keep-alive": Act.DROP,
    b"proxy-connection": Act.DROP,
    b"traceparent": Act.TAKE,
    b"tracestate": Act.TAKE,
    b"b3": Act.NOTE,
    b"x-forwarded-for": Act.FAR,
    b"x-forwarded-proto": Act.FAR,
    b"te": Act.LEAVE,
    b"upgrade": Act.LEAVE,
    b"http2-settings": Act.LEAVE,
    b"expect": Act.LEAVE,
}
_RESPONSE = {
    b"content-length": Act.NOTE,
    b"transfer-encoding": Act.NOTE,
    b"connection": Act.TAKE,
    b"keep-alive": Act.TAKE,
    b"proxy-connection": Act.DROP,
    b"te": Act.DROP,
    b"upgrade": Act.DROP,
}
