"""Read which server a TLS client asks for, without ending its TLS: passthrough is routed by that name (TLSRoute).

`proxy` feeds what it reads from the client until there is a `ClientHello`, chooses the upstream, and hands `taken` on
unchanged. Only the outer hello is read: a client that encrypts its own (ECH) shows the name that it wants to be routed
by. Unknown and GREASE extensions are skipped by their length, as RFC 8701 asks.

Refuses what is no hello, what is longer than HELLO_MAX_BYTES, and names that are not host names: a name becomes part of
a route's match and of a log line. Work is linear in the bytes fed, however they and the records are cut.
"""

import re
from dataclasses import dataclass

# Of records, headers included, kept until the name is known. Post-quantum key shares make hellos of 1.8 KiB.
HELLO_MAX_BYTES = 16 * 1024

_RECORD_HEADER = 5
_HANDSHAKE, _CLIENT_HELLO, _TLS_MAJOR = 22, 1, 3
_RECORD_MAX_BYTES = 16_384  # RFC 8446 section 5.1
_SERVER_NAME, _ALPN, _HOST_NAME = 0, 16, 0  # RFC 6066 section 3, RFC 7301 section 3.1

# Letters, digits, hyphens and dots; underscores are in use. Digits alone are fine: RFC 6066 forbids addresses, and
# one would simply match no route.
_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rb"%b(?:\.%b)*" % (_LABEL, _LABEL))
_NAME_MAX_BYTES = 255  # RFC 1035 section 3.1


class NotTls(Exception):  # noqa: N818 - what the bytes are, not what went wrong here
    """The bytes are no ClientHello that can be routed; str() says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What routing may know of a TLS client.

    Attributes:
        server_name: Lower-case host name without a final dot; empty when the client named none.
        alpn: Protocols that it offers, in its order.
    """

    server_name: bytes
    alpn: tuple[bytes, ...]


class HelloReader:
    """Collects the first records of one connection. `feed` until it returns a hello or raises; then it is used up.

    Attributes:
        taken: Every byte fed, to be handed on; below HELLO_MAX_BYTES and one more read.
    """

    __slots__ = ("_message", "_read", "taken")

    def __init__(self) -> None:
        self.taken = bytearray()
        self._read = 0  # bytes of `taken` in whole records
        self._message = bytearray()  # the handshake message without the records' headers

    def feed(self, data: bytes) -> ClientHello | None:
        """Take bytes; None until the hello is whole.

        Raises:
            NotTls: It can never become one that is acceptable.
        """
        self.taken += data
        while (end := self._record_end()) is not None and end <= len(self.taken):
            self._message += self.taken[self._read + _RECORD_HEADER : end]
            self._read = end
            size = self._message_bytes()
            if size is not None and len(self._message) >= size:
                return _hello(bytes(self._message[4:size]))
        return None

    def _record_end(self) -> int | None:
        """Where the record that begins at `_read` ends; None while its header is not there."""
        header = self.taken[self._read : self._read + _RECORD_HEADER]
        if header[:1] and header[0] != _HANDSHAKE:
            raise NotTls("a TLS handshake record was expected")
        if header[1:2] and header[1] != _TLS_MAJOR:
            raise NotTls("the record's version is none of TLS")
        if len(header) < _RECORD_HEADER:
            return None
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _RECORD_MAX_BYTES:
            raise NotTls(f"a handshake record says that it has {length} bytes")
        end = self._read + _RECORD_HEADER + length
        if end > HELLO_MAX_BYTES:
            raise NotTls(f"the ClientHello is longer than {HELLO_MAX_BYTES} bytes")
        return end

    def _message_bytes(self) -> int | None:
        """Size of the handshake message with its header; None while that is not there."""
        if self._message[0] != _CLIENT_HELLO:
            raise NotTls("the first handshake message is no ClientHello")
        if len(self._message) < 4:
            return None
        size = 4 + int.from_bytes(self._message[1:4], "big")
        if size > HELLO_MAX_BYTES:
            raise NotTls(f"the ClientHello is longer than {HELLO_MAX_BYTES} bytes")
        return size


class _Cursor:
    """Reads length-prefixed pieces, never past the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise NotTls("a length in the ClientHello points past its end")
        piece, self._at = self._data[self._at : end], end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))


def _hello(body: bytes) -> ClientHello:
    """The hello in a handshake message's body (RFC 8446 section 4.1.2)."""
    cursor = _Cursor(body)
    cursor.take(2 + 32)  # legacy version, random
    cursor.vector(1)  # session id
    cursor.vector(2)  # cipher suites
    cursor.vector(1)  # compression methods
    extensions = _Cursor(cursor.vector(2) if cursor.more else b"")
    if cursor.more:
        raise NotTls("bytes follow the end of the ClientHello")
    found: dict[int, bytes] = {}
    while extensions.more:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in (_SERVER_NAME, _ALPN) and kind in found:
            raise NotTls("an extension of the ClientHello is there twice")
        found[kind] = content
    name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else b""
    return ClientHello(name, _alpn(found[_ALPN]) if _ALPN in found else ())


def _server_name(content: bytes) -> bytes:
    """The one host name of the extension."""
    outer = _Cursor(content)
    names = _Cursor(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if outer.more or names.more or kind != _HOST_NAME:
        raise NotTls("the ServerName extension has not exactly one host name")
    name = name.lower().removesuffix(b".")
    if len(name) > _NAME_MAX_BYTES or _NAME.fullmatch(name) is None:
        raise NotTls(f"the ServerName {repr(name[:40])[1:]} is not a host name")
    return name


def _alpn(content: bytes) -> tuple[bytes, ...]:
    outer = _Cursor(content)
    names = _Cursor(outer.vector(2))
    offered = []
    while names.more:
        offered.append(names.vector(1))
    if outer.more or not offered or b"" in offered:
        raise NotTls("the list of protocols (ALPN) in the ClientHello is malformed")
    return tuple(offered)
