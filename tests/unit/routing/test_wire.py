"""What an upstream is spoken to in: the declared protocol first, then what the client speaks."""

import pytest

from sidecar.model.clusters import Protocol, Wire
from sidecar.model.messages import RequestHead
from sidecar.routing.wire import wire_for

_CASES = {
    # protocol: plain request by h1, by h2, upgrade by h1, by h2
    Protocol.AUTO: (Wire.H1, Wire.H2, Wire.H1, Wire.H1),
    Protocol.HTTP: (Wire.H1, Wire.H1, Wire.H1, Wire.H1),
    Protocol.HTTP2: (Wire.H2, Wire.H2, Wire.H2, Wire.H2),
    Protocol.GRPC: (Wire.H2, Wire.H2, Wire.H2, Wire.H2),
    Protocol.TCP: (Wire.RAW, Wire.RAW, Wire.RAW, Wire.RAW),
    Protocol.TLS: (Wire.RAW, Wire.RAW, Wire.RAW, Wire.RAW),
}


def head(version: bytes, upgrade: bytes = b"", method: bytes = b"GET") -> RequestHead:
    return RequestHead(method, b"/", b"orders", [], version=version, upgrade=upgrade)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_the_declared_protocol_wins_and_auto_asks_the_client(protocol: Protocol) -> None:
    heads = (head(b"1.1"), head(b"2"), head(b"1.1", b"websocket"), head(b"2", b"websocket"))
    assert tuple(wire_for(protocol, one) for one in heads) == _CASES[protocol]


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("version", [b"1.1", b"2"])
def test_a_plain_connect_asks_for_bytes(protocol: Protocol, version: bytes) -> None:
    assert wire_for(protocol, head(version, method=b"CONNECT")) is Wire.RAW
