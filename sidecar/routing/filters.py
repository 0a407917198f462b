"""What a rule changes about the requests and answers that it takes; compiled once per rule, used per request.

`RoutePlan.filters` acts on all of a rule's traffic, `RoutePlan.backend_filters` on the share of one backend. Both are
None where users wrote none, so that plain routes pay nothing. The order of a request: the rule's redirect, if it has
one, answers and ends it; else the rule's `apply_request`, then the backend's, once each before the first try, so that
every try sends the same. The order of an answer is the other way round. Our own answers (faults, redirects) are not
filtered: they are no service's. Protected fields never get here; `config/filters.py` refuses them.

Nothing here changes framing: bodies, lengths and trailers stay as they are.
"""

from sidecar.model.messages import Fields, RequestHead
from sidecar.model.routes import Filters, HeaderModifier, PathModifier, PathModifierKind, Redirect, Rewrite

_WELL_KNOWN = {b"http": b"80", b"https": b"443"}
_PLAIN = b"http"  # what callers speak to their sidecar; TLS between sidecars is ours


class HeaderEdit:
    """A header modifier, ready to be used."""

    __slots__ = ("_added", "_dropped")

    def __init__(self, modifier: HeaderModifier) -> None:
        replaced = {name.lower().encode() for name, _ in modifier.set}
        self._dropped = frozenset(replaced | {name.lower().encode() for name in modifier.remove})
        self._added = [(name.encode(), value.encode()) for name, value in (*modifier.set, *modifier.add)]

    def apply(self, fields: Fields) -> Fields:
        """New fields: what is set or removed goes, what is set or added comes at the end, as lines of their own."""
        if not self._dropped:
            return fields + self._added
        return [field for field in fields if field[0].lower() not in self._dropped] + self._added


class RequestEdit:
    """What becomes of a request's head: its path, its host, its fields."""

    __slots__ = ("_headers", "_host", "_path", "_prefix")

    def __init__(self, headers: HeaderModifier | None, rewrite: Rewrite | None, prefix: bytes) -> None:
        self._headers = HeaderEdit(headers) if headers is not None else None
        self._host = rewrite.hostname.encode() if rewrite is not None else b""
        self._path = rewrite.path if rewrite is not None else None
        self._prefix = prefix

    def apply(self, head: RequestHead) -> RequestHead:
        """A new head; the given one stays as it is, for logs and for another backend."""
        fields, authority, target = head.fields, head.authority, head.target
        if self._host:
            authority = self._host
            fields = [(name, authority if name.lower() == b"host" else value) for name, value in fields]
        if self._path is not None and target.startswith(b"/"):
            target = _replaced(target, self._path, self._prefix)
        if self._headers is not None:
            fields = self._headers.apply(fields)
        return RequestHead(
            head.method,
            target,
            authority,
            fields,
            content_length=head.content_length,
            chunked=head.chunked,
            keep_alive=head.keep_alive,
            version=head.version,
            upgrade=head.upgrade,
        )


class RuleFilters:
    """The filters of one rule, or of one backend of it. Equal when made from equal ones."""

    __slots__ = ("_prefix", "_redirect", "_request", "_response", "_source")

    def __init__(self, filters: Filters, prefix: str = "") -> None:
        """`prefix`: the path prefix by which the rule matches, for ReplacePrefixMatch."""
        self._source = filters
        self._prefix = prefix.rstrip("/").encode()
        changes = filters.request is not None or filters.rewrite is not None
        self._request = RequestEdit(filters.request, filters.rewrite, self._prefix) if changes else None
        self._response = HeaderEdit(filters.response) if filters.response is not None else None
        self._redirect = filters.redirect

    def redirect(self, head: RequestHead) -> tuple[int, bytes] | None:
        """Status and absolute `location` of the answer that the rule gives itself; None: the request is forwarded."""
        if self._redirect is None:
            return None
        return self._redirect.status, _location(self._redirect, head, self._prefix)

    def apply_request(self, head: RequestHead) -> RequestHead:
        """The head to send upstream: a new one, or the same when nothing about requests changes."""
        return head if self._request is None else self._request.apply(head)

    def apply_response(self, fields: Fields) -> Fields:
        """The fields to send to the client: new ones, or the same when nothing about answers changes.

        For the final head, and for a tunnel's; not for interim ones nor trailers.
        """
        return fields if self._response is None else self._response.apply(fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RuleFilters):
            return NotImplemented
        return (self._source, self._prefix) == (other._source, other._prefix)

    def __hash__(self) -> int:
        return hash((self._source, self._prefix))


def _location(redirect: Redirect, head: RequestHead, prefix: bytes) -> bytes:
    """An absolute address. The port is left out where the scheme says it; without a scheme it stays the request's."""
    host, port = _host_and_port(head.authority)
    scheme = redirect.scheme.encode() or _PLAIN
    if redirect.port is not None:
        port = b"%d" % redirect.port
    elif redirect.scheme:
        port = b""
    host = redirect.hostname.encode() or host
    if port and port != _WELL_KNOWN[scheme]:
        host += b":" + port
    target = head.target if head.target.startswith(b"/") else b"/"
    if redirect.path is not None:
        target = _replaced(target, redirect.path, prefix)
    return scheme + b"://" + host + target


def _host_and_port(authority: bytes) -> tuple[bytes, bytes]:
    host, colon, port = authority.rpartition(b":")
    return (host, port) if colon and port.isdigit() else (authority, b"")


def _replaced(target: bytes, modifier: PathModifier, prefix: bytes) -> bytes:
    """The target with another path and its own query.

    A prefix is whole segments and loses its slash at the end, as does its replacement, unless nothing else is left. The
    path begins with exactly one slash: two would be another host to some readers.
    """
    path, mark, query = target.partition(b"?")
    new = modifier.value.encode()
    if modifier.kind is PathModifierKind.PREFIX:
        rest = path[len(prefix) :]
        new = new.rstrip(b"/") + rest if rest else new
    return b"/" + new.lstrip(b"/") + mark + query
