"""`timeouts` of a TrafficPolicy; document <-> model. `0s` switches `request`, `perTry` and `tunnelIdle` off."""

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.model.policies import Timeouts


def parse_timeouts(node: Node) -> Timeouts:
    """The times of a policy; complains about those that leave others without meaning."""
    got, base = node.fields("request", "perTry", "connect", "streamIdle", "tunnelIdle"), Timeouts()
    seen = node.source.problems.count
    made = Timeouts(
        request_s=got.maybe("request", _optional, base.request_s),
        request_asked="request" in got,
        per_try_s=got.maybe("perTry", _optional, base.per_try_s),
        connect_s=got.maybe("connect", Node.seconds, base.connect_s),
        stream_idle_s=got.maybe("streamIdle", Node.seconds, base.stream_idle_s),
        tunnel_idle_s=got.maybe("tunnelIdle", _optional, base.tunnel_idle_s),
    )
    if node.source.problems.count != seen or made.request_s is None:
        return made
    request = f"request ({grammar.format_duration(made.request_s)}{'' if 'request' in got else ', the default'})"
    if made.per_try_s is not None and made.per_try_s >= made.request_s:
        node.at("perTry").complain(
            f"perTry ({grammar.format_duration(made.per_try_s)}) must be less than {request}, "
            "or no time is left for a second try"
        )
    if "connect" in got and made.connect_s > made.request_s:
        node.at("connect").complain(
            f"connect ({grammar.format_duration(made.connect_s)}) must not be more than {request}"
        )
    return made


def _optional(node: Node) -> float | None:
    return node.seconds(at_least=0.0) or None


def encode_timeouts(times: Timeouts) -> dict[str, Json]:
    """What `parse_timeouts` reads, but for a `request` that nobody asked for.

    That somebody asked for it means more than its value (`Timeouts.request_asked`): written, it would be read as a
    user's word, and end gRPC streams.
    """
    timeouts: dict[str, Json] = {
        "connect": grammar.format_duration(times.connect_s),
        "streamIdle": grammar.format_duration(times.stream_idle_s),
        "tunnelIdle": grammar.format_duration(times.tunnel_idle_s or 0.0),
    }
    if times.request_asked:
        timeouts["request"] = grammar.format_duration(times.request_s or 0.0)
    if times.per_try_s is not None:
        timeouts["perTry"] = grammar.format_duration(times.per_try_s)
    return timeouts
