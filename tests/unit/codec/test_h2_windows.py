"""Windows of whole connections: strangers who share one cannot hold each other up, a client can only hold up itself."""

import pytest

from sidecar.codec.h2_limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from tests.support.http2 import PREFACE, Wire
from tests.support.http2_codecs import Codecs


def opened(written: bytes) -> int:
    """Bytes that the peer may send on all streams together before any is credited."""
    frames = Wire().read(written.removeprefix(PREFACE))
    return 65_535 + sum(int.from_bytes(f.body, "big") for f in frames if f.name == "WindowUpdate" and not f.stream)


@pytest.mark.parametrize("streams", [17, 100, 10_000])
def test_towards_an_endpoint_each_stream_has_room_of_its_own(codecs: Codecs, streams: int) -> None:
    assert opened(codecs.client(streams_max=streams).take()) == streams * STREAM_WINDOW_BYTES


def test_the_room_is_never_more_than_a_window_may_be(codecs: Codecs) -> None:
    assert opened(codecs.client(streams_max=40_000).take()) == 2**31 - 1


def test_a_client_has_1_mib_and_an_endpoint_never_less(codecs: Codecs) -> None:
    assert opened(codecs.client(streams_max=1).take()) == CONNECTION_WINDOW_BYTES
    assert opened(codecs.server().take()) == CONNECTION_WINDOW_BYTES
