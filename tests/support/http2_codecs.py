"""The two HTTP/2 codecs, for tests that hold for both: python-h2's, which is the reference, and our own.

`codecs` is a fixture (imported by the conftest files of the folders that use it): each test that asks for it runs with
either, and `pairs` with each client against each server. `http2_served_by` is for whole sidecars.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.codec.contract import MuxClient, MuxServer
from sidecar.codec.h2_client import H2Client
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.h2_server import H2Server
from sidecar.proxy import mux_server, worker
from sidecar.proxy.codecs import http2_client, http2_server
from sidecar.proxy.worker import Worker

Server = H2Server | LeanServer
Client = H2Client | LeanClient
SERVERS = (H2Server, LeanServer)


@dataclass(frozen=True)
class Codecs:
    """A server and a client.

    Attributes:
        lean: Both are our own.
    """

    name: str
    server: Callable[..., Server]
    client: Callable[..., Client]
    lean: bool = False


REFERENCE = Codecs("reference", H2Server, H2Client)
LEAN = Codecs("lean", LeanServer, LeanClient, lean=True)
BOTH = (REFERENCE, LEAN)
MIXED = (Codecs("lean-client", H2Server, LeanClient), Codecs("lean-server", LeanServer, H2Client))


@pytest.fixture(params=BOTH, ids=lambda each: each.name, scope="module")
def codecs(request: pytest.FixtureRequest) -> Codecs:
    """Either codec."""
    return _given(request)


@pytest.fixture(params=(*BOTH, *MIXED), ids=lambda each: each.name, scope="module")
def pairs(request: pytest.FixtureRequest) -> Codecs:
    """Each client with each server."""
    return _given(request)


def _given(request: pytest.FixtureRequest) -> Codecs:
    given = request.param
    assert isinstance(given, Codecs)
    return given


# Whole sidecars: a module of tests that says `HTTP2_CODECS = True` is played with each codec.


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play the tests of such a module twice."""
    if getattr(metafunc.module, "HTTP2_CODECS", False):
        metafunc.fixturenames.append("http2_served_by")
        metafunc.parametrize("http2_served_by", BOTH, ids=lambda each: each.name, indirect=True)


@pytest.fixture
def http2_served_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Codecs]:
    """Sidecars that are made meanwhile have the fast path on, and with it our codec, or off. Whoever is served by the
    other one fails the test."""
    wanted = _given(request)
    made: set[bool] = set()
    begin = Worker.__init__

    def init(self: Worker, *args: Any, **named: Any) -> None:
        begin(self, *args, **{**named, "fast_path": wanted.lean})

    def server(streams: int, *, lean: bool) -> MuxServer:
        made.add(lean)
        return http2_server(streams, lean=lean)

    def client(streams: int, *, lean: bool) -> MuxClient:
        made.add(lean)
        return http2_client(streams, lean=lean)

    monkeypatch.setattr(Worker, "__init__", init)
    monkeypatch.setattr(mux_server, "http2_server", server)
    monkeypatch.setattr(worker, "http2_client", client)
    yield wanted
    assert made <= {wanted.lean}
