"""What becomes of a captured connection: a decision on its original destination, carried out by `listener.py`.

`transport/capture.py` says where the client wanted to go. Outbound, an address of a service is routed like a call by
name, with the service's routes, policies and balancing; any other address is passed on untouched, or refused where
the bootstrap file says so. Inbound, the port that was dialled names the declared port of the app. Pure: dials nothing.

Passing unknown addresses is the default, as in Istio: a sidecar put beside a running service must not cut it off from
its database, its cloud and its DNS over TCP on the first day. `outbound.unknown: refuse` is for later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sidecar.model.bootstrap import HostPort
from sidecar.model.capture import UnknownDestination
from sidecar.model.clusters import ClusterKey
from sidecar.routing.addresses import AddressIndex


class Refusal(StrEnum):
    """Why a captured connection is closed unserved; a label of metrics and of the audit line."""

    LOOP = "loop"
    UNKNOWN_DESTINATION = "unknown-destination"
    UNDECLARED_PORT = "undeclared-port"


@dataclass(frozen=True, slots=True)
class ToService:
    """Serve it as a call to this port of this service: what a listener of `outbound.upstreams` does."""

    cluster: ClusterKey


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Dial the original destination, relay bytes, parse nothing."""

    address: HostPort


@dataclass(frozen=True, slots=True)
class ToApp:
    """Serve it as a call to this declared port of the app, as a ServerName would have named it."""

    port: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close it without a byte; count it by `reason`, log `sentence`."""

    reason: Refusal
    sentence: str


def outbound(
    destination: HostPort, index: AddressIndex, unknown: UnknownDestination, *, own: bool
) -> ToService | PassThrough | Refuse:
    """Where a connection of the app goes that was captured on its way to `destination`.

    Args:
        destination: From `transport.capture.original_destination`, not None.
        index: Of the snapshot in use.
        unknown: `outbound.unknown` of the bootstrap file.
        own: `transport.capture.is_own(destination, every listener of this process)`.
    """
    if own:
        return _loop(destination)
    cluster = index.find(*destination)
    if cluster is not None:
        return ToService(cluster)
    if unknown is UnknownDestination.PASS:
        return PassThrough(destination)
    return Refuse(
        Refusal.UNKNOWN_DESTINATION,
        f"{destination} is no address of a known service, and outbound.unknown is refuse; "
        "write outbound.unknown: pass, or skip the address in outbound.capture",
    )


def self_captured(destination: HostPort) -> Refuse:
    """What becomes of an outgoing connection that this process dialled itself (`transport.own_dial.is_own_dial`).

    Asked before `outbound`: the destination is a foreign one, and serving it would dial, and capture, it again.
    """
    return Refuse(
        Refusal.LOOP,
        f"this sidecar's own connection to {destination} was captured; apply the rules again with the user that the "
        "sidecar runs as: sidecar capture apply --proxy-uid USER",
    )


def inbound(destination: HostPort, declared: Collection[int], *, own: bool) -> ToApp | Refuse:
    """Which declared port of the app a connection means that was captured on its way to `destination`.

    Args:
        destination: From `transport.capture.original_destination`, not None.
        declared: The ports of `inbound.ports`, as callers know them.
        own: `transport.capture.is_own(destination, every listener of this process)`.
    """
    if own:
        return _loop(destination)
    if destination.port in declared:
        return ToApp(destination.port)
    listed = ", ".join(map(str, sorted(declared))) or "none"
    return Refuse(
        Refusal.UNDECLARED_PORT,
        f"port {destination.port} is captured and not declared in inbound.ports (declared: {listed}); "
        "declare it, or skip it in inbound.capture",
    )


def _loop(destination: HostPort) -> Refuse:
    return Refuse(
        Refusal.LOOP,
        f"{destination} is a listener of this sidecar: serving it would call ourselves for ever; "
        "let the app call the service, and apply the rules with `sidecar capture apply -c FILE`",
    )
