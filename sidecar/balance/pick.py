"""The algorithms that choose one endpoint among those that may be asked, and one backend among a route's shares.

Called once per try with what `policy/outlier` lets pass, already without the endpoints that this request has tried.
EWMA and least request are "power of two choices": two are drawn, the better one is taken. It is within a constant of a
full scan for any size of cluster, costs the same for three endpoints as for a thousand, and does not send every
caller's next request to the same idle endpoint. They refuse to know about health, routes and retries.

Weights count in the *draw*, not as a bonus in the comparison: at rest, where every endpoint has nothing to do, the
shares are exactly the weights, and under load the busier of the two *for its weight* is passed over. Dividing
(in_flight + 1) by the weight instead would starve a light endpoint of an idle cluster completely. An endpoint in its
slow start has a part of its weight.

Each costs the same however many endpoints there are, while all have the same weight; else one pass over them.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random

from sidecar.balance.ewma import FRESH_S, cost, faded_cost
from sidecar.balance.slow_start import share_of
from sidecar.model.live import ClusterLive, EndpointLive

# Endpoints that may be asked, their cluster, chance, monotonic seconds, and the hash of the request's key or None.
Pick = Callable[[Sequence[EndpointLive], ClusterLive, Random, float, int | None], EndpointLive | None]


def ewma(
    passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    """Of two drawn, the one of less cost (`balance/ewma.py`)."""
    del key
    count = len(passing)
    if count < 2:
        return passing[0] if count else None
    if cluster.weighted or cluster.warming_until_s > now_s:
        weights, first, second = _two_by_weight(passing, cluster, rng, now_s)
        mean = sum(weights) / count
        one_s = cost(first, first.in_flight * mean / first.endpoint.weight, now_s)
        other_s = cost(second, second.in_flight * mean / second.endpoint.weight, now_s)
        return second if other_s < one_s else first
    # One number draws an ordered pair of different endpoints.
    one, other = divmod(int(rng.random() * (count * (count - 1))), count - 1)
    if other >= one:
        other += 1
    first, second = passing[one], passing[other]
    # `cost` of both, without the calls: this is done for nearly every request.
    age_s = now_s - first.measured_s
    load = first.in_flight
    one_s = first.cost_s * (load + 1) if age_s < FRESH_S else faded_cost(first, load, age_s)
    age_s = now_s - second.measured_s
    load = second.in_flight
    other_s = second.cost_s * (load + 1) if age_s < FRESH_S else faded_cost(second, load, age_s)
    return second if other_s < one_s else first


def least_request(
    passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    """Of two drawn, the one with fewer requests under way."""
    del key
    count = len(passing)
    if count < 2:
        return passing[0] if count else None
    if cluster.weighted or cluster.warming_until_s > now_s:
        _, first, second = _two_by_weight(passing, cluster, rng, now_s)
        # in_flight / weight, multiplied out; a tie goes to the first, which was drawn by weight.
        busier = first.in_flight * second.endpoint.weight > second.in_flight * first.endpoint.weight
        return second if busier else first
    one, other = divmod(int(rng.random() * (count * (count - 1))), count - 1)
    if other >= one:
        other += 1
    first, second = passing[one], passing[other]
    return second if second.in_flight < first.in_flight else first


def round_robin(
    passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    """Everyone in turn; an endpoint of weight 3 gets three turns in a row. Moves `cluster.turn`.

    One in its slow start lets a part of its turns pass to the next.
    """
    del key
    if len(passing) < 2:
        return passing[0] if passing else None
    chosen = _next_in_turn(passing, cluster)
    if cluster.warming_until_s > now_s and rng.random() >= share_of(chosen, cluster, now_s):
        return _next_in_turn(passing, cluster)
    return chosen


def at_random(
    passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float, key: int | None
) -> EndpointLive | None:
    """Drawn by weight."""
    del key
    count = len(passing)
    if count < 2:
        return passing[0] if count else None
    if cluster.weighted or cluster.warming_until_s > now_s:
        sums = list(accumulate(_weights(passing, cluster, now_s)))
        return passing[split(sums, rng)]
    return passing[int(rng.random() * count)]


def split(cumulative: Sequence[float], rng: Random) -> int:
    """The index of a share drawn by weight.

    Args:
        cumulative: Running sums of the weights, the last one > 0; computed once per snapshot. A share of weight 0
            repeats its predecessor's sum and is never drawn.
        rng: Not touched when there is only one share.
    """
    if len(cumulative) == 1:
        return 0
    return bisect_right(cumulative, rng.random() * cumulative[-1])


def _weights(passing: Sequence[EndpointLive], cluster: ClusterLive, now_s: float) -> list[float]:
    if cluster.warming_until_s > now_s:
        return [live.endpoint.weight * share_of(live, cluster, now_s) for live in passing]
    return [live.endpoint.weight for live in passing]


def _two_by_weight(
    passing: Sequence[EndpointLive], cluster: ClusterLive, rng: Random, now_s: float
) -> tuple[list[float], EndpointLive, EndpointLive]:
    """The weights, and two drawn by them; maybe the same twice."""
    weights = _weights(passing, cluster, now_s)
    sums = list(accumulate(weights))
    return weights, passing[split(sums, rng)], passing[split(sums, rng)]


def _next_in_turn(passing: Sequence[EndpointLive], cluster: ClusterLive) -> EndpointLive:
    turn = cluster.turn
    cluster.turn = turn + 1
    if not cluster.weighted:
        return passing[turn % len(passing)]
    cumulative = list(accumulate(live.endpoint.weight for live in passing))
    return passing[bisect_right(cumulative, turn % cumulative[-1])]
