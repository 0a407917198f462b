"""Requests and answers of the admin listeners, as its endpoints see them."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """What an endpoint may know of a request. `query` holds the last value of each name."""

    method: str
    path: str
    query: dict[str, str]
    accept: bytes | None = None


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    """An answer: a whole body, or blocks to be sent one by one. `after` runs when it was sent, or could not be."""

    status: int
    body: bytes | Iterable[bytes]
    content_type: str = JSON_TYPE
    fields: tuple[tuple[str, str], ...] = ()
    after: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What is done at a path, and by which method: `GET` (then `HEAD` too) or `POST`. `first` is awaited before."""

    method: str
    handle: Callable[[AdminRequest], AdminAnswer]
    first: Callable[[], Awaitable[None]] | None = None

    @property
    def allow(self) -> str:
        """The value of `Allow`."""
        return "GET, HEAD" if self.method == "GET" else self.method


def as_json(value: object, status: int = 200) -> AdminAnswer:
    """An answer in JSON, indented for people, ASCII for terminals."""
    return AdminAnswer(status, json.dumps(value, indent=2).encode("ascii") + b"\n")


def refusal(status: int, sentence: str, *fields: tuple[str, str]) -> AdminAnswer:
    """An error: `{"error": sentence}`."""
    body = json.dumps({"error": sentence}).encode("ascii") + b"\n"
    return AdminAnswer(status, body, JSON_TYPE, fields)
