"""Regular expressions that cannot be made slow: the part of RE2's language that asks yes or no, in linear time.

Python's `re` backtracks: `(a+)+b`, and already `.*a.*b.*c`, let a client buy seconds of our time with one path. Here an
expression becomes a set of *positions* (one for each byte that it can take), and matching moves the set of positions
reached so far forward by one byte after the other, however the expression is written. A step is remembered, so that a
byte mostly costs one look-up. No backreferences, no lookaround, no captures: they would need more than that.

Compared are bytes, all of the value, with case unless the expression begins with `(?i)`; `^` at its begin and `$` at
its end are allowed and say nothing new. Users' text comes from `config`, which gives complaints their place.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

MAX_PATTERN = 1024  # characters; Gateway API's limit for paths
MAX_VALUE_BYTES = 1024  # longer values do not match: the longest path or header that is worth choosing a route by
MAX_POSITIONS = 256  # a UUID has 36; with MAX_VALUE_BYTES this bounds the work for one value to some milliseconds
_MAX_NODES = 4096  # visited while compiling; repeats of nothing make no positions
_MAX_DEPTH = 20  # of groups in groups; each is a few Python calls
_MAX_REPEAT = 255
_MAX_MEMORY = 2048  # remembered steps of one expression, about 150 KiB

_ANY = (1 << 256) - 1
_COUNT = re.compile(r"\{([0-9]{1,4})(,?)([0-9]{0,4})\}")
_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def _bytes(test: Callable[[str], bool]) -> int:
    """The ASCII bytes that fulfil `test`, one bit each."""
    return sum(1 << byte for byte in range(128) if test(chr(byte)))


_DIGITS = _bytes(str.isdigit)
_WORDS = _bytes(lambda char: char.isalnum() or char == "_")
_BLANKS = _bytes(lambda char: char in "\t\n\f\r ")
_CLASSES = {
    "d": _DIGITS,
    "w": _WORDS,
    "s": _BLANKS,
    "D": _ANY & ~_DIGITS,
    "W": _ANY & ~_WORDS,
    "S": _ANY & ~_BLANKS,
}


class Pattern:
    """A compiled expression. Raises ValueError with what is wrong with it, for a user to read."""

    __slots__ = ("_by_byte", "_empty", "_first", "_follow", "_last", "_reach", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        tree = _Parser(text).parse()
        made = _Positions()
        self._empty, self._first, self._last = made.of(tree)
        self._follow = made.follow
        self._by_byte = [
            sum(1 << index for index, takes in enumerate(made.takes) if takes >> byte & 1) for byte in range(256)
        ]
        self._reach: dict[int, int] = {}  # from the positions reached to those that may come next

    def matches(self, value: bytes) -> bool:
        """True when the expression takes all of `value`. Never raises; a value above MAX_VALUE_BYTES never matches."""
        if not value:
            return self._empty
        if len(value) > MAX_VALUE_BYTES:
            return False
        by_byte, reach, last = self._by_byte, self._reach, len(value) - 1
        at = self._first & by_byte[value[0]]
        for index in range(1, last + 1):
            if not at:
                return False
            following = reach.get(at)
            if following is None:
                following = self._from(at)
            at = following & by_byte[value[index]]
        return at & self._last != 0

    def _from(self, at: int) -> int:
        following, rest = 0, at
        while rest:
            lowest = rest & -rest
            following |= self._follow[lowest.bit_length() - 1]
            rest ^= lowest
        if len(self._reach) >= _MAX_MEMORY:
            self._reach.clear()
        self._reach[at] = following
        return following


class _Bytes(NamedTuple):
    """One byte out of a set."""

    takes: int


class _Sequence(NamedTuple):
    parts: "list[_Tree]"


class _Choice(NamedTuple):
    parts: "list[_Tree]"


class _Repeat(NamedTuple):
    part: "_Tree"
    least: int
    most: int | None


_Tree = _Bytes | _Sequence | _Choice | _Repeat
_Reached = tuple[bool, int, int]  # may it be empty, where may it begin, where may it end


class _Positions:
    """Glushkov's construction: which position may follow which."""

    def __init__(self) -> None:
        self.takes: list[int] = []
        self.follow: list[int] = []
        self._nodes = 0

    def of(self, tree: _Tree) -> _Reached:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(self.takes) > MAX_POSITIONS:
            raise ValueError(f"it is too large (counted repeats written out, at most {MAX_POSITIONS} characters)")
        match tree:
            case _Bytes(takes):
                self.takes.append(takes)
                self.follow.append(0)
                place = 1 << len(self.takes) - 1
                return False, place, place
            case _Sequence(parts):
                return self._in_turn(self.of(part) for part in parts)
            case _Choice(parts):
                empty, first, last = False, 0, 0
                for part in parts:
                    also_empty, also_first, also_last = self.of(part)
                    empty, first, last = empty or also_empty, first | also_first, last | also_last
                return empty, first, last
            case _Repeat(part, least, most):
                times = max(least, 1) if most is None else most
                return self._in_turn(self._copy(part, n, least, most, times) for n in range(times))

    def _copy(self, part: _Tree, number: int, least: int, most: int | None, times: int) -> _Reached:
        """One of the copies that a repeat is written out to; the last of an unbounded one leads back to itself."""
        empty, first, last = self.of(part)
        if most is None and number == times - 1:
            self._link(last, first)
        return empty or number >= least, first, last

    def _in_turn(self, parts: Iterable[_Reached]) -> _Reached:
        empty, first, last = True, 0, 0
        for next_empty, next_first, next_last in parts:
            self._link(last, next_first)
            first |= next_first if empty else 0
            last = next_last | (last if next_empty else 0)
            empty = empty and next_empty
        return empty, first, last

    def _link(self, last: int, first: int) -> None:
        while last:
            lowest = last & -last
            self.follow[lowest.bit_length() - 1] |= first
            last ^= lowest


class _Parser:
    """Text -> tree."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise ValueError(f"it is {len(text)} characters long; at most {MAX_PATTERN} are allowed")
        self._folds = text.startswith("(?i)")
        text = text.removeprefix("(?i)").removeprefix("^")
        if text.endswith("$") and (len(text) - len(text[:-1].rstrip("\\"))) % 2:
            text = text[:-1]
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Tree:
        tree = self._choice()
        if self._at < len(self._text):
            raise ValueError("a ')' has no '('")
        return tree

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _choice(self) -> _Tree:
        parts = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Choice(parts)

    def _sequence(self) -> _Tree:
        parts: list[_Tree] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return _Sequence(parts)

    def _repeated(self, part: _Tree) -> _Tree:
        counted = _COUNT.match(self._text, self._at)
        if counted is not None:
            self._at = counted.end()
            least = int(counted[1])
            most = int(counted[3]) if counted[3] else None if counted[2] else least
            if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
                raise ValueError(f"{counted[0]} does not count from low to high, to {_MAX_REPEAT} at most")
        elif self._peek() in _QUANTIFIERS and self._peek():
            least, most = _QUANTIFIERS[self._take()]
        else:
            return part
        if self._peek() == "?":
            self._at += 1  # "as few as possible" makes no difference to whether all of a value is taken
        if (self._peek() in _QUANTIFIERS and self._peek()) or _COUNT.match(self._text, self._at):
            raise ValueError("a quantifier follows a quantifier; put the part before it in (?:...)")
        return _Repeat(part, least, most)

    def _atom(self) -> _Tree:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return _Bytes(self._class())
        if char == ".":
            return _Bytes(_ANY)
        if char == "\\":
            return _Bytes(self._escape())
        if char in "*+?{":
            raise ValueError(f"{char!r} has nothing before it to repeat; write \\{char} for the character itself")
        if char in "^$":
            raise ValueError(f"{char!r} is allowed at the {'begin' if char == '^' else 'end'} only")
        parts: list[_Tree] = [_Bytes(self._fold(1 << byte)) for byte in char.encode("utf-8", "surrogatepass")]
        return parts[0] if len(parts) == 1 else _Sequence(parts)

    def _group(self) -> _Tree:
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._peek() == "?":
            raise ValueError("of (?...) only (?:...) is supported, and (?i) at the begin: no lookaround, no names")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"it has groups in groups more than {_MAX_DEPTH} deep")
        tree = self._choice()
        self._depth -= 1
        if self._take() != ")":
            raise ValueError("a '(' has no ')'")
        return tree

    def _escape(self) -> int:
        char = self._take()
        if char in _CLASSES and char:
            return _CLASSES[char]
        if not char or not char.isascii() or char.isalnum():
            raise ValueError(f"'\\{char}' is not supported (supported: \\d \\w \\s \\D \\W \\S, \\ before punctuation)")
        return 1 << ord(char)

    def _class(self) -> int:
        negated = self._peek() == "^"
        self._at += negated
        takes, first = 0, True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._member()
                if low.bit_count() != 1 or high.bit_count() != 1 or high < low:
                    raise ValueError("a range in [...] does not go from a lower to a higher character")
                takes |= (high << 1) - low  # all bits from that of low to that of high
            else:
                takes |= low
        self._at += 1
        takes = self._fold(takes)
        return _ANY & ~takes if negated else takes

    def _member(self) -> int:
        if self._text.startswith("[:", self._at):
            raise ValueError("[:names:] in [...] are not supported; write \\d, \\w, \\s or ranges")
        char = self._take()
        if char == "\\":
            return self._escape()
        if not char:
            raise ValueError("a '[' has no ']'")
        if not char.isascii():
            raise ValueError(f"{char!r} in [...] is not ASCII; values are compared as bytes")
        return 1 << ord(char)

    def _fold(self, takes: int) -> int:
        if self._folds:
            upper = takes & _bytes(lambda char: "A" <= char <= "Z")
            lower = takes & _bytes(lambda char: "a" <= char <= "z")
            takes |= upper << 32 | lower >> 32  # ASCII letters differ in 0x20 only
        return takes
