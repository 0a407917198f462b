"""One sidecar as the control plane knows it, and how it shows in `status`.

`push.py` keeps them by node. A `Sidecar` is there while it is connected or its lease lives; a node that is registered
but was not heard of since the control plane started has none yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from control_plane.answers import RejectedResource, SidecarRow
from control_plane.ledger import Ledger
from control_plane.registry import Registry
from control_plane.sessions import Session
from control_plane.stats import StatsTable
from sidecar.control.messages import FromControlPlane, Hello
from sidecar.model.clusters import ServiceKey, Workload


class Peer(Protocol):
    """A stream to a sidecar."""

    def send(self, message: FromControlPlane) -> None:
        """Queue a message; never waits, never raises. A stream whose queue is full is closed."""

    def close(self, why: str) -> None:
        """End the stream after what is queued; never waits."""


@dataclass(slots=True, eq=False)
class Sidecar:
    """One node: what it said, its session, and its stream while there is one.

    Attributes:
        name: `NAMESPACE/ID`.
        address: Where its stream comes from.
        workload: What it registers; None for a pure caller.
    """

    name: str
    hello: Hello
    address: str
    workload: Workload | None
    session: Session
    peer: Peer | None
    ready: bool

    @property
    def rejected(self) -> tuple[RejectedResource, ...]:
        """What it refused, in order of name."""
        found = sorted(self.session.rejected.items())
        return tuple(RejectedResource(self.name, name, each.version, each.reason) for name, each in found)

    def in_sync(self, version: int) -> bool:
        """Connected, and nothing is owed up to `version`."""
        return self.peer is not None and self.session.flight is None and self.session.synced >= version


def row_of(sidecar: Sidecar, ledger: Ledger, registry: Registry, stats: StatsTable, now_s: float) -> SidecarRow:
    """The status row of a sidecar."""
    node = sidecar.hello.node
    latest = ledger.snapshot.version
    in_sync = sidecar.in_sync(latest)
    return SidecarRow(
        node=sidecar.name,
        service=node.service,
        version=node.version,
        account=node.account,
        address=sidecar.address,
        sidecar_version=sidecar.hello.version,
        connected=sidecar.peer is not None,
        ready=sidecar.ready,
        registered=sidecar.name in ledger.content.registered,
        applied=latest if in_sync else sidecar.session.applied,
        latest=latest,
        in_sync=in_sync,
        rejected=sidecar.rejected,
        lease_left_s=registry.left_s(sidecar.name, now_s),
        held=registry.is_held(sidecar.name),
        config_age_s=stats.config_age_s(sidecar.name, now_s),
        cert_not_after_s=stats.not_after_s(sidecar.name),
    )


def row_of_registered(node: str, workload: Workload, ledger: Ledger, registry: Registry, now_s: float) -> SidecarRow:
    """The status row of a node that is registered and was not heard of since the start."""
    return SidecarRow(
        node=node,
        service=workload.service,
        version=workload.version,
        account=workload.account,
        address=workload.address,
        sidecar_version="",
        connected=False,
        ready=workload.ready,
        registered=True,
        applied=0,
        latest=ledger.snapshot.version,
        in_sync=False,
        rejected=(),
        lease_left_s=registry.left_s(node, now_s),
        held=registry.is_held(node),
        config_age_s=None,
        cert_not_after_s=None,
    )


def keys(names: Iterable[str]) -> set[ServiceKey]:
    """`orders.shop` as keys; the wire's parser has checked the form."""
    return {ServiceKey(namespace, name) for name, _, namespace in (each.partition(".") for each in names)}
