"""What there is one of in a process: where configuration comes from, who we are, what others may ask.

Puts the parts together and passes values between them; decides nothing about traffic. Workers get snapshots and
identities through `DataPlane.switch` and `identify`, which with one worker are plain calls.
"""

import secrets
import time
import traceback
from collections.abc import Callable
from random import Random

import trio

from sidecar.app.data_plane import DataPlane
from sidecar.model.bootstrap import Bootstrap
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.health import AppHealth
from sidecar.proxy.worker import Directory
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.export.log_writer import LogWriter
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import Observer, Observers

EXPIRE_S = 60.0  # how often idle metric series are looked for


class Holder:
    """See the module's text.

    Attributes:
        data_plane: The one worker.
        ending: Set when the process is to drain and end.
        drain_delay: Whether the drain first waits for callers to hear of it.
        listening: (name, address) of every listener, for `/config`.
    """

    def __init__(self, bootstrap: Bootstrap, snapshot: Snapshot | None, say: Callable[[str], None]) -> None:
        self.bootstrap = bootstrap
        self.ending = trio.Event()
        self.drain_delay = True
        self.listening: list[tuple[str, str]] = []
        self._say = say
        self._snapshot = snapshot
        seed = secrets.randbits(64)
        self._rng = Random(seed)
        node = bootstrap.node
        self.metrics = Metrics(service=node.service, namespace=node.namespace, version=node.version)
        log = bootstrap.access_log
        self._log_writer = LogWriter(log.path)
        self._access_log = AccessLog(self._log_writer, log.when, time.time() - time.monotonic())

    @property
    def draining(self) -> bool:
        """True once the process is to end."""
        return self.ending.is_set()

    async def start(self, nursery: trio.Nursery) -> None:
        """Start everything but the traffic listeners. Raises ConfigError when something cannot start."""
        # trio's clock has its own zero, so the offset to wall time can only be known inside its run.
        self._access_log.wall_offset_s = time.time() - trio.current_time()
        self.data_plane = DataPlane(self.bootstrap, self._observer(), self._rng, self._directory(), self._on_bug)
        if self._snapshot is not None:
            self.data_plane.switch(self._snapshot)
        inbound = self.bootstrap.inbound
        apps = [port.app for port in inbound.ports] if inbound is not None else []
        self.health = AppHealth(apps, self._health_changed)
        nursery.start_soon(self.health.run)
        nursery.start_soon(self._log_writer.run)
        nursery.start_soon(self._expire)

    def end(self, *, delay: bool) -> None:
        """Drain and end the process; see life.py."""
        self.drain_delay = delay
        self.ending.set()

    async def farewell(self) -> None:
        """Last words to the control plane and the log, bounded."""
        await trio.lowlevel.checkpoint()

    def _observer(self) -> Observer:
        return Observers((self.metrics, self._access_log))

    def _directory(self) -> Directory | None:
        return None

    def _health_changed(self) -> None:
        down = ", ".join(map(str, self.health.down))
        self._say(f"app: nobody accepts connections at {down}" if down else "app: accepts connections")

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRE_S)
            self.metrics.expire(trio.current_time())

    def _on_bug(self, exc: BaseException) -> None:
        """A bug in one connection's handler: the others go on, and somebody should hear of it."""
        self._say("bug: " + " | ".join(line.strip() for line in traceback.format_exception(exc)[-3:]))
