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

    def destination(self, sock: socket.socket) -> HostPort | None:
        """Where the client of an accepted connection wanted to go; None when it wanted us."""
        return original_destination(sock)

    def outbound(self, destination: HostPort) -> ToService | PassThrough | Refuse:
        """What becomes of a connection of the app to `destination`."""
        index = self._index
        if index is None or index.snapshot is not self._worker.snapshot:
            index = self._index = AddressIndex(self._worker.snapshot)
        return captured.outbound(destination, index, self._unknown, own=is_own(destination, self._listeners()))

    def inbound(self, destination: HostPort, declared: Collection[int]) -> ToApp | Refuse:
        """Which port of the app a connection to `destination` means."""
        return captured.inbound(destination, declared, own=is_own(destination, self._listeners()))


class NeverCaptured:
    """No capture: every client means us. Asks the kernel nothing."""

    __slots__ = ()

    def destination(self, sock: socket.socket) -> HostPort | None:
        """See `Redirected`."""
        del sock
        return None

    def outbound(self, destination: HostPort) -> ToService | PassThrough | Refuse:
        """Never asked."""
        return PassThrough(destination)

    def inbound(self, destination: HostPort, declared: Collection[int]) -> ToApp | Refuse:
        """Never asked."""
        del declared
        return ToApp(destination.port)
