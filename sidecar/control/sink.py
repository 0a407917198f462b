"""What the app gives to the control client: where pushes go, and what to tell the control plane."""

from typing import Any, Protocol

from sidecar.control.push import Push
from sidecar.control.state import Applied
from sidecar.transport.identity import Identity


class Sink(Protocol):
    """Called from the client's own task; every method returns at once."""

    def apply(self, push: Push) -> Applied:
        """Put a push in force and say what came of it.

        `applied = client.applied.after(push, parse_wire, client.wants())` does it; serve from `applied.snapshot`.
        """

    def identity_changed(self, identity: Identity) -> None:
        """Use this identity for new connections."""

    def report(self) -> dict[str, Any]:
        """The fields of messages.Report but `instance`, as they travel: counters, ejected, config, cert."""

    def ready(self) -> bool:
        """Whether the app can take requests."""

    def workload(self) -> dict[str, Any] | None:
        """What to register, as messages.WorkloadInfo travels; None for a pure caller."""

    def drain(self) -> None:
        """The control plane asks this process to finish and end."""
