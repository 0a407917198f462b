"""What a route's rule looks at: path, headers, method; nodes <-> model.

The limits on paths are Gateway API's: parts that servers read differently (`//`, `..`, `%2F`) are refused.
"""

import re
from collections.abc import Sequence

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.model.routes import HeaderMatch, PathKind, PathMatch, RouteMatch

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~`]{1,256}")
# Gateway API's pattern for paths, and the parts that it refuses because servers disagree on what they mean.
_PATH = re.compile(r"/(?:[A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_UNCLEAR_PATH = re.compile(r"//|/\.\.?(?:/|$)|%2[fF]|#")


def parse_matches(node: Node) -> tuple[RouteMatch, ...]:
    return tuple(_match(item) for item in node.items())


def _match(node: Node) -> RouteMatch:
    got = node.fields("path", "headers", "method", unsupported=("queryParams",))
    return RouteMatch(
        got.maybe("path", _path, PathMatch()),
        got.maybe("headers", _headers, ()),
        got.maybe("method", lambda field: field.one_of(_METHODS), None),
    )


def _path(node: Node) -> PathMatch:
    got = node.fields("type", "value")
    kind = got.maybe("type", lambda field: field.choice(PathKind), PathKind.PREFIX)
    return PathMatch(kind, got.maybe("value", _path_value, "/"))


def _path_value(node: Node) -> str:
    text = node.text(1024)
    if text and (not _PATH.fullmatch(text) or _UNCLEAR_PATH.search(text)):
        node.complain(
            f"{grammar.shown(text)} is not a path such as /api/v1: it starts with '/', has no query, "
            "no empty, '.' or '..' part and no %2F"
        )
    return text


def _headers(node: Node) -> tuple[HeaderMatch, ...]:
    items = node.items()
    headers = tuple(_header(item) for item in items)
    complain_of_twins(items, [header.name for header in headers], "header name (case does not count)")
    return headers


def _header(node: Node) -> HeaderMatch:
    got = node.fields("type", "name", "value")
    got.maybe("type", lambda field: field.one_of(("Exact",), "; that is all this version supports"), "")
    name_node = got.need("name", "the header's name")
    name = name_node.text(256)
    if name and not _HEADER_NAME.fullmatch(name):
        name_node.complain(f"{grammar.shown(name)} is not a header name such as x-canary")
    return HeaderMatch(name.lower(), got.need("value", "the header's exact value").text(4096))


def encode_match(match: RouteMatch) -> dict[str, Json]:
    """A match as it stands in a document."""
    made: dict[str, Json] = {"path": {"type": match.path.kind.value, "value": match.path.value}}
    if match.headers:
        made["headers"] = [{"type": "Exact", "name": header.name, "value": header.value} for header in match.headers]
    if match.method is not None:
        made["method"] = match.method
    return made


def complain_of_twins(nodes: list[Node], names: Sequence[object], what: str) -> None:
    """Complain about nodes whose names are there already; None and "" are no names."""
    seen = set()
    for node, name in zip(nodes, names, strict=True):
        if name and name in seen:
            node.complain(f"this {what} is there twice")
        seen.add(name)
