"""What `proxy/` may ask of a codec. A codec never awaits, sleeps, logs or reads a clock.

The same bytes give the same events however they are cut into reads, but for where a body is cut into chunks, and
but for this: events that stand before a fault in one read are dropped, because the fault ends their exchange.
"""

from collections.abc import Iterable
from typing import Protocol

from sidecar.codec.events import Event
from sidecar.model.messages import RequestHead, ResponseHead

Trailing = Iterable[tuple[bytes, bytes]]


class ServerCodec(Protocol):
    """The connection to one client: requests in, responses out, one exchange at a time.

    An exchange begins with a `Head` event and is over after `encode_end`; then `next_request` starts the next one if
    `keep_alive` says so, else the connection has to close.
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

    def encode_request(self, head: RequestHead, *, wants_trailers: bool = False) -> bytes:
        """Begin an exchange. Framing comes from `head.content_length`: a number, or None for unknown (chunked).

        `head.fields` are end-to-end fields with the Host to send (absent: `head.authority`); framing and connection
        fields are the codec's.
        `wants_trailers` asks the upstream for trailers.
        """

    def encode_chunk(self, data: bytes) -> bytes:
        """A piece of the request body. Raises ValueError above the announced length."""

    def encode_end(self, trailers: Trailing = ()) -> bytes:
        """The end of the request. Raises ValueError below the announced length: close the connection instead.

        Request trailers are not forwarded (RFC 9110 section 6.5.1 allows it; some upstreams merge them into the head,
        where they would pass for fields that the proxy had checked).
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
