"""What a client is asked to do, and what it saw: one shape for every client, so that runs can be compared."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FieldsSeen = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        fields: Besides those that the client makes by itself.
        body: File with the body; None for none.
        counted: With a length; else as a stream of unknown length (chunked in HTTP/1.1).
        expect: Send `Expect: 100-continue` and wait for it, with clients that can.
        trailers: After the body, with clients that can.
    """

    method: str
    path: str
    fields: FieldsSeen = ()
    body: Path | None = None
    counted: bool = True
    expect: bool = False
    trailers: FieldsSeen = ()

    def as_json(self) -> dict[str, Any]:
        """For clients that are processes of their own."""
        return asdict(self) | {"body": None if self.body is None else str(self.body)}


@dataclass(frozen=True)
class Record:
    """What a client saw of one answer.

    Attributes:
        version: HTTP version of the answer: "1.1", "2".
        fields: Names as the client got them, in its order.
        trailers: None when the client has no way to show them.
        interims: Status and fields of each 1xx answer; None when the client has no way to show them.
        reused: True if the next request of the client went over the same connection; None when it cannot tell.
        seen: For an answer of /seen, what the upstream saw.
    """

    version: str
    status: int
    fields: FieldsSeen
    body_bytes: int
    body_sha256: str
    trailers: FieldsSeen | None = None
    interims: tuple[tuple[int, FieldsSeen], ...] | None = None
    reused: bool | None = None
    seen: dict[str, Any] | None = None
