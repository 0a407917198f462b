"""What generators print, what is disturbed beside a load, and what counts as the work that is to be measured."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import footprint, load
from bench.client import Answers
from bench.identities import Door
from bench.process import BenchError
from bench.proxies.documents import write_folder
from bench.scenarios import Kind, Scenario
from bench.setups import beside as disturbances
from bench.setups.beside import beside
from bench.setups.http1 import CHECKED, judge

ROW = Scenario(name="some")
H2LOAD = """
finished in {took}, 34688.00 req/s, 5.39MB/s
requests: 40000 total, 35072 started, {done} done, {good} succeeded, 0 failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx
"""


@pytest.mark.parametrize(("took", "seconds"), [("1.01s", 1.01), ("199.91ms", 0.19991), ("250us", 0.00025)])
def test_the_lines_of_h2load(took: str, seconds: float) -> None:
    found = load.parse_h2load(H2LOAD.format(took=took, done=34944, good=34940), 0.5)

    assert (found.requests, found.errors) == (34944, 4)
    assert found.seconds == pytest.approx(seconds)


def test_an_h2load_that_did_nothing_is_an_error() -> None:
    with pytest.raises(BenchError, match="could not resolve"):
        load.parse_h2load("could not resolve", 0.0)


def answers(**changed: Any) -> Answers:
    usual: dict[str, Any] = {"statuses": Counter({200: CHECKED}), "body_bytes": {80}}
    return Answers(**{**usual, "versions": Counter(v1=900, v2=100), **changed})


def test_equal_work_passes() -> None:
    judge("some", answers(), ROW, 0.1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"statuses": Counter({200: CHECKED - 1, 503: 1})}, "all should be 200"),
        ({"versions": Counter(v1=1000)}, "sent 0.0% to v2"),
        ({"misrouted": 1}, "1 canary requests elsewhere"),
        ({"body_bytes": {80, 81}}, "80 is right"),
    ],
)
def test_less_work_is_an_error(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        judge("some", answers(**changed), ROW, 0.1)


def test_where_one_endpoint_answers_for_all_the_split_is_not_asked_for() -> None:
    judge("some", answers(versions=Counter(v1=CHECKED)), Scenario(name="pair", kind=Kind.MESH), 0.1)


class Pushed:
    """A proxy that counts its pushes."""

    name, address = "some", "127.0.0.1:1"

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.pids: list[int] = []
        self.turns: list[int] = []
        self.door: Door | None = None

    def push(self, turn: int) -> None:
        self.turns.append(turn)

    def pushes_taken(self) -> int:
        return len(self.turns) * self.takes

    def stop(self) -> None:
        pass


def test_pushes_end_with_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbances, "PUSH_EVERY_S", 0.001)
    proxy = Pushed()
    with beside(proxy, Scenario(name="pushed", pushes=True), tmp_path, 0) as notes:
        while len(proxy.turns) < 3:
            pass
    turns = list(proxy.turns)

    assert turns == list(range(1, len(turns) + 1))
    assert notes == []


def test_pushes_that_are_not_put_in_force_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbances, "PUSH_EVERY_S", 0.001)
    proxy = Pushed(takes=False)
    with beside(proxy, Scenario(name="pushed", pushes=True), tmp_path, 0) as notes:
        while len(proxy.turns) < 3:
            pass

    assert notes == ["fewer pushes"]


def test_a_quiet_row_disturbs_nobody(tmp_path: Path) -> None:
    proxy = Pushed()
    with beside(proxy, ROW, tmp_path, 0):
        pass
    assert proxy.turns == []


@pytest.mark.parametrize("routes", [0, 10, 100])
def test_every_request_of_the_load_has_a_route(tmp_path: Path, routes: int) -> None:
    write_folder(tmp_path / "mesh.d", 8080, routes=routes)

    assert 0.0 < footprint.lookup_us(tmp_path / "mesh.d", routes) < 1000.0
