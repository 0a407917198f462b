"""From a request to a number that is the same for the same caller, whoever computes it and when.

For consistent hashing and for sticky splits. Python's own `hash` is no use: it is salted anew in each process, and the
sidecars of a service must agree. Nothing here is a secret or is kept from those who guess: a client that makes up keys
chooses its endpoint, which it could do by asking twice, too.
"""

import re
from hashlib import blake2b

from sidecar.model.balancing import HashKey, HashOf
from sidecar.model.messages import RequestHead

_COOKIES = re.compile(rb"[;,]")  # neither can be in a cookie's value; fields of the same name are joined by a comma


def hash64(data: bytes) -> int:
    """64 bits in which every bit of `data` counts."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def key_of(where: HashKey, head: RequestHead, source: str) -> bytes | None:
    """The request's key; None when it has none: no such header, no such cookie, or an empty one.

    Args:
        source: Who asks: a SPIFFE ID, or an IP address.
    """
    if where.of is HashOf.HEADER:
        return head.get(where.name.encode("ascii")) or None
    if where.of is HashOf.COOKIE:
        return cookie(head.get(b"cookie"), where.name.encode("ascii"))
    if where.of is HashOf.SOURCE:
        return source.encode() or None
    return head.path


def cookie(field: bytes | None, name: bytes) -> bytes | None:
    """The value of a cookie in a `Cookie` field; the first of several; None without one, or when it is empty."""
    for pair in _COOKIES.split(field) if field else ():
        found, _, value = pair.partition(b"=")
        if found.strip() == name:
            return value.strip() or None
    return None
