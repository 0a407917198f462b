"""A value of a configuration text that knows where it stands and can say what is wrong with it.

`yaml_text.py` and `json_text.py` make trees of nodes; the parsers of each kind ask them for what they expect. A node
that is not what was asked for complains once and returns a harmless stand-in, so that the parser goes on and finds the
other problems too; whoever started the load raises in the end, and no stand-in ever reaches the model.
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeAlias, TypeVar

from sidecar.config import grammar
from sidecar.config.grammar import shown
from sidecar.config.problems import Problem, Problems
from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import ServiceKey

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | Missing | Doubtful | None"
T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Missing:
    """The value of a node that was complained about already: it answers with stand-ins and is silent."""


class Doubtful:
    """A word that readers of YAML take differently, such as `off`; fine only where that very word is asked for."""

    __slots__ = ("hint", "text")

    def __init__(self, text: str, hint: str) -> None:
        self.text = text
        self.hint = hint


MISSING = Missing()


class Source:
    """What all nodes of one text share.

    Attributes:
        file: Name for messages; "" on the wire.
        strict: Unknown fields are errors (files). False ignores them, because the other side may be newer (wire).
        spoken: Scalars come as bare text and take the type that is asked for (environment variables).
    """

    __slots__ = ("file", "problems", "spoken", "strict")

    def __init__(self, file: str, problems: Problems, *, strict: bool = True, spoken: bool = False) -> None:
        self.file = file
        self.problems = problems
        self.strict = strict
        self.spoken = spoken


class Node:
    """One value. `parent` and `key` give its path, `line` and `column` its place (0: none)."""

    __slots__ = ("column", "key", "key_column", "key_line", "line", "parent", "source", "spelled", "value")

    def __init__(self, source: Source, value: Value, line: int = 0, column: int = 0, spelled: str = "") -> None:
        self.source = source
        self.value = value
        self.line = line
        self.column = column
        self.spelled = spelled  # a number or boolean as it was written
        self.key: str | int = ""
        self.parent: Node | None = None
        self.key_line = 0
        self.key_column = 0

    @property
    def path(self) -> str:
        """Where the value is in its document: `spec.rules[0].backendRefs[1].weight`."""
        if self.parent is None:
            return ""
        above = self.parent.path
        if isinstance(self.key, int):
            return f"{above}[{self.key}]"
        if not _SIMPLE_KEY.fullmatch(self.key):
            return f"{above}[{shown(self.key)}]"
        return f"{above}.{self.key}" if above else self.key

    # Saying what is wrong

    def complain(self, message: str) -> None:
        """Add an error at this value."""
        if self.value is not MISSING:
            self.source.problems.add(self.problem_at(message, self.line, self.column))

    def complain_at_key(self, message: str) -> None:
        """Add an error at the name of this field."""
        self.source.problems.add(self.problem_at(message, self.key_line or self.line, self.key_column or self.column))

    def warn(self, message: str) -> None:
        """Add a warning at this value."""
        if self.value is not MISSING:
            self.source.problems.warn(self.problem_at(message, self.line, self.column))

    def problem(self, message: str) -> Problem:
        """A problem at this value, for checks that gather their own."""
        return self.problem_at(message, self.line, self.column)

    def problem_at(self, message: str, line: int, column: int) -> Problem:
        """A problem with this value's file and path at another place of the file."""
        return Problem(self.source.file, line, column, self.path or "document", message)

    def _expected(self, what: str) -> None:
        """Complain that the value is not `what`."""
        value = self.value
        if isinstance(value, Doubtful):
            self.complain(value.hint)
        elif value is None:
            self.complain(f"is empty; give {what}, or leave the field out")
        elif isinstance(value, list):
            self.complain(f"is a list; {what} is needed")
        elif isinstance(value, dict):
            self.complain(f"is a mapping of fields; {what} is needed")
        else:
            self.complain(f"{shown(value) if isinstance(value, str) else self.spelled or value} is not {what}")

    # Structure

    def fields(self, *known: str, unsupported: Sequence[str] = (), ignored: Sequence[str] = ()) -> "Fields":
        """The fields of a mapping; an unknown name is an error with the nearest known one.

        Args:
            unsupported: Fields of the kind that this version does not have; errors on the wire too, because a document
                without one of its parts would mean something else.
            ignored: Fields that may be there and say nothing to us.
        """
        value = self.value
        if not isinstance(value, dict):
            self._expected("a mapping of fields (" + ", ".join(known) + ")")
            return Fields(Node(self.source, MISSING), {})
        strict = self.source.strict
        found = {}
        for name, node in value.items():
            if name in known:
                if strict or node.value is not None:
                    found[name] = node
            elif name in unsupported:
                node.complain_at_key(f"is not supported in this version (supported here: {', '.join(known)})")
            elif strict and name not in ignored:
                node.complain_at_key(f"unknown field {shown(name)} ({_suggestion(name, known)})")
        return Fields(self, found)

    def entries(self) -> "dict[str, Node]":
        """The entries of a mapping whose names are the user's own, such as labels."""
        if isinstance(self.value, dict):
            return self.value
        self._expected("a mapping of names to values")
        return {}

    def items(self, at_least: int = 0) -> "list[Node]":
        """The members of a list."""
        if not isinstance(self.value, list):
            self._expected("a list")
            return []
        if len(self.value) < at_least:
            self.complain(f"is an empty list; at least {at_least} is needed")
        return self.value

    def find(self, *keys: str | int) -> "Node | None":
        """The node at a path below this one, or None."""
        node: Node | None = self
        for key in keys:
            if node is None:
                break
            value = node.value
            if isinstance(key, str):
                node = value.get(key) if isinstance(value, dict) else None
            else:
                node = value[key] if isinstance(value, list) and key < len(value) else None
        return node

    def at(self, *keys: str | int) -> "Node":
        """The node at a path below this one, or the last one on the way there that exists."""
        node = self
        for key in keys:
            below = node.find(key)
            if below is None:
                break
            node = below
        return node

    def plain(self) -> Json:
        """The value as JSON knows it."""
        value = self.value
        if isinstance(value, dict):
            return {name: node.plain() for name, node in value.items()}
        if isinstance(value, list):
            return [node.plain() for node in value]
        if isinstance(value, Doubtful):
            return value.text
        return None if isinstance(value, Missing) else value

    # Scalars

    def text(self, at_most: int = 4096) -> str:
        """Text without control characters, not empty, at most `at_most` characters."""
        value = self.value
        if not isinstance(value, str):
            if isinstance(value, bool | int | float):
                spelled = self.spelled or str(value).lower()
                self.complain(f'{spelled} is not text here; put it in quotes: "{spelled}"')
            else:
                self._expected("text")
        elif not value:
            self.complain("is empty text; give a value, or leave the field out")
        elif len(value) > at_most:
            self.complain(f"is {len(value)} characters long; at most {at_most} are allowed")
        elif _UNPRINTABLE.search(value):
            self.complain(f"{shown(value)} has control characters; printable text only")
        else:
            return value
        return ""

    def parsed(self, parse: Callable[[str], T], stand_in: T, at_most: int = 4096) -> T:
        """Text in one of the small languages of `grammar.py`."""
        text = self.text(at_most)
        if not text:
            return stand_in
        try:
            return parse(text)
        except ValueError as refusal:
            self.complain(str(refusal))
            return stand_in

    def integer(self, low: int, high: int) -> int:
        """A whole number in a closed range."""
        value = self._number()
        if isinstance(value, int) and low <= value <= high:
            return value
        self._expected(f"a whole number from {low} to {high}")
        return low

    def number(self, low: float, high: float) -> float:
        """A number in a closed range."""
        value = self._number()
        if value is not None and low <= value <= high:
            return float(value)
        self._expected(f"a number from {low:g} to {high:g}")
        return low

    def _number(self) -> int | float | None:
        value = self.value
        if self.source.spoken and isinstance(value, str):
            if re.fullmatch(r"-?[0-9]{1,18}", value):
                return int(value)
            if re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{1,18}", value):
                return float(value)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def boolean(self) -> bool:
        """`true` or `false`."""
        if isinstance(self.value, bool):
            return self.value
        if self.source.spoken and self.value in ("true", "false"):
            return self.value == "true"
        self._expected("true or false")
        return False

    def port(self, low: int = 1) -> int:
        """A port number."""
        return self.integer(low, 65_535)

    def seconds(self, at_least: float = 0.001) -> float:
        """A duration in seconds; by default more than `0s`."""
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            self.complain(f"{self.spelled or self.value} has no unit; write a duration such as 250ms, 3s or 1m30s")
            return at_least
        seconds = self.parsed(grammar.parse_duration, at_least, 64)
        if seconds < at_least:
            self.complain(f"{shown(self.value)} is too short; at least {grammar.format_duration(at_least)} is needed")
        return seconds

    def quantity_bytes(self, low: int, high: int) -> int:
        """A size in bytes: `64Ki`, or a whole number."""
        plain = isinstance(self.value, int) and not isinstance(self.value, bool)
        size = self.integer(0, 2**50) if plain else self.parsed(grammar.parse_quantity, low, 32)
        if not low <= size <= high:
            self.complain(
                f"{self.spelled or self.value} is out of range: "
                f"{grammar.format_quantity(low)} to {grammar.format_quantity(high)}"
            )
            return low
        return size

    def one_of(self, known: Sequence[str], why: str = "") -> str:
        """One of a few words, "" among them if listed. `why` is added to the complaint. Errors on the wire too."""
        value = self.value.text if isinstance(self.value, Doubtful) and self.value.text in known else self.value
        if isinstance(value, str) and value in known:
            return value
        if isinstance(value, str):
            self.complain(f"{shown(value)} is not known ({_suggestion(value, known)}){why}")
        else:
            self.text()
        return known[0]

    def choice(self, kind: type[E]) -> E:
        """A member of an enum, by its value."""
        return kind(self.one_of([member.value for member in kind]))

    def label(self) -> str:
        """A name that is a DNS label."""
        return self.parsed(grammar.parse_label, "")

    def labels(self) -> dict[str, str]:
        """A mapping of names to label values; an empty value is allowed."""
        found = {}
        for name, node in self.entries().items():
            found[name] = "" if node.value == "" else node.parsed(grammar.parse_label_value, "")
        return found

    def address(self, lowest_port: int = 1) -> HostPort:
        """`host:port`; `lowest_port` 0 for listeners."""
        return self.parsed(lambda text: grammar.parse_host_port(text, lowest_port), HostPort("127.0.0.1", 0), 300)

    def service(self, namespace: str) -> ServiceKey:
        """`NAME` in `namespace`, or `NAME.NAMESPACE`."""
        return self.parsed(lambda text: grammar.parse_service(text, namespace), ServiceKey(namespace, ""), 200)


class Fields:
    """The fields of one mapping."""

    __slots__ = ("_found", "node")

    def __init__(self, node: Node, found: dict[str, Node]) -> None:
        self.node = node
        self._found = found

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def get(self, name: str) -> Node | None:
        """The field, or None."""
        return self._found.get(name)

    def need(self, name: str, what: str) -> Node:
        """The field; its absence is an error that says `what` it should be."""
        found = self._found.get(name)
        if found is not None:
            return found
        self.node.complain(f"field '{name}' is missing ({what})")
        return Node(self.node.source, MISSING)

    def maybe(self, name: str, read: Callable[[Node], T], default: D) -> T | D:
        """The field as `read` takes it, or `default` when it is absent."""
        found = self._found.get(name)
        return default if found is None else read(found)


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name[:64], known, n=1, cutoff=0.6)
    listed = "known: " + ", ".join(word or '""' for word in known)
    return f"did you mean {shown(near[0])}? {listed}" if near else listed
