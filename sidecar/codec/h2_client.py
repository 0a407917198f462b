"""HTTP/2 towards one upstream: `MuxClient` of contract.py, on python-h2.

The reference codec: what it decides stands in h2_client_side.py, how it reads in h2_mux.py.
"""

from sidecar.codec.h2_client_side import ClientSide
from sidecar.codec.h2_limits import STREAMS_MAX
from sidecar.codec.h2_mux import H2Mux
from sidecar.codec.h2_streams import Stream


class H2Client(ClientSide[Stream], H2Mux):
    """See `MuxClient`.

    Args:
        scheme: What `:scheme` says: `https` over TLS.
        streams_max: Streams at once, if the peer allows as many.
    """

    def __init__(self, *, scheme: bytes = b"http", streams_max: int = STREAMS_MAX) -> None:
        super().__init__(client=True, streams_max=streams_max)
        self._scheme = scheme
        self._streams_max = streams_max
