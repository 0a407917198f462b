"""Filters of a rule or of one backend: headers, redirect, rewrite; nodes <-> model.

What Gateway API has and this version does not (RequestMirror, CORS, ...) is an error that names what is supported.
Fields that framing, identity or tracing stand on cannot be set, added or removed: a route must not be a way to forge
who called, or to make two servers read a message differently.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from sidecar.config import grammar
from sidecar.config.matches import header_name, path_value
from sidecar.config.node import MISSING, Fields, Json, Node
from sidecar.model.messages import HOP_BY_HOP
from sidecar.model.routes import Filters, HeaderModifier, PathModifier, PathModifierKind, Redirect, Rewrite

REDIRECT_STATUSES = (301, 302, 303, 307, 308)
HEADER_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")
RULE_FILTERS = (*HEADER_FILTERS, "RequestRedirect", "URLRewrite")
_LATER = ("RequestMirror", "CORS", "ExternalAuth", "ExtensionRef")
_MAX_FIELDS = 16  # of each action; Gateway API's
_VALUE = re.compile(r"[!-~]+(?: +[!-~]+)*")
_PROTECTED = frozenset(
    {
        *(name.decode() for name in HOP_BY_HOP),
        *("host", "content-length", "trailer", "expect", "http2-settings"),  # how messages are framed and addressed
        *("x-forwarded-client-cert", "traceparent", "tracestate"),  # who called, and under which trace
        "grpc-status",  # success is judged by it
    }
)
_MESH_PREFIX = "x-mesh-"  # what sidecars tell each other
T = TypeVar("T")


_FIELDS = {"URLRewrite": "urlRewrite", "CORS": "cors"}  # of other types the settings' field is the type in camel case


def parse_rule_filters(node: Node) -> Filters | None:
    """The filters of a rule of an HTTPRoute."""
    return _filters(node, RULE_FILTERS)


def parse_header_filters(node: Node) -> Filters | None:
    """The filters of a backend, or of a rule of a GRPCRoute."""
    return _filters(node, HEADER_FILTERS)


def _field_of(kind: str) -> str:
    """The field that holds the settings of a filter of a type."""
    return _FIELDS.get(kind, kind[0].lower() + kind[1:])


def _filters(node: Node, kinds: tuple[str, ...]) -> Filters | None:
    found: dict[str, Node] = {}
    for item in node.items():
        kind, settings = _one(item, kinds)
        if kind in found:
            item.complain(f"there is a {kind} already; put all of it into one filter")
        elif kind:
            found[kind] = settings
    redirect, rewrite = found.get("RequestRedirect"), found.get("URLRewrite")
    if redirect is not None and rewrite is not None:
        rewrite.complain("RequestRedirect answers instead of forwarding, so there is nothing to rewrite; keep one")
    filters = Filters(
        request=_read(found.get("RequestHeaderModifier"), _header_modifier),
        response=_read(found.get("ResponseHeaderModifier"), _header_modifier),
        redirect=_read(redirect, _redirect),
        rewrite=_read(rewrite, _rewrite),
    )
    return filters if filters != Filters() else None


def _read(node: Node | None, parse: Callable[[Node], T]) -> T | None:
    return None if node is None else parse(node)


def _one(node: Node, kinds: tuple[str, ...]) -> tuple[str, Node]:
    """The type of one filter, "" after a complaint, and the node with its settings."""
    later = [kind for kind in (*_LATER, *RULE_FILTERS) if kind not in kinds]
    got = node.fields("type", *map(_field_of, kinds), ignored=tuple(map(_field_of, later)))
    kind_node = got.need("type", "one of " + ", ".join(kinds))
    if kind_node.value in later:
        kind_node.complain(f"{kind_node.value} is not supported here in this version (supported: {', '.join(kinds)})")
    kind = kind_node.value
    if not isinstance(kind, str) or kind not in kinds:
        if kind not in later:
            kind_node.one_of(kinds)
        return "", Node(node.source, MISSING)
    for other in kinds:
        stray = got.get(_field_of(other))
        if other != kind and stray is not None:
            stray.complain_at_key(f"belongs to type {other}, but the filter's type is {kind}")
    return kind, got.need(_field_of(kind), f"the settings of the {kind}")


def _header_modifier(node: Node) -> HeaderModifier:
    got = node.fields("set", "add", "remove")
    named: list[tuple[Node, str]] = []
    made = HeaderModifier(
        set=got.maybe("set", lambda field: _values(field, named), ()),
        add=got.maybe("add", lambda field: _values(field, named), ()),
        remove=got.maybe("remove", lambda field: _removed(field, named), ()),
    )
    seen: set[str] = set()
    for place, name in named:
        if name and name.lower() in seen:
            place.complain(f"{name} is named twice; one action for a name (case does not count)")
        seen.add(name.lower())
    if made == HeaderModifier() and not named:
        node.complain("changes nothing; give set, add or remove")
    return made


def _values(node: Node, named: list[tuple[Node, str]]) -> tuple[tuple[str, str], ...]:
    made = []
    for item in _limited(node):
        got = item.fields("name", "value")
        name = _name(got.need("name", "the header's name"))
        named.append((item, name))
        made.append((name, got.need("value", "the header's new value").parsed(_parse_value, "")))
    return tuple(made)


def _removed(node: Node, named: list[tuple[Node, str]]) -> tuple[str, ...]:
    names = []
    for item in _limited(node):
        names.append(_name(item))
        named.append((item, names[-1]))
    return tuple(names)


def _limited(node: Node) -> list[Node]:
    items = node.items()
    if len(items) > _MAX_FIELDS:
        node.complain(f"has {len(items)} headers; at most {_MAX_FIELDS} are allowed")
    return items


def _name(node: Node) -> str:
    name = header_name(node)
    lower = name.lower()
    if lower == "host":
        node.complain("host is set by urlRewrite.hostname, which keeps the request's two names for its host the same")
    elif lower in _PROTECTED or lower.startswith(_MESH_PREFIX):
        node.complain(f"{name} cannot be changed by a route: framing, identity and tracing stand on it")
    return name


def _parse_value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a header value: printable ASCII, no blank at either end")
    return text


def _redirect(node: Node) -> Redirect:
    got = node.fields("scheme", "hostname", "path", "port", "statusCode")
    made = Redirect(
        scheme=got.maybe("scheme", lambda field: field.one_of(("http", "https")), ""),
        hostname=got.maybe("hostname", _hostname, ""),
        path=_path(got),
        port=got.maybe("port", Node.port, None),
        status=got.maybe("statusCode", _status, 302),
    )
    if made == Redirect(status=made.status):
        node.complain("leads to where the request came from; give scheme, hostname, path or port")
    return made


def _status(node: Node) -> int:
    seen = node.source.problems.count
    status = node.integer(300, 399)
    if status not in REDIRECT_STATUSES and node.source.problems.count == seen:
        node.complain(f"{status} is not a redirect with a location (known: {', '.join(map(str, REDIRECT_STATUSES))})")
    return status


def _rewrite(node: Node) -> Rewrite:
    got = node.fields("hostname", "path")
    made = Rewrite(got.maybe("hostname", _hostname, ""), _path(got))
    if made == Rewrite():
        node.complain("changes nothing; give hostname or path")
    return made


def _hostname(node: Node) -> str:
    return node.parsed(grammar.parse_subdomain, "", 253)


def _path(got: Fields) -> PathModifier | None:
    node = got.get("path")
    if node is None:
        return None
    inner = node.fields("type", "replaceFullPath", "replacePrefixMatch")
    kind = inner.need("type", "ReplaceFullPath or ReplacePrefixMatch").choice(PathModifierKind)
    names = {PathModifierKind.FULL: "replaceFullPath", PathModifierKind.PREFIX: "replacePrefixMatch"}
    for other, name in names.items():
        stray = inner.get(name)
        if other is not kind and stray is not None:
            stray.complain_at_key(f"belongs to type {other.value}, but the type is {kind.value}")
    value = inner.need(names[kind], "the new path, such as /v2")
    if kind is PathModifierKind.PREFIX and value.value == "":
        return PathModifier(kind, "")
    return PathModifier(kind, path_value(value))


def encode_filters(filters: Filters) -> list[Json]:
    """The `filters` of a document."""
    made: list[Json] = []
    for kind, settings in (
        ("RequestHeaderModifier", _encode_headers(filters.request)),
        ("ResponseHeaderModifier", _encode_headers(filters.response)),
        ("RequestRedirect", _encode_redirect(filters.redirect)),
        ("URLRewrite", _encode_rewrite(filters.rewrite)),
    ):
        if settings is not None:
            made.append({"type": kind, _field_of(kind): settings})
    return made


def _encode_headers(modifier: HeaderModifier | None) -> dict[str, Json] | None:
    if modifier is None:
        return None
    made: dict[str, Json] = {}
    for action, fields in (("set", modifier.set), ("add", modifier.add)):
        if fields:
            made[action] = [{"name": name, "value": value} for name, value in fields]
    if modifier.remove:
        made["remove"] = [*modifier.remove]
    return made


def _encode_redirect(redirect: Redirect | None) -> dict[str, Json] | None:
    if redirect is None:
        return None
    made: dict[str, Json] = {"statusCode": redirect.status}
    if redirect.scheme:
        made["scheme"] = redirect.scheme
    if redirect.port is not None:
        made["port"] = redirect.port
    return made | _encode_target(redirect.hostname, redirect.path)


def _encode_rewrite(rewrite: Rewrite | None) -> dict[str, Json] | None:
    return None if rewrite is None else _encode_target(rewrite.hostname, rewrite.path)


def _encode_target(hostname: str, path: PathModifier | None) -> dict[str, Json]:
    made: dict[str, Json] = {"hostname": hostname} if hostname else {}
    if path is not None:
        field = "replaceFullPath" if path.kind is PathModifierKind.FULL else "replacePrefixMatch"
        made["path"] = {"type": path.kind.value, field: path.value}
    return made
