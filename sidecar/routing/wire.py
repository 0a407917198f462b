"""Which protocol a request goes to its upstream in.

Asked once per request, after its backend is known and before a connection is lent. What a port declares wins; only
`auto` asks the client. Over a mesh hop this is what the *app* behind the other sidecar is spoken to in; how the two
sidecars talk is ALPN's business.
"""

from sidecar.model.clusters import Protocol, Wire
from sidecar.model.messages import RequestHead

_OPAQUE = (Protocol.TCP, Protocol.TLS)
_HTTP2 = (Protocol.HTTP2, Protocol.GRPC)


def carries_requests(protocol: Protocol) -> bool:
    """False for a port whose bytes are never read as HTTP; only a tunnel leads there."""
    return protocol not in _OPAQUE


def wire_for(protocol: Protocol, head: RequestHead) -> Wire:
    """What to speak to an upstream whose port declares `protocol`, for the request `head`.

    A plain CONNECT asks for bytes, and so does a port of `tcp` or `tls`, where nothing is ever read as HTTP. `http` is
    HTTP/1.1 and `http2` and `grpc` are HTTP/2, whatever the client speaks. With `auto` a client gets what it speaks
    itself, except that an upgrade goes by HTTP/1.1, which every server that knows upgrades understands, while few take
    an extended CONNECT.
    """
    if protocol in _OPAQUE or head.asks_for_bytes:
        return Wire.RAW
    if protocol in _HTTP2:
        return Wire.H2
    if protocol is Protocol.AUTO and head.version == b"2" and not head.upgrade:
        return Wire.H2
    return Wire.H1
