"""An endpoint that is new, or back, gets its share little by little."""

from collections import Counter
from random import Random

import pytest

from sidecar.balance.balancer import Balancer
from sidecar.balance.slow_start import LEAST_SHARE
from sidecar.model.balancing import Algorithm, Balancing
from sidecar.model.clusters import Endpoint
from tests.unit.balance.lives import cluster, endpoint

WINDOW_S = 10.0
NOW_S = 1000.0
DRAWS = 6000
ABC = [endpoint(name) for name in "abc"]
ALGORITHMS = (Algorithm.EWMA, Algorithm.LEAST_REQUEST, Algorithm.RANDOM, Algorithm.ROUND_ROBIN)


class Playing:
    """A cluster under slow start."""

    def __init__(self, *endpoints: Endpoint, algorithm: Algorithm = Algorithm.RANDOM) -> None:
        self.cluster, _ = cluster(*endpoints)
        self.balancer = Balancer(Balancing(algorithm=algorithm, slow_start_s=WINDOW_S), "")
        self.rng = Random(1)

    def shares(self, now_s: float, out: str = "") -> dict[str, float]:
        present = self.cluster.present
        passing = [live for live in present if live.endpoint.id != out] if out else present
        counts: Counter[str] = Counter()
        for _ in range(DRAWS):
            assert self.balancer.notice is not None
            self.balancer.notice(passing, self.cluster, now_s)
            live = self.balancer.pick(passing, self.cluster, self.rng, now_s, None)
            assert live is not None
            counts[live.endpoint.id] += 1
        return {name: count / DRAWS for name, count in counts.items()}


def test_who_begins_together_shares_evenly() -> None:
    assert Playing(*ABC).shares(NOW_S)["a"] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("after_s", [0.0, 5.0, 10.0])
def test_a_new_endpoint_has_a_growing_part_of_its_share(algorithm: Algorithm, after_s: float) -> None:
    playing = Playing(*ABC[:2], algorithm=algorithm)
    playing.shares(NOW_S - 1)
    playing.cluster.current(tuple(ABC))
    playing.shares(NOW_S)
    part = max(LEAST_SHARE, after_s / WINDOW_S)
    assert playing.shares(NOW_S + after_s)["c"] == pytest.approx(part / (2 + part), abs=0.02)


def test_one_that_comes_back_is_as_a_new_one() -> None:
    playing = Playing(*ABC)
    playing.shares(NOW_S)
    assert "b" not in playing.shares(NOW_S + 1, out="b")
    assert playing.shares(NOW_S + 2)["b"] == pytest.approx(0.1 / 2.1, abs=0.02)
    assert playing.shares(NOW_S + 2 + WINDOW_S)["b"] == pytest.approx(1 / 3, abs=0.02)


def test_off_costs_nobody_a_call() -> None:
    assert Balancer(Balancing(), "").notice is None
