"""Heads and bodies to HTTP/1.1 bytes. Used by h1_server.py and h1_client.py; decides nothing but the writing.

A message leaves with exactly one framing, which is this module's: whatever framing or connection fields are left in
the fields given are not written.
"""

from collections.abc import Iterable
from http import HTTPStatus

from sidecar.codec.trailers import allowed_trailers
from sidecar.model.messages import Fields

ROOM_BYTES = 1 << 30  # HTTP/1 has no flow control of its own: the socket pushes back

_OURS = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"te", b"upgrade"))
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class BodyWriter:
    """Writes one body: counted, chunked, or as it is.

    Attributes:
        left: Bytes that a counted body still owes; None when it is not counted.
        done: The body is complete.
        muted: The message has no body whatever its fields say (HEAD, 204, 304): what is given is not written.
    """

    __slots__ = ("_chunked", "done", "left", "muted")

    def __init__(self, length: int | None, *, chunked: bool = False, muted: bool = False) -> None:
        self.left = length
        self._chunked = chunked
        self.muted = muted
        self.done = length == 0

    def chunk(self, data: bytes) -> bytes:
        """`data` with its framing. Raises ValueError above the announced length."""
        if not data or self.muted:  # an empty chunk would end a chunked body
            return b""
        if self.left is not None:
            if len(data) > self.left:
                raise ValueError(f"{len(data)} body bytes, but only {self.left} of the announced length are left")
            self.left -= len(data)
            self.done = not self.left
            return data
        if self.done:
            raise ValueError("body bytes after the end of the message")
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """The framing after the last chunk; trailers only where the body is chunked.

        Raises:
            ValueError: less than the announced length, or a trailer with a line break.
        """
        if self.left:
            raise ValueError(f"the body ends, but {self.left} bytes of the announced length are owed")
        ended, self.done = self.done, True
        if ended or not self._chunked:
            return b""
        return _joined([b"0", *[name + b": " + value for name, value in allowed_trailers(trailers)]])


def request_line(method: bytes, target: bytes) -> bytes:
    """The first line of a request, without line end."""
    return method + b" " + target + b" HTTP/1.1"


def status_line(status: int, reason: bytes) -> bytes:
    """The first line of a response; an empty reason becomes the registered one."""
    return b"HTTP/1.1 %d %b" % (status, reason or _REASONS.get(status, b""))


def write_head(first: bytes, fields: Fields, own: Iterable[bytes]) -> bytes:
    """A head: first line, `fields` without framing and connection fields, then the lines `own`.

    Raises:
        ValueError: a field contains a line break: it would write a field, or a message, that nobody decided on.
    """
    lines = [first]
    for name, value in fields:
        if name.lower() not in _OURS:
            lines.append(name + b": " + value)
    lines.extend(own)
    return _joined(lines)


def write_kept(kept: bytes, fields: Iterable[tuple[bytes, bytes]], own: Iterable[bytes]) -> bytes:
    """A head of lines that were checked when they were read, each with its line end; then `fields`, then lines `own`.

    Raises:
        ValueError: as `write_head`.
    """
    lines = [name + b": " + value for name, value in fields]
    lines.extend(own)
    return kept + (_joined(lines) if lines else b"\r\n")


def _joined(lines: list[bytes]) -> bytes:
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        raise ValueError("a field to be written contains a line break or NUL")
    return head
