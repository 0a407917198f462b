"""`ejection` of a TrafficPolicy; document <-> model."""

from sidecar.config.node import Json, Node
from sidecar.config.policy.span import base_below_max, encode_span
from sidecar.model.policies import Ejection


def parse_ejection(node: Node) -> Ejection:
    """When an endpoint is taken out, and for how long."""
    got, base = node.fields("consecutiveFailures", "base", "max", "maxPercent"), Ejection()
    made = Ejection(
        consecutive_failures=got.maybe(
            "consecutiveFailures", lambda field: field.integer(1, 1000), base.consecutive_failures
        ),
        base_s=got.maybe("base", Node.seconds, base.base_s),
        max_s=got.maybe("max", Node.seconds, base.max_s),
        max_percent=got.maybe("maxPercent", lambda field: field.integer(0, 100), base.max_percent),
    )
    base_below_max(node, made.base_s, made.max_s)
    return made


def encode_ejection(ejection: Ejection) -> dict[str, Json]:
    """What `parse_ejection` reads."""
    return {
        "consecutiveFailures": ejection.consecutive_failures,
        "maxPercent": ejection.max_percent,
        **encode_span(ejection.base_s, ejection.max_s),
    }
