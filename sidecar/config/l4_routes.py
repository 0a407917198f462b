"""Gateway API's `TCPRoute` and `TLSRoute` with Services as parents: documents <-> model.

Both lead connections, not requests. A TCPRoute takes all of a port, a TLSRoute those whose ClientHello asks for one of
its hostnames; nothing is decrypted. Neither has conditions in its rules, so each has exactly one.
"""

import re

from sidecar.config import grammar
from sidecar.config.header import Metadata
from sidecar.config.matches import complain_of_twins
from sidecar.config.node import Fields, Json, Node
from sidecar.config.references import encode_route_document, parse_backends, parse_parents
from sidecar.config.routes import rule_name
from sidecar.model.routes import L4Rule, TcpRoute, TlsRoute

_ADDRESS = re.compile(r"[0-9.]+")  # what a ServerName never is (RFC 6066 section 3)


def parse_tcp_route(meta: Metadata, spec: Node) -> TcpRoute:
    """A TCPRoute."""
    got = spec.fields("parentRefs", "rules")
    return TcpRoute(
        namespace=meta.namespace,
        name=meta.name,
        parents=parse_parents(got, meta),
        rules=_rules(got, meta.namespace),
        created=meta.created,
    )


def parse_tls_route(meta: Metadata, spec: Node) -> TlsRoute:
    """A TLSRoute."""
    got = spec.fields("parentRefs", "hostnames", "rules")
    nodes = got.need("hostnames", "the ServerNames that it takes; for every connection write a TCPRoute").items(1)
    hostnames = tuple(node.parsed(_parse_hostname, "", 253) for node in nodes)
    complain_of_twins(nodes, hostnames, "hostname")
    return TlsRoute(
        namespace=meta.namespace,
        name=meta.name,
        parents=parse_parents(got, meta),
        hostnames=hostnames,
        rules=_rules(got, meta.namespace),
        created=meta.created,
    )


def _parse_hostname(text: str) -> str:
    try:
        if _ADDRESS.fullmatch(text):
            raise ValueError
        grammar.parse_subdomain(text.removeprefix("*."))
    except ValueError:
        raise ValueError(
            f"{grammar.shown(text)} is not a ServerName such as db.example.com or *.example.com: lower case, no address"
        ) from None
    return text


def _rules(got: Fields, namespace: str) -> tuple[L4Rule, ...]:
    node = got.need("rules", "one rule with backendRefs")
    items = node.items(at_least=1)
    if len(items) > 1:
        node.complain(f"has {len(items)} rules; they have no conditions, so only the first could ever act: give one")
    return tuple(_rule(item, namespace) for item in items)


def _rule(node: Node, namespace: str) -> L4Rule:
    got = node.fields("name", "backendRefs")
    backends = parse_backends(node, got, namespace, "every connection is refused", None)
    return L4Rule(name=got.maybe("name", rule_name, ""), backends=backends)


def encode_tcp_route(route: TcpRoute) -> dict[str, Json]:
    """The document of a TCPRoute."""
    return encode_route_document(route, [{} for _ in route.rules])


def encode_tls_route(route: TlsRoute) -> dict[str, Json]:
    """The document of a TLSRoute."""
    made = encode_route_document(route, [{} for _ in route.rules])
    spec = made["spec"]
    assert isinstance(spec, dict), spec
    spec["hostnames"] = [*route.hostnames]
    return made
