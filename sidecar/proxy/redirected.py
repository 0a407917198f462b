"""Connections that the kernel sent to our listeners although their clients meant somebody else (transparent capture).

Asked by `listener.py` for each accepted connection. Brings together what the kernel remembers (`transport/capture.py`),
what the snapshot knows (`routing/addresses.py`) and the decision (`captured.py`).
"""

import socket
from collections.abc import Callable, Collection, Sequence

from sidecar.model.bootstrap import HostPort
from sidecar.model.capture import UnknownDestination
from sidecar.proxy import captured
from sidecar.proxy.captured import PassThrough, Refuse, ToApp, ToService
from sidecar.proxy.worker import Worker
from sidecar.routing.addresses import AddressIndex
from sidecar.transport.capture import is_own, original_destination
from sidecar.transport.own_dial import is_own_dial


class Redirected:
    """See the module's text. The index of addresses is made once per snapshot, when first asked for."""

    __slots__ = ("_index", "_listeners", "_unknown", "_worker")

    def __init__(
        self, worker: Worker, unknown: UnknownDestination, listeners: Callable[[], Sequence[HostPort]]
    ) -> None:
        self._worker = worker
        self._unknown = unknown
        self._listeners = listeners
        self._index: AddressIndex | None = None

    def outbound(self, sock: socket.socket) -> ToService | PassThrough | Refuse | None:
        """What becomes of a connection of the app; None when it was made to us."""
        destination = original_destination(sock)
        if destination is None:
            return None
        if is_own_dial(sock, destination):
            return captured.self_captured(destination)
        index = self._index
        if index is None or index.snapshot is not self._worker.snapshot:
            index = self._index = AddressIndex(self._worker.snapshot)
        return captured.outbound(destination, index, self._unknown, own=is_own(destination, self._listeners()))

    def inbound(self, sock: socket.socket, declared: Collection[int]) -> ToApp | Refuse | None:
        """Which port of the app a connection means; None when it was made to us."""
        destination = original_destination(sock)
        if destination is None:
            return None
        return captured.inbound(destination, declared, own=is_own(destination, self._listeners()))


class NeverCaptured:
    """No capture: every client means us. Asks the kernel nothing."""

    __slots__ = ()

    def outbound(self, sock: socket.socket) -> None:
        """See `Redirected`."""
        del sock

    def inbound(self, sock: socket.socket, declared: Collection[int]) -> None:
        """See `Redirected`."""
        del sock, declared
