"""HTTP/2 towards one upstream: which streams may begin, and what its answers mean. `MuxClient`, less the frames.

Completed by h2_client.py on python-h2 and by h2_lean. An answer that breaks the rules of h2_heads.py costs its own
stream only: others share the connection. Says of each stream that failed whether the upstream provably left it alone
(REFUSED_STREAM, or above the last stream of a GOAWAY).
"""

from sidecar.codec.contract import CANCEL, Note
from sidecar.codec.events import End, Event, Head, Interim, Reset, Tunnel
from sidecar.codec.h2_frames import LAST_STREAM, Code, code_name
from sidecar.codec.h2_heads import request_fields, response_head
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.codec.h2_receiving import Receiving
from sidecar.codec.h2_streams import S
from sidecar.errors import UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.messages import Fields, RequestHead, ResponseHead

INTERIM_MAX_COUNT = 10  # 1xx answers before the final one, as over HTTP/1.1
# What an agreement to switch says nothing with: a length (RFC 9110 section 9.3.6), and an answer to a key that nobody
# sent (RFC 8441 section 5), which HAProxy adds all the same; a client of HTTP/1.1 compares it with its own key.
_NOT_OF_A_TUNNEL = frozenset((b"content-length", b"sec-websocket-accept"))


class ClientSide(Receiving[S]):
    """See `MuxClient`."""

    _blame = UPSTREAM_PROTOCOL
    _end_is_all = True
    _scheme = b"http"
    _streams_max = STREAMS_MAX
    _next = 1  # the number of the stream that begins next
    _leaving = False

    @property
    def draining(self) -> bool:
        """See `Mux`."""
        return self._leaving or self._peer_gone_away or self._calmed or bool(self._over) or self._next > LAST_STREAM

    @property
    def room(self) -> int:
        """See `MuxClient`."""
        if self.draining:
            return 0
        return max(0, min(self._peer_streams_max, self._streams_max) - len(self._streams))

    @property
    def extended_connect(self) -> bool:
        """See `MuxClient`."""
        return self._peer_connects

    def send_request(self, head: RequestHead, *, end: bool, wants_trailers: bool = False) -> int:
        """See `MuxClient`."""
        if self.room <= 0:
            raise ValueError("no stream can begin on this connection now")
        fields = request_fields(head, self._scheme, wants_trailers=wants_trailers)
        tunnel = head.opens_tunnel
        left = None if tunnel else head.content_length
        return self._begin(fields, b"CONNECT" if tunnel else head.method, tunnel=tunnel, left=left, end=end).number

    def _begin(self, fields: Fields, method: bytes, *, tunnel: bool, left: int | None, end: bool) -> S:
        """A new stream, its head written. `left`: the body's length, None for unknown. Raises ValueError."""
        if end and left:
            raise ValueError(f"the request ends with its head, but {left} bytes of the announced length are owed")
        number = self._next
        self._put_head(number, fields, end=end)
        self._next += 2
        self._abuse.stream_begun()
        stream = self._streams[number] = self._made(number, method, tunnel=tunnel)
        stream.left = left
        stream.sent_head = True
        if end:
            stream.we_end()
        return stream

    def go_away(self) -> None:
        """See `MuxClient`. The last stream of the server's that we took is none: nothing is pushed to us."""
        if not self._leaving and not self._over:
            self._leaving = True
            self._put_goaway(0, Code.NO_ERROR)

    def forget(self, stream: int) -> None:
        """See `MuxClient`."""
        known = self._streams.get(stream)
        if known is None:
            return
        if not (known.got_end and known.sent_end):
            self._write_reset(known, Code.NO_ERROR if known.got_end else CANCEL)
        self._drop(known)

    def _is_idle(self, number: int) -> bool:
        return number >= self._next or not number & 1

    def _tell_answer(self, stream: S, head: ResponseHead, ended: bool, events: list[Event]) -> None:
        """The final head of an answer came; of a tunnel, if `stream` says so."""
        events.append(Tunnel(head, stream.number) if stream.tunnel else Head(head, stream.number))
        if ended:
            events.append(End(stream.number))

    def _tell_interim(self, stream: S, head: ResponseHead, events: list[Event]) -> None:
        """A 1xx answer came."""
        events.append(Interim(head, stream.number))

    def _head(self, stream: S, received: Fields, ended: bool, events: list[Event]) -> None:
        try:
            head = response_head(received, stream.method, ended=ended)
        except ProxyError as exc:
            self._break(stream, Code.PROTOCOL_ERROR, Note("bad-head", str(exc)), events, ended=ended)
            return
        if head.status < 200:
            stream.interims += 1
            if stream.interims > INTERIM_MAX_COUNT:
                note = Note("interim-flood", f"the endpoint sent more than {INTERIM_MAX_COUNT} interim answers")
                self._break(stream, Code.ENHANCE_YOUR_CALM, note, events, ended=ended)
            else:
                self._tell_interim(stream, head, events)
            return
        stream.got_head = True
        if stream.tunnel and head.status < 300:
            head.fields = [field for field in head.fields if field[0] not in _NOT_OF_A_TUNNEL]
            head.content_length = None
        else:
            stream.tunnel = False
            stream.expects = head.content_length
        if ended:
            self._end_received(stream)
        self._tell_answer(stream, head, ended, events)

    def _peer_reset(self, stream: S, code: int, events: list[Event]) -> None:
        if stream.got_end and not stream.tunnel:
            stream.we_end()  # the answer is complete: the upstream does not want the rest of the request
            return
        untouched = code == Code.REFUSED_STREAM and not stream.got_head and not stream.interims
        sentence = f"the endpoint reset the stream ({code_name(code)})"
        self._note("peer-reset", sentence)
        self._drop(stream)
        self._tell_reset(stream, Reset(untouched, sentence, code, stream.number), events)

    def _peer_goes_away(self, last: int, code: int, events: list[Event]) -> None:
        sentence = f"the endpoint goes away ({code_name(code)})"
        cut_off = last > 0  # who takes nothing at all of a connection refuses whatever comes
        for stream in [each for each in self._streams.values() if each.number > last and not each.got_end]:
            self._write_reset(stream, CANCEL)
            self._drop(stream)
            self._tell_reset(stream, Reset(True, sentence, code, stream.number, cut_off), events)
