"""What changes in a head on its way through: connection fields go, trace, deadline and identity fields are set.

Pure functions over fields. Identity headers are never taken from a client: they are removed on both sides, and set on
the inbound side from the verified certificate.
"""

from base64 import b64encode
from collections.abc import Iterator
from itertools import product
from random import Random

from sidecar.codec.plain_forward import PlainForward
from sidecar.codec.plain_head import PlainRequest
from sidecar.model.messages import Fields, RequestHead, ResponseHead, end_to_end, nominated
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.replies import UNTOUCHED
from sidecar.routing.filters import RuleFilters
from sidecar.transport.stream import Peer

REQUEST_ID = b"x-request-id"
CLIENT_CERT = b"x-forwarded-client-cert"


def _spellings(name: bytes) -> Iterator[bytes]:
    """`name` with `-` or `_` in every place: CGI, WSGI and PHP apps read both as the same variable."""
    parts = name.split(b"-")
    for between in product((b"-", b"_"), repeat=len(parts) - 1):
        yield b"".join(part + by for part, by in zip(parts, (*between, b""), strict=True))


# No client may set these; of the others we set, a client's word is read first.
NOT_FROM_CLIENTS = frozenset((UNTOUCHED, *_spellings(CLIENT_CERT)))
FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
FORWARDED = frozenset((FORWARDED_FOR, FORWARDED_PROTO))
_OURS = frozenset((DEADLINE_HEADER, b"traceparent", b"tracestate")) | NOT_FROM_CLIENTS


_SCHEME = (b":scheme", b"http")  # whatever carries the connection: where TLS ends is the mesh's business
_NOTHING: frozenset[bytes] = frozenset()


def _less(always: frozenset[bytes], replaced: frozenset[bytes], connection: bytes | None) -> frozenset[bytes]:
    """The names that do not go on; most messages have none but `always`, and a new set for each would be waste."""
    if connection:
        return always | replaced | nominated(connection)
    return always | replaced if replaced else always


def forwarded_request(head: RequestHead, own: Fields, replaced: frozenset[bytes] = _NOTHING) -> RequestHead:
    """The request as it goes upstream: what the client meant end to end, less `replaced` (lower case), and `own`."""
    if isinstance(head, PlainRequest) and replaced <= FORWARDED:
        return PlainForward(head, own, _less(_OURS, replaced, head.noted.get(b"connection")))
    fields = end_to_end(head.fields, _less(_OURS, replaced, head.get(b"connection")))
    fields += own
    return RequestHead(
        head.method,
        head.target,
        head.authority,
        fields,
        content_length=head.content_length,
        chunked=head.chunked,
        upgrade=head.upgrade,
    )


def streamed_request(head: RequestHead, own: Fields, replaced: frozenset[bytes] = _NOTHING) -> Fields:
    """`forwarded_request` from HTTP/2 to HTTP/2, as the header list to be written; `own` in lower case.

    Whatever read `head` has refused what connects hops, and fields that no head may have.
    """
    drop = _OURS | replaced if replaced else _OURS
    fields = [
        (b":method", head.method),
        _SCHEME,
        (b":path", head.target),
        (b":authority", head.authority),
    ]
    fields += [field for field in head.fields if field[0] not in drop]
    fields += own
    return fields


def streamed_response(head: ResponseHead) -> Fields:
    """`forwarded_response` from HTTP/2 to HTTP/2, as the header list to be written."""
    fields = [(b":status", b"%d" % head.status)]
    fields += [field for field in head.fields if field[0] != UNTOUCHED]
    return fields


_NEAR = ("127.", "[::1]", "unix", "memory")


def from_afar(peer: Peer) -> bool:
    """True for a client on another machine that is no verified sidecar: its address is worth telling the app."""
    return not (peer.principal or peer.address.startswith(_NEAR))


def forwarded_for(before: bytes | None, proto: bytes | None, peer: Peer) -> Fields:
    """`X-Forwarded-For` with the client's address appended, and `X-Forwarded-Proto` as it is or `http`."""
    host = peer.address.rpartition(":")[0].strip("[]").encode("ascii", "replace")
    told = host if before is None else before + b", " + host
    return [(FORWARDED_FOR, told), (FORWARDED_PROTO, proto or b"http")]


_WEBSOCKET_KEY = b"sec-websocket-key"


def add_websocket_key(head: RequestHead, rng: Random) -> None:
    """Give a WebSocket request the key that HTTP/1.1 asks for; a client that speaks HTTP/2 sent none (RFC 8441)."""
    if head.get(_WEBSOCKET_KEY) is None:
        head.fields.append((_WEBSOCKET_KEY, b64encode(rng.randbytes(16))))


_KEPT_FROM_CLIENT = frozenset((UNTOUCHED,))


def forwarded_response(head: ResponseHead, filters: tuple[RuleFilters, ...] = ()) -> ResponseHead:
    """The answer as it goes to the client, through `filters`. Its length stays as the upstream framed it."""
    if head.kept and not filters:
        return head
    fields = end_to_end(head.fields, _less(_KEPT_FROM_CLIENT, _NOTHING, head.get(b"connection")))
    for each in filters:
        fields = each.apply_response(fields)
    return ResponseHead(
        head.status,
        fields,
        content_length=head.content_length,
        chunked=head.chunked,
        reason=head.reason,
        version=head.version,
    )
