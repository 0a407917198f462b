"""HTTP/1.1 towards one upstream: requests to bytes, bytes to responses. `ClientCodec` of contract.py.

Carries one exchange after the other as long as both sides leave the connection in a state that cannot mix two
answers up; at the first doubt `reusable` is False. An exchange that asks for a tunnel is the connection's last,
whatever the answer. The caller owns the socket and the pool.
"""

from typing import Self

from sidecar.codec.body import BodyReader, BodyUntilClose, body_reader
from sidecar.codec.contract import Trailing
from sidecar.codec.events import End, Event, Head, Interim, Tunnel
from sidecar.codec.grammar import END_OF_HEAD, promised_s, shown, too_early
from sidecar.codec.h1_write import ROOM_BYTES, BodyWriter, request_line, write_head, write_kept
from sidecar.codec.head_rules import response_head
from sidecar.codec.plain_forward import PlainAnswer
from sidecar.codec.plain_head import ResponseActs, plain_response
from sidecar.codec.websocket import WEBSOCKET, WEBSOCKET_ACCEPT, WEBSOCKET_KEY, accept_value
from sidecar.errors import UPSTREAM_CLOSED, UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead

INTERIM_MAX_COUNT = 10  # 1xx responses before the final one; a flood of them would never time out
# Methods whose missing body is worth a `Content-Length: 0` (RFC 9110 section 8.6).
_METHODS_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))


class H1Client:
    """See `ClientCodec`."""

    __slots__ = ("_acts", "_asked", "_body", "_half", "_held", "_interims", "_method", "_response", "_scanned",
                 "_spoilt", "_writer")  # fmt: skip

    def __init__(self, acts: ResponseActs | None = None) -> None:
        """`acts`: to read plain answers in one pass."""
        self._acts = acts
        self._spoilt = False  # this connection must not carry another request
        self._writer: BodyWriter | None = None  # None: nothing more is to be read
        self._half: BodyWriter | None = None  # of a tunnel whose upstream has ended its direction
        self._asked: RequestHead | None = None  # the request, if it asks for a tunnel
        self._begin(b"")

    @classmethod
    def resumed(cls, head: RequestHead) -> Self:
        """A codec whose request `head` was already written, whole, by somebody else; feed it the response's bytes."""
        client = cls()
        client._begin(head.method)
        client._writer = BodyWriter(0)
        if head.opens_tunnel:
            client._ask(head)
        return client

    def _begin(self, method: bytes) -> None:
        self._method = method
        self._held = bytearray()  # a part of a head
        self._scanned = 0
        self._interims = 0
        self._response: ResponseHead | None = None
        self._body: BodyReader | None = None

    @property
    def at_rest(self) -> bool:
        """See `ClientCodec`."""
        return self._writer is None and self._half is None

    @property
    def keep_alive_s(self) -> float | None:
        """How long the upstream said that it keeps this connection when it is idle, seconds; None: it did not say."""
        response = self._response
        if isinstance(response, PlainAnswer):
            return response.promised_s
        return promised_s(response.get(b"keep-alive")) if response is not None else None

    @property
    def reusable(self) -> bool:
        """See `ClientCodec`."""
        return self._writer is None and not self._spoilt

    def encode_request(self, head: RequestHead, *, wants_trailers: bool = False) -> bytes:
        """See `ClientCodec`."""
        assert self.reusable, "a request on a connection that cannot take one"
        self._begin(head.method)
        length = head.content_length
        own = [b"TE: trailers", b"Connection: TE"] if wants_trailers else []
        if head.upgrade:
            own[1:] = [b"Upgrade: " + head.upgrade, b"Connection: upgrade, TE" if own else b"Connection: upgrade"]
        if not head.kept and not _has_host(head.fields):  # asked by HTTP/1.0, or by another protocol
            own.append(b"Host: " + head.authority)
        if head.kept:
            if length == 0 and head.method in _METHODS_WITH_BODY and head.get(b"content-length") is None:
                own.append(b"Content-Length: 0")
            written = write_kept(head.kept, head.own, own)
        else:
            if length is None:
                own.append(b"Transfer-Encoding: chunked")
            elif length or head.method in _METHODS_WITH_BODY:
                own.append(b"Content-Length: %d" % length)
            written = write_head(request_line(head.method, head.target), head.fields, own)
        self._writer = BodyWriter(length, chunked=length is None)
        if head.opens_tunnel:
            self._ask(head)
        return written

    def _ask(self, head: RequestHead) -> None:
        assert not head.has_body, "a request for a tunnel has no body"
        self._asked = head
        self._spoilt = True

    def encode_chunk(self, data: bytes) -> bytes:
        """See `ClientCodec`. After an early response is complete, what is left of the request is not written.

        Raises ValueError for what was meant for a tunnel that the upstream has not agreed to.
        """
        writer = self._writer or self._half
        return writer.chunk(data) if writer is not None else b""

    def encode_end(self, trailers: Trailing = ()) -> bytes:
        """See `ClientCodec`."""
        if self._half is not None:
            self._half = None
            return b""
        return self._writer.end(trailers) if self._writer is not None else b""

    def credit(self, size: int) -> None:
        """Nothing to do: not reading the socket is HTTP/1's flow control."""

    def send_room(self) -> int:
        """No bound of its own."""
        return ROOM_BYTES

    def feed(self, data: bytes) -> list[Event]:
        """See `ClientCodec`."""
        if self._writer is None:
            self._spoilt = True  # bytes that nobody asked for, or the end
            return []
        events: list[Event] = []
        try:
            if not data:
                self._upstream_closed(events)
            elif self._body is None:
                self._read_heads(data, events)
            else:
                self._read_body(self._body, data, events)
        except ProxyError:
            self._spoilt = True
            self._writer = None
            raise
        return events

    def _upstream_closed(self, events: list[Event]) -> None:
        self._spoilt = True
        if self._body is not None and self._body.ends_by_close:
            events.append(End())
            if self._asked is not None and self._writer is not None and not self._writer.done:
                self._half = self._writer  # a tunnel's other direction goes on
            self._finish(b"")
            return
        if self._response is not None:
            raise ProxyError(UPSTREAM_CLOSED, "the endpoint closed the connection inside the body of its answer")
        if self._held or self._interims:
            raise ProxyError(UPSTREAM_CLOSED, "the endpoint closed the connection inside the head of its answer")
        raise ProxyError(UPSTREAM_CLOSED)

    def _read_heads(self, data: bytes, events: list[Event]) -> None:
        """Read interim heads and the final one, and go on with the body that came with it."""
        held = self._held
        if self._acts is not None and not held and self._asked is None:
            plain = plain_response(data, self._acts, self._method)
            if not isinstance(plain, str):
                self._response = PlainAnswer(plain)
                self._begin_body(self._response, plain.data[plain.size :], events)
                return
        held += data
        while self._response is None:
            end = held.find(END_OF_HEAD, max(0, self._scanned - 3))
            if end < 0:
                fault = too_early(held, self._scanned)
                if fault is not None:
                    raise ProxyError(UPSTREAM_PROTOCOL, f"the answer was not valid: {fault.sentence}")
                self._scanned = len(held)
                return
            end += len(END_OF_HEAD)
            head = response_head(bytes(held[:end]), self._method)
            del held[:end]
            self._scanned = 0
            if self._asked is not None and self._switches(head, self._asked):
                self._begin_tunnel(head, events)
                return
            if head.status < 200:
                events.append(self._interim(head))
            else:
                self._response = head
        rest = bytes(held)
        held.clear()
        self._begin_body(self._response, rest, events)

    def _interim(self, head: ResponseHead) -> Interim:
        self._interims += 1
        if self._interims > INTERIM_MAX_COUNT:
            raise ProxyError(UPSTREAM_PROTOCOL, f"the endpoint sent more than {INTERIM_MAX_COUNT} interim answers")
        if head.status == 101:
            raise ProxyError(UPSTREAM_PROTOCOL, "the endpoint switched protocols; nobody asked it to")
        return Interim(head)

    def _switches(self, head: ResponseHead, asked: RequestHead) -> bool:
        """True when this head agrees to the tunnel that `asked` asks for. Raises ProxyError: it agrees to another."""
        if not asked.upgrade:
            return 200 <= head.status < 300
        if head.status != 101:
            return False
        named = head.get(b"upgrade") or b""
        if named.lower() != asked.upgrade:
            what = f"to {shown(named)}" if named else "without saying to what"
            raise ProxyError(UPSTREAM_PROTOCOL, f"the endpoint switched {what}; {shown(asked.upgrade)} was asked for")
        key = asked.get(WEBSOCKET_KEY) if asked.upgrade == WEBSOCKET else None
        if key is not None and head.get(WEBSOCKET_ACCEPT) != accept_value(key):
            raise ProxyError(
                UPSTREAM_PROTOCOL, "the endpoint's Sec-WebSocket-Accept does not answer the key sent to it"
            )
        return True

    def _begin_tunnel(self, head: ResponseHead, events: list[Event]) -> None:
        self._response = head
        self._writer = BodyWriter(None)
        self._body = BodyUntilClose()
        events.append(Tunnel(head))
        rest = bytes(self._held)
        self._held.clear()
        self._read_body(self._body, rest, events)

    def _begin_body(self, head: ResponseHead, rest: bytes, events: list[Event]) -> None:
        assert self._writer is not None
        if not head.keep_alive or head.version != b"1.1" or not self._writer.done:
            self._spoilt = True  # not done: an early response; what it did with the rest of the request is unknown
        events.append(Head(head))
        self._body = body_reader(head.content_length, head.chunked, UPSTREAM_PROTOCOL)
        if self._body is None:
            events.append(End())
            self._finish(rest)
        elif rest:
            self._read_body(self._body, rest, events)

    def _read_body(self, body: BodyReader, data: bytes, events: list[Event]) -> None:
        rest = body.read(data, events)
        if rest is not None:
            self._finish(rest)

    def _finish(self, rest: bytes) -> None:
        if rest:
            self._spoilt = True  # a second answer is how a response queue is poisoned
        self._writer = None


def _has_host(fields: Fields) -> bool:
    if fields and fields[0][0].lower() == b"host":  # where nearly everybody writes it
        return True
    return any(name.lower() == b"host" for name, _ in fields)
