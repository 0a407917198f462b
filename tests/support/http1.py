"""What the codec tests share: cutting byte streams, driving a codec over them, and heads to draw from."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from sidecar.codec.events import Chunk, End, Event, Head, Interim, Trailers, Tunnel
from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.errors import Fault, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead

AnyHead = RequestHead | ResponseHead


@dataclass
class Message:
    """One message as it was received."""

    head: AnyHead
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = False

    @property
    def facts(self) -> tuple[object, ...]:
        """What must not depend on how the bytes were cut."""
        return (*head_facts(self.head), self.body, self.trailers, self.complete)


def head_facts(head: AnyHead) -> tuple[object, ...]:
    """Everything a head says."""
    framing = (head.fields, head.content_length, head.chunked, head.keep_alive, head.version)
    if isinstance(head, RequestHead):
        return (head.method, head.target, head.authority, head.upgrade, *framing)
    return (head.status, head.reason, *framing)


@dataclass
class Transcript:
    """What came out of a byte stream: messages in order, then perhaps a fault."""

    messages: list[Message] = field(default_factory=list)
    interims: list[ResponseHead] = field(default_factory=list)
    fault: Fault | None = None

    def take(self, events: Iterable[Event]) -> None:
        """Add events; they have to come in a legal order."""
        for event in events:
            match event:
                case Head(head) | Tunnel(head):
                    assert not self.messages or self.messages[-1].complete
                    self.messages.append(Message(head))
                case Interim(head):
                    self.interims.append(head)
                case Chunk(data, credit):
                    assert data
                    assert credit == len(data)
                    self._open.body += data
                case Trailers(fields):
                    self._open.trailers += fields
                case End():
                    self._open.complete = True
                case _:
                    raise AssertionError(f"{event} does not belong to HTTP/1.1")

    @property
    def complete(self) -> list[Message]:
        """The messages that have an end."""
        return [message for message in self.messages if message.complete]

    @property
    def _open(self) -> Message:
        assert not self.messages[-1].complete
        return self.messages[-1]


def pieces(stream: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The stream cut at the given places, no piece empty."""
    start = 0
    for cut in sorted({cut for cut in cuts if 0 < cut < len(stream)}):
        yield stream[start:cut]
        start = cut
    if start < len(stream):
        yield stream[start:]


def every(size: int, stream: bytes) -> range:
    """Cuts after every `size` bytes."""
    return range(size, len(stream), size)


def serve(stream: bytes, cuts: Iterable[int] = (), *, close: bool = True) -> Transcript:
    """Feed a client's bytes to a server codec that answers each request with 204 as soon as it is complete.

    A request for a tunnel is the last: whether bytes came ahead of its answer depends on how they were cut.
    """
    codec = H1Server()
    got = Transcript()
    try:
        for piece in pieces(stream, cuts):
            _answer(codec, codec.feed(piece), got)
        if close:
            _answer(codec, codec.feed(b""), got)
    except ProxyError as error:
        got.fault = error.fault
        assert codec.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == []
        assert not codec.wants_input
        assert not codec.keep_alive
    return got


def _answer(codec: H1Server, events: list[Event], got: Transcript) -> None:
    got.take(events)
    while got.messages and got.messages[-1].complete and events:
        head = got.messages[-1].head
        if isinstance(head, RequestHead) and head.opens_tunnel:
            codec.close_after()
        codec.encode_head(ResponseHead(204, []))
        codec.encode_end()
        if not codec.keep_alive:
            return
        events = codec.next_request()
        got.take(events)


def receive(
    stream: bytes, cuts: Iterable[int] = (), *, method: bytes = b"GET", upgrade: bytes = b"", close: bool = True
) -> tuple[Transcript, H1Client]:
    """Feed an upstream's bytes to a client codec whose request with `method` was sent."""
    codec = H1Client()
    codec.encode_request(RequestHead(method, b"/", b"x", [(b"Host", b"x")], upgrade=upgrade))
    got = Transcript()
    try:
        for piece in pieces(stream, cuts):
            got.take(codec.feed(piece))
        if close:
            got.take(codec.feed(b""))
    except ProxyError as error:
        got.fault = error.fault
        assert not codec.reusable
        assert codec.feed(b"HTTP/1.1 200 OK\r\n\r\n") == []
    return got, codec


TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Names that mean something to a codec; the strategies below leave them out.
_MEANT = frozenset(
    b"host content-length transfer-encoding connection upgrade http2-settings te expect keep-alive".split()
)


def tokens(max_size: int = 12) -> st.SearchStrategy[bytes]:
    """Method and field names."""
    return st.lists(st.sampled_from(TOKEN_BYTES), min_size=1, max_size=max_size).map(bytes)


def values() -> st.SearchStrategy[bytes]:
    """Field values without white space at their ends."""
    allowed = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
    return st.lists(st.sampled_from(allowed), max_size=20).map(lambda chars: bytes(chars).strip(b" \t"))


def plain_fields() -> st.SearchStrategy[Fields]:
    """Fields that mean nothing to a codec."""
    names = tokens().filter(lambda name: name.lower() not in _MEANT)
    return st.lists(st.tuples(names, values()), max_size=6)


def targets() -> st.SearchStrategy[bytes]:
    """Origin-form targets in canonical form."""
    plain = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#%?\\")
    parts = st.sampled_from([*(bytes([byte]) for byte in plain), b"%2F", b"%20", b"%25", b"%C3"])
    paths = st.lists(parts, max_size=20).map(lambda chars: b"/" + b"".join(chars))
    canonical = paths.filter(lambda path: not re.search(rb"(/|%2F)\.\.?(/|%2F|;|$)", path))
    queries = st.sampled_from([b"", b"?", b"?a=%2e", b"?/../%zz\\"])
    return st.tuples(canonical, queries).map(b"".join)


def bodies() -> st.SearchStrategy[list[bytes]]:
    """Bodies as they might be written: in pieces, some empty."""
    return st.lists(st.binary(max_size=40), max_size=5)


def cuts_of(limit: int = 4000) -> st.SearchStrategy[list[int]]:
    """Places to cut a stream at."""
    return st.lists(st.integers(1, limit), max_size=12)
