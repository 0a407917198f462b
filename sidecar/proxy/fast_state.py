"""One client connection on the fast path: what it knows, what it waits for, and how a request on it ends.

Base of `fast_request.py` (from the client's bytes to a request that was written) and `fast_path.py` (from the answer to
the next request). Here is what both ends share: handing a request over to the full path, telling observers, breaking
off, time. Decides nothing: each question is the pure folders'.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import trio

from sidecar.codec.chunks import ChunkedBody
from sidecar.codec.h1_client import H1Client
from sidecar.codec.plain_head import PlainRequest
from sidecar.errors import BROKEN_OFF, CLIENT_STUCK, Fault, ProxyError
from sidecar.policy import attempts
from sidecar.policy.attempts import Try
from sidecar.proxy.done import tell
from sidecar.proxy.downstream import PROGRESS_LOOKS
from sidecar.proxy.edits import from_afar
from sidecar.proxy.fast_call import FastCall
from sidecar.proxy.handover import HandOver
from sidecar.proxy.relay import too_slow
from sidecar.proxy.side import FastSide
from sidecar.proxy.timer import Entry
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import DESTINATION
from sidecar.transport.dial import Dialling
from sidecar.transport.stream import Stream

NO_REQUEST = PlainRequest(b"", 0, 0, b"", b"", b"", {b"host": b""}, 0)


class Phase(Enum):
    """Where the connection is."""

    REST = auto()  # between two requests
    DIALLING = auto()  # the request waits for a connection
    BODY = auto()  # a head came, the rest of its body is awaited
    ASKED = auto()  # the request was written, the answer's head is awaited
    ANSWERING = auto()  # the answer's body is under way
    FLUSHING = auto()  # all was written, but the client has not taken it
    LEFT = auto()  # not ours any more


class Over(Enum):
    """How the fast path ended, if not with something for the full path to go on with."""

    IDLE = auto()  # nothing came for too long
    DRAIN = auto()  # the connection is to end, and is at rest
    LAST = auto()  # the client was told that this answer is the last one
    CUT = auto()  # it ended, and telemetry knows


@dataclass(slots=True)
class Left:
    """What the full path goes on with.

    Attributes:
        over: Set: there is nothing to go on with.
        why: The reason, in a word of a fixed set; a label of metrics.
        record: A request that was begun; None: `data` is to be read first.
        side: The side that routed it.
        data: Bytes of the client that nobody has read, in front of what is still in its stream.
        ended: The client has ended its direction behind them.
    """

    over: Over | None
    why: str
    record: HandOver | None
    side: FastSide
    data: bytes
    ended: bool


class FastState(FastCall):
    """See the module's text. `served`: at least one request of the connection was."""

    __slots__ = (
        "_chunks", "_connection", "_data", "_dialling", "_ended", "_ends_s", "_entry", "_far", "_framed", "_left",
        "_moved_s", "_on_left", "_paused", "_pending", "_phase", "_pool", "_prefix", "_rest", "_reusable", "_stream",
        "_task", "_tells_always", "due_s", "served",
    )  # fmt: skip

    _head: PlainRequest
    _entry: Entry  # in the worker's timer; set when it begins to serve
    _rest: int  # bytes that a counted answer still owes
    _reusable: bool

    def __init__(self, stream: Stream, side: FastSide, worker: Worker, ends_s: float) -> None:
        """`ends_s`: when the connection is to end in order."""
        self._stream = stream
        self._peer = stream.peer
        self._side = side
        self._pool = side.pool
        self._tells_always = side.reporter == DESTINATION  # `hop_fields` has some even where the hop is plain
        self._worker = worker
        self._ends_s = ends_s
        self._far = from_afar(stream.peer)
        self._task: trio.lowlevel.Task | None = None
        self._left: Left | None = None
        self._on_left: Callable[[], None] | None = None  # in the place of a task
        self._data = b""
        self._head = NO_REQUEST
        self._body = self._framed = self._prefix = b""
        self.served = False
        self._ended = False
        self._paused = False  # the client is not read
        self._pending = 0  # bytes that the client had not taken when it was last seen to take some
        self._moved_s = 0.0  # when that was
        self.due_s = math.inf
        self._phase = Phase.LEFT
        self._chunks: ChunkedBody | None = None
        self._record = None
        self._connection: UpstreamConnection | None = None
        self._dialling: Dialling | None = None
        self._exchange = None
        self._span = None

    def on_crashed(self) -> None:
        """A bug ended a turn of ours."""
        self._break_off(BROKEN_OFF)

    # Handing over.

    def _hand_over(self, why: str, refused: ProxyError | None = None) -> None:
        """Give a begun request to the full path: with its step to take, and its connection if it was written.

        `refused`: there is no connection to the endpoint of that step.
        """
        self._stop_dialling()
        record = self._record or self._recorded()
        record.refused = refused
        exchange, connection = self._exchange, self._connection
        record.why_left = why
        if connection is not None and exchange is not None:
            connection.user = None
            connection.stream.takeover()
            connection.codec = H1Client.resumed(self._head)
            record.lease = self._pool.lease_of(exchange.cluster, connection)
            record.principal = connection.stream.peer.principal
            record.response_prefix = self._prefix
        self._record = self._span = self._exchange = self._connection = None
        self._go(None, why, record)

    def _go(self, over: Over | None, why: str, record: HandOver | None) -> None:
        self._phase = Phase.LEFT
        self.due_s = math.inf
        self._stream.takeover()  # at once: there may be another turn before the task runs, and what comes is not ours
        self._left = Left(over, why, record, self._side, self._data, self._ended)
        self._head, self._data, self._body, self._framed, self._prefix = NO_REQUEST, b"", b"", b"", b""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        elif self._on_left is not None:
            on_left, self._on_left = self._on_left, None
            on_left()

    # The end of a request.

    def _break_off(self, fault: Fault) -> None:
        """End the connection in a way that nobody takes for a whole answer, and give everything back."""
        phase, exchange, connection = self._phase, self._exchange, self._connection
        if phase is Phase.LEFT:
            return
        self._stop_dialling()
        if fault.limit and phase is Phase.FLUSHING:
            self._worker.observer.limit_reached(fault.limit)
        self._stream.abort()
        if exchange is not None:
            self._exchange = self._connection = None
            record = self._over(exchange, connection.stream.peer.principal if connection is not None else "", fault)
            if connection is not None:
                connection.user = None
                connection.stream.close()
                self._pool.give_back(exchange.cluster, connection, 0.0, reusable=False)
            attempts.finish(exchange)
            self._worker.fast_requests[0] += 1
            self._go(Over.CUT, "", None)
            tell(record, self._peer, self._side, self._worker)
        else:
            self._go(Over.CUT, "", None)

    def _stop_dialling(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            assert self._exchange is not None
            dialling.give_up()
            self._pool.free(self._exchange.cluster.key)

    # Time.

    def _wait(self, due_s: float) -> None:
        self.due_s = due_s
        if due_s < self._entry.check_s:
            self._worker.timer.watch(self._entry, due_s)

    def on_due(self, now_s: float) -> None:
        """The timer's word: what was waited for has not come."""
        self.due_s = math.inf
        phase = self._phase
        if phase is Phase.REST:
            self._go(Over.IDLE, "", None)
        elif phase is Phase.BODY:
            self._go(None, "slow", None)
        elif phase is Phase.DIALLING:
            self._dialling_too_long(now_s)
        elif phase is Phase.ASKED:
            self._hand_over("timeout")
        elif self._stream.queued_bytes:
            self._client_is_slow(now_s)
        elif phase is Phase.ANSWERING:
            whole = self._plan.whole_response and self._ends_at_s is not None and now_s >= self._ends_at_s
            self._break_off(too_slow(self._plan.policy.timeouts.stream_idle_s, whole=whole))

    def _dialling_too_long(self, now_s: float) -> None:
        exchange, step, dialling = self._exchange, self._step, self._dialling
        assert exchange is not None
        assert isinstance(step, Try)
        assert dialling is not None
        if step.until_s is not None and step.until_s <= now_s:
            self._hand_over("timeout")
            return
        self._dialling = None
        dialling.give_up()
        connect_s = exchange.policy.timeouts.connect_s
        self._hand_over("connect", self._pool.dial_timed_out(exchange.cluster, step.endpoint, connect_s))

    def _client_is_slow(self, now_s: float) -> None:
        progress_s = self._worker.limits.write_progress_s
        if self._stream.pending_bytes < self._pending:
            self._wait_for_client(now_s)
        elif now_s < self._moved_s + progress_s:
            self._wait(now_s + progress_s / PROGRESS_LOOKS)
        else:
            self._break_off(CLIENT_STUCK.saying(f"the client took nothing for {progress_s:g}s"))

    def _wait_for_client(self, now_s: float) -> None:
        self._pending, self._moved_s = self._stream.pending_bytes, now_s
        self._wait(now_s + self._worker.limits.write_progress_s / PROGRESS_LOOKS)
