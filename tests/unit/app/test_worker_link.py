"""The holder's end of a worker, with a worker that is a few lines of this test."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from sidecar.app.channel import Channel
from sidecar.app.worker_link import Wanted, WorkerLink
from sidecar.model.bootstrap import LogWhen
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.telemetry import merge
from sidecar.telemetry.metrics import Metrics
from tests.unit.app.test_handoff import resources
from tests.unit.telemetry.told import done

STOCK = ServiceKey("shop", "stock")


class Directory:
    """Knows stock once it was asked for it: `found` is called then, and puts it in the snapshot."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.told: list[ServiceKey] = []

    def used(self, key: ServiceKey) -> None:
        self.told.append(key)

    async def find(self, key: ServiceKey, timeout_s: float) -> Known:
        await trio.sleep(timeout_s / 2)
        assert self.wanted.snapshot is not None
        self.wanted.snapshot = self.wanted.snapshot.changed(resources(key.name, 1, 2), version=2)
        return Known.FOUND


@asynccontextmanager
async def linked(wanted: Wanted) -> AsyncIterator[tuple[WorkerLink, Channel, Metrics, Directory, list[bool]]]:
    ours, theirs = socket.socketpair()
    metrics, directory = Metrics(service="web", namespace="shop"), Directory(wanted)
    link = WorkerLink(0, 1, Channel(ours), wanted, metrics)
    worker = Channel(theirs)
    spoke: list[bool] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            spoke.append(await link.run(directory))

        nursery.start_soon(run)
        yield link, worker, metrics, directory, spoke
        worker.close()


async def test_a_worker_gets_the_newest_state_and_not_every_state() -> None:
    wanted = Wanted(snapshot=Snapshot())
    async with linked(wanted) as (link, worker, _, _, _):
        first = await worker.receive()
        assert (first["type"], first["version"]) == ("switch", 0)
        for version in range(1, 50):
            wanted.snapshot = Snapshot().changed(resources("stock", version % 3, version), version=version)
            link.changed()
        newest = await worker.receive()
        assert newest["version"] == 49
        wanted.log_when = LogWhen.ALL
        wanted.log_opened += 2
        wanted.finish = "inbound"
        link.changed()
        assert [(await worker.receive())["type"] for _ in range(3)] == ["log", "reopen", "finish"]
    assert link.gone.is_set()


async def test_the_answer_to_a_look_up_comes_after_the_configuration_that_holds_it(autojump_clock: MockClock) -> None:
    wanted = Wanted(snapshot=Snapshot(version=1))
    async with linked(wanted) as (_, worker, _, _, _):
        await worker.receive()
        await worker.send({"type": "find", "service": STOCK, "timeout_s": 1.0})
        answers = [await worker.receive() for _ in range(2)]
        assert [answer["type"] for answer in answers] == ["switch", "found"]
        assert answers[0]["version"] == 2
        assert answers[1]["service"] == list(STOCK)


async def test_what_it_says_is_kept_and_its_counts_are_added() -> None:
    wanted = Wanted(snapshot=Snapshot())
    counted = Metrics(service="web", namespace="shop")
    counted.request_done(done())
    values = {"type": "values", "downstream": {"outbound": 3}, "facts": {"log_dropped": 2}, "process": None}
    async with linked(wanted) as (link, worker, metrics, directory, _):
        await worker.send({"type": "up"})
        await worker.send({**values, "counts": merge.take(counted, 0.0, 0.0), "used": [STOCK]})
        await worker.send({"type": "finished", "side": "inbound"})
        await link.inbound_done.wait()
        assert link.up.is_set()
        assert (link.downstream, link.facts) == ({"outbound": 3}, {"log_dropped": 2})
        assert directory.told == [STOCK]
        assert [series.requests for series in metrics.values()] == [1]


async def test_one_that_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with linked(Wanted(snapshot=Snapshot())) as (link, _, _, _, spoke):
        await link.gone.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert spoke == [False]
