"""Fix the absolute end of a request and of each try, and carry what is left of it to the next hop.

The outbound side owns the deadline: the shorter of its policy and what its caller has left. It tells the next hop in
one header. The inbound side takes that header's word from a verified mesh peer only, and otherwise allows twice the
policy, so that it never cuts first and the caller's side decides what the client sees.

Durations in, absolute monotonic seconds out; a deadline only shrinks on its way. 0 and None both mean "no limit", as
Gateway API has it for `timeouts`.
"""

import math

from sidecar.model.policies import Timeouts

DEADLINE_HEADER = b"x-mesh-timeout-ms"
MAX_HEADER_MS = 86_400_000  # a day and more is "no limit": streams may stay, and no number is costly to read
_MAX_DIGITS = 12
INBOUND_FACTOR = 2.0  # as Kuma: the server side must never cut first


def ends_at(
    policy_request_s: float | None,
    header: bytes | None,
    now_s: float,
    *,
    inbound: bool = False,
    verified: bool = False,
    grpc_s: float | None = None,
) -> float | None:
    """The absolute end of a request, or None for no limit.

    Args:
        policy_request_s: The policy's time for a request, or the route's; seconds.
        header: Value of DEADLINE_HEADER as received. One that is not a whole number of milliseconds from 1 on is
            ignored, not refused: it may only shorten a wait, and an old or foreign client must not fail for it.
            A day or more says that there is no limit, which is not the same as saying nothing.
        inbound: True on the side of the called app.
        verified: The header came from a peer whose identity was checked; without it, inbound ignores the header.
        grpc_s: What the caller's `grpc-timeout` allows (policy/grpc.py). Anybody's word: it only shortens.
    """
    if header is None and grpc_s is None:  # the usual case, and asked for every request
        if not policy_request_s:
            return None
        return now_s + (INBOUND_FACTOR * policy_request_s if inbound else policy_request_s)
    told_s = _read_s(header)
    if not inbound:
        limits_s = (policy_request_s or None, told_s, grpc_s)
    elif verified and told_s is not None:
        limits_s = (told_s, grpc_s, None)
    else:
        limits_s = (INBOUND_FACTOR * policy_request_s if policy_request_s else None, grpc_s, None)
    ends_s = now_s + min((limit_s for limit_s in limits_s if limit_s is not None), default=math.inf)
    return None if ends_s == math.inf else ends_s


def asked_s(request_s: float | None, timeouts: Timeouts, *, in_route: bool) -> float | None:
    """A request's time as far as a user asked for one; None for none, seconds.

    For gRPC, upgrades and CONNECT: the product's default is made for requests that are answered, and would end streams
    that are meant to stay. `in_route`: a route's rule set it (`RoutePlan.whole_response`).
    """
    return request_s if in_route or timeouts.request_asked else None


def remaining_header(ends_at_s: float, now_s: float) -> bytes:
    """What is left of a request as DEADLINE_HEADER's value: whole milliseconds, at least 1, at most a day (no limit).

    Rounded up, so that the next hop does not give up a moment before this one.
    """
    left_ms = math.ceil((ends_at_s - now_s) * 1000.0)
    return b"%d" % min(max(left_ms, 1), MAX_HEADER_MS)


def try_limit_s(
    timeouts: Timeouts, backend_request_s: float | None, now_s: float, ends_at_s: float | None
) -> float | None:
    """The absolute end of a try that starts now, never after the request's own; None for no limit.

    `backend_request_s`, when the route sets it (Gateway API `timeouts.backendRequest`), replaces the policy's `perTry`.
    """
    per_try_s = timeouts.per_try_s if backend_request_s is None else backend_request_s
    if not per_try_s:
        return ends_at_s
    return now_s + per_try_s if ends_at_s is None else min(now_s + per_try_s, ends_at_s)


def _read_s(header: bytes | None) -> float | None:
    if header is None or len(header) > _MAX_DIGITS or not header.isdigit():
        return None
    told_ms = int(header)
    if told_ms >= MAX_HEADER_MS:
        return math.inf
    return told_ms / 1000.0 if told_ms else None
