"""Which TCP connections of a machine or pod are sent through the sidecar without their owner's knowing.

Part of the bootstrap file (`outbound.capture`, `inbound.capture`). `config/capture_rules.py` makes nftables rules of
it; the running sidecar only learns that such connections may come. Frozen values; nothing here touches a kernel.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class UnknownDestination(StrEnum):
    """What becomes of a captured connection whose address belongs to no known service."""

    PASS = "pass"  # noqa: S105 - dialled as the app meant it, byte for byte
    REFUSE = "refuse"  # closed; nothing leaves but what the mesh knows


class PortRange(NamedTuple):
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


EVERY_PORT = (PortRange(1, 65_535),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Connections by owner and by destination; empty fields say nothing.

    Attributes:
        uids, gids: User and group of the process that connects.
        ports: Destination ports.
        cidrs: Destination networks, IPv4 and IPv6, in canonical text.
    """

    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    ports: tuple[PortRange, ...] = ()
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCapture:
    """What the app's side sends.

    Attributes:
        proxy_uid, proxy_gid: The sidecar's own user or group, never captured: a sidecar that captured itself would call
            itself for ever. One of them is needed unless `only` names users or groups.
        only: With users or groups, those alone are captured; with ports or networks, those destinations alone.
        skip: Never captured; wins over `only`.
    """

    proxy_uid: int | None = None
    proxy_gid: int | None = None
    only: Selection = Selection()
    skip: Selection = Selection()


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundCapture:
    """What callers send to the app's own port.

    Attributes:
        only_ports: Captured ports. Empty: those that `inbound.ports` declares, because no other can be served.
        skip_ports: Never captured; wins over `only_ports`.
    """

    only_ports: tuple[PortRange, ...] = ()
    skip_ports: tuple[PortRange, ...] = ()
