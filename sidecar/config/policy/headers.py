"""Fields of a message by name and perhaps value, as several sections of a TrafficPolicy name them."""

import re

from sidecar.config import grammar
from sidecar.config.node import Json, Node

MAX_NAMED = 16  # looked through for each request or answer
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Conditions = tuple[tuple[str, str | None], ...]


def parse_headers(node: Node) -> Conditions:
    """Each name in lower case, and the value that it must have; None: any."""
    return tuple(_header(item) for item in few(node))


def few(node: Node) -> list[Node]:
    """The members of a list that is gone through for each message."""
    items = node.items()
    if len(items) > MAX_NAMED:
        node.complain(f"has {len(items)} members; at most {MAX_NAMED} are allowed")
    return items


def _header(node: Node) -> tuple[str, str | None]:
    got = node.fields("name", "value")
    name = got.need("name", "the header's name").parsed(_parse_name, "x", 64)
    return name.lower(), got.maybe("value", lambda field: field.text(256), None)


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a header name such as x-canary")
    return text


def encode_headers(conditions: Conditions) -> list[Json]:
    """What `parse_headers` reads."""
    return [{"name": name} if value is None else {"name": name, "value": value} for name, value in conditions]
