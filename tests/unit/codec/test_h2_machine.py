"""A machine plays many exchanges over one connection of both HTTP/2 codecs: all bytes arrive where they belong.

Bytes travel in pieces of any size, only when a rule says so; windows are small against the bodies, so that both sides
run out of room and go on when credit comes back.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sidecar.codec.events import Chunk, End, Event, Head, Interim, Reset, Trailers
from sidecar.codec.h2_limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from sidecar.model.messages import RequestHead, ResponseHead
from tests.support.http2_codecs import LEAN, MIXED, REFERENCE, Client, Server

SIZES = st.sampled_from((1, 10, 100, 16_384, 40_000))


@dataclass
class Way:
    """One direction of one exchange."""

    sent: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    begun: bool = False
    ended: bool = False
    arrived: bool = False  # the receiver has its end
    trailers: int = 0


@dataclass
class Exchange:
    number: int
    request: Way = field(default_factory=Way)
    answer: Way = field(default_factory=Way)
    seen: bool = False
    reset: bool = False


class Connection(RuleBasedStateMachine):
    exchanges = Bundle("exchanges")
    codecs = REFERENCE

    def __init__(self) -> None:
        super().__init__()
        self.client = self.codecs.client()
        self.server = self.codecs.server()
        self.to_server = b""
        self.to_client = b""
        self.known: dict[int, Exchange] = {}

    @rule(target=exchanges)
    def ask(self) -> Exchange:
        if not self.client.room:
            return next(iter(self.known.values()))
        number = self.client.send_request(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
        made = self.known[number] = Exchange(number)
        made.request.begun = True
        return made

    @rule(exchange=exchanges, size=SIZES, upload=st.booleans())
    def send(self, exchange: Exchange, size: int, upload: bool) -> None:
        codec, way = (self.client, exchange.request) if upload else (self.server, exchange.answer)
        if not upload and exchange.seen and not way.begun and not exchange.reset:
            way.begun = True
            self.server.send_head(exchange.number, ResponseHead(200, [], content_length=None), end=False)
        if not way.begun or way.ended or exchange.reset:
            return
        while size and (room := min(size, codec.send_room(exchange.number))):
            piece = bytes((len(way.sent) % 251,)) * room
            codec.send_chunk(exchange.number, piece)
            way.sent += piece
            size -= room

    @rule(exchange=exchanges, upload=st.booleans(), trailing=st.booleans())
    def end(self, exchange: Exchange, upload: bool, trailing: bool) -> None:
        codec, way = (self.client, exchange.request) if upload else (self.server, exchange.answer)
        if way.begun and not way.ended and not exchange.reset:
            way.ended = True
            codec.send_end(exchange.number, [(b"x", b"y")] if trailing else ())

    @rule(exchange=consumes(exchanges), by_client=st.booleans())
    def reset(self, exchange: Exchange, by_client: bool) -> None:
        exchange.reset = True
        (self.client if by_client else self.server).reset(exchange.number)

    @rule(exchange=exchanges)
    def forget(self, exchange: Exchange) -> None:
        if exchange.answer.arrived:
            self.client.forget(exchange.number)
            exchange.reset = exchange.reset or not (exchange.request.ended and exchange.request.arrived)

    @rule(exchange=exchanges, size=SIZES, upload=st.booleans())
    def credit(self, exchange: Exchange, size: int, upload: bool) -> None:
        (self.server if upload else self.client).credit(exchange.number, size)

    @rule(size=st.sampled_from((1, 9, 1000, 65_536)), turns=st.integers(1, 5))
    def travel(self, size: int, turns: int) -> None:
        for _ in range(turns):
            self._carry(size)

    def _carry(self, size: int) -> bool:
        self.to_server += self.client.take()
        self.to_client += self.server.take()
        there, self.to_server = self.to_server[:size], self.to_server[size:]
        back, self.to_client = self.to_client[:size], self.to_client[size:]
        if there:
            self._hear(self.server.feed(there, 0.0), upload=True)
        if back:
            self._hear(self.client.feed(back, 0.0), upload=False)
        return bool(there or back)

    def _hear(self, events: list[Event], *, upload: bool) -> None:
        for event in events:
            exchange = self.known[event.stream]
            way = exchange.request if upload else exchange.answer
            if isinstance(event, Head):
                exchange.seen = True
            elif isinstance(event, Chunk):
                assert event.credit == len(event.data)
                way.got += event.data
            elif isinstance(event, Trailers):
                way.trailers += 1
            elif isinstance(event, End):
                way.arrived = True
            elif isinstance(event, Reset):
                assert exchange.reset
            else:
                assert not isinstance(event, Interim)

    @invariant()
    def both_live(self) -> None:
        assert not self.client.over
        assert not self.server.over
        for exchange in self.known.values():
            for way in (exchange.request, exchange.answer):
                assert way.sent.startswith(way.got)

    @invariant()
    def nobody_holds_more_than_the_windows(self) -> None:
        for codec in (self.client, self.server):
            owed = _owed(codec)
            assert max(owed, default=0) <= STREAM_WINDOW_BYTES
            assert sum(owed) <= CONNECTION_WINDOW_BYTES

    def teardown(self) -> None:
        """Whatever was under way arrives once everybody reads."""
        while self._carry(65_536):
            pass
        for exchange in self.known.values():
            for way in (exchange.request, exchange.answer):
                if not exchange.reset:
                    assert way.got == way.sent
                    assert way.arrived == way.ended
            exchange.reset = True
            self.client.reset(exchange.number)
        while self._carry(65_536):
            pass
        assert self.client.streams == self.server.streams == 0
        assert _owed(self.client) == _owed(self.server) == []
        # All windows of the connection are back, or about to be: a new stream can send as much as ever.
        for _ in range(40):
            number = self.client.send_request(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
            self.known[number] = Exchange(number)
            sent = 0
            while room := self.client.send_room(number):
                self.client.send_chunk(number, bytes(room))
                sent += room
            while self._carry(65_536):
                pass
            assert sent == STREAM_WINDOW_BYTES
            self.server.credit(number, sent)
            self.known[number].reset = True
            self.client.reset(number)
            while self._carry(65_536):
                pass


def _owed(codec: Server | Client) -> list[int]:
    return [stream.owed for stream in codec._streams.values()]


class LeanConnection(Connection):
    codecs = LEAN


class LeanClientConnection(Connection):
    codecs = MIXED[0]


class LeanServerConnection(Connection):
    codecs = MIXED[1]


for machine in (Connection, LeanConnection, LeanClientConnection, LeanServerConnection):
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestConnection = Connection.TestCase
TestLeanConnection = LeanConnection.TestCase
TestLeanClient = LeanClientConnection.TestCase
TestLeanServer = LeanServerConnection.TestCase
