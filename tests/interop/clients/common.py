"""What the clients share: bodies by the piece, and records from what libraries give."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.interop.record import Ask, FieldsSeen

CLIENT_TIMEOUT_S = 20.0  # for a whole request; the slowest takes some tenths of a second on an idle machine
FOLLOW_UP = Ask("GET", "/small")
_PIECE_BYTES = 65536


def pieces(path: Path) -> Iterator[bytes]:
    """A file by the piece."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def decoded(fields: Iterable[tuple[bytes, bytes]]) -> FieldsSeen:
    """Fields as text."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)


def body_facts(ask: Ask, body: bytes) -> dict[str, Any]:
    """The parts of a record that a body gives."""
    seen = json.loads(body) if ask.path.startswith("/seen") and body.startswith(b"{") else None
    return {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest(), "seen": seen}
