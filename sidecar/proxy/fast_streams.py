"""The streams of one client's connection that the fast path serves: who begins, who waits, who is handed over.

Beside `mux_server.py`, which owns the connection and serves all other streams of it in tasks. The codec asks here about
each request first; tunnels are never taken. Waits of all streams are one number in the worker's coarse timer: the
earliest of them is looked at when it is over, so that a request that is answered in time costs the timer nothing.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from sidecar.codec.events import Event
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.h2_lean.stream import LeanStream, StreamHandler
from sidecar.errors import ProxyError
from sidecar.model.clusters import ServiceKey
from sidecar.model.messages import RequestHead
from sidecar.proxy.fast_relay import FastRelay
from sidecar.proxy.fast_stream import FastStream
from sidecar.proxy.handover import HandOver
from sidecar.proxy.mux import LinkEnd, MuxLink
from sidecar.proxy.side import FastSide
from sidecar.proxy.worker import Worker


class Owner(Protocol):
    """The connection."""

    def go_on(
        self,
        number: int,
        head: RequestHead,
        why: str,
        record: HandOver | None,
        service: ServiceKey | None,
        events: Sequence[Event],
        lost: ProxyError | None,
    ) -> None:
        """See `Home`."""

    def answered(self, end: LinkEnd) -> None:
        """A stream is over."""


class FastStreams:
    """See the module's text. `Home` of its streams."""

    __slots__ = ("_entry", "_owner", "_ready", "codec", "due_s", "link", "peer", "side", "worker")

    def __init__(self, owner: Owner, link: MuxLink, codec: LeanServer, side: FastSide, worker: Worker) -> None:
        self._owner = owner
        self.link = link
        self.codec = codec
        self.side = side
        self.worker = worker
        self.peer = link.stream.peer
        self._ready: list[FastStream] = []
        self._entry = worker.timer.join(self)
        self.due_s = math.inf
        codec.on_request = self._on_request

    def leave(self) -> None:
        """No more requests."""
        self.codec.on_request = None
        self.worker.timer.leave(self._entry)

    def _on_request(self, stream: LeanStream, head: RequestHead, end: bool) -> StreamHandler | None:
        if head.opens_tunnel:
            return None
        call = FastRelay(self, stream, head, self.link.read_s, complete=end)
        self.link.ends[stream.number] = call
        self._ready.append(call)
        return call

    def fed(self) -> bool:
        """All that one read brought was told; True: requests were among it."""
        if not self._ready:
            return False
        ready, self._ready = self._ready, []
        now_s = self.link.read_s
        for call in ready:
            try:
                call.go(now_s)
            except Exception as bug:
                call.crashed(bug)
        return True

    # As of `Home`.

    def ready(self, call: FastStream) -> None:
        """See `Home`."""
        self._ready.append(call)

    def go_on(
        self,
        number: int,
        head: RequestHead,
        why: str,
        *,
        record: HandOver | None = None,
        service: ServiceKey | None = None,
        events: Sequence[Event] = (),
        lost: ProxyError | None = None,
    ) -> None:
        """See `Home`."""
        self._owner.go_on(number, head, why, record, service, events, lost)

    def over(self, call: FastStream) -> None:
        """See `Home`."""
        self._owner.answered(call)

    def watch(self, due_s: float) -> None:
        """See `Home`."""
        if due_s < self.due_s:
            self.due_s = due_s
            if due_s < self._entry.check_s:
                self.worker.timer.watch(self._entry, due_s)

    # As of `Timed`.

    def on_due(self, now_s: float) -> None:
        """The earliest wait that was known of is over."""
        self.due_s = math.inf
        calls = [end for end in self.link.ends.values() if isinstance(end, FastStream)]
        for call in calls:
            if call.due_s <= now_s:
                call.due_s = math.inf
                try:
                    call.on_due(now_s)
                except Exception as bug:
                    call.crashed(bug)
        self.due_s = min([self.due_s, *(call.due_s for call in calls)])

    def on_crashed(self) -> None:
        """See `Timed`: each stream's turn is caught by itself."""
