"""HTTP/1.1 towards one client: bytes to requests, responses to bytes. `ServerCodec` of contract.py.

Heads are read by head_rules.py, bodies by body.py; this class keeps whose turn it is. One exchange at a time: what a
client sends ahead of its turn is held, up to a bound, and then no longer read. So is what it sends ahead of a switch to
another protocol: it belongs to that protocol if the switch is agreed to, and to nobody if it is not. The caller owns
the socket.

Cost of one proxied exchange, this and h1_client.py with end_to_end, on the test machine (CPython 3.11): 17 us with 3
fields each way, 27 us with 12, 22 us with 3 and a chunked answer (60 us while h11 read it). A read of 64 KiB with
chunks of one byte takes 3.4 ms (40 ms).
"""

from sidecar.codec.body import BodyReader, BodyUntilClose, body_reader
from sidecar.codec.contract import Trailing
from sidecar.codec.events import Chunk, End, Event, Head
from sidecar.codec.grammar import END_OF_HEAD, too_early
from sidecar.codec.h1_write import ROOM_BYTES, BodyWriter, status_line, write_head, write_kept
from sidecar.codec.head_rules import request_head
from sidecar.codec.plain_head import PlainRequest, RequestActs, plain_request
from sidecar.codec.websocket import WEBSOCKET, WEBSOCKET_ACCEPT, WEBSOCKET_KEY, accept_value
from sidecar.errors import CLIENT_GONE, MALFORMED, ProxyError
from sidecar.model.messages import RequestHead, ResponseHead, nominated

HELD_MAX_BYTES = 64 * 1024


class H1Server:
    """See `ServerCodec`."""

    __slots__ = ("_acts", "_body", "_broken", "_closing", "_continued", "_ended", "_far", "_held", "_request",
                 "_request_done", "_scanned", "_skipped", "_writer")  # fmt: skip

    def __init__(self, acts: RequestActs | None = None, *, far: bool = False) -> None:
        """`acts`, `far`: to read plain requests in one pass; as of `plain_request`."""
        self._acts = acts
        self._far = far
        self._held = bytearray()  # a part of a head, or what came ahead of its turn
        self._ended = False  # the client will send no more
        self._broken = False  # the client broke the protocol
        self._closing = False
        self._begin()

    def _begin(self) -> None:
        self._scanned = 0  # bytes of `_held` that are known to hold no end of head
        self._skipped = False  # an empty line before the request line was skipped
        self._request: RequestHead | None = None
        self._body: BodyReader | None = None
        self._request_done = False
        self._continued = False  # an interim or final head was sent, or body came without
        self._writer: BodyWriter | None = None

    @property
    def at_rest(self) -> bool:
        """See `ServerCodec`."""
        return not self._held and (self._request is None or self._over)

    @property
    def _over(self) -> bool:
        return self._request_done and self._writer is not None and self._writer.done

    @property
    def wants_input(self) -> bool:
        """See `ServerCodec`."""
        return not (self._broken or self._ended) and len(self._held) < HELD_MAX_BYTES

    @property
    def expects_continue(self) -> bool:
        """See `ServerCodec`."""
        request = self._request
        if request is None or self._request_done or self._continued or request.version != b"1.1":
            return False
        return (request.get(b"expect") or b"").lower() == b"100-continue"

    @property
    def wants_trailers(self) -> bool:
        """See `ServerCodec`."""
        request = self._request
        if isinstance(request, PlainRequest):
            return request.wants_trailers
        return request is not None and b"trailers" in nominated(request.get(b"te"))

    @property
    def owed_bytes(self) -> int:
        """See `ServerCodec`."""
        return self._body.owed_bytes if self._body is not None else 0

    @property
    def keep_alive(self) -> bool:
        """See `ServerCodec`."""
        return self._over and not self._last and (bool(self._held) or not self._ended)

    @property
    def _last(self) -> bool:
        """True when this exchange cannot be followed by another one, as far as is known now."""
        return self._closing or self._broken or self._request is None or not self._request.keep_alive

    def feed(self, data: bytes) -> list[Event]:
        """See `ServerCodec`."""
        if self._broken:
            return []
        if not data:
            return self._client_ended()
        if self._request_done:
            self._held += data
            return []
        return self._read(data)

    def next_request(self) -> list[Event]:
        """See `ServerCodec`."""
        assert self.keep_alive, "the exchange is not over, or was the last one"
        self._begin()
        events = self._read(b"")
        return self._client_ended() if self._ended and not self._request_done else events

    def resume(self, head: RequestHead, rest: bytes, *, ended: bool) -> None:
        """Go on after somebody else read a request, whole, and `rest`, which came behind it.

        `ended`: behind that the client has ended its direction.
        """
        self._begin()
        self._request = head
        self._request_done = True
        self._held += rest
        self._ended = ended

    def take_held(self) -> bytes:
        """What came behind an exchange that is over, for somebody else to read."""
        assert self.keep_alive, "the exchange is not over, or was the last one"
        held = bytes(self._held)
        self._held.clear()
        self._begin()
        return held

    def close_after(self) -> None:
        """See `ServerCodec`."""
        self._closing = True

    def credit(self, size: int) -> None:
        """Nothing to do: not reading the socket is HTTP/1's flow control."""

    def send_room(self) -> int:
        """No bound of its own."""
        return ROOM_BYTES

    def _client_ended(self) -> list[Event]:
        self._ended = True
        if self._request_done or (self._request is None and not self._held):
            return []
        if self._body is not None and self._body.ends_by_close:  # a tunnel: its direction ends by itself
            self._body = None
            self._request_done = True
            return [End()]
        self._broken = True
        where = "head" if self._request is None else "body"
        raise ProxyError(CLIENT_GONE, f"the client closed the connection inside the request {where}")

    def _read(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            rest = self._read_head(data, events) if self._request is None else data
            if self._body is not None:
                self._read_body(self._body, rest, events)
        except ProxyError:
            self._broken = True
            raise
        return events

    def _read_head(self, data: bytes, events: list[Event]) -> bytes:
        """Append the head's events if it is complete; return the body bytes that came with it."""
        held = self._held
        if self._acts is not None and not held:
            plain = plain_request(data, self._acts, far=self._far)
            if not isinstance(plain, str):
                return self._begin_body(plain, data[plain.size :], events)
        held += data
        if not self._skipped and held.startswith(b"\r\n"):  # one is forgiven (RFC 9112 section 2.2)
            del held[:2]
            self._skipped = True
        end = held.find(END_OF_HEAD, max(0, self._scanned - 3))
        if end < 0:
            fault = too_early(held, self._scanned)
            if fault is not None:
                raise ProxyError(fault)
            self._scanned = len(held)
            return b""
        end += len(END_OF_HEAD)
        request = request_head(bytes(held[:end]))
        del held[:end]
        rest = bytes(held)
        held.clear()
        return self._begin_body(request, rest, events)

    def _begin_body(self, request: RequestHead, rest: bytes, events: list[Event]) -> bytes:
        """Go on behind a head; return what of `rest` is body, and hold what is not."""
        self._request = request
        events.append(Head(request))
        self._body = body_reader(request.content_length, request.chunked, MALFORMED)
        if self._body is not None:
            return rest
        self._request_done = True
        events.append(End())
        self._held += rest
        return b""

    def _read_body(self, body: BodyReader, data: bytes, events: list[Event]) -> None:
        if data:
            self._continued = True
        rest = body.read(data, events)
        if rest is not None:
            self._body = None
            self._request_done = True
            self._held += rest

    def encode_interim(self, head: ResponseHead) -> bytes:
        """See `ServerCodec`."""
        if self._request is None or self._request.version == b"1.0" or head.status == 101:
            return b""
        self._continued = True
        return write_head(status_line(head.status, head.reason), head.fields, ())

    def encode_tunnel(self, head: ResponseHead) -> bytes:
        """See `ServerCodec`."""
        request = self._request
        assert request is not None, "a tunnel that nobody asked for"
        assert request.opens_tunnel, "a tunnel that nobody asked for"
        assert self._writer is None, "the response already has a head"
        own: list[bytes] = []
        status = 200
        if request.upgrade:
            status = 101
            own += [b"Upgrade: " + request.upgrade, b"Connection: upgrade"]
            if request.upgrade == WEBSOCKET and head.get(WEBSOCKET_ACCEPT) is None:  # the upstream speaks HTTP/2
                own.append(b"Sec-WebSocket-Accept: " + accept_value(request.get(WEBSOCKET_KEY) or b""))
        written = write_head(status_line(status, head.reason if head.status == status else b""), head.fields, own)
        self._closing = True
        self._writer = BodyWriter(None)
        self._body = BodyUntilClose()
        self._request_done = False
        return written

    def tunnel_held(self) -> list[Event]:
        """See `ServerCodec`."""
        held = bytes(self._held)
        self._held.clear()
        events: list[Event] = [Chunk(held, len(held))] if held else []
        return events + self._client_ended() if self._ended else events

    def encode_head(self, head: ResponseHead) -> bytes:
        """See `ServerCodec`."""
        assert self._writer is None, "the response already has a head"
        if self._held and self._request is not None and self._request.opens_tunnel:
            self._closing = True  # it was written for the other protocol; read as a request it would be one nobody made
            self._held.clear()
        if not self._request_done and head.status >= 400:
            self._closing = True  # nobody is going to read the rest of the body
        own: list[bytes] = []
        writer = self._framed(head, own)
        kept = head.kept if self._request is not None and self._request.version == b"1.1" else b""
        if kept:
            own.clear()  # it is framed as it came
        if self._last:
            own.append(b"Connection: close")
        elif self._request is not None and self._request.version == b"1.0":
            own.append(b"Connection: keep-alive")
        if kept:
            written = write_kept(kept, (), own)
        else:
            written = write_head(status_line(head.status, head.reason), head.fields, own)
        self._continued = True
        self._writer = writer  # not before: a head that cannot be written leaves room for a fault's
        return written

    def _framed(self, head: ResponseHead, own: list[bytes]) -> BodyWriter:
        """Choose the response's framing; append its field to `own`."""
        request = self._request
        length = head.content_length
        if head.status == 204:
            return BodyWriter(0, muted=True)
        if head.status == 304 or (request is not None and request.method == b"HEAD"):
            # No body, but the length that a GET would have got, if it is known.
            described = str(length).encode() if length else head.get(b"content-length")
            if described:
                own.append(b"Content-Length: " + described)
            return BodyWriter(0, muted=True)
        if length is not None:
            own.append(b"Content-Length: %d" % length)
            return BodyWriter(length)
        if request is not None and request.version == b"1.1":
            own.append(b"Transfer-Encoding: chunked")
            return BodyWriter(None, chunked=True)
        self._closing = True
        return BodyWriter(None)

    def encode_chunk(self, data: bytes) -> bytes:
        """See `ServerCodec`."""
        assert self._writer is not None, "a body before its head"
        return self._writer.chunk(data)

    def encode_end(self, trailers: Trailing = ()) -> bytes:
        """See `ServerCodec`."""
        assert self._writer is not None, "an end before its head"
        return self._writer.end(trailers if self.wants_trailers else ())
