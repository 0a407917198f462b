"""What `proxy/` may ask of a codec. A codec never awaits, sleeps, logs or reads a clock.

Two shapes. `ServerCodec` and `ClientCodec` carry one exchange at a time and give back bytes (HTTP/1.1). `MuxServer` and
`MuxClient` carry many streams on one connection, and collect bytes in the order in which they must leave (HTTP/2).

The same bytes give the same events however they are cut into reads, but for where a body is cut into chunks, and
but for this: events that stand before a fault in one read are dropped, because the fault ends their exchange.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sidecar.codec.events import Event
from sidecar.model.messages import RequestHead, ResponseHead

Trailing = Iterable[tuple[bytes, bytes]]

CANCEL = 0x8  # RFC 9113 section 7: nobody wants this stream any more


class ServerCodec(Protocol):
    """The connection to one client: requests in, responses out, one exchange at a time.

    An exchange begins with a `Head` event (a request that `opens_tunnel` gives its `End` at once, as any without body)
    and is over after `encode_end`; then `next_request` starts the next one if `keep_alive` says so, else the
    connection has to close.
    """

    @property
    def at_rest(self) -> bool:
        """True when no request is in progress, not even a part of a head: closing now loses nothing."""

    @property
    def wants_input(self) -> bool:
        """False: stop reading from the client. It ended, broke the protocol, or sent too much ahead of its turn.
        False while `at_rest`: nothing more can come, close."""

    @property
    def expects_continue(self) -> bool:
        """True while the client waits for `100 Continue` (or a final head) before it sends the body."""

    @property
    def wants_trailers(self) -> bool:
        """True if the client said `TE: trailers`."""

    @property
    def owed_bytes(self) -> int:
        """How many bytes at least the client has to send to complete the request; 0 when it is."""

    @property
    def keep_alive(self) -> bool:
        """After the exchange: True if the connection may carry the next request."""

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes from the client; empty means that it will send no more.

        Bytes that come after the end of a request are held until `next_request`.

        Raises:
            ProxyError: the client broke the protocol (DPE, with the status to answer) or left inside a message (DC).
                A response can still be encoded; it says `Connection: close`. Later calls return nothing.
        """

    def next_request(self) -> list[Event]:
        """Begin the next exchange with the bytes held so far. Call once after each exchange, if `keep_alive`.

        Raises:
            ProxyError: as `feed`.
        """

    def close_after(self) -> None:
        """Let this exchange be the last one: its response head says so."""

    def credit(self, size: int) -> None:
        """Let the client send `size` more body bytes. After forwarding, never before."""

    def send_room(self) -> int:
        """Body bytes that may be encoded now; 0 means wait for the client."""

    def encode_interim(self, head: ResponseHead) -> bytes:
        """A 1xx response; empty for a client that would not understand it."""

    def encode_tunnel(self, head: ResponseHead) -> bytes:
        """The head that agrees to switch: 101 to an upgrade, 200 to CONNECT, whatever status `head` has.

        From then on `feed` gives `Chunk` for every byte that comes and `End` at the client's end; `encode_chunk` gives
        bytes as they are, and after `encode_end` the caller ends its direction of the socket. The connection carries
        nothing after it.
        """

    def tunnel_held(self) -> list[Event]:
        """Call once after `encode_tunnel`: what came ahead of the switch, which belongs to the other protocol.

        If the head that answers is an ordinary one, such bytes are dropped and the exchange is the connection's last.
        """

    def encode_head(self, head: ResponseHead) -> bytes:
        """The final head. The codec chooses the framing from `head.content_length`: a number, or None for unknown.

        `head.fields` are end-to-end fields (model.messages.end_to_end); framing and connection fields are the codec's.
        """

    def encode_chunk(self, data: bytes) -> bytes:
        """A piece of the body; empty if the response has none (HEAD, 204, 304).

        Raises:
            ValueError: more than the announced length.
        """

    def encode_end(self, trailers: Trailing = ()) -> bytes:
        """The end of the response. Trailers are left out where the client cannot take them.

        Raises:
            ValueError: less than the announced length; close the connection instead.
        """


class ClientCodec(Protocol):
    """The connection to one upstream: requests out, responses in, one exchange at a time."""

    @property
    def at_rest(self) -> bool:
        """True when no exchange is in progress."""

    @property
    def reusable(self) -> bool:
        """True when the connection may carry another request: the last exchange ended well on both sides, neither
        wants to close, and not a byte came that nobody asked for."""

    @property
    def keep_alive_s(self) -> float | None:
        """What the last answer's `Keep-Alive: timeout=` promised, in seconds; None if it promised nothing."""

    def encode_request(self, head: RequestHead, *, wants_trailers: bool = False) -> bytes:
        """Begin an exchange. Framing comes from `head.content_length`: a number, or None for unknown (chunked).

        `head.upgrade` (or CONNECT) asks for a tunnel. If the upstream agrees, `feed` gives `Tunnel` in the place of
        `Head`, then `Chunk` for every byte and `End` at its end; `encode_chunk` gives bytes as they are, and after
        `encode_end` the caller ends its direction of the socket. Whether it agrees or not, the connection carries
        nothing after it. Before it agrees `encode_chunk` raises ValueError: no byte of the tunnel leaves. A websocket
        needs its `sec-websocket-key` in the fields (websocket.py makes one); an answer that does not fit it is refused.

        `head.fields` are end-to-end fields with the Host to send (absent: `head.authority`); framing and connection
        fields are the codec's.
        `wants_trailers` asks the upstream for trailers.
        """

    def encode_chunk(self, data: bytes) -> bytes:
        """A piece of the request body. Raises ValueError above the announced length."""

    def encode_end(self, trailers: Trailing = ()) -> bytes:
        """The end of the request. Raises ValueError below the announced length: close the connection instead.

        Trailers are sent where the body is chunked, but for those that an upstream which merges trailers into the head
        (RFC 9110 section 6.5.1) would take for fields that the proxy had checked (trailers.py). Else they are left out.
        """

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes from the upstream; empty means that it closed.

        Raises:
            ProxyError: UPSTREAM_PROTOCOL (the answer is not valid HTTP) or UPSTREAM_CLOSED (it ended before the
                message did). The connection is of no more use.
        """

    def credit(self, size: int) -> None:
        """Let the upstream send `size` more body bytes. After forwarding, never before."""

    def send_room(self) -> int:
        """Body bytes that may be encoded now; 0 means wait for the upstream."""


@dataclass(slots=True)
class Note:
    """What a codec saw that operators want to count: an abuse, a limit, a refused stream.

    Attributes:
        kind: One of a few fixed words with hyphens, a metric's label (`rapid-reset`, `stream-limit`, `bad-length`).
        sentence: The case in words, without a full stop.
    """

    kind: str
    sentence: str


class Mux(Protocol):
    """What both ends of a connection with many streams share.

    Nothing here raises for what a peer does. A stream that breaks gives a `Reset` event (for the server: only if its
    `Head` was given before); a connection that breaks sets `over`, puts GOAWAY into the bytes to be written, and
    gives a `Reset` for each stream that was open. Calls for a stream that is gone do nothing.
    """

    @property
    def over(self) -> str:
        """Why this connection must be closed once its bytes are written; "" as long as it lives."""

    @property
    def streams(self) -> int:
        """Streams open now: begun, and not yet ended on both sides or reset; a client's also count until `forget`."""

    @property
    def draining(self) -> bool:
        """True when no further stream can begin: we or the peer said GOAWAY. After the first GOAWAY of a server's
        two-step drain not yet: requests may be on their way."""

    @property
    def pings_unanswered(self) -> int:
        """Our own PINGs that wait for their answer."""

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """Take bytes from the peer; empty means that it closed. `now_s` is for rates of abuse only."""

    def take(self) -> bytes:
        """All bytes to be written now, in order; call after every other call that may have made some.

        More than 64 KiB of answers to control frames that were not taken end the connection: who cannot write must
        stop reading, or not take.
        """

    def notes(self) -> list[Note]:
        """What there is to be counted since the last call."""

    def send_room(self, stream: int) -> int:
        """DATA bytes that may be sent on `stream` now: its window, the connection's, the frame size; 0: wait until
        some `feed` has made room. Never 0 for a stream that is gone: what is sent there vanishes."""

    def send_chunk(self, stream: int, data: bytes) -> None:
        """One DATA frame, at most `send_room` bytes. Nothing is written of a body that may not be (HEAD, 204, 304).

        Raises:
            ValueError: more than the announced length.
        """

    def send_end(self, stream: int, trailers: Trailing = ()) -> None:
        """The end of our direction: trailers, or an empty DATA frame with END_STREAM.

        Raises:
            ValueError: less than the announced length, reset the stream instead; a trailer that HTTP/2 cannot carry.
        """

    def credit(self, stream: int, size: int) -> None:
        """Let the peer send `size` more bytes on `stream` (and on the connection). After forwarding, never before.
        What a stream still owes when it is over or reset goes back to the connection by itself."""

    def reset(self, stream: int, code: int = CANCEL) -> None:
        """Give a stream up. Bytes that the peer still sends on it are credited back to the connection unseen."""

    def ping(self) -> None:
        """Ask whether the peer is alive."""


class MuxServer(Mux, Protocol):
    """HTTP/2 towards one client. A request is a `Head` with its stream's number; CONNECT has `target` == `authority`,
    an extended CONNECT is the GET that it stands for with `upgrade` set (RFC 8441). A tunnel's bytes are chunks."""

    def send_interim(self, stream: int, head: ResponseHead) -> None:
        """A 1xx response; 101 is left out (RFC 9113 section 8.6)."""

    def send_head(self, stream: int, head: ResponseHead, *, end: bool) -> None:
        """The final head; names in lower case, connection fields left out. `end`: nothing follows.

        To a request that `opens_tunnel` a head with status 101 is sent as 200 without `sec-websocket-accept`.
        Raises ValueError: a field that HTTP/2 cannot carry; `end` with a body announced; a 2xx of HTTP/1 other than
        101 to an extended CONNECT, which the client would take for the switch.
        """

    def go_away(self, *, at_once: bool) -> None:
        """Take no new streams. First call with `at_once` False (last stream 2**31-1, then, when the peer has had a
        round trip: the PING sent along is answered, the real one); True says the real one now."""


class MuxClient(Mux, Protocol):
    """HTTP/2 towards one upstream."""

    @property
    def room(self) -> int:
        """Streams that may begin now: the peer's limit (and ours) less those open; 0 while `draining` or `over`."""

    @property
    def extended_connect(self) -> bool:
        """True when the peer's SETTINGS allow `:protocol` (RFC 8441)."""

    def send_request(self, head: RequestHead, *, end: bool, wants_trailers: bool = False) -> int:
        """Begin a stream; returns its number. `end`: no body. `head.upgrade` makes an extended CONNECT.

        Raises:
            ValueError: `room` is 0, or a field that HTTP/2 cannot carry.
        """

    def go_away(self) -> None:
        """Begin no more streams, and tell the peer; those that are open go on."""

    def forget(self, stream: int) -> None:
        """The exchange is over and complete. Gives the place back; resets with NO_ERROR/CANCEL what is still open."""
