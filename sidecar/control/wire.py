"""Frames of port 15012: a 4-byte big-endian length, then one JSON object with a `type`.

Both planes use this file. `FrameReader` turns bytes into objects however they are cut; `encode` is its inverse;
`messages.py` turns objects into typed values. Pure: no socket, no clock.

Refuses, before it believes anything: a frame above 4 MiB (by its length alone, without waiting for its bytes), what is
not JSON, not an object, nested deeper than 32, or without a type. After a refusal the stream is beyond repair, since
nobody knows where the next frame starts: close it.
"""

import json
from typing import Any, NoReturn

ALPN = "sidecar-mesh/1"
VERSION_MAX = 2**63 - 1  # store revisions are SQLite integers
MAX_FRAME_BYTES = 4 * 1024 * 1024  # xDS servers meet gRPC's default limit of the same size
MAX_PUSH_BYTES = 64 * 1024 * 1024  # all parts of one push together; 100 000 resources of 640 bytes
MAX_DEPTH = 32  # our own messages need 6; documents travel as text and are not counted
SILENCE_S = 30.0  # a side that hears no whole message for so long closes
BEAT_S = 10.0  # three beats fit into the silence
HANDSHAKE_S = 5.0

_LENGTH_BYTES = 4


class WireError(Exception):
    """What the peer sent cannot be understood; str() is one sentence that names the place. Close the stream."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame. Raises WireError when the message has no type or exceeds 4 MiB."""
    kind = message.get("type")
    if not isinstance(kind, str) or not kind:
        raise WireError("a message to send has no type")
    # ASCII output: a lone surrogate in a peer's text survives as an escape instead of failing to encode.
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"{kind}: {len(body)} bytes do not fit into a frame (at most {MAX_FRAME_BYTES})")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader:
    """Bytes in, messages out; the same bytes give the same messages however they are cut.

    Holds at most one frame (4 MiB) and what the last `feed` brought.
    """

    __slots__ = ("_broken", "_buffer")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken = ""

    @property
    def at_rest(self) -> bool:
        """True between two frames; a peer that closes elsewhere cut a message short."""
        return not self._buffer

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a frame whose end has not come."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[dict[str, Any]]:
        """The messages that `data` completes, in order. Raises WireError, and from then on always.

        Messages before the faulty one in the same `data` are lost with the stream; none of them was acknowledged.
        """
        if self._broken:
            raise WireError(self._broken)
        self._buffer += data
        messages: list[dict[str, Any]] = []
        start = 0
        while True:
            body_at = start + _LENGTH_BYTES
            if len(self._buffer) < body_at:
                break
            length = int.from_bytes(self._buffer[start:body_at], "big")
            if length > MAX_FRAME_BYTES:
                self._refuse(f"a frame of {length} bytes was announced (at most {MAX_FRAME_BYTES})")
            if len(self._buffer) < body_at + length:
                break
            messages.append(self._decoded(bytes(self._buffer[body_at : body_at + length])))
            start = body_at + length
        del self._buffer[:start]
        return messages

    def _decoded(self, body: bytes) -> dict[str, Any]:
        try:
            message = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        except UnicodeDecodeError:
            self._refuse("a frame is not UTF-8")
        except RecursionError:
            self._refuse(f"a frame is nested deeper than {MAX_DEPTH}")
        except ValueError as exc:  # also an integer with more digits than Python converts
            self._refuse(f"a frame is not JSON ({str(exc)[:80]})")
        if not isinstance(message, dict):
            self._refuse(f"a frame holds {kind_of(message)} where an object is expected")
        if too_deep(message):
            self._refuse(f"a frame is nested deeper than {MAX_DEPTH}")
        kind = message.get("type")
        if not isinstance(kind, str) or not kind:
            self._refuse("a message has no type (a text field `type` is expected)")
        return message

    def _refuse(self, sentence: str) -> NoReturn:
        self._broken = sentence
        self._buffer.clear()
        raise WireError(sentence)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def too_deep(value: object, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects nest deeper than `limit`. Walks level by level: no depth can exhaust the stack."""
    level: list[object] = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return any(isinstance(item, dict | list) for item in level)


def kind_of(value: object) -> str:
    """What a JSON value is, in words for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
