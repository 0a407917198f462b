"""The two fields of a WebSocket handshake that HTTP/1.1 has and HTTP/2 has not (RFC 6455 section 4, RFC 8441).

Used where a tunnel goes from the one to the other: the side that speaks HTTP/1.1 sends a key, and the accept value in
the answer shows that whoever agreed to switch has read it. After the switch nothing here looks at a frame.
"""

import base64
import hashlib
import re

WEBSOCKET = b"websocket"
WEBSOCKET_KEY = b"sec-websocket-key"
WEBSOCKET_ACCEPT = b"sec-websocket-accept"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}+==")


def new_key(nonce: bytes) -> bytes:
    """The key made of `nonce`, 16 random bytes."""
    assert len(nonce) == 16, "a WebSocket key stands for 16 bytes"
    return base64.b64encode(nonce)


def is_key(value: bytes) -> bool:
    """True if `value` is 16 bytes in base64, as a key has to be."""
    return _KEY.fullmatch(value) is not None


def accept_value(key: bytes) -> bytes:
    """What answers `key` (section 4.2.2). SHA-1 is the protocol's; it guards nothing but against confusion."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
