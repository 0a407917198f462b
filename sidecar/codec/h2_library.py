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
from hpack import Decoder, HeaderTuple, HPACKDecodingError, NeverIndexedHeaderTuple

from sidecar.codec import h2_frames as wire
from sidecar.codec.h2_limits import (
    DECODED_MAX_BYTES,
    HEADER_TABLE_BYTES,
    STREAM_WINDOW_BYTES,
    announced,
    connection_window,
)
from sidecar.model.messages import Fields, NeverIndexed

_KNOWN_SETTINGS = frozenset(code.value for code in SettingCodes)
_MEMORY = re.compile(r"<memory at 0x[0-9a-f]+>")  # what hpack calls a block; where that lies is nobody's business
_INTERIM = (HeaderTuple(b":status", b"100"),)


class HeadReader(Decoder):
    """HPACK for the library: it learns whether a header list is an interim answer's, and nothing else."""

    def __init__(self) -> None:
        super().__init__(max_header_list_size=DECODED_MAX_BYTES)
        self.received: Fields = []
        self.may_be_interim = False

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """See `hpack.Decoder`."""
        del raw
        try:
            decoded = super().decode(data, raw=True)
        except HPACKDecodingError as error:
            raise type(error)(_MEMORY.sub("its bytes", str(error))) from error
        self.received = received = [
            (each[0], each[1]) if each.indexable else NeverIndexed((each[0], each[1])) for each in decoded
        ]
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
    library.local_settings = Settings(
        client=client,
        initial_values={
            SettingCodes(code): value for code, value in announced(client=client, streams_max=streams_max).items()
        },
    )
    library.initiate_connection()
    # Announced, but counted by us: above its own limit the library ends the connection, where one stream is enough.
    library.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
    library.local_settings.acknowledge()
    window = connection_window(client=client, streams_max=streams_max)
    library.increment_flow_control_window(window - STREAM_WINDOW_BYTES)
    return library, reader


def indexable(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A field as the library wants to see it: one that must not be indexed is of a class of its own."""
    return NeverIndexedHeaderTuple(*field) if isinstance(field, NeverIndexed) else field


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
