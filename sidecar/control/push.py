"""A push: what the control plane wants a sidecar to put and drop, in one or several frames.

`split_push` (control plane) and `PushJoiner` (sidecar) are inverse: a push above 4 MiB travels as several messages with
the same version and `more: true` on all but the last, and is applied as one. `state.apply_push` puts it in force.

Resource documents travel as JSON *text*: a document that is broken or nested too deep is then the fault of one
resource (NACK), never of the stream. Pure.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sidecar.control.fields import Fields, plain
from sidecar.control.wire import MAX_FRAME_BYTES, MAX_PUSH_BYTES, VERSION_MAX, WireError

MAX_NAME = 600  # KIND/NAMESPACE/NAME: Kubernetes allows 63 + 253 characters after the kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A resource in a push; `document` is its JSON text."""

    name: str
    version: int
    document: str

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            name=fields.text("name", longest=MAX_NAME),
            version=fields.number("version", most=VERSION_MAX),
            document=fields.text("document", longest=MAX_FRAME_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A difference to what the sidecar has.

    Attributes:
        version: Revision of the store.
        set: Resources to put.
        unset: Names to drop. A wanted service that does not exist is here as `Service/NAMESPACE/NAME`.
        more: Another part of the same push follows (`split_push`); only the last part's arrival puts it in force.
    """

    version: int
    set: tuple[Item, ...] = ()
    unset: tuple[str, ...] = ()
    more: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(
            version=fields.number("version", most=VERSION_MAX),
            set=tuple(Item.parse(item) for item in fields.parts("set", most=200_000)),
            unset=fields.texts("unset", most=200_000, longest=MAX_NAME),
            more=fields.flag("more", False),
        )


_PUSH_HEAD_BYTES = 128  # {"type":"push","version":N,"set":[],"unset":[],"more":false} with the largest N


def split_push(
    version: int, put: Iterable[Item], unset: Iterable[str] = (), *, limit: int = MAX_FRAME_BYTES
) -> list[Push]:
    """One push as parts that each fit into a frame; at least one, `more` on all but the last.

    Raises WireError when one resource alone does not fit into a frame, naming it.
    """
    parts: list[tuple[list[Item], list[str]]] = [([], [])]
    used = _PUSH_HEAD_BYTES

    def make_room(name: str, size: int) -> None:
        nonlocal used
        if _PUSH_HEAD_BYTES + size > limit:
            raise WireError(
                f"push: {name[:MAX_NAME]} takes {size} bytes and does not fit into a frame (at most {limit})"
            )
        if used + size > limit:
            parts.append(([], []))
            used = _PUSH_HEAD_BYTES
        used += size

    for item in put:
        make_room(item.name, _size(plain(item)))
        parts[-1][0].append(item)
    for name in unset:
        make_room(name, _size(name))
        parts[-1][1].append(name)
    last = len(parts) - 1
    return [
        Push(version=version, set=tuple(items), unset=tuple(names), more=number < last)
        for number, (items, names) in enumerate(parts)
    ]


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"))) + 1  # and the comma


class PushJoiner:
    """Puts the parts of a push together again. Holds at most MAX_PUSH_BYTES."""

    __slots__ = ("_bytes", "_parts")

    def __init__(self) -> None:
        self._parts: list[Push] = []
        self._bytes = 0

    def add(self, part: Push) -> Push | None:
        """The whole push when `part` is its last, else None.

        Raises WireError when parts of two versions mix or the sum exceeds MAX_PUSH_BYTES; close the stream then.
        """
        if self._parts and self._parts[0].version != part.version:
            raise WireError(f"push: a part of version {part.version} among parts of version {self._parts[0].version}")
        self._bytes += sum(len(item.document) + len(item.name) for item in part.set) + sum(map(len, part.unset)) + 64
        if self._bytes > MAX_PUSH_BYTES:
            raise WireError(f"push: version {part.version} exceeds {MAX_PUSH_BYTES} bytes in all its parts")
        self._parts.append(part)
        if part.more:
            return None
        parts, self._parts, self._bytes = self._parts, [], 0
        if len(parts) == 1:
            return part
        return Push(
            version=part.version,
            set=tuple(item for each in parts for item in each.set),
            unset=tuple(name for each in parts for name in each.unset),
        )
