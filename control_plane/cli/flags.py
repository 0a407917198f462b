"""What every flag in log, metric and `x-mesh-flags` means, why it usually appears, and what to do: the offline manual.

The rows of `sidecar.errors` are the truth about statuses and blame; this adds the words. A test holds the two together,
so that no flag can be met in a log and not be explained here.
"""

import difflib
from dataclasses import dataclass

from control_plane.cli.complaint import USAGE, Complaint
from sidecar import errors


@dataclass(frozen=True, slots=True)
class FlagPage:
    """One flag's page.

    Attributes:
        means: What happened, one or two sentences.
        causes: Usual reasons, most likely first.
        remedies: What to look at or change, in order; commands are complete.
    """

    flag: str
    title: str
    means: str
    causes: tuple[str, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlagFacts:
    """What the table of faults says of a flag: statuses in order, who is to blame, whether a retry is always safe."""

    statuses: tuple[int, ...]
    sides: tuple[str, ...]
    untouched: bool


PAGES: tuple[FlagPage, ...] = (
    FlagPage(
        "UH",
        "no healthy upstream",
        "The service is known, but no endpoint of it may take a request: there is none, or none is ready.",
        (
            "no workload of the service is running or registered",
            "every app fails its sidecar's check (a TCP connect every 2 s), so nothing is ready",
            "a route sends traffic to a version that has no workload (orders-v2 before v2 was started)",
            "the leases expired: app and sidecar are gone for more than 30 s",
        ),
        (
            "meshctl status: is there a sidecar for the service, and is it SYNCED?",
            "meshctl get workloads -n NAMESPACE: are they ready?",
            "meshctl traffic show SERVICE: does a version without workloads have a weight?",
            "GET /clusters of the caller's admin port shows every endpoint and why it is passed over",
        ),
    ),
    FlagPage(
        "UF",
        "upstream connection failure",
        "The endpoint could not be connected to: refused, unreachable, not in time (504), or no mutual TLS. Nothing "
        "was sent, so the sidecar has already tried other endpoints where there were any.",
        (
            "the app or its sidecar has just died and the mesh does not know yet (at most 2 s for an app)",
            "a firewall or security group between the two machines",
            "wrong address or port in a Workload",
            "certificates: expired because the control plane was away for a day, or of another trust domain",
        ),
        (
            "meshctl status: certificate age and state of the called service's sidecar",
            "meshctl cert inspect --server: the roots and issuer in use",
            "from the caller's machine, connect to the address that the access log names",
            "raise timeouts.connect in a TrafficPolicy only if the network is really that slow",
        ),
    ),
    FlagPage(
        "UC",
        "upstream closed the connection",
        "The request was sent, then the endpoint closed the connection before it answered. It may have acted on it, so "
        "only idempotent requests and those with an Idempotency-Key were tried again.",
        (
            "the app crashed or was killed while it worked on the request",
            "the app closes kept connections earlier than it says",
            "the app stopped without finishing the requests it had",
        ),
        (
            "look at the app's own log at that second",
            "let the app finish its requests on SIGTERM before it ends",
            "give POSTs that may be repeated an Idempotency-Key",
        ),
    ),
    FlagPage(
        "UR",
        "upstream reset",
        "The endpoint reset the connection or stream before it answered, or refused the stream unread.",
        (
            "the app crashed",
            "a firewall or NAT in between forgot the connection",
            "the app's own limit of streams or connections was reached",
        ),
        (
            "look at the app's own log at that second",
            "if it comes in bursts under load, look at the app's limits (backlog, workers, open files)",
        ),
    ),
    FlagPage(
        "UPE",
        "upstream protocol error",
        "What the endpoint answered is not valid HTTP.",
        (
            "the port speaks another protocol than declared (TLS or HTTP/2 on a port declared http)",
            "the app sends a contradictory or broken head",
        ),
        (
            "compare the port's `protocol` in Service or Workload with what the app speaks",
            "curl -v http://APP-ADDRESS/ on the app's machine, past the mesh",
        ),
    ),
    FlagPage(
        "UT",
        "upstream timeout",
        "The service did not answer within the time of the request or of one try. The endpoint may still be working "
        "on it.",
        (
            "the app is slow, or waits for something slow itself",
            "the limit is too short for this route (15 s to the response head by default)",
            "the app is overloaded; timeouts then come with rising latency",
        ),
        (
            "compare istio_request_duration_milliseconds of both sides: only source high means queueing on the way",
            "set timeouts.request of the HTTPRoute rule for slow routes, or timeouts of a TrafficPolicy",
            "more endpoints, or limits.requests so that the overload is refused early",
        ),
    ),
    FlagPage(
        "NR",
        "no route",
        "Nothing in the configuration leads where the request wants to go (404), or the port is not declared (421).",
        (
            "a typing error in the host (known forms: orders, orders.shop, orders.shop.mesh)",
            "a host outside the mesh: a sidecar is no open proxy",
            "an HTTPRoute exists for the service and none of its rules matches this path or header",
        ),
        (
            "meshctl get services: does the service exist, in that namespace?",
            "meshctl get httproute SERVICE -n NAMESPACE -o yaml: add a rule that matches, or a last one for /",
            "declare the port in Service or in the workload's sidecar",
        ),
    ),
    FlagPage(
        "NC",
        "no cluster",
        "A route matched, but it leads to a service that does not exist (503), or to no backend at all (500).",
        (
            "a backendRef names a service that was deleted or never created",
            "all weights of the rule are 0",
        ),
        (
            "meshctl check: names every route with a dangling backend",
            "meshctl traffic show SERVICE: which backends have which weight",
            "meshctl validate -f FILE before the next apply",
        ),
    ),
    FlagPage(
        "UO",
        "upstream overflow",
        "The caller's sidecar already has as many requests or connections to that service as its limits allow, so this "
        "one was refused at once instead of queueing.",
        (
            "the service is slower than usual, so that requests pile up",
            "a burst of traffic",
            "limits.requests, limits.pending or limits.connections of the TrafficPolicy are too low",
        ),
        (
            "look for rising latency of the service first: this flag is usually a symptom",
            "add endpoints",
            "raise the limits in a TrafficPolicy if the service can take more (they count per worker of a sidecar)",
        ),
    ),
    FlagPage(
        "URX",
        "retries exhausted",
        "Every allowed try failed. The status is that of the last try where there was one.",
        (
            "the service is down or failing as a whole, not one endpoint of it",
            "the retry budget is used up (20 % of the last 10 s plus 3 a second), which protects a failing service",
        ),
        (
            "find the flags of the single tries in the access log: they name the real cause",
            "meshctl status and meshctl check",
            "more attempts rarely help; mend the cause",
        ),
    ),
    FlagPage(
        "SI",
        "stream idle",
        "A tunnel (TCP, WebSocket, CONNECT) moved no byte in either direction for its idle time and was closed.",
        (
            "the peer went away without saying so",
            "a connection that is meant to be quiet for long, such as a database's pool or a message queue",
        ),
        (
            "timeouts.tunnelIdle of the TrafficPolicy says how long (1h by default; 0s: no limit)",
            "let one side send keep-alives (WebSocket pings, the database client's option)",
        ),
    ),
    FlagPage(
        "LR",
        "local reset",
        "The sidecar itself broke the request off: its drain time was over, it was told to end at once, or a bug.",
        (
            "a request that takes longer than limits.drainTimeout (30s) was under way when the sidecar was stopped",
            "a second signal: the person or the platform did not want to wait",
            "a bug, in which case a line with its place stands on stderr",
        ),
        (
            "raise limits.drainTimeout, and the platform's grace period with it (terminationGracePeriodSeconds)",
            "look at the sidecar's stderr around the time of the line",
        ),
    ),
    FlagPage(
        "RL",
        "rate limited",
        "A rate limit refused the request. This version sets none itself: a newer sidecar did.",
        ("the caller sends more than the limit allows", "the limit is lower than meant"),
        ("slow the caller down; Retry-After, if the answer has it, says when to come back",),
    ),
    FlagPage(
        "RBAC",
        "access denied",
        "An AuthorizationPolicy of the called service does not allow this caller. The app was not asked.",
        (
            "the caller's service is missing in `allow`",
            "the caller runs under another account than the policy expects",
            "the caller came without mutual TLS, so it has no identity",
            "a policy without any `allow` denies everybody",
        ),
        (
            "the called sidecar's access log names the caller's identity (source_principal)",
            "meshctl get authz -n NAMESPACE -o yaml: who is allowed?",
            "try a change with mode: shadow first; it logs what it would refuse",
        ),
    ),
    FlagPage(
        "DPE",
        "downstream protocol error",
        "The client's request was refused before it went anywhere: malformed (400), too slow (408), too large (413, "
        "414, 431), or something the proxy does not do (501, 505).",
        (
            "a broken or hostile client",
            "very large cookies or tokens (431)",
            "a request with both Content-Length and Transfer-Encoding, or two of either: never forwarded",
        ),
        (
            "the status and the sentence in the answer's body say which rule was broken",
            "mend the client; these rules are what keeps requests from being smuggled",
        ),
    ),
    FlagPage(
        "DC",
        "downstream gone",
        "The client closed the connection before the answer was complete. There is no status; it is not counted as an "
        "error of the service.",
        ("the client's own timeout is shorter than the service needs", "a user navigated away or pressed Ctrl-C"),
        ("if it comes in numbers, compare the client's timeout with the service's latency",),
    ),
    FlagPage(
        "DI",
        "delay injected",
        "A fault policy delayed the request on purpose.",
        ("somebody is testing how callers bear a slow service",),
        ("find and remove the fault policy if the test is over",),
    ),
    FlagPage(
        "FB",
        "fallback answered",
        "The service failed, and the policy's fallback answered in its place; flags before it say how it failed.",
        ("the service has no endpoint that answers, or answers with a status that the fallback covers",),
        (
            "look at the flags before FB, and at the service",
            "meshctl get trafficpolicies: which has the fallback?",
        ),
    ),
    FlagPage(
        "FI",
        "fault injected",
        "A fault policy answered instead of the service, on purpose.",
        ("somebody is testing how callers bear a failing service",),
        ("find and remove the fault policy if the test is over",),
    ),
)

_BY_FLAG = {page.flag: page for page in PAGES}


def page_of(flag: str) -> FlagPage:
    """The page of `flag`, in any case.

    Raises:
        Complaint: Status 2, with the nearest flag.
    """
    page = _BY_FLAG.get(flag.upper())
    if page is None:
        near = difflib.get_close_matches(flag.upper(), _BY_FLAG, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "meshctl explain flag (without a name) lists all"
        raise Complaint(f"unknown flag {flag!r}", hint=hint, status=USAGE)
    return page


def facts_of(flag: str) -> FlagFacts:
    """What `sidecar.errors` says about `flag`; empty for flags that only policies set."""
    rows = [row for row in vars(errors).values() if isinstance(row, errors.Fault) and row.flag == flag]
    return FlagFacts(
        tuple(sorted({row.status for row in rows})),
        tuple(sorted({row.side.value for row in rows})),
        bool(rows) and all(row.upstream_untouched for row in rows),
    )
