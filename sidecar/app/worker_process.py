"""A worker as a process of its own: what a holder says by calls elsewhere, it hears over its channel.

Hears `put` and `switch` (handoff.py), `identity`, `log`, `reopen`, `ask`, `found`, `finish`; says `up`, `values`,
`clusters`, `find` and `finished`. Serves from the first `switch` on. It ends when it was finished, or at once when the
holder is gone: somebody else restarts both. Signals are the holder's business: the spawner has switched them off.
"""

import gc
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from random import Random

import trio

from sidecar.app.channel import Channel, ChannelClosed, Message
from sidecar.app.data_plane import Bound
from sidecar.app.handoff import Assembler, identity_of
from sidecar.app.one_worker import OneWorker
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import Bootstrap, LogWhen
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Known, Snapshot
from sidecar.telemetry import merge

TELL_S = 1.0  # what a worker counted since is lost when it is killed
MAX_USED = 10_000  # services told of at once; more are told of a second later


def run(bootstrap: Bootstrap, bound: list[Bound], channel: socket.socket, say: Callable[[str], None]) -> None:
    """Serve until the holder says otherwise. Call it in a process of its own."""
    trio.run(WorkerProcess(bootstrap, bound, say).live, channel)


class RemoteDirectory:
    """Asks the holder for services that the snapshot does not know."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self.channel: Channel | None = None
        self._snapshot = snapshot
        self._used: set[ServiceKey] = set()
        self._asked: dict[ServiceKey, trio.Event] = {}

    def used(self, key: ServiceKey) -> None:
        """See `Directory`."""
        if len(self._used) < MAX_USED:
            self._used.add(key)

    async def find(self, key: ServiceKey, timeout_s: float) -> Known:
        """See `Directory`."""
        asked = self._asked.get(key)
        with trio.move_on_after(timeout_s):
            if asked is None:
                asked = self._asked[key] = trio.Event()
                if self.channel is not None:
                    await self.channel.send({"type": "find", "service": key, "timeout_s": timeout_s})
            await asked.wait()
        self.answered(key)
        return self._snapshot().knows(key)

    def answered(self, key: ServiceKey) -> None:
        """The holder has said what it knows: a snapshot with the answer came before this."""
        asked = self._asked.pop(key, None)
        if asked is not None:
            asked.set()

    def take_used(self) -> list[ServiceKey]:
        """What was used since the last time."""
        used, self._used = list(self._used), set()
        return used


class WorkerProcess:
    """See the module's text."""

    def __init__(self, bootstrap: Bootstrap, bound: list[Bound], say: Callable[[str], None]) -> None:
        self._say = say
        self._assembler = Assembler()
        self._directory = RemoteDirectory(lambda: self._assembler.snapshot)
        rng = Random(secrets.randbits(64))
        self._plane = OneWorker(bootstrap, bound, rng, self._directory, say, shares_log=True)
        self._started = False
        self._told_s = 0.0

    async def live(self, sock: socket.socket) -> None:
        """From the first message to the last, which come over `sock`."""
        channel = self._channel = self._directory.channel = Channel(sock)
        self._told_s = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, nursery)
                nursery.start_soon(self._tell)
        except* ChannelClosed:
            pass
        finally:
            channel.close()

    async def _hear(self, nursery: trio.Nursery) -> None:
        while True:
            message = await self._channel.receive()
            match message["type"]:
                case "put":
                    self._assembler.put(message)
                case "switch":
                    self._plane.switch(self._assembler.switch(message))
                    if not self._started:
                        await self._start(nursery)
                case "identity":
                    self._plane.identify(identity_of(message))
                case "log":
                    self._plane.log_requests(LogWhen(message["when"]))
                case "reopen":
                    self._reopen()
                case "found":
                    self._directory.answered(ServiceKey(*message["service"]))
                case "ask":
                    nursery.start_soon(self._answer)
                case "finish":
                    nursery.start_soon(self._finish, message["side"], nursery)

    async def _start(self, nursery: trio.Nursery) -> None:
        self._started = True
        self._plane.start(nursery)
        gc.collect()
        gc.freeze()  # what exists now lives as long as the process
        await self._channel.send({"type": "up", "pid": os.getpid()})

    def _reopen(self) -> None:
        try:
            self._plane.reopen_log()
        except ConfigError as problem:
            self._say(f"{problem}; the access log goes on where it was")

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_S)
            await self._channel.send(self._values())

    async def _answer(self) -> None:
        await self._channel.send(self._values())
        await self._channel.send({"type": "clusters", "clusters": self._plane.clusters()})

    async def _finish(self, side: str, nursery: trio.Nursery) -> None:
        if not self._started:
            nursery.cancel_scope.cancel()
            return
        if side == "inbound":
            await self._plane.finish_inbound()
            await self._channel.send({"type": "finished", "side": side})
            return
        await self._plane.finish()
        await self._channel.send(self._values())
        nursery.cancel_scope.cancel()

    def _values(self) -> Message:
        """What was counted since the last time, and what is true now."""
        since_s, self._told_s = self._told_s, trio.current_time()
        self._plane.collect()
        metrics, process = self._plane.metrics, self._plane.process()
        return {
            "type": "values",
            "counts": merge.take(metrics, since_s, self._told_s),
            "downstream": dict(metrics.downstream),
            "facts": asdict(self._plane.facts()),
            "process": asdict(process) if process is not None else None,
            "used": self._directory.take_used(),
        }
