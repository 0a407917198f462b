"""`targetRefs`: what a policy attaches to, always in its own namespace; nodes <-> model."""

from sidecar.config import grammar
from sidecar.config.matches import complain_of_twins
from sidecar.config.node import Fields, Json, Node
from sidecar.model.policies import TargetRef
from sidecar.model.routes import ROUTE_KINDS

_GROUPS = {"Service": ("", "core"), **dict.fromkeys(ROUTE_KINDS, ("gateway.networking.k8s.io",))}


def parse_targets(spec: Fields, kinds: tuple[str, ...]) -> tuple[TargetRef, ...]:
    """The `targetRefs` of a policy's spec; `kinds` are those that this policy can attach to."""
    nodes = spec.need("targetRefs", "what the policy attaches to").items(at_least=1)
    targets = tuple(_target(node, kinds) for node in nodes)
    complain_of_twins(nodes, [target if target.name else None for target in targets], "target")
    return targets


def _target(node: Node, kinds: tuple[str, ...]) -> TargetRef:
    got = node.fields("group", "kind", "name", "sectionName")
    kind = got.need("kind", " or ".join(kinds)).one_of(kinds)
    got.maybe("group", lambda field: field.one_of(_GROUPS[kind]), "")
    name = got.need("name", "the target's name")
    section = got.get("sectionName")
    if section is not None and kind == "Service":
        section.complain_at_key("sectionName names a rule of a route; leave it out for a Service")
    return TargetRef(
        kind,
        name.label() if kind == "Service" else name.parsed(grammar.parse_subdomain, ""),
        "" if section is None else section.parsed(grammar.parse_subdomain, ""),
    )


def encode_targets(targets: tuple[TargetRef, ...]) -> list[Json]:
    """The `targetRefs` of a document."""
    made: list[Json] = []
    for target in targets:
        entry: dict[str, Json] = {"group": _GROUPS[target.kind][0], "kind": target.kind, "name": target.name}
        made.append(entry | {"sectionName": target.section} if target.section else entry)
    return made
