"""Reads what was recorded: one file in tests/data/heads for each message or connection.

| folder | a file is |
|---|---|
| requests | one request over HTTP/1.1; the name ends in its method |
| responses | one answer with its interim ones; the name ends in the method of its request |
| h2-clients, h2-servers | one direction of a connection over HTTP/2; the same name in both is the same connection |
| hellos | the first bytes of a TLS client |

A name begins with the program that sent it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "data" / "heads"
REQUESTS, RESPONSES, H2_CLIENTS, H2_SERVERS, HELLOS = "requests", "responses", "h2-clients", "h2-servers", "hellos"
KINDS = (REQUESTS, RESPONSES, H2_CLIENTS, H2_SERVERS, HELLOS)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One file."""

    name: str
    data: bytes

    @property
    def program(self) -> str:
        """Who sent it."""
        return self.name.partition(".")[0]

    @property
    def method(self) -> bytes:
        """Of the request, for requests and responses."""
        return self.name.rpartition(".")[2].encode()


@cache
def recorded(kind: str) -> tuple[Recorded, ...]:
    """All files of one kind, in order of their names."""
    return tuple(Recorded(path.name, path.read_bytes()) for path in sorted((FOLDER / kind).iterdir()))
