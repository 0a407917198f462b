"""HTTP/2 towards one upstream: `MuxClient` of contract.py, on python-h2. What both sides share is h2_mux.py's.

An answer that breaks the rules of h2_heads.py costs its own stream only: others share the connection. Says of each
stream that failed whether the upstream provably left it alone (REFUSED_STREAM, or above the last stream of a GOAWAY).
"""

from sidecar.codec.contract import CANCEL, Note
from sidecar.codec.events import Event, Head, Interim, Reset, Tunnel
from sidecar.codec.h2_frames import LAST_STREAM, Code, code_name, goaway
from sidecar.codec.h2_heads import request_fields, response_head
from sidecar.codec.h2_library import STREAMS_MAX
from sidecar.codec.h2_mux import H2Mux
from sidecar.codec.h2_streams import Stream
from sidecar.errors import UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.messages import RequestHead

INTERIM_MAX_COUNT = 10  # 1xx answers before the final one, as over HTTP/1.1
# What an agreement to switch says nothing with: a length (RFC 9110 section 9.3.6), and an answer to a key that nobody
# sent (RFC 8441 section 5), which HAProxy adds all the same; a client of HTTP/1.1 compares it with its own key.
_NOT_OF_A_TUNNEL = frozenset((b"content-length", b"sec-websocket-accept"))


class H2Client(H2Mux):
    """See `MuxClient`.

    Args:
        scheme: What `:scheme` says: `https` over TLS.
        streams_max: Streams at once, if the peer allows as many.
    """

    _blame = UPSTREAM_PROTOCOL
    _end_is_all = True

    def __init__(self, *, scheme: bytes = b"http", streams_max: int = STREAMS_MAX) -> None:
        super().__init__(client=True, streams_max=streams_max)
        self._scheme = scheme
        self._streams_max = streams_max
        self._next = 1
        self._leaving = False

    @property
    def draining(self) -> bool:
        """See `Mux`."""
        return self._leaving or self._peer_gone_away or self._calmed or bool(self._over) or self._next > LAST_STREAM

    @property
    def room(self) -> int:
        """See `MuxClient`."""
        if self.draining:
            return 0
        limit = min(self._library.remote_settings.max_concurrent_streams, self._streams_max)
        return max(0, limit - len(self._streams))

    @property
    def extended_connect(self) -> bool:
        """See `MuxClient`."""
        return self._library.remote_settings.enable_connect_protocol == 1

    def send_request(self, head: RequestHead, *, end: bool, wants_trailers: bool = False) -> int:
        """See `MuxClient`."""
        if self.room <= 0:
            raise ValueError("no stream can begin on this connection now")
        fields = request_fields(head, self._scheme, wants_trailers=wants_trailers)
        tunnel = head.opens_tunnel
        left = None if tunnel else head.content_length
        if end and left:
            raise ValueError(f"the request ends with its head, but {left} bytes of the announced length are owed")
        number = self._next
        self._library.send_headers(number, fields, end_stream=end)
        self._next += 2
        self._abuse.stream_begun()
        stream = self._streams[number] = Stream(number, b"CONNECT" if tunnel else head.method, tunnel=tunnel)
        stream.left = left
        stream.sent_head = True
        stream.sent_end = end
        return number

    def go_away(self) -> None:
        """See `MuxClient`. The last stream of the server's that we took is none: nothing is pushed to us."""
        if not self._leaving and not self._over:
            self._leaving = True
            self._write(goaway(0, Code.NO_ERROR))

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

    def _head(self, stream: Stream, raw: bytes, ended: bool, events: list[Event]) -> None:
        received = self._read_head(raw, events, interim=not ended)
        if received is None:
            return
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
                events.append(Interim(head, stream.number))
            return
        stream.got_head = True
        stream.tunnel = stream.tunnel and head.status < 300
        if stream.tunnel:
            head.fields = [field for field in head.fields if field[0] not in _NOT_OF_A_TUNNEL]
            head.content_length = None
            events.append(Tunnel(head, stream.number))
        else:
            stream.expects = head.content_length
            events.append(Head(head, stream.number))
        if ended:
            self._peer_ended(stream, events)

    def _peer_reset(self, stream: Stream, code: int, events: list[Event]) -> None:
        if stream.got_end and not stream.tunnel:
            stream.sent_end = True  # the answer is complete: the upstream does not want the rest of the request
            return
        untouched = code == Code.REFUSED_STREAM and not stream.got_head and not stream.interims
        sentence = f"the endpoint reset the stream ({code_name(code)})"
        self._note("peer-reset", sentence)
        self._drop(stream)
        events.append(Reset(untouched, sentence, code, stream.number))

    def _peer_goes_away(self, last: int, code: int, events: list[Event]) -> None:
        sentence = f"the endpoint goes away ({code_name(code)})"
        cut_off = last > 0  # who takes nothing at all of a connection refuses whatever comes
        for stream in [each for each in self._streams.values() if each.number > last and not each.got_end]:
            self._write_reset(stream, CANCEL)
            self._drop(stream)
            events.append(Reset(True, sentence, code, stream.number, cut_off))
