"""HTTP messages as the proxy handles them: heads with their fields as received.

Field names keep the case they came with, because services exist that depend on it; look-ups go by the lower-case
name. Values are bytes: nothing here decodes what a peer sent.
"""

from collections.abc import Iterable, Sequence

Fields = list[tuple[bytes, bytes]]


class NeverIndexed(tuple[bytes, bytes]):
    """A field that must stay out of every compression table on its way (RFC 7541 section 7.1.3), because somebody who
    can add fields to the same connection could guess it there byte by byte. Its sender said so, or its name does.

    Equal to the tuple of its name and value, but not found by it: see `__hash__`.
    """

    __slots__ = ()

    def __hash__(self) -> int:
        """Another one than the tuple's, although they are equal: so that a look-up by field (codec/hpack_lean) does not
        take a secret for its twin in the table, and need not ask each field for its class, a quarter of the cost."""
        return hash((NeverIndexed, *self))


# A field that connects two hops only (RFC 9110 section 7.6.1); never forwarded as it came. `Trailer` is not one: it
# tells the far end which fields come after the body.
HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"))
# Nominating one of these in `Connection` would make a proxy drop what framing, routing or tracing stand on.
PROTECTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"traceparent", b"authorization"))


class Head:
    """What request and response heads share: fields with look-up by lower-case name.

    `content_length` is the framed body length: a number, or None when the body is chunked or runs until the
    connection closes (`chunked` tells which). A message without body has 0.
    """

    __slots__ = ("_index", "chunked", "content_length", "fields", "keep_alive")

    def __init__(self, fields: Fields, content_length: int | None, chunked: bool, keep_alive: bool) -> None:
        self.fields = fields
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self._index: dict[bytes, bytes] | None = None

    @property
    def has_body(self) -> bool:
        """True when body bytes may follow the head."""
        return self.content_length != 0

    def get(self, name: bytes) -> bytes | None:
        """The value of the field `name` (lower case); several are joined by `, ` (RFC 9110 section 5.2)."""
        index = self._index
        if index is None:
            index = self._index = _indexed(self.fields)
        return index.get(name)


class RequestHead(Head):
    """A request's head.

    Attributes:
        method: Upper case as sent (`b"GET"`).
        target: Origin-form target in canonical form (`b"/a?b=c"`), or `b"*"`. Of CONNECT the authority.
        authority: The host asked for, with its port if one was given: from an absolute target or `:authority`, else
            from `Host`.
        version: `b"1.1"`, `b"1.0"` or `b"2"`.
        kept: Where nobody has edited fields: the request line and the lines that go on, each with its line end, checked
            when they were read; `own` goes behind them. Empty: `fields` are to be written.
        upgrade: The protocol that the client asks to switch to, lower case (`b"websocket"`), however it said so:
            `Upgrade` and `Connection: upgrade` of HTTP/1.1, or `:protocol` of an extended CONNECT, which is read as the
            GET that it stands for (RFC 8441). Empty: none. A request with one has no body.
    """

    __slots__ = ("authority", "method", "target", "upgrade", "version")

    kept: bytes = b""
    own: Sequence[tuple[bytes, bytes]] = ()

    def __init__(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        fields: Fields,
        *,
        content_length: int | None = 0,
        chunked: bool = False,
        keep_alive: bool = True,
        version: bytes = b"1.1",
        upgrade: bytes = b"",
    ) -> None:
        super().__init__(fields, content_length, chunked, keep_alive)
        self.upgrade = upgrade
        self.method = method
        self.target = target
        self.authority = authority
        self.version = version

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def opens_tunnel(self) -> bool:
        """True when a successful answer hands the connection over to another protocol."""
        return bool(self.upgrade) or self.method == b"CONNECT"

    @property
    def asks_for_bytes(self) -> bool:
        """True for a plain CONNECT: what follows is a TCP connection's, of no protocol that was named."""
        return self.method == b"CONNECT" and not self.upgrade


class ResponseHead(Head):
    """A final response's head; `status` 200 to 599. `kept`: as of a request, its framing included."""

    __slots__ = ("reason", "status", "version")

    kept: bytes = b""

    def __init__(
        self,
        status: int,
        fields: Fields,
        *,
        content_length: int | None = 0,
        chunked: bool = False,
        keep_alive: bool = True,
        reason: bytes = b"",
        version: bytes = b"1.1",
    ) -> None:
        super().__init__(fields, content_length, chunked, keep_alive)
        self.status = status
        self.reason = reason
        self.version = version


def _indexed(fields: Fields) -> dict[bytes, bytes]:
    index: dict[bytes, bytes] = {}
    for name, value in fields:
        lower = name.lower()
        known = index.get(lower)
        index[lower] = value if known is None else known + b", " + value
    return index


def nominated(connection: bytes | None) -> frozenset[bytes]:
    """Lower-case field names that a `Connection` value takes from the message, options included."""
    if not connection:
        return frozenset()
    return frozenset(token.strip().lower() for token in connection.split(b",") if token.strip())


def end_to_end(fields: Iterable[tuple[bytes, bytes]], drop: frozenset[bytes]) -> Fields:
    """The fields to forward: all but hop-by-hop ones and those in `drop` (lower case)."""
    return [(name, value) for name, value in fields if (lower := name.lower()) not in HOP_BY_HOP and lower not in drop]
