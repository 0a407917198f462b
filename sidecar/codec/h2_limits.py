"""What an HTTP/2 connection of ours announces and keeps to, whichever codec reads it.

Read by h2_library.py (python-h2) and by h2_lean. What a peer may ask of us beside it stands in h2_abuse.py.
"""

from sidecar.codec.grammar import HEAD_MAX_BYTES
from sidecar.codec.h2_frames import FRAME_MAX_BYTES, Setting

STREAMS_MAX = 100  # open at once, as every proxy's default
STREAM_WINDOW_BYTES = 65_535  # what one stream may have on the way to a slow reader
CONNECTION_WINDOW_BYTES = 1024 * 1024  # and all of a client's connection
WINDOW_MAX_BYTES = 2**31 - 1  # RFC 9113 section 6.9.1
HEADER_TABLE_BYTES = 4096  # HPACK, each direction; we never use more, whatever the peer offers
# A header list above HEAD_MAX_BYTES costs its stream; one above this is not even decoded, which costs the connection.
DECODED_MAX_BYTES = 80 * 1024
SEND_MAX_BYTES = 65_536  # of one DATA frame, whatever the peer would take: others want to send too


def announced(*, client: bool, streams_max: int) -> dict[int, int]:
    """Our SETTINGS. Nothing in them ever changes, so that none of them is on its way while frames of a peer are."""
    values: dict[int, int] = {
        Setting.HEADER_TABLE_SIZE: HEADER_TABLE_BYTES,
        Setting.ENABLE_PUSH: 0,
        Setting.MAX_CONCURRENT_STREAMS: streams_max,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_FRAME_SIZE: FRAME_MAX_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: HEAD_MAX_BYTES,
    }
    if not client:
        values[Setting.ENABLE_CONNECT_PROTOCOL] = 1
    return values


def connection_window(*, client: bool, streams_max: int) -> int:
    """What all streams of a connection may have on the way.

    Strangers share a connection to an endpoint: if those who do not read could fill its window, all would stand still
    with them. So there is room for each stream's own. A client's connection holds up nobody but that client.
    """
    all_streams = streams_max * STREAM_WINDOW_BYTES if client else 0
    return min(max(all_streams, CONNECTION_WINDOW_BYTES), WINDOW_MAX_BYTES)
