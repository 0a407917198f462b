"""Restart one process of the mesh after the other while requests come in, and count what became of them.

A request is lost when its answer is not the service's own, or does not come; doubled when a service took it twice
although it may not be repeated (POST, and so all of gRPC).
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.progress import Say
from tests.interop.children import start
from tests.rolling.mesh import Mesh

PROVEN_RESTARTS = 20
PROVEN_PER_S = 100  # of each protocol
PROVEN_S = 168  # 50 400 requests
WARM_S = 1.0
LATE_S = 120.0  # for the last answers, on a busy machine


@dataclass(frozen=True)
class Outcome:
    """What became of the requests.

    Attributes:
        lost: When (seconds of the run), which, and why; each.
        doubled: Names of those taken more than once that must not be.
        restarts: By process.
    """

    sent: int
    lost: list[tuple[float, str, str]]
    doubled: list[str]
    restarts: dict[str, int]
    p99_ms: float
    max_ms: float

    @property
    def whole(self) -> bool:
        """True when nothing was lost and nothing done twice."""
        return not self.lost and not self.doubled


def play(folder: Path, say: Say, *, per_s: int, seconds: int, restarts: int) -> Outcome:
    """Send `per_s` requests of each protocol for `seconds`, and restart so many times meanwhile, evenly spread."""
    mesh = Mesh(folder)
    try:
        argv = (sys.executable, "-m", "tests.rolling.load", per_s, seconds, *mesh.listeners)
        load = start("load", argv, folder)
        done: Counter[str] = Counter()
        try:
            load.until_said("^began$")
            began_s = time.monotonic() + WARM_S
            each_s = (seconds - WARM_S) / restarts
            for number, part in zip(range(restarts), itertools.cycle(mesh.parts)):
                time.sleep(max(0.0, began_s + number * each_s - time.monotonic()))
                assert load.process.poll() is None, f"the load ended before restart {number + 1}:\n{load.said()}"
                say(f"restart {number + 1} of {restarts}: {part.name}")
                mesh.restart(part)
                done[part.name] += 1
            load.process.wait(began_s + seconds + LATE_S - time.monotonic())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the load did not end:\n{load.said()[-2000:]}") from None
        finally:
            load.stop()
        taken = Counter(mesh.taken())
    finally:
        mesh.stop()
    return judge(json.loads(load.said().splitlines()[-1]), taken, dict(done))


def judge(told: dict[str, object], taken: "Counter[str]", restarts: dict[str, int]) -> Outcome:
    """Compare what the client sent with what the services took."""
    sent, lost = told["sent"], told["lost"]
    assert isinstance(sent, list)
    assert isinstance(lost, list)
    answered = set(sent) - {name for _, name, _ in lost}
    invented = [name for name in answered if name not in taken]
    assert not invented, f"answers to requests that no service took: {invented[:5]}"
    doubled = [name for name, count in taken.items() if count > 1 and name.endswith("POST")]
    p99_ms, max_ms = told["p99_ms"], told["max_ms"]
    assert isinstance(p99_ms, float)
    assert isinstance(max_ms, float)
    return Outcome(len(sent), [tuple(each) for each in lost], doubled, restarts, p99_ms, max_ms)


def prove(say: Say) -> str:
    """The whole run; the figure for the ledger. Raises AssertionError."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = play(Path(folder), say, per_s=PROVEN_PER_S, seconds=PROVEN_S, restarts=PROVEN_RESTARTS)
    assert outcome.whole, (
        f"{len(outcome.lost)} of {outcome.sent} lost, {len(outcome.doubled)} doubled; the first: "
        f"{outcome.lost[:3]} {outcome.doubled[:3]}"
    )
    return (
        f"{outcome.sent:,} requests at {3 * PROVEN_PER_S}/s, {sum(outcome.restarts.values())} restarts: 0 lost, "
        f"0 doubled; p99 {outcome.p99_ms:g} ms, longest {outcome.max_ms:g} ms"
    )
