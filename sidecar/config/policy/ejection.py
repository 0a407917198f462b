"""`ejection` of a TrafficPolicy; document <-> model."""

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.config.policy.span import base_below_max, encode_span
from sidecar.model.policies import Ejection, SuccessRatio


def parse_ejection(node: Node) -> Ejection:
    """When an endpoint is taken out, and for how long."""
    fields = ("consecutiveFailures", "gatewayFailures", "connectFailures", "success", "base", "max", "maxPercent")
    got, base = node.fields(*fields), Ejection()
    made = Ejection(
        consecutive_failures=got.maybe(
            "consecutiveFailures", lambda field: field.integer(1, 1000), base.consecutive_failures
        ),
        gateway_failures=got.maybe("gatewayFailures", _streak, base.gateway_failures),
        connect_failures=got.maybe("connectFailures", _streak, base.connect_failures),
        success=got.maybe("success", _success, base.success),
        base_s=got.maybe("base", Node.seconds, base.base_s),
        max_s=got.maybe("max", Node.seconds, base.max_s),
        max_percent=got.maybe("maxPercent", lambda field: field.integer(0, 100), base.max_percent),
    )
    base_below_max(node, made.base_s, made.max_s)
    return made


def _streak(field: Node) -> int:
    return field.integer(0, 1000)


def _success(node: Node) -> SuccessRatio:
    got, base = node.fields("atLeast", "interval", "requests"), SuccessRatio()
    return SuccessRatio(
        at_least_percent=got.maybe("atLeast", lambda field: field.number(0, 100), base.at_least_percent),
        interval_s=got.maybe("interval", lambda field: field.seconds(at_least=1.0), base.interval_s),
        min_requests=got.maybe("requests", lambda field: field.integer(1, 10_000), base.min_requests),
    )


def encode_ejection(ejection: Ejection) -> dict[str, Json]:
    """What `parse_ejection` reads."""
    return {
        "consecutiveFailures": ejection.consecutive_failures,
        "gatewayFailures": ejection.gateway_failures,
        "connectFailures": ejection.connect_failures,
        "success": {
            "atLeast": ejection.success.at_least_percent,
            "interval": grammar.format_duration(ejection.success.interval_s),
            "requests": ejection.success.min_requests,
        },
        "maxPercent": ejection.max_percent,
        **encode_span(ejection.base_s, ejection.max_s),
    }
