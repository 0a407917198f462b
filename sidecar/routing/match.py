"""Find the rule for a request head, with Gateway API's precedence, without walking all rules.

Built once per service by `routing/compile.py`. An exact path is one look-up. Prefixes are tried from the longest down,
one look-up for each *length* that occurs, so that neither the number of routes nor a path of a thousand slashes costs
more. Among rules with the same path, the order was settled when the matcher was built.

Paths are compared as they are in the head: bytes, case-sensitive, without the query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sidecar.model.messages import RequestHead
from sidecar.model.routes import HeaderMatch, PathKind, RouteMatch

_SLASH = ord("/")

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    """What a request must fulfil besides its path, and where that leads."""

    method: bytes | None
    headers: tuple[tuple[bytes, bytes], ...]
    target: T

    def takes(self, head: RequestHead) -> bool:
        if self.method is not None and self.method != head.method:
            return False
        return not self.headers or all(head.get(name) == value for name, value in self.headers)

    @property
    def rank(self) -> tuple[bool, int]:
        """Sorts first what wins: a method, then the most headers."""
        return self.method is None, -len(self.headers)


class Matcher(Generic[T]):
    """Compiled matches; immutable once made."""

    __slots__ = ("_exact", "_lengths", "_only", "_prefix")

    def __init__(self, matches: Iterable[tuple[RouteMatch, T]]) -> None:
        """Compile `matches`, given in the order that breaks ties: oldest route first, then by name, then by rule."""
        self._exact: dict[bytes, list[_Entry[T]]] = {}
        self._prefix: dict[bytes, list[_Entry[T]]] = {}
        for match, target in matches:
            value = match.path.value.encode()
            entry = _Entry(match.method.encode() if match.method else None, _headers(match.headers), target)
            if match.path.kind is PathKind.EXACT:
                self._exact.setdefault(value, []).append(entry)
            else:
                self._prefix.setdefault(value.rstrip(b"/"), []).append(entry)
        for entries in (*self._exact.values(), *self._prefix.values()):
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
                if entry.takes(head):
                    return entry.target
        size = len(path)
        for length in self._lengths:
            # Whole segments only: `/a` takes `/a` and `/a/b`, not `/ab`. Length 0 is `/`, which takes everything.
            if length and (length > size or (length < size and path[length] != _SLASH)):
                continue
            for entry in self._prefix.get(path[:length], ()):
                if entry.takes(head):
                    return entry.target
        return None

    def _single(self) -> T | None:
        """The target when every request leads there: nothing but one unconditional `/`."""
        entries = self._prefix.get(b"", [])
        if self._exact or len(self._prefix) != 1 or not entries or entries[0].rank != (True, 0):
            return None
        return entries[0].target


def _headers(matches: tuple[HeaderMatch, ...]) -> tuple[tuple[bytes, bytes], ...]:
    """As bytes; of several matches for one name only the first counts (Gateway API)."""
    wanted: dict[bytes, bytes] = {}
    for match in matches:
        wanted.setdefault(match.name.lower().encode(), match.value.encode())
    return tuple(wanted.items())
