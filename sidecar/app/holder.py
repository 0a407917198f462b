"""What there is one of in a process: where configuration comes from, who we are, what others may ask.

Puts the parts together and passes values between them; decides nothing about traffic. Workers get snapshots and
identities through a `Plane`, which with one worker means plain calls.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from random import Random

import trio

from sidecar.admin.endpoints import admin_routes, metrics_routes
from sidecar.admin.server import AdminServer, bind_admin, bind_metrics
from sidecar.app.folder_source import FolderSource
from sidecar.app.plane import Plane
from sidecar.app.source import FixedSource, Source
from sidecar.app.view import View
from sidecar.control.collector import set_aside
from sidecar.model.bootstrap import Bootstrap, MtlsMode
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.health import AppHealth
from sidecar.proxy.worker import Directory
from sidecar.telemetry.metrics import Metrics
from sidecar.transport.identity import Identity
from sidecar.transport.listen import bound_address

MakePlane = Callable[[Random, Directory], Plane]


class Holder:
    """See the module's text.

    Attributes:
        plane: The worker, or the workers.
        source: Where configuration and identity come from.
        identity: The one in use; None before there is one.
        ending: Set when the process is to drain and end.
        drain_delay: Whether the drain first waits for callers to hear of it.
        listening: (name, address) of every listener, for `/config`.
    """

    def __init__(
        self, bootstrap: Bootstrap, snapshot: Snapshot | None, make_plane: MakePlane, say: Callable[[str], None]
    ) -> None:
        self.bootstrap = bootstrap
        self.ending = trio.Event()
        self.drain_delay = True
        self.identity: Identity | None = None
        self._say = say
        self._rng = Random(secrets.randbits(64))
        self.source = self._source(snapshot)
        self.plane = make_plane(self._rng, self.source.directory)
        inbound = bootstrap.inbound
        self.health = AppHealth(
            [port.app for port in inbound.ports] if inbound is not None else [], self._health_changed
        )
        self._admin = bind_admin(bootstrap.admin.listen, shared=bootstrap.take_over)
        try:
            self._metrics = bind_metrics(bootstrap.metrics.listen, shared=bootstrap.take_over)
        except BaseException:
            self._admin.close()
            raise
        self.listening = [("admin", bound_address(self._admin)), ("metrics", bound_address(self._metrics))]

    @property
    def draining(self) -> bool:
        """True once the process is to end."""
        return self.ending.is_set()

    @property
    def metrics(self) -> Metrics:
        """What was counted, for the report."""
        return self.plane.metrics

    def start(self, nursery: trio.Nursery, listening: Sequence[tuple[str, str]]) -> None:
        """Start everything. `listening` are the traffic listeners, which a registration tells the control plane."""
        self.listening += listening
        self.plane.switch(self.source.snapshot)
        self.source.start()
        view = View(self)
        nursery.start_soon(AdminServer(admin_routes(view), local_only=True).serve, self._admin)
        nursery.start_soon(AdminServer(metrics_routes(view), local_only=False).serve, self._metrics)
        nursery.start_soon(self.source.run)
        nursery.start_soon(self.health.run)
        self.plane.start(nursery)
        set_aside()

    def not_started(self) -> list[str]:
        """Why the sidecar by itself is not ready, whatever the app does, one sentence each. The app may wait for it."""
        reasons = self.source.not_ready() + self.plane.not_ready()
        inbound = self.bootstrap.inbound
        if inbound is not None and inbound.mtls is not MtlsMode.OFF and self.identity is None:
            reasons.append("no identity yet: mutual TLS is not possible")
        if self.identity is not None and self.identity.not_after_s <= time.time():
            reasons.append("the identity has expired: mutual TLS is refused by every peer")
        return reasons

    def not_ready(self) -> list[str]:
        """Why traffic should not come yet, one sentence each."""
        reasons = self.not_started()
        if self.draining:
            reasons.append("draining: this process is about to end")
        if self.health.down:
            reasons.append(f"the app does not accept connections at {', '.join(map(str, self.health.down))}")
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
        snapshot = snapshot or Snapshot(complete=True)
        if bootstrap.static is not None:
            return FolderSource(snapshot, bootstrap, bootstrap.static, self)
        return FixedSource(snapshot, bootstrap.identity, self)

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""
        self.plane.switch(snapshot)

    def identify(self, identity: Identity) -> None:
        """Use this identity for new connections."""
        self.identity = identity
        self.plane.identify(identity)
        self.plane.metrics.principal = identity.spiffe_id

    def say(self, line: str) -> None:
        """A line for the person who runs this."""
        self._say(line)

    def _health_changed(self) -> None:
        down = ", ".join(map(str, self.health.down))
        self._say(f"app: nobody accepts connections at {down}" if down else "app: accepts connections")
        self.source.ready_changed()
