"""What the admin endpoints show of the running process: answers from memory, plain values, never a secret."""

from typing import TYPE_CHECKING

import trio

from sidecar import __version__
from sidecar.model.bootstrap import LogWhen
from sidecar.telemetry.facts import Facts, ProcessStats
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from sidecar.app.holder import Holder


class View:
    """`AdminView` over a `Holder`."""

    def __init__(self, holder: "Holder") -> None:
        self._holder = holder
        self._started = False

    @property
    def metrics(self) -> Metrics:
        """See `AdminView`."""
        return self._holder.plane.metrics

    def now_s(self) -> float:
        """See `AdminView`."""
        return trio.current_time()

    async def refresh(self) -> None:
        """See `AdminView`."""
        await self._holder.plane.refresh()

    def live(self) -> bool:
        """See `AdminView`. The reactor's task is a child of the process's nursery: while somebody answers, it runs."""
        return self._holder.plane.live()

    def started(self) -> list[str]:
        """See `AdminView`. Said once, it stays true: what is lost later is for `ready` to say."""
        reasons = [] if self._started else self._holder.not_started()
        self._started = not reasons
        return reasons

    def ready(self) -> list[str]:
        """See `AdminView`."""
        return self._holder.not_ready()

    def facts(self) -> Facts:
        """See `AdminView`."""
        holder = self._holder
        plane, source = holder.plane.facts(), holder.source
        return Facts(
            version=__version__,
            config_version=source.snapshot.version,
            config_age_s=source.age_s(),
            config_rejected=source.rejected_total(),
            config_reloads=source.reloads(),
            cert_not_after_s=holder.identity.not_after_s if holder.identity is not None else None,
            log_dropped=plane.log_dropped,
            spans_exported=plane.spans_exported,
            spans_dropped=plane.spans_dropped,
            upstream_connections=plane.upstream_connections,
            workers=plane.workers,
            worker_restarts=plane.worker_restarts,
        )

    def process(self) -> ProcessStats | None:
        """See `AdminView`."""
        return self._holder.plane.process()

    def config(self) -> dict[str, object]:
        """See `AdminView`."""
        holder = self._holder
        node, who = holder.bootstrap.node, holder.identity
        snapshot = holder.source.snapshot
        workers = holder.plane.workers()
        return {
            "software": __version__,
            "node": {
                "service": node.service,
                "namespace": node.namespace,
                "version": node.version,
                "id": node.id,
                "account": node.account,
                "zone": node.zone,
                "labels": dict(node.labels),
            },
            "listeners": [{"name": name, "address": address} for name, address in holder.listening],
            "source": holder.source.describe(),
            "version": snapshot.version,
            "age_s": round(holder.source.age_s(), 3),
            "resources": [
                {"name": name, "version": snapshot.resources[name].version} for name in sorted(snapshot.resources)
            ],
            "rejected": holder.source.rejections(),
            "cert": None if who is None else {"spiffe_id": who.spiffe_id, "not_after": who.not_after_s},
            "draining": holder.draining,
            **({"workers": workers} if workers else {}),
        }

    def clusters(self) -> list[dict[str, object]]:
        """See `AdminView`."""
        return self._holder.plane.clusters()

    def log_requests(self, when: LogWhen) -> None:
        """See `AdminView`."""
        self._holder.plane.log_requests(when)

    def drain(self) -> None:
        """See `AdminView`."""
        self._holder.end(delay=True)

    def quit(self) -> None:
        """See `AdminView`."""
        self._holder.end(delay=False)
