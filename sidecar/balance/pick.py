"""Choose one endpoint among those that are passing, and one backend among a route's shares.

Called once per try with what `policy/outlier` lets pass, already without the endpoints that this request has tried.
Least request is "power of two choices": two are drawn, the less busy one is taken. It is within a constant of a full
scan for any size of cluster, costs the same for three endpoints as for a thousand, and does not send every caller's
next request to the same idle endpoint. It refuses to know about health, routes and retries.

Weights count in the *draw*, not as a bonus in the comparison: at rest, where every endpoint has nothing to do, the
shares are exactly the weights, and under load the busier of the two *for its weight* is passed over. Dividing
(in_flight + 1) by the weight instead would starve a light endpoint of an idle cluster completely.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random

from sidecar.model.live import ClusterLive, EndpointLive
from sidecar.model.policies import Algorithm


def pick(
    passing: Sequence[EndpointLive], algorithm: Algorithm, cluster: ClusterLive, rng: Random
) -> EndpointLive | None:
    """The endpoint for the next try; None when `passing` is empty.

    Cost does not depend on the number of endpoints while their weights are equal (`cluster.weighted` is False);
    unequal weights cost one pass over them. Changes nothing but `cluster.turn`, round robin's place.
    """
    count = len(passing)
    if count < 2:
        return passing[0] if count else None
    if algorithm is Algorithm.LEAST_REQUEST:
        return _least_request(passing, cluster.weighted, rng)
    if algorithm is Algorithm.ROUND_ROBIN:
        return _next_in_turn(passing, cluster)
    return _weighted(passing, rng) if cluster.weighted else passing[int(rng.random() * count)]


def split(cumulative: Sequence[int], rng: Random) -> int:
    """The index of a share drawn by weight.

    Args:
        cumulative: Running sums of the weights, the last one > 0; computed once per snapshot. A share of weight 0
            repeats its predecessor's sum and is never drawn.
        rng: Not touched when there is only one share.
    """
    if len(cumulative) == 1:
        return 0
    return bisect_right(cumulative, rng.random() * cumulative[-1])


def _least_request(passing: Sequence[EndpointLive], weighted: bool, rng: Random) -> EndpointLive:
    if weighted:
        first, second = _weighted(passing, rng), _weighted(passing, rng)
        # in_flight / weight, multiplied out; a tie goes to the first, which was drawn by weight.
        busier = first.in_flight * second.endpoint.weight > second.in_flight * first.endpoint.weight
        return second if busier else first
    # One number draws an ordered pair of different endpoints.
    count = len(passing)
    one, other = divmod(int(rng.random() * (count * (count - 1))), count - 1)
    if other >= one:
        other += 1
    first, second = passing[one], passing[other]
    return second if second.in_flight < first.in_flight else first


def _next_in_turn(passing: Sequence[EndpointLive], cluster: ClusterLive) -> EndpointLive:
    """Everyone in turn; an endpoint of weight 3 gets three turns in a row."""
    turn = cluster.turn
    cluster.turn = turn + 1
    if not cluster.weighted:
        return passing[turn % len(passing)]
    cumulative = list(accumulate(live.endpoint.weight for live in passing))
    return passing[bisect_right(cumulative, turn % cumulative[-1])]


def _weighted(passing: Sequence[EndpointLive], rng: Random) -> EndpointLive:
    cumulative = list(accumulate(live.endpoint.weight for live in passing))
    return passing[bisect_right(cumulative, rng.random() * cumulative[-1])]
