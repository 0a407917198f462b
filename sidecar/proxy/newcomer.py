"""A plain connection without a task: its first bytes, its plain requests and its last ones, in synchronous handlers.

Most connections of the local app speak HTTP/1.1 in plain requests from their first byte to their last. A task for each
costs more than such a request does, where an app makes a connection for each of its requests. So a task begins when
there is something for one: other protocols, a request for the full path (`connection.py: go_on`), a client that is slow
to take its last answer. What is decided here, and in which time, is what `entry.py` decides; waits are the coarse
timer's.

Refuses nothing and judges nothing. Every way out gives the client's place back: by `_end`, or by the task.
"""

import math
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from sidecar.codec.sniff import Sniffed, classify
from sidecar.model import clusters
from sidecar.model.clusters import ServiceKey
from sidecar.proxy import connection, entry
from sidecar.proxy.detect import Detected, Kind
from sidecar.proxy.downstream import LINGER_BYTES, LINGER_S, linger
from sidecar.proxy.fast_path import FastPath, Left, Over
from sidecar.proxy.outbound import Outbound
from sidecar.proxy.worker import Connected, Worker
from sidecar.transport.stream import Stream, StreamBroken


class Host(Protocol):
    """Who has newcomers."""

    def begin(self, client: Connected, serving: Coroutine[object, Any, None]) -> None:
        """Await `serving` in a task, as long as which `client` is connected."""

    def forget(self, newcomer: "Newcomer") -> None:
        """It is nobody's concern any more."""


class Newcomer:
    """See the module's text. Of an outbound listener, on a port whose protocol is HTTP or found out.

    The handler of its stream for the first bytes and after the last answer; in between that is a `FastPath`.
    """

    __slots__ = ("_client", "_data", "_entry", "_fast", "_fixed", "_host", "_left_bytes", "_listener", "_protocol",
                 "_stream", "_worker", "due_s")  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        worker: Worker,
        listener: str,
        fixed: tuple[ServiceKey, int] | None,
        protocol: clusters.Protocol,
        host: Host,
    ) -> None:
        """`protocol`: what the port declares."""
        self._stream = stream
        self._worker = worker
        self._client: Connected | None = worker.client(listener)
        self._listener = listener
        self._fixed = fixed
        self._protocol = protocol
        self._host = host
        self._data = b""
        self._fast: FastPath | None = None
        self._left_bytes = LINGER_BYTES  # of what is read after the last answer
        self._entry = worker.timer.join(self)
        self.due_s = math.inf

    def start(self) -> None:
        """Wait for the first bytes."""
        worker = self._worker
        self._wait(worker.now() + entry.first_bytes_s(worker, self._protocol))
        worker.lanes.add(self)
        self._stream.handle_with(self)
        if worker.closing:
            self.part()

    # As of `Handler`, and of the timer.

    def on_readable(self) -> None:
        """The client sent its first bytes, or something behind its last answer, or left."""
        try:
            data = self._stream.try_read()
        except StreamBroken:
            self._end()
            return
        if data is None:
            return
        if self._fast is not None:
            self._left_bytes -= len(data)
            if not data or self._left_bytes <= 0:
                self._end()
        elif data:
            self._data = data = self._data + data
            found = classify(data)
            if found is Sniffed.HTTP1:
                self._serve(data)
            elif found is not None:
                self._give(Kind(found.value))
        elif self._data:
            self._give(Kind.OPAQUE)
        else:
            self._end()

    def on_drained(self) -> None:
        """Nothing is queued while we are the handler."""

    on_stale = on_blocked = on_drained

    def on_due(self, now_s: float) -> None:
        """The first bytes have not come in time, or the client's end after the last answer has not."""
        del now_s
        self.due_s = math.inf
        if self._fast is not None:
            self._end()
        else:
            self._give(Kind.UNDECIDED)

    def on_crashed(self) -> None:
        """A bug has ended the stream."""
        self._end()

    def part(self) -> None:
        """The worker's word that connections at rest are to end: one that has said nothing yet is."""
        self.on_readable()  # not over a request that has come meanwhile
        if self in self._worker.lanes:
            if self._data:
                self._give(Kind.UNDECIDED)  # too little to tell what it is; a task looks once more
            else:
                self._end()

    def cut(self) -> None:
        """End now, whatever is under way."""
        if self._fast is not None:
            self._fast.end()
        self._end()

    # What becomes of it.

    def _serve(self, data: bytes) -> None:
        """It speaks HTTP/1: go on by plain requests."""
        worker = self._worker
        self._rest()
        self._data = b""
        worker.observer.protocol_detected(self._listener, Kind.HTTP1.value)
        side = Outbound(worker, self._fixed)
        self._fast = fast = FastPath(self._stream, side, worker, worker.connection_ends_s(self._stream.peer))
        fast.begin(data, self._over)

    def _over(self) -> None:
        """The fast path has found its end."""
        assert self._fast is not None
        try:
            self._go_on(self._fast, self._fast.result())
        except BaseException:
            self._end()
            raise

    def _go_on(self, fast: FastPath, left: Left) -> None:
        over, worker, stream = left.over, self._worker, self._stream
        if over is None and (left.data or left.record is not None or not left.ended):
            make_side = partial(Outbound, worker, self._fixed)
            self._begin(connection.go_on(stream, make_side, worker, fast, left))
        elif over is Over.LAST:
            self._linger()
        else:
            if over is Over.IDLE:
                worker.observer.limit_reached("idle")
            stream.write(b"")
            if stream.queued_bytes:  # of the last answer: the client is slow, not gone
                self._begin(_last_bytes(stream, worker))
            else:
                self._end()

    def _give(self, kind: Kind) -> None:
        """It is for a task: other bytes than HTTP/1, or none in time."""
        worker, data = self._worker, self._data
        worker.observer.protocol_detected(self._listener, kind.value)
        self._begin(entry.serving(self._stream, worker, self._fixed, self._protocol, Detected(kind, data)))

    def _begin(self, serving: Coroutine[object, Any, None]) -> None:
        client, self._client = self._client, None
        assert client is not None
        self._rest()
        self._stream.takeover()
        self._data = b""
        self._host.forget(self)
        self._host.begin(client, serving)

    def _linger(self) -> None:
        """Let the last bytes arrive before the connection is closed, as `downstream.py: linger` does."""
        stream, worker = self._stream, self._worker
        stream.write(b"")  # what was put goes out now
        if stream.queued_bytes:
            self._begin(_last_bytes(stream, worker))
            return
        stream.send_eof()
        self._wait(worker.now() + LINGER_S)
        stream.handle_with(self)

    def _wait(self, due_s: float) -> None:
        timer = self._worker.timer
        if self._entry.timed is None:
            self._entry = timer.join(self)
        self.due_s = due_s
        timer.watch(self._entry, due_s)

    def _rest(self) -> None:
        """Wait for nothing any more. The timer's place does not hold us then: each would keep the other."""
        self._worker.timer.leave(self._entry)
        self.due_s = math.inf
        self._worker.lanes.discard(self)

    def _end(self) -> None:
        """Close it, and give the place back, once."""
        client, self._client = self._client, None
        if client is not None:
            self._rest()
            self._stream.close()
            self._host.forget(self)
            client.gone()


async def _last_bytes(stream: Stream, worker: Worker) -> None:
    try:
        await linger(stream, worker.limits.write_progress_s)
    finally:
        stream.close()
