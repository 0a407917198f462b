"""Bodies end where their framing says, whatever comes after and however it is cut."""

import h11
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.body import BodyReader, body_reader
from sidecar.codec.events import Chunk, End, Event
from sidecar.errors import MALFORMED, UPSTREAM_PROTOCOL
from tests.support.http1 import cuts_of, pieces


def read(reader: BodyReader | None, stream: bytes, cuts: list[int]) -> tuple[bytes, list[Event], bytes | None]:
    """The body, the events that are no chunk, and what lies beyond the end (None: not ended)."""
    assert reader is not None
    body = b""
    others: list[Event] = []
    rest: bytes | None = None
    for piece in pieces(stream, cuts):
        if rest is not None:
            rest += piece
            continue
        events: list[Event] = []
        rest = reader.read(piece, events)
        for event in events:
            if isinstance(event, Chunk):
                assert event.data
                assert event.credit == len(event.data)
                body += event.data
            else:
                others.append(event)
    return body, others, rest


def test_no_body_needs_no_reader() -> None:
    assert body_reader(0, False, MALFORMED) is None


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=10), cuts_of(70))
def test_a_counted_body_ends_after_its_count(body: bytes, beyond: bytes, cuts: list[int]) -> None:
    assert read(body_reader(len(body), False, MALFORMED), body + beyond, cuts) == (body, [End()], beyond)


def test_a_short_counted_body_does_not_end() -> None:
    assert read(body_reader(4, False, MALFORMED), b"abc", []) == (b"abc", [], None)


@given(st.binary(min_size=1, max_size=60), cuts_of(60))
def test_a_body_until_close_has_no_end_of_its_own(body: bytes, cuts: list[int]) -> None:
    reader = body_reader(None, False, UPSTREAM_PROTOCOL)

    assert read(reader, body, cuts) == (body, [], None)
    assert reader is not None
    assert reader.ends_by_close


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=10))
def test_h11_counts_alike(body: bytes, beyond: bytes) -> None:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + beyond)
    assert isinstance(peer.next_event(), h11.Request)
    data = peer.next_event()
    assert isinstance(data, h11.Data)
    assert isinstance(peer.next_event(), h11.EndOfMessage)

    ours = read(body_reader(len(body), False, MALFORMED), body + beyond, [])

    assert (bytes(data.data), peer.trailing_data[0]) == (ours[0], ours[2])
