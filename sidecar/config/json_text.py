"""JSON text -> a tree of nodes: documents of the wire, of the disk cache and of the control plane's store.

JSON has no places, so problems carry the path alone. Repeated names are errors here too: two readers may disagree on
which one counts.
"""

import json
import math

from sidecar.config.grammar import shown
from sidecar.config.node import Json, Node, Source
from sidecar.config.yaml_text import MAX_DEPTH

MAX_JSON_CHARACTERS = 4 * 1_048_576  # a frame of the wire holds no more


class _RepeatedNameError(ValueError):
    """A name that is there twice in one object."""


def read_json(text: str, source: Source) -> Node | None:
    """The tree of `text`, or None after a complaint to `source`."""
    whole = Node(source, None)
    if len(text) > MAX_JSON_CHARACTERS:
        whole.complain(f"the document is larger than {MAX_JSON_CHARACTERS} characters (4 MiB)")
        return None
    try:
        value: Json = json.loads(text, object_pairs_hook=_object)
    except _RepeatedNameError as repeated:
        whole.complain(str(repeated))
    except RecursionError:
        whole.complain(f"values are nested more than {MAX_DEPTH} deep")
    except ValueError as refusal:  # json.JSONDecodeError, and integers of thousands of digits
        whole.complain(f"is not valid JSON: {refusal}")
    else:
        return node_of(value, source)
    return None


def node_of(value: Json, source: Source) -> Node | None:
    """The tree of a decoded value, or None after a complaint to `source`."""
    try:
        return _node(value, source, 0)
    except RecursionError as refusal:
        Node(source, None).complain(str(refusal))
        return None


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _RepeatedNameError(f"field {shown(repeated)} is there twice in one object")
    return found


def _node(value: Json, source: Source, depth: int) -> Node:
    """Plain recursion, bounded by MAX_DEPTH; ten thousand documents of a big push pass through here."""
    if depth > MAX_DEPTH:
        raise RecursionError(f"values are nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        fields: dict[str, Node] = {}
        node = Node(source, fields)
        for name, member in value.items():
            below = fields[name] = _node(member, source, depth + 1)
            below.key = name
            below.parent = node
        return node
    if isinstance(value, list):
        items: list[Node] = []
        node = Node(source, items)
        for index, member in enumerate(value):
            below = _node(member, source, depth + 1)
            below.key = index
            below.parent = node
            items.append(below)
        return node
    if isinstance(value, float) and not math.isfinite(value):
        return Node(source, str(value))  # no accessor takes the text for a number
    return Node(source, value)
