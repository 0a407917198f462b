"""Every way a request can fail, on one screen.

A `Fault` is a row of the table: the flag that log, metric and header show, who is to blame, the status the
client sees if no head was sent yet, and whether the upstream provably did not take the request. Code raises one
exception, `ProxyError`, carrying a row and one sentence. Flags are Envoy's, so that dashboards and habits carry over.
"""

from dataclasses import dataclass, replace
from enum import Enum


class Side(Enum):
    """Who caused a fault."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    SELF = "self"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Attributes:
        flag: Label in log, metric and `x-mesh-flags`; never changes once released.
        side: Who is to blame.
        status: What the client sees if no head was sent yet; 0 means that nobody is there to see it.
        upstream_untouched: True when the upstream provably did not take the request, so that repeating it cannot
            double an effect, whatever its method (RFC 9110 section 9.2.2).
        sentence: What happened, in plain words, without a full stop.
        limit: The setting of `limits` that was reached, for the counter; "" for none.
        retry_after_s: When it would do to ask again; 0.0: nobody knows.
        cut_off: The request was not even looked at, by an endpoint that is in order: no attempt, and nobody's failure.
    """

    flag: str
    side: Side
    status: int
    upstream_untouched: bool
    sentence: str
    limit: str = ""
    cut_off: bool = False
    retry_after_s: float = 0.0

    def saying(self, sentence: str) -> "Fault":
        """The same row with a sentence that names this case's peers, limits and values."""
        return replace(self, sentence=sentence)

    def after(self, retry_after_s: float) -> "Fault":
        """The same row with a time to come back."""
        return replace(self, retry_after_s=retry_after_s)

    def answering(self, status: int) -> "Fault":
        """The same row with another status."""
        return replace(self, status=status)


def _bad_request(status: int, sentence: str, limit: str = "") -> Fault:
    return Fault("DPE", Side.CLIENT, status, True, sentence, limit)


NO_ENDPOINT = Fault("UH", Side.SELF, 503, True, "no endpoint of the service is there to take the request")
CONNECT_FAILED = Fault("UF", Side.UPSTREAM, 503, True, "the endpoint refused the connection")
CONNECT_TIMEOUT = Fault("UF", Side.UPSTREAM, 504, True, "the endpoint did not accept a connection in time")
TLS_FAILED = Fault("UF", Side.UPSTREAM, 503, True, "no mutual TLS with the endpoint")
NO_IDENTITY = Fault("UF", Side.SELF, 503, True, "this sidecar has no identity for mutual TLS yet")
UPSTREAM_CLOSED = Fault("UC", Side.UPSTREAM, 503, False, "the endpoint closed the connection before it answered")
UPSTREAM_RESET = Fault("UR", Side.UPSTREAM, 503, False, "the endpoint reset the connection before it answered")
UPSTREAM_REFUSED = Fault("UR", Side.UPSTREAM, 503, True, "the endpoint refused the stream unread")
UPSTREAM_CUT_OFF = Fault(
    "UR", Side.UPSTREAM, 503, True, "the endpoint ended the connection before it looked at the stream", cut_off=True
)
UPSTREAM_PROTOCOL = Fault("UPE", Side.UPSTREAM, 502, False, "the endpoint's answer was not valid HTTP")
INJECTED = Fault("FI", Side.UPSTREAM, 503, False, "the answer was injected: the policy has faults")
REQUEST_TIMEOUT = Fault("UT", Side.SELF, 504, False, "the service did not answer in time")
TRY_TIMEOUT = Fault("UT", Side.SELF, 504, False, "the endpoint did not answer within the time of one try")
TUNNEL_IDLE = Fault("SI", Side.SELF, 504, False, "nothing moved through the tunnel for too long", "tunnelIdle")
NO_ROUTE = Fault("NR", Side.SELF, 404, True, "no route leads there")
NO_CLUSTER = Fault("NC", Side.SELF, 503, True, "the route leads to a service that is not known")
INVALID_BACKEND = Fault("NC", Side.SELF, 500, True, "the route has no backend that can take traffic")
QUEUE_TIMEOUT = Fault("UO", Side.SELF, 504, True, "no connection to the service became free in time")
OVERFLOW = Fault("UO", Side.SELF, 503, True, "the service already has as many requests as its limits allow")
RETRY_LIMIT = Fault("URX", Side.SELF, 503, False, "every allowed try failed")
RATE_LIMITED = Fault("RL", Side.SELF, 429, True, "too many requests")
DENIED = Fault("RBAC", Side.SELF, 403, True, "the caller may not call this service")
BROKEN_OFF = Fault("LR", Side.SELF, 503, False, "this sidecar ended before the request did")
CLIENT_GONE = Fault("DC", Side.CLIENT, 0, False, "the client left before the answer was complete")
CLIENT_STUCK = Fault("DC", Side.CLIENT, 0, False, "the client took nothing for too long", "writeProgress")

MALFORMED = _bad_request(400, "the request was not valid HTTP")
HEAD_TIMEOUT = _bad_request(408, "the request head did not arrive in time", "headTimeout")
BODY_TIMEOUT = _bad_request(408, "the request body did not arrive in time", "bodyIdle")
BODY_TOO_BIG = _bad_request(413, "the request body is larger than the limit")
TARGET_TOO_LONG = _bad_request(414, "the request target is longer than the limit")
HEAD_TOO_BIG = _bad_request(431, "the request head is larger than the limit")
NOT_IMPLEMENTED = _bad_request(501, "the request asks for a coding or method that is not supported")
VERSION_UNSUPPORTED = _bad_request(505, "the HTTP version is not supported")
NO_TUNNEL = Fault("NR", Side.CLIENT, 405, True, "this port carries requests only")
MISDIRECTED = Fault("NR", Side.CLIENT, 421, True, "this port of the service is not declared here")


class ProxyError(Exception):
    """A request that cannot go on, and why. `fault` says what every reader needs; str() is the sentence."""

    def __init__(self, fault: Fault, sentence: str = "") -> None:
        super().__init__(sentence or fault.sentence)
        self.fault = fault.saying(sentence) if sentence else fault


class ConfigError(Exception):
    """A file, document or flag that cannot be used. `problems` are complete lines, one per fault found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnreadableError(Exception):
    """A file that could not be opened or decoded at all (exit status 2, where bad content is 1)."""
