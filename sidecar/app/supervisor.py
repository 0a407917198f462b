"""Several workers in processes of their own: starts them, keeps them going, and is to the holder what one would be.

Each worker has its own listening sockets, among which the kernel spreads connections, its own pools, budgets, ejections
and limits: with N workers a service may get N times what one allows. Connections are spread, not requests: the one
HTTP/2 connection of a caller is served by one worker. A worker that dies is started again at once; the
others go on, and connections that the kernel gave to it wait in its sockets. One that dies again and again is started
ever less often, and meanwhile its sockets stop listening, so that the kernel sends nobody there.
"""

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from sidecar.admin.process import process_stats
from sidecar.app.channel import Channel
from sidecar.app.data_plane import Bound
from sidecar.app.plane import PlaneFacts
from sidecar.app.spawner import Spawner, SpawnerGone
from sidecar.app.worker_link import Wanted, WorkerLink
from sidecar.model.bootstrap import LogWhen, NodeInfo
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory
from sidecar.telemetry.facts import ProcessStats
from sidecar.telemetry.metrics import Metrics
from sidecar.transport.identity import Identity
from sidecar.transport.listen import BACKLOG

STABLE_S = 10.0  # a worker that lived so long is started again at once
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0
NOBODY_COMES_S = 0.5  # callers may wait in a worker's sockets for so long; for longer, others had better serve them
REFRESH_S = 0.5  # for a scrape to wait for the newest counts


class Supervisor:
    """`Plane`: see the module's text.

    Args:
        bound: Each worker's listening sockets.
    """

    def __init__(
        self,
        node: NodeInfo,
        bound: Sequence[list[Bound]],
        spawner: Spawner,
        directory: Directory,
        say: Callable[[str], None],
    ) -> None:
        self.metrics = Metrics(service=node.service, namespace=node.namespace, version=node.version)
        self._bound = bound
        self._spawner = spawner
        self._directory = directory
        self._say = say
        self._wanted = Wanted()
        self._links: dict[int, WorkerLink] = {}
        self._starts = [0] * len(bound)
        self._ended = 0
        self._ending = trio.Event()
        self._all_ended = trio.Event()
        self._past: Counter[str] = Counter()  # what workers that are gone had counted beside their metrics

    def start(self, nursery: trio.Nursery) -> None:
        """See `Plane`."""
        nursery.start_soon(self._run)

    def switch(self, snapshot: Snapshot) -> None:
        """See `Plane`."""
        self._wanted.snapshot = snapshot
        self._changed()

    def identify(self, identity: Identity) -> None:
        """See `Plane`."""
        self._wanted.identity = identity
        self._changed()

    def log_requests(self, when: LogWhen) -> None:
        """See `Plane`."""
        self._wanted.log_when = when
        self._changed()

    def reopen_log(self) -> None:
        """See `Plane`."""
        self._wanted.log_opened += 1
        self._changed()

    def live(self) -> bool:
        """See `Plane`."""
        return not self._spawner.gone

    def not_ready(self) -> list[str]:
        """See `Plane`."""
        return [] if any(link.up.is_set() for link in self._links.values()) else ["no worker process serves yet"]

    async def finish_inbound(self) -> None:
        """See `Plane`."""
        self._wanted.finish = self._wanted.finish or "inbound"
        self._ending.set()
        self._changed()
        async with trio.open_nursery() as nursery:
            for link in self._links.values():
                nursery.start_soon(_first_of, link.inbound_done, link.gone)

    async def finish(self) -> None:
        """See `Plane`."""
        self._wanted.finish = "all"
        self._ending.set()
        self._changed()
        await self._all_ended.wait()

    async def refresh(self) -> None:
        """See `Plane`: each worker is asked, and waited for a moment."""
        self._wanted.asked += 1
        asked = self._wanted.asked
        self._changed()
        with trio.move_on_after(REFRESH_S):
            for link in list(self._links.values()):
                while link.up.is_set() and link.answered < asked and not link.gone.is_set():
                    if link.heard.is_set():  # else another scrape waits for it already
                        link.heard = trio.Event()
                    await link.heard.wait()
        open_now: Counter[str] = Counter()
        for link in self._links.values():
            open_now.update(link.downstream)
        self.metrics.downstream = open_now

    def facts(self) -> PlaneFacts:
        """See `Plane`."""
        sums, connections = Counter(self._past), Counter[tuple[str, str]]()
        for link in self._links.values():
            sums.update(_counted(link))
            for service, state, count in link.facts.get("upstream_connections", ()):
                connections[service, state] += count
        return PlaneFacts(
            log_dropped=sums["log_dropped"],
            spans_exported=sums["spans_exported"],
            spans_dropped=sums["spans_dropped"],
            upstream_connections=[(*which, count) for which, count in sorted(connections.items())],
            workers=sum(link.up.is_set() for link in self._links.values()),
            worker_restarts=sum(starts - 1 for starts in self._starts if starts),
        )

    def process(self) -> ProcessStats | None:
        """See `Plane`. Memory that the processes share is counted for each of them."""
        ours = process_stats()
        if ours is None:
            return None
        each = [link.process for link in self._links.values() if link.process is not None]
        return replace(
            ours,
            cpu_s=ours.cpu_s + self._past["cpu_ms"] / 1e3 + sum(one.cpu_s for one in each),
            resident_bytes=ours.resident_bytes + sum(one.resident_bytes for one in each),
            virtual_bytes=ours.virtual_bytes + sum(one.virtual_bytes for one in each),
            open_fds=ours.open_fds + sum(one.open_fds for one in each),
        )

    def clusters(self) -> list[dict[str, object]]:
        """See `Plane`: each worker's own, because each balances for itself."""
        return [
            {"worker": index, **cluster} for index, link in sorted(self._links.items()) for cluster in link.clusters
        ]

    def workers(self) -> list[dict[str, object]]:
        """See `Plane`."""
        return [self._shown(index, self._links.get(index)) for index in range(len(self._bound))]

    def _shown(self, index: int, link: WorkerLink | None) -> dict[str, object]:
        if link is None:
            return {"worker": index, "pid": None, "serving": False, "age_s": 0.0, "starts": self._starts[index]}
        age_s = round(trio.current_time() - link.started_s, 3)
        shown = {"worker": index, "pid": link.pid, "serving": link.up.is_set(), "age_s": age_s}
        return {**shown, "starts": self._starts[index]}

    def _changed(self) -> None:
        for link in self._links.values():
            link.changed()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_spawner)
            for index in range(len(self._bound)):
                nursery.start_soon(self._keep, index)

    async def _hear_spawner(self) -> None:
        await self._spawner.run()
        self._say("the process that starts workers is gone: those that run go on, but none can be started again")

    async def _keep(self, index: int) -> None:
        """Run worker `index` again and again, until there is to be no worker any more."""
        crashes = 0
        try:
            while not self._ending.is_set():
                lived_s = await self._run_one(index)
                if self._ending.is_set():
                    return
                crashes = 0 if lived_s >= STABLE_S else crashes + 1
                delay_s = 0.0 if crashes <= 1 else min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** (crashes - 2))
                if delay_s >= NOBODY_COMES_S:
                    self._stop_listening(index)
                if delay_s:
                    self._say(f"worker {index} ended {crashes} times soon after its start; the next in {delay_s:g} s")
                with trio.move_on_after(delay_s):
                    await self._ending.wait()
        except SpawnerGone:
            self._stop_listening(index)
        finally:
            self._ended += 1
            if self._ended == len(self._bound):
                self._all_ended.set()

    async def _run_one(self, index: int) -> float:
        """From a worker's start to its end; how long it lived. Raises SpawnerGone."""
        for one in self._bound[index]:
            one.sock.listen(BACKLOG)  # changes nothing unless `_stop_listening` came before
        ours, theirs = socket.socketpair()
        try:
            pid = await self._spawner.start(index, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        link = self._links[index] = WorkerLink(index, pid, Channel(ours), self._wanted, self.metrics)
        self._starts[index] += 1
        if not await link.run(self._directory):
            self._say(f"worker {index}, process {pid}, has been silent for too long: killed")
            _kill(pid)
        try:
            status = await self._spawner.ended(pid)
        finally:
            del self._links[index]
        self._past.update(_counted(link))
        if link.process is not None:
            self._past["cpu_ms"] += round(link.process.cpu_s * 1e3)
        if not self._ending.is_set():
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            self._say(f"worker {index}, process {pid}, ended ({how}) and is started again")
        return trio.current_time() - link.started_s

    def _stop_listening(self, index: int) -> None:
        for one in self._bound[index]:
            try:
                one.sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # it did not listen any more


def _counted(link: WorkerLink) -> dict[str, int]:
    return {name: link.facts.get(name, 0) for name in ("log_dropped", "spans_exported", "spans_dropped")}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


async def _first_of(one: trio.Event, other: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)
