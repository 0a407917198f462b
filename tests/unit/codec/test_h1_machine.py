"""A machine plays exchanges over connections of both HTTP/1.1 codecs: all bytes arrive where they belong, however cut.

Bytes travel in pieces of any size, only when a rule says so. Answers may come before the request is whole; then the
connection is of no more use, which both sides have to know, and the next exchange has another one.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.codec.events import Chunk, End, Event, Head, Interim, Trailers
from sidecar.codec.h1_client import INTERIM_MAX_COUNT, H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.model.messages import RequestHead, ResponseHead

SIZES = st.sampled_from((1, 2, 7, 100, 5_000))
BODY_BYTES = 300  # of a message with a known length
_PATTERN = bytes(range(256)) * 20
TRAILER = (b"X-Sum", b"c0ffee")


@dataclass
class Way:
    """One direction of one exchange. `left` is what a known length still owes."""

    left: int | None = None
    sent: bytes = b""
    got: bytes = b""
    heads: int = 0
    trailers: int = 0
    begun: bool = False
    ended: bool = False
    arrived: bool = False

    @property
    def whole(self) -> bool:
        """Everything was given to the sender's codec."""
        return self.ended or self.left == 0

    def body(self, size: int) -> bytes:
        """The next piece to be sent."""
        start = len(self.sent) % len(_PATTERN)
        piece = _PATTERN[start:][: size if self.left is None else min(size, self.left)]
        self.sent += piece
        if self.left is not None:
            self.left -= len(piece)
        return piece

    def take(self, events: list[Event]) -> None:
        """What the receiver's codec reports."""
        for event in events:
            assert not self.arrived, f"{event} after the end"
            match event:
                case Head():
                    self.heads += 1
                    assert self.heads == 1
                case Chunk(data):
                    self.got += data
                case Trailers(fields):
                    assert fields == [TRAILER]
                    self.trailers += 1
                case End():
                    self.arrived = True
                case _:
                    assert isinstance(event, Interim)
                    assert not self.heads, "an interim answer after the final one"


@dataclass
class Wires:
    """A connection: both codecs, and the bytes on their way."""

    client: H1Client = field(default_factory=H1Client)
    server: H1Server = field(default_factory=H1Server)
    to_server: bytes = b""
    to_client: bytes = b""


class Exchanges(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.wires = Wires()
        self.request = Way()
        self.answer = Way()
        self.hints = 0
        self.early = False  # the answer's head came before the request was whole

    @property
    def asking(self) -> bool:
        """True while the client has more to send, and somebody is there to take it."""
        return self.request.begun and not self.request.ended and not self.answer.arrived

    @precondition(lambda self: not self.request.begun)
    @rule(known=st.booleans(), wants_trailers=st.booleans())
    def ask(self, known: bool, wants_trailers: bool) -> None:
        self.request = Way(BODY_BYTES if known else None, begun=True)
        head = RequestHead(b"POST", b"/", b"a", [(b"Host", b"a")], content_length=self.request.left)
        self.wires.to_server += self.wires.client.encode_request(head, wants_trailers=wants_trailers)

    @precondition(lambda self: self.asking)
    @rule(size=SIZES)
    def send_body(self, size: int) -> None:
        self.wires.to_server += self.wires.client.encode_chunk(self.request.body(size))

    @precondition(lambda self: self.asking and not self.request.left)
    @rule(trailers=st.sampled_from(((), (TRAILER,))))
    def end_request(self, trailers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.wires.to_server += self.wires.client.encode_end(trailers)
        self.request.ended = True

    @precondition(lambda self: self.wires.to_server)
    @rule(size=SIZES)
    def to_the_server(self, size: int) -> None:
        self.bring_to_server(size)

    def bring_to_server(self, size: int) -> None:
        piece, self.wires.to_server = self.wires.to_server[:size], self.wires.to_server[size:]
        self.request.take(self.wires.server.feed(piece))

    @precondition(lambda self: self.request.heads and not self.answer.begun and self.hints < INTERIM_MAX_COUNT)
    @rule()
    def hint(self) -> None:
        self.hints += 1
        self.wires.to_client += self.wires.server.encode_interim(ResponseHead(103, [(b"Link", b"</a>")]))

    @precondition(lambda self: self.request.heads and not self.answer.begun)
    @rule(known=st.booleans())
    def begin_answer(self, known: bool) -> None:
        self.answer.begun, self.answer.left = True, BODY_BYTES if known else None
        self.wires.to_client += self.wires.server.encode_head(ResponseHead(200, [], content_length=self.answer.left))

    @precondition(lambda self: self.answer.begun and not self.answer.ended)
    @rule(size=SIZES)
    def answer_body(self, size: int) -> None:
        self.wires.to_client += self.wires.server.encode_chunk(self.answer.body(size))

    @precondition(lambda self: self.answer.begun and not self.answer.ended and not self.answer.left)
    @rule(trailers=st.sampled_from(((), (TRAILER,))))
    def end_answer(self, trailers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.wires.to_client += self.wires.server.encode_end(trailers)
        self.answer.ended = True

    @precondition(lambda self: self.wires.to_client)
    @rule(size=SIZES)
    def bring_to_client(self, size: int) -> None:
        piece, self.wires.to_client = self.wires.to_client[:size], self.wires.to_client[size:]
        heads = self.answer.heads
        self.answer.take(self.wires.client.feed(piece))
        if self.answer.heads > heads:
            self.early = not self.request.whole

    @precondition(lambda self: self.answer.arrived)
    @rule()
    def next_exchange(self) -> None:
        assert self.wires.client.reusable is not self.early
        if self.early:
            self.wires = Wires()
        else:
            while self.wires.to_server:
                self.bring_to_server(5_000)
            assert self.wires.server.keep_alive
            assert self.wires.server.next_request() == []
        self.request, self.answer, self.hints = Way(), Way(), 0

    @invariant()
    def what_arrives_was_sent(self) -> None:
        for way in (self.request, self.answer):
            assert way.sent.startswith(way.got)
            assert way.heads or not way.got
            if way.arrived:
                assert way.whole
                assert way.got == way.sent

    @invariant()
    def only_whole_exchanges_leave_a_connection_that_can_be_used(self) -> None:
        if self.request.begun and not self.answer.arrived:
            assert not self.wires.client.reusable


TestExchanges = Exchanges.TestCase
TestExchanges.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
