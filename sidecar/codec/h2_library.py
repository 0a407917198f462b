"""python-h2, made so that it does what we need of it: states of streams, windows, frames, HPACK.

The library closes a connection for what should cost one stream, and hands on heads that it has not looked at closely
enough (reliability.md section 1). So heads pass it by: `HeadReader` stands in the place of its HPACK decoder, keeps the
header list for h2_heads.py, and shows the library an empty one. Its limit of streams is lifted; h2_server.py counts.
"""

import re
from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder, HeaderTuple, HPACKDecodingError

from sidecar.codec import h2_frames as wire
from sidecar.codec.grammar import HEAD_MAX_BYTES

STREAMS_MAX = 100  # open at once, as every proxy's default
STREAM_WINDOW_BYTES = 65_535  # what one stream may have on the way to a slow reader
CONNECTION_WINDOW_BYTES = 1024 * 1024  # and all of a client's connection
_WINDOW_MAX_BYTES = 2**31 - 1
HEADER_TABLE_BYTES = 4096  # HPACK, each direction; we never use more, whatever the peer offers
# A header list above HEAD_MAX_BYTES costs its stream; one above this is not even decoded, which costs the connection.
DECODED_MAX_BYTES = 80 * 1024

_KNOWN_SETTINGS = frozenset(code.value for code in SettingCodes)
_MEMORY = re.compile(r"<memory at 0x[0-9a-f]+>")  # what hpack calls a block; where that lies is nobody's business
_INTERIM = (HeaderTuple(b":status", b"100"),)


class HeadReader(Decoder):
    """HPACK for the library: it learns whether a header list is an interim answer's, and nothing else."""

    def __init__(self) -> None:
        super().__init__(max_header_list_size=DECODED_MAX_BYTES)
        self.received: list[HeaderTuple] = []
        self.may_be_interim = False

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See `hpack.Decoder`."""
        del raw
        try:
            self.received = received = list(super().decode(data, raw=True))
        except HPACKDecodingError as error:
            raise type(error)(_MEMORY.sub("its bytes", str(error))) from error
        if self.may_be_interim and received and received[0][0] == b":status" and received[0][1].startswith(b"1"):
            return _INTERIM
        return ()


class _Library(H2Connection):
    """python-h2, less what it would remember of 65 536 closed streams (8 MiB)."""

    MAX_CLOSED_STREAMS = 1024


def library_connection(*, client: bool, streams_max: int) -> tuple[H2Connection, HeadReader]:
    """The library's connection, its first bytes written."""
    config = H2Configuration(client_side=client, header_encoding=None, validate_inbound_headers=False,
                             normalize_inbound_headers=False, validate_outbound_headers=False,
                             normalize_outbound_headers=False)  # fmt: skip
    library = _Library(config)
    reader = library.decoder = HeadReader()
    announced = {
        SettingCodes.HEADER_TABLE_SIZE: HEADER_TABLE_BYTES,
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.MAX_CONCURRENT_STREAMS: streams_max,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        SettingCodes.MAX_FRAME_SIZE: wire.FRAME_MAX_BYTES,
        SettingCodes.MAX_HEADER_LIST_SIZE: HEAD_MAX_BYTES,
    }
    if not client:
        announced[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
    library.local_settings = Settings(client=client, initial_values=announced)
    library.initiate_connection()
    # Announced, but counted by us: above its own limit the library ends the connection, where one stream is enough.
    library.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
    library.local_settings.acknowledge()
    library.increment_flow_control_window(_connection_window(client, streams_max) - STREAM_WINDOW_BYTES)
    return library, reader


def _connection_window(client: bool, streams_max: int) -> int:
    """What all streams of a connection may have on the way.

    Strangers share a connection to an endpoint: if those who do not read could fill its window, all would stand still
    with them. So there is room for each stream's own. A client's connection holds up nobody but that client.
    """
    all_streams = streams_max * STREAM_WINDOW_BYTES if client else 0
    return min(max(all_streams, CONNECTION_WINDOW_BYTES), _WINDOW_MAX_BYTES)


def settings_to_heed(frame: wire.Frame) -> bytes:
    """A whole SETTINGS frame without what the library would keep: settings that it does not know, and an encoder's
    table as large as the peer likes."""
    return wire.settings(
        [
            (code, min(value, HEADER_TABLE_BYTES) if code == SettingCodes.HEADER_TABLE_SIZE else value)
            for code, value in wire.settings_said(frame.payload)
            if code in _KNOWN_SETTINGS
        ]
    )
