"""What a try at an endpoint is expected to cost: peak EWMA of its latency, its load, and its recent failures.

    cost = latency * (requests under way + 1) / share of recent tries that did not fail

*Peak*: a latency above the estimate replaces it at once, one below moves it slowly (time constant DECAY_S): an endpoint
that becomes slow is avoided after one answer, and trusted again after many. Latency runs from the moment that the
whole request was sent, as far as we know it, to the head of the answer: what streams before or after says
nothing of the endpoint.

A failure never lowers the estimate: who fails at once would else look quick, and get everything. It lowers the share of
success instead, by a tenth of what is left: one failure in a while costs an endpoint a tenth more and nobody his place;
ten in a row, two thirds of its share and more. (A fixed penalty of five seconds, which Linkerd offers, starves a good
endpoint of two for one error in ten thousand.) 429 and RESOURCE_EXHAUSTED count here, though they are no failures
otherwise: who refuses is to be asked less.

Both fade while an endpoint is not asked, so that it is asked again: who was ten times as slow as the others after about
23 s, a hundred times after 46 s, each time for one answer. They fade to nothing and not to the seed: an endpoint that
once was slow among some that answer in a millisecond would else never be asked again.

Who has never answered counts as SEED_S for each request under way there, and as nothing at rest: one request tells.
"""

from math import exp

from sidecar.model.live import NEVER_S, EndpointLive

DECAY_S = 10.0  # Linkerd's
SEED_S = 0.030  # Linkerd's
FAILURE_GAIN = 0.1
LEAST_SUCCESS = 0.01  # of the share of success: an endpoint that always fails costs a hundred times as much, not more
_RATE = 1.0 / DECAY_S
LEAST_ERRORS = 0.0001  # less is none: 90 successes after a failure
FRESH_S = 0.1  # what was measured less than this ago is not faded: 1 %, which is not worth an exponential each time


def cost(live: EndpointLive, load: float, now_s: float) -> float:
    """Seconds until an answer, by and large; comparable among the endpoints of a cluster, and nothing else.

    `load`: requests under way there, for its weight.
    """
    age_s = now_s - live.measured_s
    return live.cost_s * (load + 1.0) if age_s < FRESH_S else faded_cost(live, load, age_s)


def faded_cost(live: EndpointLive, load: float, age_s: float) -> float:
    """`cost` of an endpoint that was last heard of `age_s` ago, or never."""
    if live.measured_s == NEVER_S:
        return SEED_S * load
    fade = exp(-age_s / DECAY_S)
    return live.rtt_s * fade * (load + 1.0) / max(1.0 - live.error_share * fade, LEAST_SUCCESS)


def recent_errors(live: EndpointLive, now_s: float) -> float:
    """The share of its recent tries that failed, 0 to 1."""
    return live.error_share * exp(-(now_s - live.measured_s) / DECAY_S) if live.error_share else 0.0


def observe(live: EndpointLive, took_s: float, ok: bool | None, now_s: float) -> None:
    """A try has ended, or got its head.

    Args:
        took_s: From the request, sent whole, to the head; below 0: not known.
        ok: Whether the endpoint did what it is for; None: not known yet.
    """
    age_s = now_s - live.measured_s
    live.measured_s = now_s
    rtt_s, errors = live.rtt_s, live.error_share
    if ok and not errors and age_s < FRESH_S and took_s >= 0.0:  # as nearly always: 1 - x is as good as exp(-x)
        if took_s < rtt_s:
            took_s = rtt_s - (rtt_s - took_s) * age_s * _RATE
        live.rtt_s = live.cost_s = took_s
        return
    fade = exp(-age_s / DECAY_S)
    if took_s > rtt_s:
        rtt_s = live.rtt_s = took_s
    elif ok is not False and took_s >= 0.0:
        rtt_s = live.rtt_s = took_s + (rtt_s - took_s) * fade
    if ok is not None and (errors or not ok):
        errors *= fade
        errors += FAILURE_GAIN * ((0.0 if ok else 1.0) - errors)
        errors = live.error_share = errors if errors > LEAST_ERRORS else 0.0
    live.cost_s = rtt_s / max(1.0 - errors, LEAST_SUCCESS)
