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
    promised_s,
)
from sidecar.codec.head_rules import LENGTH_MAX_DIGITS
from sidecar.codec.target import CANONICAL
from sidecar.model.messages import HOP_BY_HOP, Fields, RequestHead, nominated

NAMES_MAX = 4_096  # spellings remembered; applications use a few dozen
NAME_MAX_BYTES = 64  # a longer one is not remembered: the table stays below half a megabyte
LINES_MAX = 4_096  # of answers; lengths differ most
LINE_MAX_BYTES = 64
HOSTS_MAX = 1_024


class Act(Enum):
    """What is done with a field."""

    NOTE = auto()  # its value decides something; the line goes on
    TAKE = auto()  # so, but the line does not
    DROP = auto()  # the line does not go on
    FAR = auto()  # X-Forwarded-...: taken where a value of ours takes its place, else left alone
    LEAVE = auto()  # not for the fast path


Acts = dict[bytes, tuple[Act, bytes] | None]  # by spelling; None: the line goes on
_NOTE, _DROP, _FAR, _AWAY = Act.NOTE, Act.DROP, Act.FAR, Act.LEAVE  # a look-up in an Enum costs 40 ns

# How the names begin that something may be done with: looking at those lines only halves the cost of a long head. For a
# head that REQUEST or RESPONSE accepted.
_FIRST_LETTERS = rb"[Cc][Oo][Nn](?:[Nn]|[Tt][Ee][Nn][Tt]-[Ll])|[Kk][Ee]|[Pp][Rr]|[Tt][EeRr]|[Uu][Pp]"
# Groups: name, value.
_NOTABLE_IN_REQUEST = re.compile(
    rb"\r\n((?:%b|[Hh][OoTt]|[Bb]3|[Ee][Xx]|[Ii][Dd]|[Xx][-_][FfMmRr])[^:\r]*+):([^\r]*+)" % _FIRST_LETTERS
)
_NOTABLE_IN_ANSWER = re.compile(rb"\r\n(?:%b|[Xx]-[Mm])[^\r]*+" % _FIRST_LETTERS)
_FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding", b"te", b"upgrade"))
_OPTIONS = frozenset((b"keep-alive", b"close", b"te", b"upgrade", b"http2-settings"))  # of Connection


class PlainRequest(RequestHead):
    """A request's head as bytes; what else a `RequestHead` has is read from them when somebody asks.

    Attributes:
        kept: Request line and lines to forward, each with its line end; the empty line is still to come.
        noted: The values that decided something, by lower-case name.
        size: Bytes of the head as it came.
        wants_trailers: The client said `TE: trailers`.
    """

    __slots__ = ("_raw", "_read", "_start", "kept", "noted", "size", "wants_trailers")

    def __init__(self, raw: bytes, start: int, size: int, method: bytes, target: bytes, kept: bytes,
                 noted: dict[bytes, bytes], content_length: int) -> None:  # fmt: skip
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
        self.chunked = False
        self.keep_alive = True
        self.wants_trailers = False
        self.version = b"1.1"
        self.upgrade = b""

    @property
    def raw(self) -> bytes:
        """The head as it came."""
        return self._raw[: self.size]

    def get(self, name: bytes) -> bytes | None:
        """See `Head`. One look through the bytes: to read all fields for one that is asked for costs ten times that."""
        if name in self.noted:
            return self.noted[name]
        if self._read is None:
            raw = self.raw
            lower, line = raw.lower(), b"\r\n%b:" % name
            start = lower.find(line)
            if start < 0:
                return None
            if lower.find(line, start + 1) < 0:
                start += len(line)
                return raw[start : raw.index(b"\r", start)].strip(b" \t")
        return super().get(name)

    @property
    def fields(self) -> Fields:
        """All fields as received."""
        if self._read is None:
            self._read = fields_of(self._raw[: self.size], self._start)
        return self._read

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._read = fields


class PlainResponse:
    """An answer as bytes.

    Attributes:
        data: Head and what came of the body, less the lines that do not go on.
        content_length: Bytes of the body; None when it is chunked.
        keep_alive: The endpoint keeps the connection.
        promised_s: For how long, if it says so.
        size: Bytes of the head in `data`.
    """

    __slots__ = ("content_length", "data", "keep_alive", "promised_s", "size", "status")

    def __init__(self, status: int, data: bytes, size: int, content_length: int | None, keep_alive: bool,
                 promised_s: float | None) -> None:  # fmt: skip
        self.status = status
        self.data = data
        self.size = size
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.promised_s = promised_s


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
        if what is _AWAY:
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
    host = noted.get(b"host")
    if host is None or (host not in acts.hosts and not acts.may_host(host)):
        return "host"
    request = PlainRequest(data, match.end(3) + 2, size, method, target, kept, noted, 0)
    if noted.keys() & _FRAMING:
        return _framed(request, noted) or request
    return request


def _framed(request: PlainRequest, noted: dict[bytes, bytes]) -> str:
    """Set what the fields of the hop say of the request; why they are not plain, or ""."""
    options = nominated(noted.get(b"connection"))
    if not options <= _OPTIONS or noted.get(b"te", b"trailers").lower() != b"trailers":
        return "connection"
    if noted.get(b"upgrade", b"h2c").lower() != b"h2c":  # an offer of HTTP/2 is ignored: it comes by prior knowledge
        return "upgrade"
    request.keep_alive = b"close" not in options
    request.wants_trailers = b"te" in noted
    length = noted.get(b"content-length")
    coding = noted.get(b"transfer-encoding")
    if coding is not None:
        request.content_length, request.chunked = None, True
        return "framing" if length is not None or not _as_usual(request.kept, b"transfer-encoding", b"chunked") else ""
    if length is not None:
        plain = DIGITS.fullmatch(length) is not None and len(length) <= LENGTH_MAX_DIGITS
        if not plain or not _as_usual(request.kept, b"content-length", b"%d" % int(length)):
            return "framing"
        request.content_length = int(length)
    return ""


def _as_usual(kept: bytes, name: bytes, value: bytes) -> bool:
    """The line goes on as it came, so what it says must be spelt as everybody does: no tab, no zero in front."""
    return b"\r\n%b: %b\r\n" % (name, value) in kept.lower()


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
    length: int | None = None
    chunked = False
    keep_alive = True
    promise_s: float | None = None
    facts = acts.facts
    for line in _NOTABLE_IN_ANSWER.findall(data, 0, size):
        fact = facts[line] if line in facts else acts.learn(line)
        if fact is None:
            continue
        what, value = fact
        if what is _LENGTH and length is None:
            length = value
        elif what is _CHUNKED and not chunked:
            chunked = True
        elif what is _LEAVE or what is _LENGTH or what is _CHUNKED:
            return "answer-field"
        else:
            data = data.replace(line + b"\r\n", b"\r\n", 1)
            size -= len(line)
            if what is _CLOSE:
                keep_alive = False
            elif what is _PROMISE:
                promise_s = float(value)
    if status == 204:  # also to HEAD
        if chunked or length is not None:
            return "answer-framing"
        length = 0
    elif method == b"HEAD" or status == 304:
        if chunked:
            return "answer-framing"
        length = 0
    elif (length is None) is not chunked:
        return "answer-framing"  # both, or until the connection closes
    return PlainResponse(status, data, size, length, keep_alive, promise_s)


class RequestActs:
    """What is done with the fields of requests. One for each worker.

    Attributes:
        known: A bounded table from spellings of names to what is done with the field.
        hosts: Values of Host that were found valid.
    """

    __slots__ = ("_by_lower", "hosts", "known")

    def __init__(self, *, dropped: Iterable[bytes], taken: Iterable[bytes], noted: Iterable[bytes]) -> None:
        """Names, lower case: that no client may set; whose values the caller wants, without or with the line."""
        by_lower = dict.fromkeys(dropped, Act.DROP)
        by_lower |= dict.fromkeys(taken, Act.TAKE) | dict.fromkeys(noted, Act.NOTE)
        self._by_lower = by_lower | _REQUEST
        for name in self._by_lower:
            assert _NOTABLE_IN_REQUEST.match(b"\r\n%b:" % name), f"{name!r} begins as nothing that is looked for"
        self.hosts: set[bytes] = set()
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

    def may_host(self, host: bytes) -> bool:
        """True for a valid value of Host, which is then remembered."""
        match = AUTHORITY.fullmatch(host)
        if match is None or int(match[1] or b"0") > 65_535:
            return False
        if len(self.hosts) >= HOSTS_MAX:
            self.hosts.clear()
        self.hosts.add(host)
        return True


class Fact(Enum):
    """What a line of an answer says that somebody has to know. The line goes on for the first two only."""

    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()  # the endpoint ends the connection
    PROMISE = auto()  # for how many seconds it keeps it
    NOTHING = auto()
    LEAVE = auto()  # not for the fast path


_LENGTH, _CHUNKED, _CLOSE, _PROMISE, _LEAVE = Fact.LENGTH, Fact.CHUNKED, Fact.CLOSE, Fact.PROMISE, Fact.LEAVE


class ResponseActs:
    """What is done with the lines of answers; those that matter here hardly differ. One for each worker.

    Attributes:
        facts: A bounded table from lines, with their line end in front, to what they say; None: nothing to us.
    """

    __slots__ = ("_left", "facts")

    def __init__(self, left: Iterable[bytes]) -> None:
        """`left`: names, lower case, of fields that only the full path understands."""
        self._left = frozenset(left)
        self.facts: dict[bytes, tuple[Fact, int] | None] = {}

    def learn(self, line: bytes) -> tuple[Fact, int] | None:
        """What a line not seen before says."""
        name, _, value = line[2:].partition(b":")
        found = self._read(name.lower(), value.strip(b" \t"))
        if found is not None and found[0] in (Fact.LENGTH, Fact.CHUNKED):  # it goes on as it came: see `_as_usual`
            text = b"%d" % found[1] if found[0] is Fact.LENGTH else b"chunked"
            found = found if _as_usual(line + b"\r\n", name.lower(), text) else (Fact.LEAVE, 0)
        if len(line) <= LINE_MAX_BYTES:
            if len(self.facts) >= LINES_MAX:
                self.facts.clear()
            self.facts[line] = found
        return found

    def _read(self, name: bytes, value: bytes) -> tuple[Fact, int] | None:
        if name == b"content-length":
            plain = DIGITS.fullmatch(value) is not None and len(value) <= LENGTH_MAX_DIGITS
            return (Fact.LENGTH, int(value)) if plain else (Fact.LEAVE, 0)
        if name == b"transfer-encoding":
            return (Fact.CHUNKED if value.lower() == b"chunked" else Fact.LEAVE), 0
        if name == b"connection":
            option = value.lower()
            known = {b"keep-alive": Fact.NOTHING, b"close": Fact.CLOSE}
            return known.get(option, Fact.LEAVE), 0
        if name == b"keep-alive":
            said_s = promised_s(value)
            return (Fact.NOTHING, 0) if said_s is None else (Fact.PROMISE, int(said_s))
        if name in self._left:
            return Fact.LEAVE, 0
        return (Fact.NOTHING, 0) if name in HOP_BY_HOP else None


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
    b"te": Act.TAKE,
    b"upgrade": Act.TAKE,
    b"http2-settings": Act.DROP,
    b"expect": Act.LEAVE,
}
