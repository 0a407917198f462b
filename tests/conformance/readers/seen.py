"""What a reader made of a request, and the question that all readers are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.model.messages import Fields

# A request of ours after those in question. A reader that takes too little of the bytes before it finds another one in
# between, and one that takes too much never sees it.
SENTINEL_TARGET = b"/is-this-the-next-request"
SENTINEL = b"GET " + SENTINEL_TARGET + b" HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as a reader understood it.

    Attributes:
        target: As it was written.
        fields: What it hands on, names as it likes them.
        trailers: None: the reader does not hand them on.
        path: Its own canonical form of the path, decoded; None: it has none.
    """

    method: bytes
    target: bytes
    host: bytes
    fields: Fields
    body: bytes
    trailers: Fields | None = None
    path: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The reader did not want it; `why` is its status or sentence."""

    why: str


Answer = Seen | Refused


class Reader(Protocol):
    """A program that reads requests."""

    @property
    def name(self) -> str:
        """For messages."""

    def read(self, stream: bytes, count: int) -> list[Answer]:
        """What the program found in one connection's bytes, up to a refusal or its wish to end the connection.

        `count` is how many requests there should be: after so many it may stop looking.
        """


def in_one_stream(reader: Reader, requests: Sequence[bytes], *, goes_on: bool) -> list[Answer]:
    """The answers to `requests` on one connection. If it goes on, the sentinel comes after them; its answer, if it is
    in its place, is not among those returned."""
    if not goes_on:
        return reader.read(b"".join(requests), len(requests))
    answers = reader.read(b"".join(requests) + SENTINEL, len(requests) + 2)
    if len(answers) > len(requests) and _is_sentinel(answers[len(requests)]):
        del answers[len(requests)]
    return answers


def _is_sentinel(answer: Answer) -> bool:
    return isinstance(answer, Seen) and (answer.method, answer.target) == (b"GET", SENTINEL_TARGET)
