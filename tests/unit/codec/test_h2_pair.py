"""Both HTTP/2 codecs against each other, and each against plain python-h2: what one says, the other reads."""

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset
from h2.events import TrailersReceived as TheirTrailers
from h2.settings import SettingCodes

from sidecar.codec.events import Chunk, End, Event, Head, Interim, Reset, Trailers, Tunnel
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.hpack_lean.static_table import DYNAMIC
from sidecar.model.messages import NeverIndexed, RequestHead, ResponseHead
from tests.support.http2_codecs import Codecs


class Pair:
    """A client and a server codec on one wire."""

    def __init__(self, codecs: Codecs) -> None:
        self.client = codecs.client()
        self.server = codecs.server()
        self.pump()

    def pump(self) -> tuple[list[Event], list[Event]]:
        """Carry bytes until nobody has any; returns the events of client and server."""
        to_client: list[Event] = []
        to_server: list[Event] = []
        while True:
            requests, answers = self.client.take(), self.server.take()
            if not requests and not answers:
                return to_client, to_server
            if requests:
                to_server += self.server.feed(requests, 0.0)
            if answers:
                to_client += self.client.feed(answers, 0.0)

    def ask(self, head: RequestHead, *, end: bool = True) -> int:
        number = self.client.send_request(head, end=end)
        self.pump()
        return number


def get(fields: list[tuple[bytes, bytes]] | None = None) -> RequestHead:
    return RequestHead(b"GET", b"/a?b=c", b"a.example:80", fields or [])


def text(events: list[Event]) -> list[object]:
    """Events in a form that compares."""
    shown: list[object] = []
    for event in events:
        if isinstance(event, Head | Interim | Tunnel):
            head = event.head
            first = (
                (head.method, head.target, head.authority, head.upgrade)
                if isinstance(head, RequestHead)
                else (head.status,)
            )
            shown.append((type(event).__name__, event.stream, *first, head.content_length, head.fields))
        else:
            shown.append(event)
    return shown  # fmt: skip


def test_a_request_and_its_answer_with_all_that_may_come(pairs: Codecs) -> None:
    pair = Pair(pairs)
    fields = [(b"X-Case", b"kept value "), (b"Cookie", b"a=b"), (b"Connection", b"close"), (b"Host", b"b.example")]
    head = RequestHead(b"POST", b"/a", b"a.example", fields, content_length=5)
    number = pair.client.send_request(head, end=False, wants_trailers=True)
    pair.client.send_chunk(number, b"hello")
    pair.client.send_end(number)
    _, asked = pair.pump()
    pair.server.send_interim(number, ResponseHead(103, [(b"Link", b"</x>")]))
    pair.server.send_interim(number, ResponseHead(101, []))
    pair.server.send_head(number, ResponseHead(200, [(b"A", b"b")], content_length=None), end=False)
    pair.server.send_chunk(number, b"answer")
    pair.server.send_end(number, [(b"Grpc-Status", b"0"), (b"content-length", b"7")])
    answered, _ = pair.pump()

    assert text(asked) == [
        ("Head", 1, b"POST", b"/a", b"b.example", b"", 5,
         [(b"content-length", b"5"), (b"te", b"trailers"), (b"x-case", b"kept value"), (b"cookie", b"a=b")]),
        Chunk(b"hello", 5, 1),
        End(1),
    ]  # fmt: skip
    assert text(answered) == [
        ("Interim", 1, 103, 0, [(b"link", b"</x>")]),
        ("Head", 1, 200, None, [(b"a", b"b")]),
        Chunk(b"answer", 6, 1),
        Trailers([(b"grpc-status", b"0")], 1),
        End(1),
    ]
    assert (pair.server.streams, pair.client.streams) == (0, 1)
    pair.client.forget(number)
    assert pair.client.streams == 0
    assert pair.client.room == 100
    assert pair.client.notes() == pair.server.notes() == []


@pytest.mark.parametrize(
    ("method", "status", "length", "fields", "written"),
    [
        (b"GET", 200, 7, [], b"7"),
        (b"GET", 200, None, [(b"Content-Length", b"9")], None),
        (b"GET", 200, 0, [(b"Content-Length", b"0")], b"0"),
        (b"GET", 200, 0, [], None),
        (b"HEAD", 200, 0, [(b"Content-Length", b"9")], b"9"),
        (b"HEAD", 200, 9, [], b"9"),
        (b"GET", 304, 0, [(b"Content-Length", b"9")], b"9"),
        (b"GET", 204, 0, [(b"Content-Length", b"0")], None),
    ],
)
def test_the_length_of_an_answer(
    pairs: Codecs,
    method: bytes,
    status: int,
    length: int | None,
    fields: list[tuple[bytes, bytes]],
    written: bytes | None,
) -> None:
    pair = Pair(pairs)
    number = pair.ask(RequestHead(method, b"/", b"a", []))
    pair.server.send_head(number, ResponseHead(status, fields, content_length=length), end=False)
    pair.server.send_chunk(number, b"x" * (length or 0))
    pair.server.send_end(number)
    events, _ = pair.pump()

    head = events[0]
    assert isinstance(head, Head)
    assert head.head.get(b"content-length") == written
    assert isinstance(events[-1], End)
    assert any(isinstance(event, Chunk) for event in events) == (method == b"GET" and bool(length))


def test_a_body_can_neither_be_longer_nor_shorter_than_announced(pairs: Codecs) -> None:
    pair = Pair(pairs)
    head = RequestHead(b"POST", b"/", b"a", [], content_length=3)
    with pytest.raises(ValueError, match="3 bytes of the announced length"):
        pair.client.send_request(head, end=True)
    number = pair.client.send_request(head, end=False)
    with pytest.raises(ValueError, match="only 3"):
        pair.client.send_chunk(number, b"four")
    with pytest.raises(ValueError, match="3 bytes"):
        pair.client.send_end(number)
    pair.pump()
    with pytest.raises(ValueError, match="7 bytes"):
        pair.server.send_head(number, ResponseHead(200, [], content_length=7), end=True)


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a\n", b"b"), (b"a b", b"c"), (b"", b"c"), (b"a", b"\0")])
def test_fields_that_would_write_another_one_are_refused(pairs: Codecs, field: tuple[bytes, bytes]) -> None:
    pair = Pair(pairs)
    with pytest.raises(ValueError, match="cannot be written"):
        pair.client.send_request(get([field]), end=True)
    number = pair.ask(get())
    with pytest.raises(ValueError, match="cannot be written"):
        pair.server.send_head(number, ResponseHead(200, [field]), end=True)
    pair.server.send_head(number, ResponseHead(502, []), end=True)

    assert text(pair.pump()[0])[0] == ("Head", number, 502, 0, [])


def test_a_websocket_rides_on_an_extended_connect(pairs: Codecs) -> None:
    pair = Pair(pairs)
    assert pair.client.extended_connect
    fields = [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade"), (b"Sec-WebSocket-Key", b"k"),
              (b"Sec-WebSocket-Version", b"13")]  # fmt: skip
    head = RequestHead(b"GET", b"/chat", b"a", fields, upgrade=b"websocket")
    number = pair.client.send_request(head, end=False)
    _, asked = pair.pump()
    answer = ResponseHead(101, [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x"), (b"A", b"b")])
    pair.server.send_head(number, answer, end=False)
    pair.server.send_chunk(number, b"\x81\0")
    answered, _ = pair.pump()
    pair.client.send_chunk(number, b"\x81\1")
    pair.client.send_end(number)
    _, more = pair.pump()
    pair.server.send_end(number)
    last, _ = pair.pump()

    assert text(asked) == [("Head", 1, b"GET", b"/chat", b"a", b"websocket", 0, [(b"sec-websocket-version", b"13")])]
    assert text(answered) == [("Tunnel", 1, 200, None, [(b"a", b"b")]), Chunk(b"\x81\0", 2, 1)]
    assert more == [Chunk(b"\x81\1", 2, 1), End(1)]
    assert last == [End(1)]


def test_an_accepted_key_that_nobody_sent_is_not_passed_on(codecs: Codecs) -> None:
    """As HAProxy answers: a client of HTTP/1.1 would compare it with its own key."""
    theirs = H2Connection(H2Configuration(client_side=False))
    theirs.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
    theirs.initiate_connection()
    ours = codecs.client()
    ours.feed(theirs.data_to_send(), 0.0)
    number = ours.send_request(RequestHead(b"GET", b"/chat", b"a", [], upgrade=b"websocket"), end=False)
    theirs.receive_data(ours.take())
    theirs.send_headers(number, [(":status", "200"), ("sec-websocket-accept", "x"), ("sec-websocket-protocol", "p")])

    [tunnel] = ours.feed(theirs.data_to_send(), 0.0)

    assert isinstance(tunnel, Tunnel)
    assert tunnel.head.fields == [(b"sec-websocket-protocol", b"p")]


def test_an_answer_of_http1_is_no_agreement_to_switch(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(RequestHead(b"GET", b"/chat", b"a", [], upgrade=b"websocket"), end=False)

    with pytest.raises(ValueError, match="not the switch"):
        pair.server.send_head(number, ResponseHead(200, [], version=b"1.1"), end=False)
    pair.server.send_head(number, ResponseHead(403, [], content_length=2), end=False)
    pair.server.send_chunk(number, b"no")
    pair.server.send_end(number)

    assert text(pair.pump()[0]) == [
        ("Head", 1, 403, 2, [(b"content-length", b"2")]),
        Chunk(b"no", 2, 1),
        End(1),
    ]


def test_connect_is_a_tunnel_whose_ends_close_one_by_one(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.client.send_request(RequestHead(b"CONNECT", b"db:5432", b"db:5432", []), end=False)
    _, asked = pair.pump()
    pair.server.send_head(number, ResponseHead(200, [], content_length=None), end=False)
    pair.server.send_end(number)
    answered, _ = pair.pump()
    pair.client.send_chunk(number, b"still")
    _, more = pair.pump()

    assert text(asked) == [("Head", 1, b"CONNECT", b"db:5432", b"db:5432", b"", 0, [])]
    assert text(answered) == [("Tunnel", 1, 200, None, []), End(1)]
    assert more == [Chunk(b"still", 5, 1)]


def test_the_window_is_given_back_only_by_credit(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
    sent = 0
    while room := pair.client.send_room(number):
        pair.client.send_chunk(number, bytes(room))
        sent += room
    pair.pump()
    assert sent == 65_535
    assert pair.client.send_room(number) == 0

    pair.server.credit(number, 40_000)
    pair.pump()
    assert pair.client.send_room(number) == 16_384
    pair.server.credit(number, 10**9)  # no more than was given
    pair.pump()
    pair.client.send_chunk(number, b"x")
    assert pair.pump()[1] == [Chunk(b"x", 1, number)]


def test_streams_that_end_with_bytes_unread_do_not_use_up_the_connection(pairs: Codecs) -> None:
    pair = Pair(pairs)
    for _ in range(100):
        number = pair.ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
        for _ in range(3):
            pair.client.send_chunk(number, bytes(16_000))
        pair.pump()
        pair.server.reset(number)
        pair.client.send_chunk(number, bytes(10))
        pair.client.forget(number)
        pair.pump()

    number = pair.ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
    assert pair.client.send_room(number) == 16_384
    assert not pair.server.over


def test_what_is_on_its_way_when_we_reset_is_neither_heard_nor_blamed(pairs: Codecs) -> None:
    pair = Pair(pairs)
    for _ in range(300):
        number = pair.ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
        for _ in range(4):
            pair.client.send_chunk(number, bytes(1000))
        pair.client.send_end(number, [(b"x", b"y")])
        pair.server.reset(number)
        to_client, to_server = pair.pump()
        assert to_server == []
        assert [type(event) for event in to_client] == [Reset]

    assert pair.server.notes() == []
    assert not pair.server.draining


def test_an_answer_may_be_complete_before_its_request(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=False)
    pair.server.send_head(number, ResponseHead(413, []), end=True)
    pair.server.reset(number, 0)
    events, _ = pair.pump()

    assert [type(event) for event in events] == [Head, End]
    assert pair.client.send_room(number) > 0
    pair.client.send_chunk(number, b"nobody")
    pair.client.send_end(number)
    pair.client.forget(number)
    assert pair.pump() == ([], [])
    assert not pair.client.over


def test_forgetting_an_unfinished_exchange_resets_it(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(get())
    pair.client.forget(number)
    _, events = pair.pump()

    assert [(type(event), getattr(event, "code", None)) for event in events] == [(Reset, 8)]
    assert pair.server.streams == 0


def test_calls_for_a_stream_that_is_gone_do_nothing(pairs: Codecs) -> None:
    pair = Pair(pairs)
    for end in (pair.client, pair.server):
        end.send_chunk(7, b"x")
        end.send_end(7)
        end.credit(7, 5)
        end.reset(7)
        assert end.send_room(7) > 0
        assert end.take() == b""
    pair.client.forget(7)
    pair.server.send_head(7, ResponseHead(200, []), end=True)
    pair.server.send_interim(7, ResponseHead(103, []))
    assert pair.pump() == ([], [])


def test_a_drain_serves_what_is_on_its_way_and_then_nothing(pairs: Codecs) -> None:
    pair = Pair(pairs)
    first = pair.ask(get())
    pair.server.go_away(at_once=False)
    raw = pair.server.take()
    draining_too_early = pair.server.draining
    racing = pair.client.send_request(get(), end=True)  # it has not heard yet
    assert [type(event) for event in pair.server.feed(pair.client.take(), 0.0)] == [Head, End]
    assert pair.client.feed(raw, 0.0) == []
    assert pair.client.room == 0
    pair.pump()

    assert pair.server.draining
    assert not draining_too_early
    for number in (first, racing):
        pair.server.send_head(number, ResponseHead(204, []), end=True)
    events, _ = pair.pump()
    assert [type(event) for event in events] == [Head, End, Head, End]
    assert pair.server.streams == 0
    assert not pair.client.over


def test_goaway_tells_which_requests_were_left_alone(pairs: Codecs) -> None:
    pair = Pair(pairs)
    first = pair.ask(get())
    pair.server.go_away(at_once=True)
    second = pair.client.send_request(get(), end=True)
    events, asked = pair.pump()

    assert asked == []
    resets = [event for event in events if isinstance(event, Reset)]
    assert [(event.stream, event.untouched, event.cut_off) for event in resets] == [(second, True, True)]
    pair.server.send_head(first, ResponseHead(204, []), end=True)
    assert [type(event) for event in pair.pump()[0]] == [Head, End]
    with pytest.raises(ValueError, match="no stream can begin"):
        pair.client.send_request(get(), end=True)


def test_a_goaway_that_takes_no_stream_at_all_refuses(pairs: Codecs) -> None:
    pair = Pair(pairs)
    pair.pump()
    pair.server.go_away(at_once=True)
    number = pair.client.send_request(get(), end=True)
    resets = [event for event in pair.pump()[0] if isinstance(event, Reset)]
    assert [(event.stream, event.untouched, event.cut_off) for event in resets] == [(number, True, False)]


def test_a_refused_stream_was_left_alone(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(get())
    pair.server.reset(number, 7)

    (reset,) = pair.pump()[0]
    assert isinstance(reset, Reset)
    assert reset.untouched
    assert not reset.cut_off
    assert "REFUSED_STREAM" in reset.sentence


def test_the_peers_close_ends_every_stream(pairs: Codecs) -> None:
    pair = Pair(pairs)
    number = pair.ask(get())

    assert [(type(event), event.stream) for event in pair.client.feed(b"", 0.0)] == [(Reset, number)]
    assert [(type(event), event.stream) for event in pair.server.feed(b"", 0.0)] == [(Reset, number)]
    assert pair.client.over
    assert pair.client.room == 0
    assert pair.client.streams == pair.server.streams == 0


def test_pings_are_counted_until_they_are_answered(pairs: Codecs) -> None:
    pair = Pair(pairs)
    for end in (pair.client, pair.server):
        end.ping()
        end.ping()
        assert end.pings_unanswered == 2
        pair.pump()
        assert end.pings_unanswered == 0
        for _ in range(100):
            end.ping()
        assert end.pings_unanswered == 8


def test_the_peers_limit_of_streams_is_obeyed(codecs: Codecs) -> None:
    client = codecs.client(streams_max=3)
    for _ in range(3):
        client.send_request(get(), end=True)
    assert client.room == 0

    theirs = H2Connection(H2Configuration(client_side=False))
    theirs.initiate_connection()
    theirs.update_settings({3: 1})
    other = codecs.client()
    other.feed(theirs.data_to_send(), 0.0)
    assert other.room == 1
    assert not other.extended_connect
    other.send_request(get(), end=True)
    assert other.room == 0


def test_sensitive_fields_are_never_indexed(pairs: Codecs) -> None:
    pair = Pair(pairs)
    for _ in range(2):
        pair.client.send_request(get([(b"Authorization", b"Bearer secret-of-mine"), (b"Cookie", b"k=v")]), end=True)
        pair.pump()

    server = pair.server
    table = (
        server._decoder._table[DYNAMIC:]
        if isinstance(server, LeanServer)
        else server._reader.header_table.dynamic_entries
    )
    assert table
    assert not {name for name, _ in table} & {b"authorization", b"cookie"}


def test_what_came_as_never_indexed_goes_on_so(pairs: Codecs) -> None:
    """Over two hops and back; by our own codec beside a twin in its table, whose index the hpack package takes."""
    first, second = Pair(pairs), Pair(pairs)
    hidden = NeverIndexed((b"x-token", b"abc"))
    twin = (b"x-token", b"abc" if isinstance(first.client, LeanClient) else b"")
    for _ in range(4):
        first.client.send_request(get([twin]), end=True)
        first.client.send_request(get([twin, hidden]), end=True)
        for request in _heads(first.pump()[1]):
            assert isinstance(request, RequestHead)
            second.client.send_request(request, end=True)
        plain, both = _heads(second.pump()[1])
        assert _hidden(plain) == [False]
        assert _hidden(both) == [False, True]
    number = first.client.send_request(get(), end=True)
    first.pump()
    first.server.send_head(number, ResponseHead(200, [hidden, (b"x-other", b"")], content_length=0), end=True)
    (answer,) = _heads(first.pump()[0])
    assert _hidden(answer) == [True, False]


def _hidden(head: RequestHead | ResponseHead) -> list[bool]:
    return [isinstance(field, NeverIndexed) for field in head.fields]


def _heads(events: list[Event]) -> list[RequestHead | ResponseHead]:
    return [event.head for event in events if isinstance(event, Head)]


def test_what_we_index_stays_within_our_own_table(codecs: Codecs) -> None:
    theirs = H2Connection(H2Configuration(client_side=False))
    theirs.initiate_connection()
    theirs.update_settings({1: 2**20})
    client = codecs.client()
    client.feed(theirs.data_to_send(), 0.0)
    for i in range(90):
        client.send_request(get([(b"x-%d" % i, b"v" * 1000)]), end=True)

    most = client._encoder._table.limit if isinstance(client, LeanClient) else client._library.encoder.header_table_size
    assert most == 4096
    theirs.receive_data(client.take())


# Plain python-h2 as the peer


def test_plain_h2_asks_and_is_answered(codecs: Codecs) -> None:
    theirs = H2Connection()
    theirs.initiate_connection()
    server = codecs.server()
    theirs.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/x"),
                            ("cookie", "a=b"), ("cookie", "c=d")])  # fmt: skip
    theirs.send_data(1, b"body", pad_length=3)
    theirs.send_headers(1, [("x-trailer", "1")], end_stream=True)
    events = server.feed(theirs.data_to_send(), 0.0)
    server.send_head(1, ResponseHead(200, [(b"A", b"b")], content_length=2), end=False)
    server.send_chunk(1, b"ok")
    server.send_end(1, [(b"t", b"u")])
    got = theirs.receive_data(server.take())

    assert text(events) == [
        ("Head", 1, b"POST", b"/x", b"a", b"", None, [(b"cookie", b"a=b; c=d")]),
        Chunk(b"body", 4, 1),
        Trailers([(b"x-trailer", b"1")], 1),
        End(1),
    ]
    answer = [event for event in got if isinstance(event, ResponseReceived)]
    assert answer[0].headers == [(b":status", b"200"), (b"content-length", b"2"), (b"a", b"b")]
    assert [event.data for event in got if isinstance(event, DataReceived)] == [b"ok"]
    assert [event.headers for event in got if isinstance(event, TheirTrailers)] == [[(b"t", b"u")]]
    assert theirs.remote_settings.max_concurrent_streams == 100
    assert theirs.remote_settings.max_header_list_size == 60 * 1024
    assert theirs.remote_settings.enable_connect_protocol == 1
    assert theirs.outbound_flow_control_window > 1024 * 1024 - 100


def test_plain_h2_is_asked_and_answers(codecs: Codecs) -> None:
    theirs = H2Connection(H2Configuration(client_side=False))
    theirs.initiate_connection()
    client = codecs.client(scheme=b"https")
    number = client.send_request(RequestHead(b"PUT", b"/x", b"a", [(b"X", b"y")], content_length=4), end=False)
    client.send_chunk(number, b"body")
    client.send_end(number)
    got = theirs.receive_data(client.take())
    theirs.send_headers(1, [(":status", "100")])
    theirs.send_headers(1, [(":status", "200"), ("content-length", "2")])
    theirs.send_data(1, b"ok", end_stream=True)
    events = client.feed(theirs.data_to_send(), 0.0)

    asked = [event for event in got if isinstance(event, RequestReceived)]
    assert asked[0].headers == [(b":method", b"PUT"), (b":scheme", b"https"), (b":path", b"/x"), (b":authority", b"a"),
                                (b"content-length", b"4"), (b"x", b"y")]  # fmt: skip
    assert any(isinstance(event, StreamEnded) for event in got)
    assert text(events) == [
        ("Interim", 1, 100, 0, []),
        ("Head", 1, 200, 2, [(b"content-length", b"2")]),
        Chunk(b"ok", 2, 1),
        End(1),
    ]
    client.forget(number)
    assert theirs.receive_data(client.take()) is not None


def test_plain_h2_is_told_of_a_reset(codecs: Codecs) -> None:
    theirs = H2Connection()
    theirs.initiate_connection()
    server = codecs.server()
    theirs.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
    server.feed(theirs.data_to_send(), 0.0)
    server.reset(1, 2)

    resets = [event for event in theirs.receive_data(server.take()) if isinstance(event, StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(1, 2)]
