"""Makes the HTTP/2 codecs; loads them when the first is asked for: 3 MiB that a sidecar without HTTP/2 never needs."""

from sidecar.codec.contract import MuxClient, MuxServer


def http2_server(streams: int) -> MuxServer:
    """The codec of a client's connection with at most `streams` at once."""
    from sidecar.codec.h2_server import H2Server

    return H2Server(streams_max=streams)


def http2_client(streams: int) -> MuxClient:
    """The codec of a connection to an endpoint, with at most `streams` at once."""
    from sidecar.codec.h2_client import H2Client

    return H2Client(streams_max=streams)
