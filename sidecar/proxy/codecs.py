"""Makes the HTTP/2 codecs, ours or the reference; loads one when it is first asked for.

Ours serves whatever path a request takes. With `fast_path: false` it is python-h2's, which is slow and somebody else's:
a fault that goes away with it is one of ours. A sidecar without HTTP/2 needs neither, and python-h2 takes 3 MiB.
"""

from sidecar.codec.contract import MuxClient, MuxServer


def http2_server(streams: int, *, lean: bool) -> MuxServer:
    """The codec of a client's connection with at most `streams` at once; `lean`: our own."""
    if lean:
        from sidecar.codec.h2_lean.server import LeanServer

        return LeanServer(streams_max=streams)
    from sidecar.codec.h2_server import H2Server

    return H2Server(streams_max=streams)


def http2_client(streams: int, *, lean: bool) -> MuxClient:
    """The codec of a connection to an endpoint, with at most `streams` at once; `lean`: our own."""
    if lean:
        from sidecar.codec.h2_lean.client import LeanClient

        return LeanClient(streams_max=streams)
    from sidecar.codec.h2_client import H2Client

    return H2Client(streams_max=streams)
