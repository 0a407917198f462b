"""What the admin endpoints may see and do: the seam between them and `app`.

Everything is answered from memory, at once; values are plain, so that they print as JSON. Never hands out a key, a
token or a certificate's private part.
"""

from typing import Protocol

from sidecar.model.bootstrap import LogWhen
from sidecar.telemetry.facts import Facts, ProcessStats
from sidecar.telemetry.metrics import Metrics


class AdminView(Protocol):
    """The running sidecar. No method raises, and only `refresh` waits."""

    @property
    def metrics(self) -> Metrics:
        """What was counted."""

    def now_s(self) -> float:
        """Monotonic seconds, the clock of `RequestDone`."""

    async def refresh(self) -> None:
        """Make what is counted in other processes current; bounded."""

    def facts(self) -> Facts:
        """What is true now, for the metrics."""

    def process(self) -> ProcessStats | None:
        """What the kernel knows, of all processes together; None where /proc is hidden."""

    def live(self) -> bool:
        """Whether the process is worth keeping; False asks the supervisor for a new one."""

    def started(self) -> list[str]:
        """Why the sidecar by itself is not up yet, one sentence each; the app has no part in it."""

    def ready(self) -> list[str]:
        """Why traffic should not come yet, one sentence each; empty when it should."""

    def config(self) -> dict[str, object]:
        """node, listeners, version, age_s, resources with versions, rejected with reasons, cert {spiffe_id,
        not_after}, workers."""

    def clusters(self) -> list[dict[str, object]]:
        """Each cluster with its policy's mode, algorithm, whether it panics, and its endpoints: id, address, version,
        zone, ready, ejected_for_s, in_flight, failures, connections, rtt_ms, success_percent."""

    def log_requests(self, when: LogWhen) -> None:
        """Change which requests get a line in the access log."""

    def drain(self) -> None:
        """Begin to drain: not ready, then no new connections, then none. Asking twice changes nothing."""

    def quit(self) -> None:
        """Drain, then end the process."""
