"""Reads the fields of one JSON object from a peer: right form and bounded size, or a WireError that names the field.

Used by messages.py for every message of port 15012. Knows nothing of any message; refuses to guess: no text is turned
into a number, no number into text.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from sidecar.control.wire import VERSION_MAX, WireError, kind_of

_REQUIRED: Any = object()


class Fields:
    """The fields of `message`; `where` starts every complaint (`push: set[3]`)."""

    __slots__ = ("_message", "_where")

    def __init__(self, message: Mapping[str, Any], where: str) -> None:
        self._message = message
        self._where = where

    def text(self, name: str, default: str = _REQUIRED, *, longest: int) -> str:
        """Text of at most `longest` characters, without lone surrogates (they could never be written to a file)."""
        return self._checked_text(name, self._get(name, default), longest)

    def name(self, name: str) -> str:
        """A required text of 1 to 253 printable characters without blank or slash: a part of a resource's name."""
        value = self.text(name, longest=253)
        if not value or not value.isprintable() or " " in value or "/" in value:
            raise self._wrong(name, "expected a name (letters, digits, `-`, `.`)")
        return value

    def texts(self, name: str, *, most: int, longest: int) -> tuple[str, ...]:
        """A list of texts; absent means none."""
        return tuple(
            self._checked_text(f"{name}[{number}]", value, longest)
            for number, value in enumerate(self._list(name, most))
        )

    def names(self, name: str, *, most: int) -> tuple[str, ...]:
        """A list of services, each `NAME.NAMESPACE`; absent means none."""
        found = self.texts(name, most=most, longest=507)
        for number, value in enumerate(found):
            service, _, namespace = value.partition(".")
            if not service or not namespace or not value.isprintable() or " " in value or "/" in value:
                raise self._wrong(f"{name}[{number}]", "expected a service as NAME.NAMESPACE")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, f"expected true or false, got {kind_of(value)}")
        return value

    def number(self, name: str, default: int = _REQUIRED, *, least: int = 0, most: int) -> int:
        """A whole number within bounds."""
        return self._checked_number(name, self._get(name, default), least, most)

    def number_or_none(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number within bounds; absent or null is None."""
        value = self._message.get(name)
        return None if value is None else self._checked_number(name, value, least, most)

    def numbers(self, name: str, *, most_items: int) -> tuple[int, ...]:
        """A list of whole numbers from 0; absent means none."""
        return tuple(
            self._checked_number(f"{name}[{number}]", value, 0, VERSION_MAX)
            for number, value in enumerate(self._list(name, most_items))
        )

    def decimal(self, name: str, default: float = _REQUIRED) -> float:
        """A finite number, at least 0."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, f"expected a number, got {kind_of(value)}")
        if not 0 <= value <= 1e15 or not math.isfinite(value):
            raise self._wrong(name, "expected a number from 0 to 1e15")
        return float(value)

    def part(self, name: str) -> "Fields":
        """A required object."""
        return self._part(name, self._get(name, _REQUIRED))

    def part_or_none(self, name: str) -> "Fields | None":
        """An object; absent or null is None."""
        value = self._message.get(name)
        return None if value is None else self._part(name, value)

    def parts(self, name: str, *, most: int) -> "list[Fields]":
        """A list of objects; absent means none."""
        return [self._part(f"{name}[{number}]", value) for number, value in enumerate(self._list(name, most))]

    def texts_by_name(self, name: str) -> dict[str, str]:
        """An object of at most 64 texts, such as labels; absent means empty."""
        found = self._mapping(name, 64)
        return {key: self._checked_text(f"{name}.{key[:64]}", value, 253) for key, value in found.items()}

    def numbers_by_name(self, name: str) -> dict[str, int]:
        """An object of whole numbers from 0; absent means empty."""
        found = self._mapping(name, 200_000)
        return {key: self._checked_number(f"{name}.{key[:64]}", value, 0, VERSION_MAX) for key, value in found.items()}

    def _get(self, name: str, default: object) -> object:
        value = self._message.get(name, default)
        if value is _REQUIRED:
            raise self._wrong(name, "missing")
        return value

    def _list(self, name: str, most: int) -> list[object]:
        value = self._message.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, f"expected a list, got {kind_of(value)}")
        if len(value) > most:
            raise self._wrong(name, f"{len(value)} entries (at most {most})")
        return value

    def _mapping(self, name: str, most: int) -> dict[str, object]:
        value = self._message.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, f"expected an object, got {kind_of(value)}")
        if len(value) > most:
            raise self._wrong(name, f"{len(value)} entries (at most {most})")
        return value

    def _part(self, name: str, value: object) -> "Fields":
        if not isinstance(value, dict):
            raise self._wrong(name, f"expected an object, got {kind_of(value)}")
        return Fields(value, f"{self._where}: {name}" if ":" not in self._where else f"{self._where}.{name}")

    def _checked_text(self, name: str, value: object, longest: int) -> str:
        if not isinstance(value, str):
            raise self._wrong(name, f"expected text, got {kind_of(value)}")
        if len(value) > longest:
            raise self._wrong(name, f"{len(value)} characters (at most {longest})")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self._wrong(name, "not valid Unicode text") from None
        return value

    def _checked_number(self, name: str, value: object, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, f"expected a whole number, got {kind_of(value)}")
        if not least <= value <= most:
            raise self._wrong(name, f"expected a whole number from {least} to {most}")
        return value

    def _wrong(self, name: str, sentence: str) -> WireError:
        separator = "." if ":" in self._where else ": "
        return WireError(f"{self._where}{separator}{name}: {sentence}")


def plain(value: Any) -> Any:  # noqa: ANN401  walks any message
    """A message's dataclasses and tuples as JSON's objects and lists."""
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value
