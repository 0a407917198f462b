"""HTTP/2 towards one client: which of its streams are taken, and what is answered. `MuxServer`, less the frames.

Completed by h2_server.py on python-h2 and by h2_lean. A request that breaks the rules of h2_heads.py is reset before
anybody hears of it; so is one above the limit of streams (REFUSED_STREAM: safe to send again). The client's own
resets, and those that it forces us to, count (h2_abuse.py).
"""

from sidecar.codec import h2_frames as wire
from sidecar.codec.events import End, Event, Head, Reset
from sidecar.codec.h2_frames import Code, code_name
from sidecar.codec.h2_heads import request_head, response_fields
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.codec.h2_receiving import Receiving
from sidecar.codec.h2_states import HALF_CLOSED_REMOTE
from sidecar.codec.h2_streams import DRAIN_PING, S
from sidecar.errors import HEAD_TOO_BIG, MALFORMED, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead

HEADS_MAX_BYTES = 1024 * 1024  # of all open streams; HPACK makes 60 KiB out of a few bytes, a hundred times over
HELD_FIELD_BYTES = 96  # what a field takes in memory beyond what RFC 9113 section 6.5.2 counts


class ServerSide(Receiving[S]):
    """See `MuxServer`."""

    _preface = wire.PREFACE
    _blame = MALFORMED
    _end_is_all = False
    _streams_max = STREAMS_MAX
    _highest = 0  # stream that the client began last
    _taken = 0  # the last one of them that we may have acted on
    _heads_bytes = 0  # of open streams
    _last: int | None = None  # what our last GOAWAY said

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
            self._put_goaway(self._last, Code.NO_ERROR)
        else:
            self._put_goaway(wire.LAST_STREAM, Code.NO_ERROR)
            self._put_ping(DRAIN_PING)

    def _drain_heard(self) -> None:
        self.go_away(at_once=True)

    def send_interim(self, stream: int, head: ResponseHead) -> None:
        """See `MuxServer`."""
        known = self._streams.get(stream)
        if known is not None and not known.sent_head and head.status != 101:
            self._put_head(stream, response_fields(head, known.method, tunnel=False), end=False)

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
        self._answer(known, fields, head.status, switched=switched, left=head.content_length, end=end)

    def _answer(self, stream: S, fields: Fields, status: int, *, switched: bool, left: int | None, end: bool) -> None:
        """Write a final head. `left`: the body's length, None for unknown. Raises ValueError: `end`, and a body."""
        muted = not switched and (stream.method == b"HEAD" or status in (204, 304))
        if switched or muted:
            left = None
        elif end and left:
            raise ValueError(f"the body ends, but {left} bytes of the announced length are owed")
        self._put_head(stream.number, fields, end=end)
        stream.muted, stream.left = muted, left
        stream.sent_head, stream.tunnel = True, switched
        if end:
            self._we_ended(stream)

    def _done(self, stream: S) -> None:
        super()._done(stream)
        self._drop(stream)

    def _is_idle(self, number: int) -> bool:
        return number > self._highest or not number & 1

    @property
    def _last_taken(self) -> int:
        return self._taken

    def _tell_request(self, stream: S, head: RequestHead, events: list[Event]) -> None:
        """A stream begins; it is over for the client already where its state says so."""
        events.append(Head(head, stream.number))
        if stream.state == HALF_CLOSED_REMOTE:
            events.append(End(stream.number))

    def _new_request(
        self, number: int, received: Fields, size_bytes: int, ended: bool, events: list[Event], too_large: str = ""
    ) -> None:
        """The head of a stream that begins, `number` being above all that were begun before.

        `size_bytes`: of the list. `too_large`: why it was not kept, in words; "" if it was.
        """
        if self._last is not None or self._calmed:
            self._refuse(number, ended, "we are going away", events, excused=not self._calmed)
            return
        self._taken = number
        held_bytes = size_bytes + HELD_FIELD_BYTES * len(received)
        if len(self._streams) >= self._streams_max:
            sentence = f"the client has {self._streams_max} streams open already"
            self._refuse(number, ended, sentence, events, excused=not self._settings_acked)
        elif too_large:
            self._bad_request(number, too_large, ended, events, too_big=True)
        elif self._heads_bytes + held_bytes > HEADS_MAX_BYTES and self._streams:
            sentence = f"the heads of open streams take {self._heads_bytes} bytes already"
            self._refuse(number, ended, sentence, events, excused=True)
        else:
            try:
                head = request_head(received, ended=ended, size_bytes=size_bytes)
            except ProxyError as exc:
                too_big = exc.fault.status == HEAD_TOO_BIG.status
                self._bad_request(number, str(exc), ended, events, too_big=too_big)
                return
            tunnel = head.opens_tunnel
            stream = self._streams[number] = self._made(number, head.method, tunnel=tunnel)
            stream.head_bytes = held_bytes
            self._heads_bytes += held_bytes
            stream.got_head = True
            stream.expects = None if tunnel else head.content_length
            if ended:
                stream.peer_ends()
            self._tell_request(stream, head, events)

    def _bad_request(self, number: int, why: str, ended: bool, events: list[Event], *, too_big: bool) -> None:
        """The head of a stream that begins cannot be taken."""
        self._reset_number(number, Code.ENHANCE_YOUR_CALM if too_big else Code.PROTOCOL_ERROR, ended=ended)
        self._note("head-too-big" if too_big else "bad-head", why)
        self._premature(events)

    def _drop(self, stream: S) -> None:
        super()._drop(stream)
        self._heads_bytes -= stream.head_bytes

    def _refuse(self, number: int, ended: bool, sentence: str, events: list[Event], *, excused: bool) -> None:
        """Give a stream back unread. `excused`: the client could not know better yet."""
        self._reset_number(number, Code.REFUSED_STREAM, ended=ended)
        self._note("stream-limit", sentence)
        if not (excused and self._abuse.refused_early()):
            self._premature(events)

    def _peer_reset(self, stream: S, code: int, events: list[Event]) -> None:
        sentence = f"the client reset the stream ({code_name(code)})"
        answered = stream.sent_end
        self._drop(stream)
        self._tell_reset(stream, Reset(False, sentence, code, stream.number), events)
        if not answered:
            self._note("peer-reset", sentence)
            self._premature(events)
