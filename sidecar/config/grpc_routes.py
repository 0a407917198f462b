"""Gateway API's `GRPCRoute` with Services as parents: documents <-> model.

Rules look at the method that is called (`service`, `method`) and at headers; filters modify headers. Times and tries
come from TrafficPolicies: the kind has no fields for them.
"""

import re

from sidecar.config import grammar
from sidecar.config.filters import encode_filters, parse_header_filters
from sidecar.config.header import Metadata
from sidecar.config.matches import complain_of_twins, encode_values, parse_headers, pattern_text
from sidecar.config.node import Json, Node
from sidecar.config.references import encode_route_document, parse_backends, parse_parents, warn_of_hostnames
from sidecar.config.routes import rule_name
from sidecar.model.routes import GrpcMatch, GrpcRoute, GrpcRule, MethodMatch, ValueKind

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_MAX_NAME = 1024  # characters; Gateway API's


def parse_grpc_route(meta: Metadata, spec: Node) -> GrpcRoute:
    """A GRPCRoute."""
    got = spec.fields("parentRefs", "hostnames", "rules")
    warn_of_hostnames(got)
    rules = got.need("rules", "a list of rules").items(at_least=1)
    route = GrpcRoute(
        namespace=meta.namespace,
        name=meta.name,
        parents=parse_parents(got, meta),
        rules=tuple(_rule(node, meta.namespace) for node in rules),
        created=meta.created,
    )
    complain_of_twins(rules, [rule.name for rule in route.rules], "rule name")
    return route


def _rule(node: Node, namespace: str) -> GrpcRule:
    got = node.fields("name", "matches", "filters", "backendRefs", unsupported=("sessionPersistence",))
    nothing = "every call of this rule is answered with UNAVAILABLE"
    return GrpcRule(
        name=got.maybe("name", rule_name, ""),
        matches=got.maybe("matches", lambda field: tuple(map(_match, field.items())), ()) or (GrpcMatch(),),
        backends=parse_backends(node, got, namespace, nothing, parse_header_filters),
        filters=got.maybe("filters", parse_header_filters, None),
    )


def _match(node: Node) -> GrpcMatch:
    got = node.fields("method", "headers")
    return GrpcMatch(got.maybe("method", _method, None), got.maybe("headers", parse_headers, ()))


def _method(node: Node) -> MethodMatch:
    got = node.fields("type", "service", "method")
    kind = got.maybe("type", lambda field: field.choice(ValueKind), ValueKind.EXACT)
    made = MethodMatch(
        got.maybe("service", lambda field: _name(field, kind, _SERVICE, "service such as shop.v1.Orders"), ""),
        got.maybe("method", lambda field: _name(field, kind, _METHOD, "method such as GetOrder"), ""),
        kind,
    )
    if "service" not in got and "method" not in got:
        node.complain("names nothing; give service, method or both")
    return made


def _name(node: Node, kind: ValueKind, form: re.Pattern[str], what: str) -> str:
    if kind is ValueKind.REGEX:
        return pattern_text(node)
    text = node.text(_MAX_NAME)
    if text and not form.fullmatch(text):
        node.complain(f"{grammar.shown(text)} is not the name of a gRPC {what}")
    return text


def encode_grpc_route(route: GrpcRoute) -> dict[str, Json]:
    """The document of a GRPCRoute."""
    return encode_route_document(route, [_encode_rule(rule) for rule in route.rules], encode_filters)


def _encode_rule(rule: GrpcRule) -> Json:
    made: dict[str, Json] = {"matches": [_encode_match(match) for match in rule.matches]}
    if rule.filters is not None:
        made["filters"] = encode_filters(rule.filters)
    return made


def _encode_match(match: GrpcMatch) -> Json:
    made: dict[str, Json] = {}
    if match.method is not None:
        method: dict[str, Json] = {"type": match.method.kind.value}
        if match.method.service:
            method["service"] = match.method.service
        if match.method.method:
            method["method"] = match.method.method
        made["method"] = method
    if match.headers:
        made["headers"] = encode_values(match.headers)
    return made
