"""What there is one of in a process: where configuration comes from, who we are, what others may ask.

Puts the parts together and passes values between them; decides nothing about traffic. Workers get snapshots and
identities through `DataPlane.switch` and `identify`, which with one worker are plain calls.
"""

import gc
import os
import secrets
import time
import traceback
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from sidecar import __version__
from sidecar.admin.endpoints import admin_routes, metrics_routes
from sidecar.admin.server import AdminServer, bind_admin, bind_metrics
from sidecar.app.data_plane import DataPlane
from sidecar.app.source import FixedSource, Source
from sidecar.app.view import View
from sidecar.model.bootstrap import Bootstrap, MtlsMode
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.health import AppHealth
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.export.log_writer import LogWriter
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import Observer, Observers
from sidecar.transport.identity import Identity
from sidecar.transport.listen import bound_address
from sidecar.transport.tls import Contexts

if TYPE_CHECKING:
    from sidecar.telemetry.export.otlp import SpanExporter

EXPIRE_S = 60.0  # how often idle metric series are looked for
MAX_BUG_LINES = 100  # in a process's life


class Holder:
    """See the module's text.

    Attributes:
        data_plane: The one worker.
        source: Where configuration and identity come from.
        ending: Set when the process is to drain and end.
        drain_delay: Whether the drain first waits for callers to hear of it.
        listening: (name, address) of every listener, for `/config`.
    """

    def __init__(self, bootstrap: Bootstrap, snapshot: Snapshot | None, say: Callable[[str], None]) -> None:
        self.bootstrap = bootstrap
        self.ending = trio.Event()
        self.drain_delay = True
        self._say = say
        self._bugs = 0
        self._rng = Random(secrets.randbits(64))
        node = bootstrap.node
        self.metrics = Metrics(service=node.service, namespace=node.namespace, version=node.version)
        log = bootstrap.access_log
        self.log_writer = LogWriter(log.path)
        # trio's clock has its own zero: `start` sets the offset to wall time.
        self.access_log = AccessLog(self.log_writer, log.when, 0.0)
        self.exporter: SpanExporter | None = None
        self.source = self._source(snapshot)
        inbound = bootstrap.inbound
        self.health = AppHealth(
            [port.app for port in inbound.ports] if inbound is not None else [], self._health_changed
        )
        self._admin = bind_admin(bootstrap.admin.listen)
        try:
            self._metrics = bind_metrics(bootstrap.metrics.listen)
        except BaseException:
            self._admin.close()
            raise
        self.listening = [("admin", bound_address(self._admin)), ("metrics", bound_address(self._metrics))]

    @property
    def draining(self) -> bool:
        """True once the process is to end."""
        return self.ending.is_set()

    def start(self, nursery: trio.Nursery) -> None:
        """Start everything but the traffic listeners."""
        offset_s = time.time() - trio.current_time()
        self.access_log.wall_offset_s = offset_s
        self.exporter = _exporter(self.bootstrap, offset_s, self._rng)
        self.data_plane = DataPlane(self.bootstrap, self._observer(), self._rng, self.source.directory, self._on_bug)
        self.data_plane.switch(self.source.snapshot)
        self.source.start()
        view = View(self)
        nursery.start_soon(AdminServer(admin_routes(view), local_only=True).serve, self._admin)
        nursery.start_soon(AdminServer(metrics_routes(view), local_only=False).serve, self._metrics)
        nursery.start_soon(self.source.run)
        nursery.start_soon(self.health.run)
        nursery.start_soon(self.log_writer.run)
        nursery.start_soon(self._expire)
        if self.exporter is not None:
            nursery.start_soon(self.exporter.run)
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    def not_ready(self) -> list[str]:
        """Why traffic should not come yet, one sentence each."""
        reasons = self.source.not_ready()
        if self.draining:
            reasons.append("draining: this process is about to end")
        if self.health.down:
            reasons.append(f"the app does not accept connections at {', '.join(map(str, self.health.down))}")
        inbound, contexts = self.bootstrap.inbound, self.data_plane.contexts
        if inbound is not None and inbound.mtls is not MtlsMode.OFF and contexts is None:
            reasons.append("no identity yet: mutual TLS is not possible")
        if contexts is not None and contexts.identity.not_after_s <= time.time():
            reasons.append("the identity has expired: mutual TLS is refused by every peer")
        return reasons

    def app_ready(self) -> bool:
        """Whether callers should send requests to the app: it accepts connections, and the process is not to end."""
        return not self.draining and not self.health.down

    def end(self, *, delay: bool) -> None:
        """Drain and end the process; see life.py."""
        if not self.draining:
            self.drain_delay = delay
            self.ending.set()
            self.source.ready_changed()

    async def farewell(self) -> None:
        """Last words to the control plane, bounded."""
        await self.source.farewell()

    def _source(self, snapshot: Snapshot | None) -> Source:
        bootstrap = self.bootstrap
        if bootstrap.control_plane is not None:
            from sidecar.app.mesh_source import MeshSource

            return MeshSource(bootstrap, self, self._rng, self._say)
        kind, where = ("folder", str(bootstrap.static)) if bootstrap.static is not None else ("flags", "")
        return FixedSource(
            snapshot or Snapshot(complete=True), kind, where, bootstrap.identity, self.identify, self.say
        )

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""
        self.data_plane.switch(snapshot)

    def identify(self, identity: Identity) -> None:
        """Use this identity for new connections."""
        self.data_plane.identify(Contexts(identity))
        self.metrics.principal = identity.spiffe_id

    def say(self, line: str) -> None:
        """A line for the person who runs this."""
        self._say(line)

    def _observer(self) -> Observer:
        told: tuple[Observer, ...] = (self.metrics, self.access_log)
        return Observers(told if self.exporter is None else (*told, self.exporter))

    def _health_changed(self) -> None:
        down = ", ".join(map(str, self.health.down))
        self._say(f"app: nobody accepts connections at {down}" if down else "app: accepts connections")
        self.source.ready_changed()

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRE_S)
            self.metrics.expire(trio.current_time())

    def _on_bug(self, exc: BaseException) -> None:
        """A bug in one connection's handler: the others go on, and somebody should hear of it."""
        self._bugs += 1
        if self._bugs > MAX_BUG_LINES:
            return  # a peer that knows how to cause one must not fill the log
        self._say("bug: " + " | ".join(line.strip() for line in traceback.format_exception(exc)[-3:]))


def _exporter(bootstrap: Bootstrap, offset_s: float, rng: Random) -> "SpanExporter | None":
    """The span exporter, its OTLP messages imported only when tracing is on (3 MiB)."""
    if bootstrap.tracing is None:
        return None
    from sidecar.telemetry.export.otlp import SpanExporter
    from sidecar.telemetry.spans import TraceResource

    node = bootstrap.node
    resource = TraceResource(
        service=node.service,
        namespace=node.namespace,
        version=node.version,
        instance=f"{node.namespace}/{node.id}/{os.getpid()}",
        software_version=__version__,
    )
    return SpanExporter(bootstrap.tracing, resource, offset_s, rng)
