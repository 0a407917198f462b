"""How a peer can break RFC 9113 so that its connection ends: every way on one screen, each with its code and section.

Written by frames.py, control.py and blocks.py into GOAWAY and into why the connection is over. What costs one stream
only is decided in h2_receiving.py and h2_states.py.
"""

from typing import NamedTuple

from sidecar.codec.h2_frames import FRAME_MAX_BYTES, Code


class Breach(NamedTuple):
    """A connection error (RFC 9113 section 5.4.1)."""

    code: Code
    sentence: str


def _breach(code: Code, section: str, sentence: str) -> Breach:
    rfc = section if section.startswith("RFC") else f"RFC 9113 section {section}"
    return Breach(code, f"{sentence} ({code.name}, {rfc})")


_PROTOCOL, _SIZE, _FLOW = Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR

FRAME_TOO_LONG = _breach(_SIZE, "4.2", f"a frame is longer than {FRAME_MAX_BYTES} bytes")
FRAME_TOO_SHORT = _breach(_SIZE, "4.2", "a frame is shorter than its flags say")
NOT_SETTINGS = _breach(_PROTOCOL, "3.4", "the first frame is not SETTINGS: this is not HTTP/2")
INSIDE_BLOCK = _breach(_PROTOCOL, "4.3", "another frame stands inside a header block")
CONTINUATION_ALONE = _breach(_PROTOCOL, "6.10", "CONTINUATION without HEADERS")
PADDING = _breach(_PROTOCOL, "6.1", "a frame has more padding than bytes")
DEPENDS_ON_ITSELF = _breach(_PROTOCOL, "RFC 7540 section 5.3.1", "a stream depends on itself")
IDLE_STREAM = _breach(_PROTOCOL, "5.1", "a frame on a stream that nobody has begun")
SKIPPED_STREAM = _breach(_PROTOCOL, "5.1.1", "HEADERS on a stream that a later one has closed unused")
CLOSED_STREAM = _breach(Code.STREAM_CLOSED, "5.1", "HEADERS on a stream that both sides have ended")
PUSHED = _breach(_PROTOCOL, "8.4", "PUSH_PROMISE, which nobody allowed")
DATA_BEYOND_WINDOW = _breach(_FLOW, "6.9.1", "more DATA came than its windows allow")
WINDOW_OF_3_BYTES = _breach(_SIZE, "6.9", "a WINDOW_UPDATE of another size than 4 bytes")
WINDOW_OF_0 = _breach(_PROTOCOL, "6.9", "a WINDOW_UPDATE of 0")
WINDOW_OVERFLOW = _breach(_FLOW, "6.9.1", "WINDOW_UPDATE frames add up to more than a window may be")
WINDOW_OVERFLOW_BY_SETTINGS = _breach(_FLOW, "6.9.2", "a change of INITIAL_WINDOW_SIZE makes a window too large")
RESET_OF_3_BYTES = _breach(_SIZE, "6.4", "a RST_STREAM of another size than 4 bytes")
PING_SIZE = _breach(_SIZE, "6.7", "a PING of another size than 8 bytes")
PING_ON_STREAM = _breach(_PROTOCOL, "6.7", "a PING on a stream")
SETTINGS_SIZE = _breach(_SIZE, "6.5", "SETTINGS of a size that is no multiple of 6 bytes")
SETTINGS_ON_STREAM = _breach(_PROTOCOL, "6.5", "SETTINGS on a stream")
SETTINGS_IN_ACK = _breach(_SIZE, "6.5", "an acknowledgement of SETTINGS with settings in it")
BAD_PUSH = _breach(_PROTOCOL, "6.5.2", "SETTINGS_ENABLE_PUSH that this side may not say")
BAD_WINDOW = _breach(_FLOW, "6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
BAD_FRAME_SIZE = _breach(_PROTOCOL, "6.5.2", "SETTINGS_MAX_FRAME_SIZE outside 16384 to 2^24-1")
BAD_CONNECT = _breach(_PROTOCOL, "RFC 8441 section 3", "SETTINGS_ENABLE_CONNECT_PROTOCOL that is neither 0 nor 1")


def uncompressed(problem: Exception) -> Breach:
    """A header block that HPACK cannot read: the table is lost, and with it every block to come."""
    return _breach(Code.COMPRESSION_ERROR, "4.3", str(problem))
