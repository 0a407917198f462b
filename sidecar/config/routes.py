"""Gateway API's `HTTPRoute` with Services as parents: documents <-> model.

What the kind knows and this version does not (retry, session persistence, some filters) is an error that names what is
supported, never something that is quietly left out: a route that does half of what it says is worse than none. `0s`
switches a timeout off and stays 0.0.
"""

from sidecar.config import grammar
from sidecar.config.filters import encode_filters, parse_header_filters, parse_rule_filters
from sidecar.config.header import Metadata
from sidecar.config.matches import complain_of_twins, encode_match, parse_matches
from sidecar.config.node import Json, Node
from sidecar.config.references import encode_route_document, parse_backends, parse_parents, warn_of_hostnames
from sidecar.model.routes import Filters, HttpRoute, PathKind, PathModifierKind, RouteMatch, RouteRule


def parse_route(meta: Metadata, spec: Node) -> HttpRoute:
    """An HTTPRoute."""
    got = spec.fields("parentRefs", "hostnames", "rules")
    warn_of_hostnames(got)
    rules = got.need("rules", "a list of rules").items(at_least=1)
    route = HttpRoute(
        namespace=meta.namespace,
        name=meta.name,
        parents=parse_parents(got, meta),
        rules=tuple(_rule(node, meta.namespace) for node in rules),
        created=meta.created,
    )
    complain_of_twins(rules, [rule.name for rule in route.rules], "rule name")
    return route


def _rule(node: Node, namespace: str) -> RouteRule:
    later = ("retry", "sessionPersistence")
    got = node.fields("name", "matches", "filters", "backendRefs", "timeouts", unsupported=later)
    request_s, backend_request_s = got.maybe("timeouts", _timeouts, (None, None))
    filters = got.maybe("filters", parse_rule_filters, None)
    redirects = filters is not None and filters.redirect is not None
    nothing = "" if redirects else "every request of this rule is answered with 500"
    rule = RouteRule(
        name=got.maybe("name", rule_name, ""),
        matches=got.maybe("matches", parse_matches, ()) or (RouteMatch(),),
        backends=parse_backends(node, got, namespace, nothing, parse_header_filters),
        request_s=request_s,
        backend_request_s=backend_request_s,
        filters=filters,
    )
    if redirects and rule.backends:
        node.at("backendRefs").complain("RequestRedirect answers every request of this rule; leave the backendRefs out")
    if filters is not None and _replaces_prefix(filters):
        _one_prefix(node, rule)
    return rule


def rule_name(node: Node) -> str:
    """The name of a rule, which policies may attach to."""
    return node.parsed(grammar.parse_subdomain, "")


def _replaces_prefix(filters: Filters) -> bool:
    paths = (each.path for each in (filters.redirect, filters.rewrite) if each is not None)
    return any(path is not None and path.kind is PathModifierKind.PREFIX for path in paths)


def _one_prefix(node: Node, rule: RouteRule) -> None:
    if len(rule.matches) != 1 or rule.matches[0].path.kind is not PathKind.PREFIX:
        node.at("filters").complain(
            "ReplacePrefixMatch replaces the prefix that matched, so the rule needs exactly one match, by PathPrefix"
        )


def _timeouts(node: Node) -> tuple[float | None, float | None]:
    got = node.fields("request", "backendRequest")
    seen = node.source.problems.count
    request_s = got.maybe("request", _bound, None)
    backend_request_s = got.maybe("backendRequest", _bound, None)
    if request_s is None or backend_request_s is None or node.source.problems.count != seen:
        return request_s, backend_request_s
    if 0.0 < request_s < backend_request_s:
        node.at("backendRequest").complain(
            f"backendRequest ({grammar.format_duration(backend_request_s)}) must not be more than "
            f"request ({grammar.format_duration(request_s)}), which bounds all tries together"
        )
    return request_s, backend_request_s


def _bound(node: Node) -> float:
    return node.seconds(at_least=0.0)


def encode_route(route: HttpRoute) -> dict[str, Json]:
    """The document of an HTTPRoute."""
    return encode_route_document(route, [_encode_rule(rule) for rule in route.rules], encode_filters)


def _encode_rule(rule: RouteRule) -> dict[str, Json]:
    timeouts: dict[str, Json] = {}
    if rule.request_s is not None:
        timeouts["request"] = grammar.format_duration(rule.request_s)
    if rule.backend_request_s is not None:
        timeouts["backendRequest"] = grammar.format_duration(rule.backend_request_s)
    made: dict[str, Json] = {"matches": [encode_match(match) for match in rule.matches]}
    if timeouts:
        made["timeouts"] = timeouts
    if rule.filters is not None:
        made["filters"] = encode_filters(rule.filters)
    return made
