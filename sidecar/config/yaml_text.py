"""YAML text -> trees of nodes, one for each document, safely and without YAML's surprises.

Built from PyYAML's events, not from its objects: values keep their place, and the bounds below hold while reading.
Scalars follow JSON's idea of numbers and booleans; what readers of YAML 1.1 and 1.2 take differently (`no`, `012`,
`22:30`, `1e3`) is an error that says what to write instead. Tags, merge keys and non-text field names are refused.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

from sidecar.config.grammar import shown
from sidecar.config.node import MISSING, Node, Source, Value
from sidecar.config.scalars import plain_scalar

MAX_TEXT_BYTES = 1_048_576  # one file or one `apply`; ten thousand routes are many files
MAX_DEPTH = 32  # the deepest kind has 12 levels
MAX_NODES = 200_000  # aliases count as what they stand for, so ten lines cannot become a billion

_BAD_CHARACTER = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


class _UnusableTextError(Exception):
    """The text cannot be read on from here."""

    def __init__(self, message: str, place: "_Place") -> None:
        super().__init__(message)
        self.place = place


def read_yaml(text: str, source: Source) -> list[Node]:
    """The documents of `text`; empty ones are left out. Problems go to `source`.

    After bad syntax the documents before it are kept, so that their problems are seen in the same run.
    """
    text = text.removeprefix("\ufeff")
    whole = Node(source, None, 1, 1)
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        whole.complain(f"the text is larger than {MAX_TEXT_BYTES} bytes (1 MiB); split it into several files")
        return []
    bad = _BAD_CHARACTER.search(text)
    if bad is not None:
        before = text[: bad.start()]
        whole.line, whole.column = before.count("\n") + 1, bad.start() - before.rfind("\n")
        whole.complain(f"character U+{ord(bad[0]):04X} is not allowed in YAML; remove it")
        return []
    builder = _Builder(source)
    try:
        for event in _events(text):
            builder.take(event)
    except _UnusableTextError as refused:
        whole.line, whole.column = refused.place
        whole.complain(str(refused))
    return [document for document in builder.documents if document.value is not None]


def _events(text: str) -> Iterator[yaml.Event]:
    """PyYAML's events; raises _UnusableTextError on bad syntax.

    libyaml is ten times faster, but PyYAML's own scanner says better what is wrong: it reads a bad text again, so that
    messages do not depend on how PyYAML was built.
    """
    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OverflowError) as fast:
        raise _refusal(_careful(text, fast)) from None


def _careful(text: str, fast: Exception) -> Exception:
    """What PyYAML's own scanner has against a text, or `fast` if that says it no better."""
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.MarkedYAMLError as careful:
        return careful
    except (yaml.YAMLError, ValueError, OverflowError):
        pass  # a number or escape out of range, which only libyaml gives a place
    return fast


def _refusal(error: Exception) -> _UnusableTextError:
    """One sentence with a place for a syntax error."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return _UnusableTextError("is not valid YAML: a character escape or number in it is out of range", _Place(1, 1))
    what = error.problem or "something is wrong here"
    if "'\\t'" in what:
        what = "a tab stands where YAML wants blanks; indent with spaces"
    where = ""
    if error.context and error.context_mark is not None:
        where = f" ({error.context} that starts at {error.context_mark.line + 1}:{error.context_mark.column + 1})"
    return _UnusableTextError(f"is not valid YAML: {what}{where}", _Place(mark.line + 1, mark.column + 1))


def _start(event: yaml.Event) -> _Place:
    mark = event.start_mark
    return _Place(1, 1) if mark is None else _Place(mark.line + 1, mark.column + 1)


class _Builder:
    """Events in, documents out. Keeps the open containers on its own stack, never on Python's."""

    def __init__(self, source: Source) -> None:
        self.documents: list[Node] = []
        self._source = source
        self._open: list[Node] = []
        self._open_anchors: list[str | None] = []
        self._keys: list[yaml.ScalarEvent | None] = []  # for each open container, the field name that waits
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event. Raises _UnusableTextError where a bound or a rule of structure is broken."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._container(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._container(event, [])
        elif isinstance(event, yaml.CollectionEndEvent):
            node, anchor = self._open.pop(), self._open_anchors.pop()
            self._keys.pop()
            if anchor is not None:
                self._anchors[anchor] = node
            if not self._open:
                self.documents.append(node)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._wants_key():
            if event.value == "<<" and not event.style:
                raise _UnusableTextError("merge keys (<<) are not supported; write the fields out", _start(event))
            self._keys[-1] = event
            return
        node = self._node(event, event.value)
        if event.tag is not None:
            node.complain(f"tags such as {shown(event.tag)} are not supported; put the value in quotes if it is text")
            node.value = MISSING
        elif not event.style:
            node.spelled = event.value
            node.value = plain_scalar(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _container(self, event: yaml.CollectionStartEvent, value: Value) -> None:
        if self._wants_key():
            raise _UnusableTextError("a field name must be plain text, not a list or mapping", _start(event))
        if len(self._open) >= MAX_DEPTH:
            raise _UnusableTextError(f"values are nested more than {MAX_DEPTH} deep", _start(event))
        node = self._node(event, value)
        if event.tag is not None:
            node.complain(f"tags such as {shown(event.tag)} are not supported")
        self._open.append(node)
        self._open_anchors.append(event.anchor)
        self._keys.append(None)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if self._wants_key():
            raise _UnusableTextError("a field name must be plain text, not an alias", _start(event))
        name = event.anchor or ""
        original = self._anchors.get(name)
        if original is None:
            raise _UnusableTextError(f"alias {shown('*' + name)} has no complete anchor before it", _start(event))
        self._put(self._copy(original, _start(event), len(self._open)), _start(event))

    def _copy(self, original: Node, place: _Place, depth: int) -> Node:
        """A copy of what an alias stands for; it keeps the place of the original and gets its own path."""
        if depth > MAX_DEPTH:
            raise _UnusableTextError(f"values are nested more than {MAX_DEPTH} deep", place)
        self._counted(place)
        made = Node(self._source, original.value, original.line, original.column, original.spelled)
        if isinstance(original.value, dict):
            made.value = {}
            for name, node in original.value.items():
                below = self._copy(node, place, depth + 1)
                below.key, below.parent, below.key_line, below.key_column = name, made, node.key_line, node.key_column
                made.value[name] = below
        elif isinstance(original.value, list):
            made.value = []
            for index, node in enumerate(original.value):
                below = self._copy(node, place, depth + 1)
                below.key, below.parent = index, made
                made.value.append(below)
        return made

    def _counted(self, place: _Place) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise _UnusableTextError(
                f"there are more than {MAX_NODES} values, aliases counted as what they stand for", place
            )

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._keys[-1] is None

    def _node(self, event: yaml.NodeEvent, value: Value) -> Node:
        place = _start(event)
        self._counted(place)
        node = Node(self._source, value, *place)
        self._put(node, place)
        return node

    def _put(self, node: Node, place: _Place) -> None:
        """Set a node into the innermost open container."""
        if not self._open:
            if not isinstance(node.value, dict | list):  # those are documents when they are complete
                self.documents.append(node)
            return
        parent = node.parent = self._open[-1]
        if isinstance(parent.value, list):
            node.key = len(parent.value)
            parent.value.append(node)
        elif isinstance(parent.value, dict):
            name = self._keys[-1]
            assert name is not None, place
            self._keys[-1] = None
            node.key = name.value
            node.key_line, node.key_column = _start(name)
            first = parent.value.setdefault(name.value, node)
            if first is not node:
                node.complain_at_key(
                    f"field {shown(name.value)} is there twice; the first is at {first.key_line}:{first.key_column}"
                )
