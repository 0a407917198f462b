"""What the holder asks of whoever serves the traffic: one worker in its own process, or several in theirs.

`one_worker.py` is the first, `supervisor.py` the second; nothing above this contract knows how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from sidecar.model.bootstrap import LogWhen
from sidecar.model.snapshot import Snapshot
from sidecar.telemetry.facts import ProcessStats
from sidecar.telemetry.metrics import Metrics
from sidecar.transport.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFacts:
    """What the data plane adds to `Facts`; sums where there are several workers. The last two are None without any."""

    log_dropped: int = 0
    spans_exported: int = 0
    spans_dropped: int = 0
    upstream_connections: Sequence[tuple[str, str, int]] = ()
    workers: int | None = None
    worker_restarts: int | None = None


class Plane(Protocol):
    """See the module's text. `metrics` is what was counted, of all workers together."""

    metrics: Metrics

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to serve. Called once, after the first `switch`."""

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""

    def identify(self, identity: Identity) -> None:
        """Use this identity for new connections."""

    def log_requests(self, when: LogWhen) -> None:
        """Change which requests get a line in the access log."""

    def reopen_log(self) -> None:
        """Open the access log anew, after it was renamed."""

    def live(self) -> bool:
        """Whether the process is worth keeping."""

    def not_ready(self) -> list[str]:
        """Why traffic should not come yet, as far as this is about workers."""

    async def finish_inbound(self) -> None:
        """Accept no callers any more and wait for the answers under way; the app can still make calls. Not bounded."""

    async def finish(self) -> None:
        """The same of both sides. Not bounded."""

    async def refresh(self) -> None:
        """Make `metrics`, `facts` and `clusters` current; bounded, and never raises."""

    def facts(self) -> PlaneFacts:
        """What is true now."""

    def process(self) -> ProcessStats | None:
        """What the kernel knows; None where /proc is hidden."""

    def clusters(self) -> list[dict[str, object]]:
        """For `/clusters`."""

    def workers(self) -> list[dict[str, object]]:
        """For `/config`: one row for each worker process; empty when there is one process."""
