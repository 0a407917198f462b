"""Cuts what went over a connection into messages. Knows nothing of our codecs: they are what the messages are for.

Believes what a head says, which is good enough for programs that mean no harm.
"""

import re

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length: *([0-9]+)", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:.*chunked", re.IGNORECASE | re.MULTILINE)


def requests(stream: bytes) -> list[bytes]:
    """The requests of a client; after one that switches protocols nothing follows."""
    found = []
    while (end := stream.find(_END_OF_HEAD)) >= 0:
        head = stream[: end + 4]
        size = len(head) + _body_bytes(head, stream[end + 4 :], default=0)
        found.append(stream[:size])
        stream = stream[size:]
        if re.search(rb"^upgrade:", head, re.IGNORECASE | re.MULTILINE) or head.startswith(b"CONNECT "):
            break
    return found


def responses(stream: bytes, methods: list[str]) -> list[bytes]:
    """The answers to requests with `methods`, each with the interim ones before it."""
    found = []
    for method in methods:
        start = 0
        while (end := stream.find(_END_OF_HEAD, start)) >= 0:
            head = stream[start : end + 4]
            start = end + 4
            if head[9:10] != b"1" or head[9:12] == b"101":
                break
        else:
            break
        bodiless = method == "HEAD" or head[9:12] in (b"204", b"304", b"101")
        size = start + (0 if bodiless else _body_bytes(head, stream[start:], default=len(stream) - start))
        found.append(stream[:size])
        stream = stream[size:]
    return found


def _body_bytes(head: bytes, rest: bytes, *, default: int) -> int:
    if _CHUNKED.search(head):
        return _chunked_bytes(rest)
    length = _LENGTH.search(head)
    return int(length[1]) if length else default


def _chunked_bytes(rest: bytes) -> int:
    at = 0
    while line := re.compile(rb"([0-9A-Fa-f]+)[^\r\n]*\r\n").match(rest, at):
        at = line.end() + int(line[1], 16) + 2
        if not int(line[1], 16):
            return rest.index(_END_OF_HEAD, line.end() - 2) + 4
    return len(rest)
