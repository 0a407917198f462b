"""`balancing` of a TrafficPolicy; document <-> model."""

from sidecar.config.node import Json, Node
from sidecar.model.policies import Algorithm

_EWMA = "ewma"


def parse_balancing(node: Node) -> Algorithm:
    """How an endpoint is chosen."""
    field = node.fields("algorithm").need("algorithm", "how an endpoint is chosen")
    word = field.one_of((*(member.value for member in Algorithm), _EWMA))
    if word != _EWMA:
        return Algorithm(word)
    field.warn("ewma is not in this version; least-request is used, which also follows how busy an endpoint is")
    return Algorithm.LEAST_REQUEST


def encode_balancing(algorithm: Algorithm) -> dict[str, Json]:
    """What `parse_balancing` reads."""
    return {"algorithm": algorithm.value}
