"""`limits` of a TrafficPolicy; document <-> model."""

from sidecar.config.node import Json, Node
from sidecar.model.policies import Limits

MAX_LIMIT = 1_000_000


def parse_limits(node: Node) -> Limits:
    """How much may be under way at once."""
    got, base = node.fields("connections", "pending", "requests"), Limits()
    return Limits(
        connections=got.maybe("connections", lambda field: field.integer(1, MAX_LIMIT), base.connections),
        pending=got.maybe("pending", lambda field: field.integer(0, MAX_LIMIT), base.pending),
        requests=got.maybe("requests", lambda field: field.integer(1, MAX_LIMIT), base.requests),
    )


def encode_limits(limits: Limits) -> dict[str, Json]:
    """What `parse_limits` reads."""
    return {"connections": limits.connections, "pending": limits.pending, "requests": limits.requests}
