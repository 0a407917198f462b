"""One worker whole: a data plane with what it tells, which is numbers, log lines and spans.

The sidecar's only process is one of these and a holder around it; with `workers: N` each worker process is one, told by
the holder's channel what a holder in the same process would tell it by calls.
"""

import os
import time
import traceback
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from sidecar import __version__
from sidecar.admin.process import process_stats
from sidecar.app import clusters
from sidecar.app.data_plane import Bound, DataPlane
from sidecar.app.plane import PlaneFacts
from sidecar.model.bootstrap import Bootstrap, LogWhen
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.export.log_writer import LogWriter
from sidecar.telemetry.facts import ProcessStats
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import Observers
from sidecar.transport.identity import Identity
from sidecar.transport.tls import Contexts

if TYPE_CHECKING:
    from sidecar.telemetry.export.otlp import SpanExporter

EXPIRE_S = 60.0  # how often idle metric series are looked for
MAX_BUG_LINES = 100  # in a process's life


class OneWorker:
    """`Plane`: see the module's text. Raises ConfigError when the access log cannot be opened.

    Args:
        bound: The listening sockets; `start` hands them on.
        shares_log: Other processes write to the same access log.

    Attributes:
        metrics: What was counted here.
        data_plane: The proxy with its sockets.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        bound: list[Bound],
        rng: Random,
        directory: Directory | None,
        say: Callable[[str], None],
        *,
        shares_log: bool = False,
    ) -> None:
        self._bootstrap = bootstrap
        self._bound = bound
        self._rng = rng
        self._say = say
        self._bugs = 0
        node = bootstrap.node
        self.metrics = Metrics(service=node.service, namespace=node.namespace, version=node.version)
        log = bootstrap.access_log
        self._log_writer = LogWriter(log.path, shared=shares_log)
        # trio's clock has its own zero: `start` sets the offset to wall time.
        self._access_log = AccessLog(self._log_writer, log.when, 0.0)
        self._exporter: SpanExporter | None = None
        self._observers = Observers((self.metrics, self._access_log))
        self.data_plane = DataPlane(bootstrap, self._observers, rng, directory, self._on_bug)

    def start(self, nursery: trio.Nursery) -> None:
        """See `Plane`."""
        offset_s = time.time() - trio.current_time()
        self._access_log.wall_offset_s = offset_s
        self._exporter = _exporter(self._bootstrap, offset_s, self._rng)
        if self._exporter is not None:
            self._observers.each += (self._exporter,)
            nursery.start_soon(self._exporter.run)
        nursery.start_soon(self._log_writer.run)
        nursery.start_soon(self._expire)
        nursery.start_soon(self.data_plane.run, self._bound)

    def switch(self, snapshot: Snapshot) -> None:
        """See `Plane`."""
        self.data_plane.switch(snapshot)

    def identify(self, identity: Identity) -> None:
        """See `Plane`."""
        self.data_plane.identify(Contexts(identity))
        self.metrics.principal = identity.spiffe_id

    def log_requests(self, when: LogWhen) -> None:
        """See `Plane`."""
        self._access_log.when = when
        self.data_plane.forget_tallies()

    def reopen_log(self) -> None:
        """See `Plane`. Raises ConfigError and goes on as before."""
        self._log_writer.reopen()

    def live(self) -> bool:
        """See `Plane`."""
        return True

    def not_ready(self) -> list[str]:
        """See `Plane`."""
        return []

    async def finish_inbound(self) -> None:
        """See `Plane`."""
        await self.data_plane.finish_inbound()

    async def finish(self) -> None:
        """See `Plane`."""
        await self.data_plane.finish()

    async def refresh(self) -> None:
        """See `Plane`."""
        self.collect()
        await trio.lowlevel.checkpoint()

    def collect(self) -> None:
        """Take over what the data plane counts by itself."""
        served = self.data_plane.fast_requests()
        if served:
            self.metrics.path_taken("fast", "", served)

    def facts(self) -> PlaneFacts:
        """See `Plane`."""
        exporter = self._exporter
        return PlaneFacts(
            log_dropped=self._log_writer.dropped,
            spans_exported=exporter.exported if exporter is not None else 0,
            spans_dropped=exporter.dropped if exporter is not None else 0,
            upstream_connections=clusters.connections(self.data_plane.worker),
        )

    def process(self) -> ProcessStats | None:
        """See `Plane`."""
        return process_stats()

    def clusters(self) -> list[dict[str, object]]:
        """See `Plane`."""
        return clusters.clusters(self.data_plane.worker)

    def workers(self) -> list[dict[str, object]]:
        """See `Plane`."""
        return []

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
