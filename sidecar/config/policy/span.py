"""A `base` that grows up to a `max`: back-off and ejection are written so."""

from sidecar.config import grammar
from sidecar.config.node import Json, Node


def base_below_max(node: Node, base_s: float, max_s: float) -> None:
    """Complain when the first length is more than the last."""
    if base_s > max_s:
        node.complain(
            f"base ({grammar.format_duration(base_s)}) must not be more than max ({grammar.format_duration(max_s)})"
        )


def encode_span(base_s: float, max_s: float) -> dict[str, Json]:
    """Both fields as a document has them."""
    return {"base": grammar.format_duration(base_s), "max": grammar.format_duration(max_s)}
