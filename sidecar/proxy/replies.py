"""Answers that the sidecar makes itself: one form for every fault.

The flag is in `x-mesh-flags`, one plain sentence in the body ends in the command to run next. A fault that left the
upstream untouched says so to a mesh peer (`x-mesh-untouched`), so that the caller's side may try elsewhere whatever
the method.
"""

import math

from sidecar.errors import Fault
from sidecar.model.fallback import Fallback
from sidecar.model.messages import Fields, ResponseHead

FLAGS = b"x-mesh-flags"
UNTOUCHED = b"x-mesh-untouched"
DENIED = b"x-mesh-retry-denied"
FALLBACK = "FB"  # the flag of an answer that a policy's `fallback` gave


def degraded(fallback: Fallback) -> tuple[ResponseHead, bytes]:
    """Head and body of a policy's own answer in the place of a failure; it says so."""
    body = fallback.body.encode()
    fields: Fields = [(b"content-type", fallback.content_type.encode("ascii")), (FLAGS, FALLBACK.encode())]
    return ResponseHead(fallback.status, fields, content_length=len(body)), body


def redirection(status: int, location: bytes) -> tuple[ResponseHead, bytes]:
    """Head and body of a rule's own answer (RequestRedirect)."""
    return ResponseHead(status, [(b"location", location)], content_length=0), b""


def reply(fault: Fault, *, denied: str = "", to_mesh_peer: bool = False) -> tuple[ResponseHead, bytes]:
    """Head and body of the answer for `fault`.

    Args:
        denied: Why there was no further try, if one was wanted.
        to_mesh_peer: The client is a verified sidecar, to which `untouched` may be said.
    """
    body = f"{fault.sentence} (meshctl explain flag {fault.flag.partition(',')[0]})\n".encode()
    fields: Fields = [(b"content-type", b"text/plain; charset=utf-8"), (FLAGS, fault.flag.encode())]
    if fault.status == 405:
        fields.append((b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))  # RFC 9110 section 15.5.6 wants it
    if fault.retry_after_s > 0:
        fields.append((b"retry-after", b"%d" % math.ceil(fault.retry_after_s)))
    if denied:
        fields.append((DENIED, denied.encode()))
    if to_mesh_peer and fault.upstream_untouched and fault.status in (503, 504):
        fields.append((UNTOUCHED, b"1"))
    return ResponseHead(fault.status, fields, content_length=len(body)), body
