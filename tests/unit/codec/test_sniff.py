"""What a client speaks is told from its first bytes: as early as is certain, and never otherwise afterwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec.sniff import LOOK_BYTES, Sniffed, classify

# (the fewest bytes that are certain, what they are)
CERTAIN = [
    (b"GET /", Sniffed.HTTP1),
    (b"PRI /", Sniffed.HTTP1),
    (b"M-SEARCH * HTTP/", Sniffed.HTTP1),
    (b"OPTIONS * HTTP/", Sniffed.HTTP1),
    (b"GET http://", Sniffed.HTTP1),
    (b"GET HTTPS://", Sniffed.HTTP1),
    (b"CONNECT e", Sniffed.HTTP1),
    (b"CONNECT [", Sniffed.HTTP1),
    (b"\r\nPOST /", Sniffed.HTTP1),
    (b"\nPOST /", Sniffed.HTTP1),
    (b"GET  \t/", Sniffed.HTTP1),
    (b"UPDATEREDIRECTREF /", Sniffed.HTTP1),
    (b"PRI * HTTP/2.0", Sniffed.HTTP2),
    (b"\x16\x03\x01\x02\x00\x01", Sniffed.TLS),
    (b"\x16\x03\x04\x00\x01\x01", Sniffed.TLS),
    (b"\x00", Sniffed.OPAQUE),  # PostgreSQL, Kafka, MongoDB
    (b"*", Sniffed.OPAQUE),  # Redis
    (b"\x80", Sniffed.OPAQUE),  # SSL 2
    (b" ", Sniffed.OPAQUE),
    (b"g", Sniffed.OPAQUE),  # memcached's `get /a`
    (b"EHLO x", Sniffed.OPAQUE),
    (b"CONNECT {", Sniffed.OPAQUE),  # NATS
    (b"CONNECT\n", Sniffed.OPAQUE),  # STOMP
    (b"OPTIONS r", Sniffed.OPAQUE),  # RTSP
    (b"OPTIONS * R", Sniffed.OPAQUE),
    (b"OPTIONS HTTPX", Sniffed.OPAQUE),
    (b"PRI * HTTP/1", Sniffed.OPAQUE),
    (b"PRI  *", Sniffed.OPAQUE),
    (b"A" * 25, Sniffed.OPAQUE),
    (b"\x16\x02", Sniffed.OPAQUE),
    (b"\x16\x03\x05", Sniffed.OPAQUE),
    (b"\x16\x03\x01\x00\x00", Sniffed.OPAQUE),
    (b"\x16\x03\x01\x40\x01", Sniffed.OPAQUE),
    (b"\x16\x03\x01\x02\x00\x02", Sniffed.OPAQUE),
    (b"\r\n" * (LOOK_BYTES // 2), Sniffed.OPAQUE),
]


@pytest.mark.parametrize(("data", "kind"), CERTAIN, ids=[repr(data[:20]) for data, _ in CERTAIN])
def test_it_is_certain_from_this_byte_on_and_not_before(data: bytes, kind: Sniffed) -> None:
    assert [classify(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert classify(data) is kind
    assert classify(data + b" more \x00 of it\r\n" * 10) is kind


PIECES = (b"\r\n", b"\n", b"GET", b"PRI", b"CONNECT", b" ", b"\t", b"/", b"* HTTP/", b"2.0", b"http", b"s", b"://")
LIKELY = st.one_of(
    st.binary(max_size=90),
    st.lists(st.sampled_from((*PIECES, b"\x16\x03", b"\x01", b"\x00", b"X" * 20)), max_size=12).map(b"".join),
)


@given(LIKELY, st.binary(max_size=10))
def test_no_further_byte_changes_its_mind(data: bytes, more: bytes) -> None:
    kind = classify(data)

    assert kind is None or classify(data + more) is kind


@given(LIKELY)
def test_it_decides_on_a_bounded_number_of_bytes(data: bytes) -> None:
    if len(data) >= LOOK_BYTES:
        assert classify(data) is not None


@given(st.from_regex(rb"[A-Z]{3,20} /[!-~]{0,200} HTTP/1\.1\r\n", fullmatch=True))
def test_requests_are_http(data: bytes) -> None:
    assert classify(data) is Sniffed.HTTP1
