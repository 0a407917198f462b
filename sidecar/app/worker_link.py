"""The holder's end of one worker process: what it should have is sent as differences to what it has.

Nothing queues: a worker that is slow to read gets the newest state when it reads again. What it counts is added to the
holder's metrics as it comes; its gauges are kept here and vanish with it.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from sidecar.app.channel import Channel, ChannelClosed, Message
from sidecar.app.handoff import difference, identity_message
from sidecar.model.bootstrap import LogWhen
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory
from sidecar.telemetry import merge
from sidecar.telemetry.facts import ProcessStats
from sidecar.telemetry.metrics import Metrics
from sidecar.transport.identity import Identity

SILENCE_S = 20.0  # a worker tells something every second; one that is silent for so long hangs
MAX_FINDS = 1_000  # look-ups of one worker at once; more are not made, and time out there


@dataclass(slots=True)
class Wanted:
    """What every worker should have: the one state that the links bring about. `finish` is "", inbound or all."""

    snapshot: Snapshot | None = None
    identity: Identity | None = None
    log_when: LogWhen | None = None
    log_opened: int = 0
    asked: int = 0
    finish: str = ""


class WorkerLink:
    """See the module's text.

    Attributes:
        up: Set when it serves.
        inbound_done: Set when its inbound side was finished.
        gone: Set when it has ended, or its channel has.
        answered: How many questions it has answered; see `Wanted.asked`.
        clusters, downstream, facts, process: What it said last.
    """

    def __init__(self, index: int, pid: int, channel: Channel, wanted: Wanted, metrics: Metrics) -> None:
        self.index = index
        self.pid = pid
        self.started_s = trio.current_time()
        self.up = trio.Event()
        self.inbound_done = trio.Event()
        self.gone = trio.Event()
        self.answered = 0
        self.heard = trio.Event()
        self.clusters: list[dict[str, object]] = []
        self.downstream: dict[str, int] = {}
        self.facts: dict[str, Any] = {}
        self.process: ProcessStats | None = None
        self._channel = channel
        self._wanted = wanted
        self._has = Wanted(log_opened=wanted.log_opened, asked=wanted.asked)
        self._metrics = metrics
        self._found: deque[ServiceKey] = deque()
        self._finds = 0
        self._wake = trio.Event()

    def changed(self) -> None:
        """What is wanted is not what it was."""
        self._wake.set()

    async def run(self, directory: Directory) -> bool:
        """Talk until the worker is gone: True. False when it has been silent for too long."""
        silent = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                while True:
                    with trio.fail_after(SILENCE_S):
                        message = await self._channel.receive()
                    self._take(message, directory, nursery)
        except* ChannelClosed:
            pass
        except* trio.TooSlowError:
            silent = True
        finally:
            self._channel.close()
            self.gone.set()
            self.heard.set()
        return not silent

    def _take(self, message: Message, directory: Directory, nursery: trio.Nursery) -> None:
        match message["type"]:
            case "up":
                self.up.set()
            case "values":
                merge.add(self._metrics, message["counts"], trio.current_time())
                self.downstream, self.facts = message["downstream"], message["facts"]
                process = message["process"]
                self.process = ProcessStats(**process) if process is not None else None
                for key in message["used"]:
                    directory.used(ServiceKey(*key))
            case "clusters":
                self.clusters = message["clusters"]
                self.answered = self._has.asked
                self.heard.set()
            case "finished":
                self.inbound_done.set()
            case "find":
                if self._finds < MAX_FINDS:
                    nursery.start_soon(self._find, ServiceKey(*message["service"]), message["timeout_s"], directory)

    async def _find(self, key: ServiceKey, timeout_s: float, directory: Directory) -> None:
        self._finds += 1
        await directory.find(key, timeout_s)
        self._finds -= 1
        self._found.append(key)
        self._wake.set()

    async def _write(self) -> None:
        while True:
            self._wake = trio.Event()
            await self._bring()
            await self._wake.wait()

    async def _bring(self) -> None:
        """Send what it does not have yet; the configuration first, because what follows refers to it."""
        wanted, has, send = self._wanted, self._has, self._channel.send
        found = list(self._found)  # the snapshot below, or one sent before, holds the answers to these
        self._found.clear()
        if wanted.identity is not None and has.identity is not wanted.identity:
            has.identity = wanted.identity
            await send(identity_message(wanted.identity))
        if wanted.snapshot is not None and has.snapshot is not wanted.snapshot:
            snapshot = wanted.snapshot
            for message in difference(has.snapshot, snapshot):
                await send(message)
            has.snapshot = snapshot
        for key in found:
            await send({"type": "found", "service": key})
        await self._bring_orders(wanted, has, send)

    async def _bring_orders(self, wanted: Wanted, has: Wanted, send: Callable[[Message], Awaitable[None]]) -> None:
        if wanted.log_when is not None and has.log_when is not wanted.log_when:
            has.log_when = wanted.log_when
            await send({"type": "log", "when": wanted.log_when.value})
        if has.log_opened != wanted.log_opened:
            has.log_opened = wanted.log_opened
            await send({"type": "reopen"})
        if has.asked != wanted.asked:
            has.asked = wanted.asked
            await send({"type": "ask"})
        if has.finish != wanted.finish:
            has.finish = wanted.finish
            await send({"type": "finish", "side": wanted.finish})
