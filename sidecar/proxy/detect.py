"""Find out what a client speaks on a port whose protocol is not declared, within a fifth of a second.

Called by the connection's task before it chooses between HTTP and a tunnel. What was read is in `Detected.data` and has
to be handed on; an end of the stream stays to be found by the next read. A client that is silent may be waiting for its
server to speak first (SMTP, MySQL), so the caller treats UNDECIDED like OPAQUE. It dials afterwards, not meanwhile: the
bytes tell whose routes choose the endpoint, and a dial in the mesh is short beside the wait.

UNDECIDED and OPAQUE are answers about bytes, not about trust: where a policy has to see requests, a caller must not let
such a connection pass unread, else a client escapes the policy by being slow.
"""

from dataclasses import dataclass
from enum import StrEnum

import trio

from sidecar.codec.sniff import Sniffed, classify
from sidecar.transport.stream import Stream

DETECT_S = 0.2  # long beside a round trip in one region, short beside what a person notices


class Kind(StrEnum):
    """What was found; the values are labels of `sidecar_protocol_detected_total`."""

    HTTP1 = Sniffed.HTTP1.value
    HTTP2 = Sniffed.HTTP2.value
    TLS = Sniffed.TLS.value
    OPAQUE = Sniffed.OPAQUE.value
    UNDECIDED = "timeout"  # the time was over before the bytes were certain; mostly there were none
    CLOSED = "closed"  # the client ended without a byte


@dataclass(frozen=True, slots=True)
class Detected:
    """What the client speaks, and the bytes that were read to know it."""

    kind: Kind
    data: bytes


async def detect(stream: Stream, limit_s: float = DETECT_S) -> Detected:
    """Read from `stream` until what it carries is certain, it ends, or `limit_s` seconds are over.

    Raises:
        StreamBroken: The client is gone.
    """
    data = b""
    with trio.move_on_after(limit_s):
        while True:
            more = await stream.receive()
            if not more:
                return Detected(Kind.OPAQUE if data else Kind.CLOSED, data)
            data += more
            sniffed = classify(data)
            if sniffed is not None:
                return Detected(Kind(sniffed.value), data)
    return Detected(Kind.UNDECIDED, data)
