"""Retry storms through a real sidecar: what reaches a service that fails, and how often.

Two questions, on both paths. A service that fails every request gets no more than the budget lets through: the
requests, a fifth more, and three a second. And a request that may not be repeated reaches a service once at most,
whatever is reset, and when; the policy of that run wants everything tried again that there is.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from bench.cores import pick_cores
from bench.mesh import NAMESPACE
from bench.ports import free_port
from bench.process import pinned
from bench.progress import Say
from bench.proxies.sidecar import RunningSidecar, bootstrap_of
from bench.scenarios import FAST
from sidecar.model.policies import RetryOn
from tests.storm.client import Client
from tests.storm.upstream import Draw, Fate, Upstream

PROVEN_PER_S = 500
PROVEN_S = 10
PROVEN_REQUESTS = 50_000  # that may not be repeated
AT_ONCE = 40
HOSTS = [f"127.0.4.{number}" for number in range(1, 5)]
EAGER: Mapping[str, object] = {
    "retries": {
        "attempts": 5,
        "on": [condition.value for condition in RetryOn],
        "backoff": {"base": "1ms", "max": "2ms"},
        "budget": {"percent": 100, "minPerSecond": 1000},
    },
    "ejection": {"maxPercent": 0},  # all four go on, so that there is somebody to try next
}
_WEIGHTS = {
    Fate.GOOD: 50,
    Fate.FAILED: 8,
    Fate.RESET_EARLY: 10,
    Fate.RESET_LATE: 10,
    Fate.RESET_IN_HEAD: 6,
    Fate.RESET_IN_BODY: 6,
    Fate.LEFT: 10,
}

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Storm:
    """What came of a service that fails every request."""

    sent: int
    reached: int
    seconds: float

    @property
    def allowed(self) -> float:
        """1.2 times the requests, and three a second."""
        return 1.2 * self.sent + 3 * self.seconds


@dataclass(frozen=True)
class Rush:
    """What came of requests under random resets.

    Attributes:
        sent: That may not be repeated.
        reached: Of those, how many reached the service at all.
        doubled: Those that reached it more than once.
        repeated: Requests that may be repeated, and were: 0 would mean that nothing was tried again at all.
        good: Answers of 200, to requests of both kinds.
    """

    sent: int
    reached: int
    doubled: list[bytes]
    repeated: int
    good: int


def storm(folder: Path, fate: Fate, *, fast_path: bool, per_s: int, seconds: float) -> Storm:
    """GETs to a service that does the same to each of them."""

    async def play(client: Client, upstream: Upstream) -> Storm:
        took_s = await client.storm(per_s, seconds)
        assert 200 not in client.statuses
        return Storm(client.statuses.total(), upstream.taken.total(), max(took_s, seconds))

    return _with_sidecar(folder, lambda _: fate, {}, play, fast_path=fast_path, seed=0)


def rush(folder: Path, *, fast_path: bool, requests: int, seed: int) -> Rush:
    """POSTs and PATCHes to a service that resets as it likes, and a fifth as many GETs between them."""
    rng = Random(seed)
    asked = [(rng.choice((b"POST", b"PATCH")), b"/once/%d" % number) for number in range(requests)]
    asked += [(b"GET", b"/any/%d" % number) for number in range(requests // 5)]
    rng.shuffle(asked)

    async def play(client: Client, upstream: Upstream) -> Rush:
        await client.rush(asked, AT_ONCE)
        once = {path: count for path, count in upstream.taken.items() if path.startswith(b"/once/")}
        doubled = [path for path, count in once.items() if count > 1]
        repeated = sum(count > 1 for path, count in upstream.taken.items() if path.startswith(b"/any/"))
        return Rush(requests, len(once), doubled, repeated, client.statuses[200])

    fates, weights = [*_WEIGHTS], [*_WEIGHTS.values()]
    draw: Draw = lambda drawn: drawn.choices(fates, weights)[0]  # noqa: E731 - a function that takes one argument
    return _with_sidecar(folder, draw, EAGER, play, fast_path=fast_path, seed=seed)


def _with_sidecar(
    folder: Path,
    draw: Draw,
    policy: Mapping[str, object],
    play: Callable[[Client, Upstream], Awaitable[_Result]],
    *,
    fast_path: bool,
    seed: int,
) -> _Result:
    port, core = free_port(HOSTS[0]), pick_cores(sorted(os.sched_getaffinity(0)))
    (folder / "mesh.d").mkdir()
    (folder / "mesh.d" / "mesh.yaml").write_text("\n---\n".join(map(json.dumps, _documents(port, policy))))
    sidecar = RunningSidecar(FAST, folder, core.proxy, bootstrap_of("web", fast_path=fast_path))
    try:
        door = int(sidecar.listening("outbound").rpartition(":")[2])

        async def run() -> _Result:
            async with Upstream(HOSTS, port, draw, Random(seed)) as upstream:
                client = Client(door, f"orders.{NAMESPACE}:{port}")
                result = await play(client, upstream)
                await client.close()
                return result

        with pinned(core.load):
            return asyncio.run(run())
    finally:
        sidecar.stop()


def _documents(port: int, policy: Mapping[str, object]) -> list[dict[str, object]]:
    service = {"service": "orders", "ports": [{"port": port, "protocol": "http"}]}
    workloads = [_document("Workload", host.replace(".", "-"), {**service, "address": host}) for host in HOSTS]
    targets = {"targetRefs": [{"kind": "Service", "name": "orders"}]}
    return [*workloads, _document("TrafficPolicy", "orders", {**targets, **policy})]


def _document(kind: str, name: str, spec: Mapping[str, object]) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "sidecar-mesh.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def prove(say: Say) -> str:
    """The whole run; the figure for the ledger. Raises AssertionError."""
    storms, doubled, sent, repeated = [], [], 0, 0
    for fast_path in (True, False):
        path = "fast path" if fast_path else "full path"
        for fate in (Fate.FAILED, Fate.RESET_LATE):
            say(f"retry storm, {fate.value}, {path}")
            with tempfile.TemporaryDirectory() as folder:
                one = storm(Path(folder), fate, fast_path=fast_path, per_s=PROVEN_PER_S, seconds=PROVEN_S)
            assert one.reached <= one.allowed, f"{fate.value}, {path}: {one.reached} of {one.allowed:g} allowed"
            storms.append(one)
        say(f"random resets, {path}")
        with tempfile.TemporaryDirectory() as folder:
            other = rush(Path(folder), fast_path=fast_path, requests=PROVEN_REQUESTS // 2, seed=int(fast_path))
        assert other.repeated, f"{path}: nothing was tried again"
        doubled += other.doubled
        sent, repeated = sent + other.sent, repeated + other.repeated
    assert not doubled, f"{len(doubled)} of {sent} doubled; the first: {doubled[:3]}"
    most = max(storms, key=lambda one: one.reached / one.sent)
    return (
        f"{len(storms)} storms of {PROVEN_S} s at {PROVEN_PER_S}/s: at most {most.reached:,} tries of {most.sent:,} "
        f"requests ({most.allowed:,.0f} allowed); {sent:,} POST and PATCH under random resets: 0 doubled "
        f"({repeated:,} GET were tried again)"
    )
