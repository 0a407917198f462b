"""A sidecar as the admin endpoints see it, without a sidecar."""

from dataclasses import dataclass, field

from sidecar.admin.process import process_stats
from sidecar.model.bootstrap import LogWhen
from sidecar.telemetry.facts import Facts, ProcessStats
from sidecar.telemetry.metrics import Metrics


@dataclass
class FakeView:
    """Answers what it is told to, and remembers what it was asked to do."""

    metrics: Metrics = field(default_factory=lambda: Metrics(service="orders", namespace="shop"))
    reasons: list[str] = field(default_factory=list)
    unstarted: list[str] = field(default_factory=list)
    alive: bool = True
    did: list[str] = field(default_factory=list)

    def now_s(self) -> float:
        return 110.0

    def facts(self) -> Facts:
        return Facts(version="0.1.0", config_version=7)

    async def refresh(self) -> None:
        self.did.append("refresh")

    def process(self) -> ProcessStats | None:
        return process_stats()

    def started(self) -> list[str]:
        return self.unstarted

    def live(self) -> bool:
        return self.alive

    def ready(self) -> list[str]:
        return self.reasons

    def config(self) -> dict[str, object]:
        return {"node": {"service": "orders"}, "version": 7, "rejected": []}

    def clusters(self) -> list[dict[str, object]]:
        return [{"cluster": "stock.shop:8080", "policy": "enforce", "endpoints": []}]

    def log_requests(self, when: LogWhen) -> None:
        self.did.append(f"log {when}")

    def drain(self) -> None:
        self.did.append("drain")

    def quit(self) -> None:
        self.did.append("quit")
