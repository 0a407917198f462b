"""`AuthorizationPolicy`: which callers a service lets in; documents <-> model.

Users name services; `derive.py` (or the control plane's compiler) adds the SPIFFE IDs of those services' workloads as
`principals`, and the data plane compares exact SPIFFE IDs only.
"""

from sidecar.config import grammar
from sidecar.config.header import OWN_API, Metadata, document
from sidecar.config.node import Json, Node
from sidecar.config.targets import encode_targets, parse_targets
from sidecar.model.policies import AllowRule, AuthorizationPolicy, Mode


def parse_authorization_policy(meta: Metadata, spec: Node) -> AuthorizationPolicy:
    """An AuthorizationPolicy. An empty `allow` denies everybody, which is warned about but may be meant."""
    got = spec.fields("targetRefs", "mode", "allow")
    allow = got.need("allow", "a list of rules; [] denies every caller")
    if allow.value == []:
        allow.warn("is empty: every caller is denied")
    return AuthorizationPolicy(
        namespace=meta.namespace,
        name=meta.name,
        targets=parse_targets(got, ("Service",)),
        allow=tuple(_rule(node, meta.namespace) for node in allow.items()),
        mode=got.maybe("mode", lambda node: node.choice(Mode), Mode.ENFORCE),
    )


def _rule(node: Node, namespace: str) -> AllowRule:
    source = node.fields("from").need("from", "the callers: services, principals")
    got = source.fields("services", "principals")
    services = got.maybe("services", Node.items, [])
    principals = got.maybe("principals", Node.items, [])
    if node.source.strict and not services and not principals:
        source.complain("names nobody; give services, principals or both")
    return AllowRule(
        services=frozenset(item.service(namespace) for item in services),
        principals=frozenset(item.parsed(grammar.parse_spiffe_id, "") for item in principals),
    )


def encode_authorization_policy(policy: AuthorizationPolicy) -> dict[str, Json]:
    """The document of an AuthorizationPolicy."""
    spec: dict[str, Json] = {
        "targetRefs": encode_targets(policy.targets),
        "mode": policy.mode.value,
        "allow": [
            {"from": {"services": [*sorted(map(str, rule.services))], "principals": [*sorted(rule.principals)]}}
            for rule in policy.allow
        ],
    }
    return document(OWN_API, "AuthorizationPolicy", policy.namespace, policy.name, spec)
