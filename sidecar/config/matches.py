"""What a route's rule looks at: path, headers, query, method; nodes <-> model.

The limits on paths are Gateway API's: parts that servers read differently (`//`, `..`, `%2F`) are refused. Regular
expressions are those of `model/pattern.py`.
"""

import re
from collections.abc import Sequence

from sidecar.config import grammar
from sidecar.config.node import Fields, Json, Node
from sidecar.model.pattern import Pattern
from sidecar.model.routes import HeaderMatch, PathKind, PathMatch, QueryMatch, RouteMatch, ValueKind

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~`]{1,256}")
# Gateway API's pattern for paths, and the parts that it refuses because servers disagree on what they mean.
_PATH = re.compile(r"/(?:[A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_UNCLEAR_PATH = re.compile(r"//|/\.\.?(?:/|$)|%2[fF]|#")


def parse_matches(node: Node) -> tuple[RouteMatch, ...]:
    return tuple(_match(item) for item in node.items())


def _match(node: Node) -> RouteMatch:
    got = node.fields("path", "headers", "queryParams", "method")
    return RouteMatch(
        got.maybe("path", _path, PathMatch()),
        got.maybe("headers", parse_headers, ()),
        got.maybe("method", lambda field: field.one_of(_METHODS), None),
        got.maybe("queryParams", _query, ()),
    )


def _path(node: Node) -> PathMatch:
    got = node.fields("type", "value")
    kind = got.maybe("type", lambda field: field.choice(PathKind), PathKind.PREFIX)
    read = pattern_text if kind is PathKind.REGEX else path_value
    return PathMatch(kind, got.maybe("value", read, "/"))


def path_value(node: Node) -> str:
    """A path as Gateway API allows it."""
    text = node.text(1024)
    if text and (not _PATH.fullmatch(text) or _UNCLEAR_PATH.search(text)):
        node.complain(
            f"{grammar.shown(text)} is not a path such as /api/v1: it starts with '/', has no query, "
            "no empty, '.' or '..' part and no %2F"
        )
    return text


def pattern_text(node: Node) -> str:
    """A regular expression that `Pattern` takes; the text as it was written."""
    return node.parsed(_parse_pattern, "")


def _parse_pattern(text: str) -> str:
    try:
        Pattern(text)
    except ValueError as refusal:
        raise ValueError(f"{grammar.shown(text)} is not a regular expression of this version: {refusal}") from None
    return text


def parse_headers(node: Node) -> tuple[HeaderMatch, ...]:
    """The `headers` of a match; each name once."""
    items = node.items()
    headers = tuple(_header(item) for item in items)
    complain_of_twins(items, [header.name for header in headers], "header name (case does not count)")
    return headers


def _header(node: Node) -> HeaderMatch:
    got = node.fields("type", "name", "value")
    kind = _value_kind(got)
    name = header_name(got.need("name", "the header's name"))
    return HeaderMatch(name.lower(), _value(got, kind, "the header's value"), kind)


def header_name(node: Node) -> str:
    """A field name (RFC 9110 section 5.1), in the case that it was written in."""
    name = node.text(256)
    if name and not _HEADER_NAME.fullmatch(name):
        node.complain(f"{grammar.shown(name)} is not a header name such as x-canary")
    return name


def _query(node: Node) -> tuple[QueryMatch, ...]:
    items = node.items()
    matches = tuple(_query_match(item) for item in items)
    complain_of_twins(items, [match.name for match in matches], "query parameter")
    return matches


def _query_match(node: Node) -> QueryMatch:
    got = node.fields("type", "name", "value")
    kind = _value_kind(got)
    return QueryMatch(got.need("name", "the parameter's name").text(256), _value(got, kind, "its value"), kind)


def _value_kind(got: Fields) -> ValueKind:
    return got.maybe("type", lambda field: field.choice(ValueKind), ValueKind.EXACT)


def _value(got: Fields, kind: ValueKind, what: str) -> str:
    node = got.need("value", what)
    return pattern_text(node) if kind is ValueKind.REGEX else node.text(4096)


def encode_match(match: RouteMatch) -> dict[str, Json]:
    """A match as it stands in a document."""
    made: dict[str, Json] = {"path": {"type": match.path.kind.value, "value": match.path.value}}
    if match.headers:
        made["headers"] = encode_values(match.headers)
    if match.query:
        made["queryParams"] = encode_values(match.query)
    if match.method is not None:
        made["method"] = match.method
    return made


def encode_values(matches: Sequence[HeaderMatch | QueryMatch]) -> list[Json]:
    """The `headers` or `queryParams` of a document."""
    return [{"type": match.kind.value, "name": match.name, "value": match.value} for match in matches]


def complain_of_twins(nodes: list[Node], names: Sequence[object], what: str) -> None:
    """Complain about nodes whose names are there already; None and "" are no names."""
    seen = set()
    for node, name in zip(nodes, names, strict=True):
        if name and name in seen:
            node.complain(f"this {what} is there twice")
        seen.add(name)
