"""HTTP/2 towards one client: `MuxServer` of contract.py, on python-h2. What both sides share is h2_mux.py's.

A request that breaks the rules of h2_heads.py is reset before anybody hears of it; so is one above the limit of streams
(REFUSED_STREAM: safe to send again). The client's own resets, and those that it forces us to, count (h2_abuse.py).
"""

from sidecar.codec import h2_frames as wire
from sidecar.codec.events import Event, Head, Reset
from sidecar.codec.h2_frames import Code, code_name
from sidecar.codec.h2_heads import list_bytes, request_head, response_fields
from sidecar.codec.h2_library import STREAMS_MAX
from sidecar.codec.h2_mux import H2Mux
from sidecar.codec.h2_streams import DRAIN_PING, Stream
from sidecar.errors import HEAD_TOO_BIG, MALFORMED, ProxyError
from sidecar.model.messages import RequestHead, ResponseHead

HEADS_MAX_BYTES = 1024 * 1024  # of all open streams; HPACK makes 60 KiB out of a few bytes, a hundred times over


class H2Server(H2Mux):
    """See `MuxServer`."""

    _preface = wire.PREFACE
    _blame = MALFORMED
    _end_is_all = False

    def __init__(self, *, streams_max: int = STREAMS_MAX) -> None:
        super().__init__(client=False, streams_max=streams_max)
        self._streams_max = streams_max
        self._library.receive_data(wire.PREFACE)  # the client's own is read by us
        self._highest = 0  # stream that the client began last
        self._taken = 0  # the last one of them that we may have acted on
        self._heads_bytes = 0  # of open streams
        self._last: int | None = None  # what our last GOAWAY said

    @property
    def draining(self) -> bool:
        """See `Mux`. Not yet after the first GOAWAY of two: requests may be on their way."""
        return self._last is not None or self._calmed or self._peer_gone_away or bool(self._over)

    def go_away(self, *, at_once: bool) -> None:
        """See `MuxServer`."""
        if self._over or self._last is not None or self._calmed:
            return
        if at_once:
            self._last = self._taken
            self._write(wire.goaway(self._last, Code.NO_ERROR))
        else:
            self._write(wire.goaway(wire.LAST_STREAM, Code.NO_ERROR))
            self._library.ping(DRAIN_PING)

    def _drain_heard(self) -> None:
        self.go_away(at_once=True)

    def send_interim(self, stream: int, head: ResponseHead) -> None:
        """See `MuxServer`."""
        known = self._streams.get(stream)
        if known is not None and not known.sent_head and head.status != 101:
            self._library.send_headers(stream, response_fields(head, known.method, tunnel=False))

    def send_head(self, stream: int, head: ResponseHead, *, end: bool) -> None:
        """See `MuxServer`."""
        known = self._streams.get(stream)
        if known is None:
            return
        assert not known.sent_head, "the response already has a head"
        switched = known.tunnel and head.status < 300
        if switched and known.method != b"CONNECT" and head.status != 101 and head.version != b"2":
            # A client of HTTP/2 would take it for the agreement to switch, and the body for the other protocol.
            raise ValueError(f"status {head.status} of HTTP/1.1 is an answer, not the switch that was asked for")
        fields = response_fields(head, known.method, tunnel=switched)
        known.muted = not switched and (known.method == b"HEAD" or head.status in (204, 304))
        known.left = None if switched or known.muted else head.content_length
        if end and known.left:
            raise ValueError(f"the body ends, but {known.left} bytes of the announced length are owed")
        self._library.send_headers(stream, fields, end_stream=end)
        known.sent_head, known.tunnel = True, switched
        if end:
            self._we_ended(known)

    def _done(self, stream: Stream) -> None:
        super()._done(stream)
        self._drop(stream)

    def _is_idle(self, number: int) -> bool:
        return number > self._highest or not number & 1

    @property
    def _last_taken(self) -> int:
        return self._taken

    def _unknown_headers(self, number: int, raw: bytes, ended: bool, events: list[Event]) -> None:
        if number <= self._highest or not number & 1:
            super()._unknown_headers(number, raw, ended, events)
            return
        self._highest = number
        self._abuse.stream_begun()
        received = self._read_head(raw, events)
        if received is None:
            return
        if self._last is not None or self._calmed:
            self._refuse(number, ended, "we are going away", events, excused=not self._calmed)
            return
        self._taken = number
        size = list_bytes(received)
        if len(self._streams) >= self._streams_max:
            sentence = f"the client has {self._streams_max} streams open already"
            self._refuse(number, ended, sentence, events, excused=not self._settings_acked)
        elif self._heads_bytes + size > HEADS_MAX_BYTES and self._streams:
            sentence = f"the heads of open streams take {self._heads_bytes} bytes already"
            self._refuse(number, ended, sentence, events, excused=True)
        else:
            try:
                head = request_head(received, ended=ended)
            except ProxyError as exc:
                too_big = exc.fault.status == HEAD_TOO_BIG.status
                self._reset_number(number, Code.ENHANCE_YOUR_CALM if too_big else Code.PROTOCOL_ERROR, ended=ended)
                self._note("head-too-big" if too_big else "bad-head", str(exc))
                self._premature(events)
                return
            self._begin(number, head, size, ended, events)

    def _begin(self, number: int, head: RequestHead, size: int, ended: bool, events: list[Event]) -> None:
        stream = self._streams[number] = Stream(number, head.method, tunnel=head.opens_tunnel)
        stream.head_bytes = size
        self._heads_bytes += size
        stream.got_head = True
        stream.expects = None if head.opens_tunnel else head.content_length
        events.append(Head(head, number))
        if ended:
            self._peer_ended(stream, events)

    def _drop(self, stream: Stream) -> None:
        super()._drop(stream)
        self._heads_bytes -= stream.head_bytes

    def _refuse(self, number: int, ended: bool, sentence: str, events: list[Event], *, excused: bool) -> None:
        """Give a stream back unread. `excused`: the client could not know better yet."""
        self._reset_number(number, Code.REFUSED_STREAM, ended=ended)
        self._note("stream-limit", sentence)
        if not (excused and self._abuse.refused_early()):
            self._premature(events)

    def _peer_reset(self, stream: Stream, code: int, events: list[Event]) -> None:
        sentence = f"the client reset the stream ({code_name(code)})"
        self._drop(stream)
        events.append(Reset(False, sentence, code, stream.number))
        if not stream.sent_end:
            self._note("peer-reset", sentence)
            self._premature(events)
