"""What a connection knew of its streams goes with it, not when the collector comes."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from sidecar.codec.h2_client import H2Client
from sidecar.codec.h2_server import H2Server
from sidecar.model.messages import RequestHead
from tests.support.http2 import GET, PREFACE, Wire, settings


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_server_leaves_nothing_of_its_streams() -> None:
    server = H2Server()
    server.feed(PREFACE + settings() + Wire().headers(1, GET, end=True), 0.0)
    stream = weakref.ref(server._library.streams[1])

    del server

    assert stream() is None


@pytest.mark.usefixtures("no_collector")
def test_a_client_leaves_nothing_of_its_streams() -> None:
    client = H2Client()
    client.feed(settings(), 0.0)
    number = client.send_request(RequestHead(b"GET", b"/", b"a.example", []), end=True)
    stream = weakref.ref(client._library.streams[number])

    del client

    assert stream() is None
