"""Find the rule for a request head, with Gateway API's precedence, without walking all rules.

Built once per service by `routing/compile.py`. An exact path is one look-up. Prefixes are tried from the longest down,
one look-up for each *length* that occurs, so that neither the number of routes nor a path of a thousand slashes costs
more. Regular expressions on paths are tried one by one, after exact paths and before prefixes, the longest first:
Gateway API leaves their place open, and beside a rule for `/` they would never be asked anywhere else. Among rules with
the same path, the order was settled when the matcher was built.

Paths are compared as they are in the head: canonical bytes, case-sensitive, without the query.

A header that came several times fulfils a condition when its values joined by `, ` do (RFC 9110 section 5.3), or when
each of its lines does: one good line never vouches for another. Of a repeated query parameter the first counts.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sidecar.model.messages import RequestHead
from sidecar.model.pattern import Pattern
from sidecar.model.routes import GrpcMatch, HeaderMatch, PathKind, QueryMatch, RouteMatch, ValueKind

_SLASH = ord("/")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

T = TypeVar("T")
Test = Callable[[bytes], bool]
_Wanted = tuple[tuple[bytes, Test], ...]


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    """What a request must fulfil besides its exact path or prefix, and where that leads."""

    method: bytes | None
    headers: _Wanted
    query: _Wanted
    target: T
    path: Test | None = None
    size: int = 0  # of what `path` was made from, in characters

    def takes(self, head: RequestHead, path: bytes) -> bool:
        if self.method is not None and self.method != head.method:
            return False
        if self.path is not None and not self.path(path):
            return False
        if self.headers and not all(_header_holds(head, name, test) for name, test in self.headers):
            return False
        if not self.query:
            return True
        values = first_values(head.target.partition(b"?")[2])
        return all(name in values and test(values[name]) for name, test in self.query)

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        """Sorts first what wins: the longest expression, then a method, the most headers, the most parameters."""
        return -self.size, self.method is None, -len(self.headers), -len(self.query)


class Matcher(Generic[T]):
    """Compiled matches; immutable once made."""

    __slots__ = ("_exact", "_lengths", "_only", "_patterns", "_prefix")

    def __init__(self, matches: Iterable[tuple[RouteMatch | GrpcMatch, T]]) -> None:
        """Compile `matches`, given in the order that breaks ties: oldest route first, then by name, then by rule."""
        self._exact: dict[bytes, list[_Entry[T]]] = {}
        self._prefix: dict[bytes, list[_Entry[T]]] = {}
        self._patterns: list[_Entry[T]] = []
        for match, target in matches:
            if isinstance(match, GrpcMatch):
                self._add_grpc(match, target)
            else:
                self._add(match, target)
        for entries in (*self._exact.values(), *self._prefix.values(), self._patterns):
            entries.sort(key=lambda entry: entry.rank)  # stable: ties keep the order they came in
        self._lengths = sorted({len(prefix) for prefix in self._prefix}, reverse=True)
        self._only = self._single()

    def find(self, head: RequestHead) -> T | None:
        """Where the winning match leads; None when none holds."""
        if self._only is not None:
            return self._only
        path = head.path
        entries = self._exact.get(path)
        if entries is not None:
            for entry in entries:
                if entry.takes(head, path):
                    return entry.target
        for entry in self._patterns:
            if entry.takes(head, path):
                return entry.target
        size = len(path)
        for length in self._lengths:
            # Whole segments only: `/a` takes `/a` and `/a/b`, not `/ab`. Length 0 is `/`, which takes everything.
            if length and (length > size or (length < size and path[length] != _SLASH)):
                continue
            for entry in self._prefix.get(path[:length], ()):
                if entry.takes(head, path):
                    return entry.target
        return None

    def _add(self, match: RouteMatch, target: T) -> None:
        method = match.method.encode() if match.method else None
        entry = _Entry(method, _headers(match.headers), _query(match.query), target)
        value = match.path.value.encode()
        if match.path.kind is PathKind.EXACT:
            self._exact.setdefault(value, []).append(entry)
        elif match.path.kind is PathKind.PREFIX:
            self._prefix.setdefault(value.rstrip(b"/"), []).append(entry)
        else:
            entry.path, entry.size = Pattern(match.path.value).matches, len(match.path.value)
            self._patterns.append(entry)

    def _add_grpc(self, match: GrpcMatch, target: T) -> None:
        """As `/SERVICE/METHOD`. After exact names come services alone, then the rest by its length, then everything:
        Gateway API's order of characters in the service, then in the method, as far as expressions have one."""
        entry = _Entry[T](None, _headers(match.headers), (), target)
        wanted = match.method
        if wanted is None:
            self._prefix.setdefault(b"", []).append(entry)
        elif wanted.kind is ValueKind.EXACT and wanted.service:
            path = f"/{wanted.service}".encode()
            if wanted.method:
                self._exact.setdefault(path + b"/" + wanted.method.encode(), []).append(entry)
            else:
                self._prefix.setdefault(path, []).append(entry)
        else:
            entry.path = _call(_name(wanted.service, wanted.kind), _name(wanted.method, wanted.kind))
            entry.size = len(wanted.service) + len(wanted.method)
            self._prefix.setdefault(b"", []).append(entry)

    def _single(self) -> T | None:
        """The target when every request leads there: nothing but one unconditional `/`."""
        entries = self._prefix.get(b"", [])
        alone = not self._exact and not self._patterns and len(self._prefix) == 1
        return entries[0].target if alone and entries and entries[0].rank == (0, True, 0, 0) else None


def first_values(query: bytes) -> dict[bytes, bytes]:
    """The first value of each parameter of a query, decoded as forms are: `%XX`, and `+` for a blank.

    A parameter without `=` has an empty value. Never raises: a `%` that escapes nothing stands for itself.
    """
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name:
            found.setdefault(_decoded(name), _decoded(value))
    return found


def _decoded(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text) if b"%" in text else text


def _header_holds(head: RequestHead, name: bytes, test: Test) -> bool:
    value = head.get(name)
    if value is None:
        return False
    if test(value):
        return True
    # Only a value with a comma can be several; then each line is asked by itself.
    return b"," in value and all(test(one) for field, one in head.fields if field.lower() == name)


def _headers(matches: tuple[HeaderMatch, ...]) -> _Wanted:
    """Tests by name; of several matches for one name only the first counts (Gateway API)."""
    wanted: dict[bytes, Test] = {}
    for match in matches:
        wanted.setdefault(match.name.lower().encode(), _test(match.value, match.kind))
    return tuple(wanted.items())


def _query(matches: tuple[QueryMatch, ...]) -> _Wanted:
    wanted: dict[bytes, Test] = {}
    for match in matches:
        wanted.setdefault(match.name.encode(), _test(match.value, match.kind))
    return tuple(wanted.items())


def _test(text: str, kind: ValueKind) -> Test:
    return text.encode().__eq__ if kind is ValueKind.EXACT else Pattern(text).matches


def _name(text: str, kind: ValueKind) -> Test:
    return _test(text, kind) if text else lambda name: bool(name)


def _call(service: Test, method: Test) -> Test:
    def takes(path: bytes) -> bool:
        _, _, name = path.partition(b"/")
        asked, slash, called = name.partition(b"/")
        return bool(slash) and service(asked) and method(called)

    return takes
