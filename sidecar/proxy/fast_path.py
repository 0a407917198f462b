"""Serve plain HTTP/1.1 requests of one client connection in synchronous handlers, without waking a task.

The plain case: a whole head, with a small body, of a kind that asks for nothing unusual; a route without filters; an
idle connection to the chosen endpoint at hand; an answer with a length or in chunks. Everything is decided by the same
functions as on the full path (`exchange.py`): routing, access, split, the attempts machine, telemetry. What is not
plain is handed over, at one of the three entries of the full path: the bytes as they came; a request with its next
step decided; or one that was written, with its connection and what came of the answer. Failures are never judged here.

Owned by `connection.py`'s task, which sleeps in `serve` while this works as the stream's handler. Timeouts are the
worker's coarse timer's. One thing of a kind at a time: a request is finished by exactly one of `_finish` and `_leave`.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto

import trio

from sidecar.balance.pick import pick, split
from sidecar.codec.chunks import ChunkedBody
from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_write import BodyWriter
from sidecar.codec.plain_head import PlainRequest, plain_request, plain_response
from sidecar.errors import (
    BROKEN_OFF,
    CLIENT_GONE,
    CLIENT_STUCK,
    MALFORMED,
    UPSTREAM_CLOSED,
    UPSTREAM_PROTOCOL,
    UPSTREAM_RESET,
    Fault,
    ProxyError,
)
from sidecar.model.clusters import Mesh
from sidecar.policy import attempts
from sidecar.policy.attempts import Exchange, Try
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.attempt_span import close_span, open_span
from sidecar.proxy.done import describe, tell
from sidecar.proxy.edits import FORWARDED_FOR, FORWARDED_PROTO, REQUEST_ID, forwarded_for, from_afar
from sidecar.proxy.handover import HandOver
from sidecar.proxy.pool import idle_s
from sidecar.proxy.relay import too_slow
from sidecar.proxy.side import FastSide
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.proxy.worker import TallyKey, Worker
from sidecar.telemetry import trace
from sidecar.telemetry.observer import DESTINATION, AttemptSpan, Tally
from sidecar.transport.stream import HIGH_WATER_BYTES, READ_BYTES, Stream, StreamBroken

BODY_MAX_BYTES = 65_536  # of a request, waited for here; a larger one streams on the full path
BODY_WAIT_S = 0.02  # for the rest of it: head and body often are two writes. A body that is streamed goes on elsewhere
PUT_MAX_BYTES = 16_384  # of an answer; a larger one is worth a write of its own
AHEAD_MAX_BYTES = 65_536  # of requests sent ahead of their turn; then the client is not read


_NO_REQUEST = PlainRequest(b"", 0, 0, b"", b"", b"", {b"host": b""}, 0)


class Phase(Enum):
    """Where the connection is."""

    REST = auto()  # between two requests
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


class FastPath:
    """See the module's text. One for each client connection that speaks HTTP/1."""

    __slots__ = (
        "_body",
        "_bytes_in",
        "_bytes_out",
        "_chunks",
        "_cluster",
        "_connection",
        "_data",
        "_ended",
        "_ends_at_s",
        "_ends_s",
        "_entry",
        "_exchange",
        "_far",
        "_framed",
        "_head",
        "_left",
        "_paused",
        "_peer",
        "_pending",
        "_phase",
        "_plan",
        "_pool",
        "_prefix",
        "_record",
        "_request_id",
        "_rest",
        "_reusable",
        "_sent",
        "_side",
        "_snapshot",
        "_span",
        "_span_id",
        "_started_s",
        "_status",
        "_step",
        "_stream",
        "_task",
        "_tells_always",
        "_trace",
        "_worker",
        "due_s",
    )  # fmt: skip

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
        self._entry = worker.timer.join(self)
        self._task: trio.lowlevel.Task | None = None
        self._left: Left | None = None
        self._data = b""
        self._ended = False
        self._paused = False  # the client is not read
        self._pending = 0  # bytes that the client had not taken when it was last looked at
        self.due_s = math.inf
        self._phase = Phase.LEFT
        self._chunks: ChunkedBody | None = None
        self._record: HandOver | None = None
        self._connection: UpstreamConnection | None = None
        self._exchange: Exchange | None = None
        self._span: AttemptSpan | None = None

    async def serve(self, data: bytes, rest_s: float) -> Left:
        """Serve plain requests until there is something else to do; the caller's task sleeps meanwhile.

        Args:
            data: Bytes of the client that were read already.
            rest_s: For the first byte of a request, if there is none yet.
        """
        worker = self._worker
        self._left = None
        self._ended = self._paused = False
        self._data = data
        self._phase = Phase.REST
        worker.lanes.add(self)
        self._stream.handle_with(self)
        try:
            if data:
                self._next()
            elif worker.closing:
                self.part()
            else:
                self._wait(min(worker.now() + rest_s, self._ends_s))
            if self._left is None:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        except BaseException:
            self._break_off(BROKEN_OFF)
            raise
        finally:
            self._task = None
            worker.lanes.discard(self)
            worker.timer.leave(self._entry)
            self._entry = worker.timer.join(self)
            self.due_s = math.inf
            if not self._stream.closed:
                self._stream.takeover()
        return self._result()

    def _result(self) -> Left:
        left, self._left = self._left, None
        assert left is not None
        return left

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def part(self) -> None:
        """The worker's word that connections at rest are to end."""
        if self._phase is Phase.REST and not self._data:
            self.on_readable()  # a drain does not close over a request that has come meanwhile
            if self._phase is Phase.REST:
                self._go(Over.DRAIN, "drain", None)

    # The client's side.

    def on_readable(self) -> None:
        """The client sent something, or left."""
        data = self._read()
        if data is None:
            return
        phase = self._phase
        if phase is Phase.REST:
            if not data:
                self._ended = True
                self._go(None, "", None)
            else:
                self._data = data
                self._next()
            return
        if not data:
            self._ended = self._paused = True
            self._stream.pause()
        self._data += data
        if phase is Phase.BODY:
            if self._ended:
                self._go(None, "body", None)
            else:
                self._more_body(data)
        elif len(self._data) > AHEAD_MAX_BYTES:
            self._paused = True
            self._stream.pause()

    def on_drained(self) -> None:
        """The client has taken what was queued."""
        if self._phase is Phase.FLUSHING:
            self._at_rest(self._worker.now())
        elif self._phase is Phase.ANSWERING and self._connection is not None:
            self._connection.stream.resume()
            self._wait_for_body(self._worker.now())

    def on_stale(self) -> None:
        """Answers are put whether the client is silent or not."""

    def on_blocked(self) -> None:
        """The client takes less than was put: the rest goes out when it can, and a loss shows at the next read."""

    def on_crashed(self) -> None:
        """A bug in a handler has closed the client's stream."""
        self._break_off(BROKEN_OFF)

    def _read(self) -> bytes | None:
        try:
            return self._stream.try_read()
        except StreamBroken as exc:
            if self._phase is Phase.REST:
                self._go(Over.CUT, "", None)
            elif self._phase is Phase.BODY:
                self._go(None, "client", None)  # the codec says what was missing
            else:
                self._break_off(CLIENT_GONE.saying(f"the client left: {exc}"))
            return None

    def _next(self) -> None:
        """Begin the request that `_data` begins with, or give it away."""
        worker = self._worker
        head = plain_request(self._data, worker.request_acts, far=self._far)
        if isinstance(head, str):
            self._go(None, head, None)
            return
        now_s = worker.now()
        if worker.draining or now_s >= self._ends_s:
            self._go(None, "drain", None)
            return
        self._head = head
        self._started_s = now_s
        self._bytes_in = self._bytes_out = self._status = 0
        length = head.content_length
        size = head.size
        if length == 0:
            self._body = self._framed = b""
            self._data = self._data[size:] if len(self._data) > size else b""
            self._begin(now_s)
        elif length is None:
            self._chunks = ChunkedBody(MALFORMED)
            self._body = b""
            self._phase = Phase.BODY
            self._more_body(self._data[size:])
        elif length > BODY_MAX_BYTES:
            self._go(None, "large", None)
        else:
            self._chunks = None
            self._phase = Phase.BODY
            self._more_body(b"")

    def _more_body(self, data: bytes) -> None:
        """`data` was added to what is there; begin the request when its body is complete."""
        head = self._head
        length = head.content_length
        if length is not None:
            end = head.size + length
            if len(self._data) < end:
                self._wait(self._started_s + BODY_WAIT_S)
                return
            self._body = self._framed = self._data[head.size : end]
            self._data = self._data[end:]
        else:
            rest = self._more_chunks(data)
            if rest is None:
                return
            body = self._body
            self._framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            self._data = rest
        self._bytes_in = len(self._body)
        self._begin(self._worker.now())

    def _more_chunks(self, data: bytes) -> bytes | None:
        """Read chunks; the bytes behind the body when it is complete, else None."""
        assert self._chunks is not None
        events: list[Event] = []
        try:
            rest = self._chunks.read(data, events)
        except ProxyError:
            self._go(None, "body", None)  # the codec of the full path says so to the client
            return None
        for event in events:
            if isinstance(event, Chunk):
                self._body += event.data
            elif not isinstance(event, End):
                self._go(None, "trailers", None)
                return None
        if rest is None:
            if len(self._data) > BODY_MAX_BYTES:
                self._go(None, "large", None)
            else:
                self._wait(self._started_s + BODY_WAIT_S)
        return rest

    # The request.

    def _begin(self, now_s: float) -> None:
        """Route it, start the machine, send it."""
        worker, side, head = self._worker, self._side, self._head
        self._snapshot = worker.snapshot
        plan = side.route_now(head, self._peer)
        if plan is None:
            self._unread("route")
            return
        ways = worker.ways.get(plan)
        if ways is None:
            ways = worker.ways_of(plan, side.live)
        if not ways:
            self._unread("filters")
            return
        way = ways[split(plan.cumulative, worker.rng) if len(ways) > 1 else 0]
        if not way.requests:
            self._unread("wire")
            return
        noted = head.noted
        told = noted.get(DEADLINE_HEADER)
        since_s = self._started_s if told is not None or plan.whole_response else now_s
        ends_at_s = side.end_s(plan, told, since_s, self._peer)
        self._plan, self._cluster, self._ends_at_s = plan, way.cluster, ends_at_s
        exchange = self._exchange = attempts.begin(
            way.live,
            way.cluster.known,
            way.policy,
            pick,
            head.method,
            b"idempotency-key" in noted,
            plan.per_try_s,
            ends_at_s,
            now_s,
        )
        if len(self._body) > way.max_body_bytes:
            exchange.replayable = False
        self._identify(noted)
        step = self._step = attempts.next_step(exchange, now_s, worker.rng)
        if not isinstance(step, Try):
            self._hand_over("no-try")
            return
        connection = self._pool.take_idle(way.live, step.endpoint, way.policy)
        if connection is None:
            self._hand_over("connect")
            return
        self._connection = connection
        self._send(step, connection, now_s)

    def _identify(self, noted: dict[bytes, bytes]) -> None:
        """Which trace it belongs to, and its id. A trace that nobody records costs its header and nothing else."""
        worker = self._worker
        given, request_id = noted.get(b"traceparent"), noted.get(REQUEST_ID)
        self._trace = self._sent = None
        if given is not None:
            if b"tracestate" not in noted:
                self._sent = trace.pass_on_unsampled(given, worker.rng)
        elif not worker.sample and b"b3" not in noted:
            self._sent, drawn = trace.begin_unsampled(worker.rng)
            request_id = request_id or drawn
        self._request_id = request_id or b"%032x" % worker.rng.getrandbits(128)
        if self._sent is None:
            self._trace = trace.begin(given, noted.get(b"tracestate"), noted.get(b"b3"), worker.sample, worker.rng)
            self._span_id = trace.new_span_id(worker.rng)

    def _context(self) -> trace.TraceContext | None:
        """The trace, for whoever wants to know after all."""
        if self._trace is None and self._sent is not None:
            given = self._head.noted.get(b"traceparent")
            context = self._trace = trace.parse_traceparent(given or self._sent)
            self._span_id = self._sent[36:52].decode("ascii")
            if context is not None and given is None:
                context.parent_span_id = ""
        return self._trace

    def _send(self, step: Try, connection: UpstreamConnection, now_s: float) -> None:
        """Write it to a connection that is at rest."""
        head, side, context = self._head, self._side, self._trace
        lines = [head.kept, b"traceparent: "]
        if context is None:
            assert self._sent is not None
            lines.append(self._sent)
        else:
            if context.sampled:
                self._record = record = self._recorded()
                self._span = open_span(record, side.reporter, now_s, self._worker.rng)
                if self._span is not None:
                    self._span_id = self._span.span_id
            lines.append(trace.format_traceparent(context, self._span_id))
            if context.tracestate:
                lines += (b"\r\ntracestate: ", context.tracestate.encode("ascii"))
        noted = head.noted
        if REQUEST_ID not in noted:
            lines += (b"\r\nx-request-id: ", self._request_id)
        if self._far:
            for name, value in forwarded_for(noted.get(FORWARDED_FOR), noted.get(FORWARDED_PROTO), self._peer):
                lines += (b"\r\n", name, b": ", value)
        mesh_hop = isinstance(step.endpoint.hop, Mesh)
        if mesh_hop or self._tells_always:
            for name, value in side.hop_fields(self._ends_at_s, self._peer, mesh_hop=mesh_hop):
                lines += (b"\r\n", name, b": ", value)
        if head.wants_trailers:
            lines.append(b"\r\nTE: trailers\r\nConnection: TE")
        lines += (b"\r\n\r\n", self._framed)
        stream = connection.stream
        stream.read_bytes = READ_BYTES
        self._prefix = b""
        self._phase = Phase.ASKED
        connection.user = self
        due_s = self.due_s = math.inf if step.until_s is None else step.until_s
        if due_s < self._entry.check_s:
            self._worker.timer.watch(self._entry, due_s)
        stream.put(b"".join(lines), silent=True)

    # The answer.

    def on_answer(self) -> None:
        """The endpoint sent something, or left."""
        connection = self._connection
        assert connection is not None
        try:
            data = connection.stream.try_read()
        except StreamBroken as exc:
            if self._phase is Phase.ASKED:
                self._hand_over("reset")
            else:
                endpoint = connection.endpoint
                self._break_off(UPSTREAM_RESET.saying(f"endpoint {endpoint.id} at {endpoint.address}: {exc}"))
            return
        if data is None:
            return
        if self._phase is Phase.ASKED:
            if data:
                self._answer(data)
            else:
                self._hand_over("closed")
        elif data:
            self._body_came(data)
        else:
            self._break_off(UPSTREAM_CLOSED.saying("the endpoint closed the connection inside the body of its answer"))

    def on_unasked(self) -> None:
        """The connection was none any more. Nothing was written, so another can be used as well."""
        connection, exchange = self._connection, self._exchange
        assert connection is not None
        assert exchange is not None
        connection.user = self._connection = None
        self._pool.give_back(exchange.cluster, connection, 0.0, reusable=False)
        self._hand_over("stale")

    def on_half_asked(self) -> None:
        """The request was not taken whole, or the connection is broken: somebody has to wait."""
        self._hand_over("write")

    def on_answer_crashed(self) -> None:
        """A bug in a handler has closed the endpoint's stream."""
        self._break_off(BROKEN_OFF)

    def _answer(self, data: bytes) -> None:
        """Forward the head of the answer, and what came of its body."""
        worker, exchange = self._worker, self._exchange
        assert exchange is not None
        answer = plain_response(data, worker.response_acts, self._head.method)
        if isinstance(answer, str) or worker.draining:
            self._prefix = data
            self._hand_over(answer if isinstance(answer, str) else "drain")
            return
        now_s = worker.now()
        attempts.outcome(exchange, None, now_s, worker.rng)
        if self._span is not None:
            close_span(self._span, now_s, None, None)
            self._span.status = answer.status
        self._status = answer.status
        connection = self._connection
        assert connection is not None
        self._reusable = answer.keep_alive
        if answer.promised_s != connection.promised_s:
            connection.promised_s = answer.promised_s
            connection.idle_s = idle_s(connection.endpoint, answer.promised_s)
        length, size, data = answer.content_length, answer.size, answer.data
        if not self._head.keep_alive:
            data = b"%bConnection: close\r\n%b" % (data[: size - 2], data[size - 2 :])
            size += len(b"Connection: close\r\n")
        if length is None:
            self._chunks = ChunkedBody(UPSTREAM_PROTOCOL)
            self._phase = Phase.ANSWERING
            self._chunks_came(data[size:], data[:size], now_s)
            return
        self._chunks = None
        came = len(data) - size
        if came < length:
            self._bytes_out = came
            self._rest = length - came
            self._phase = Phase.ANSWERING
            self._forward(data, now_s)
            return
        self._bytes_out = length
        if came > length:  # a second answer is how a response queue is poisoned
            self._reusable = False
            data = data[: size + length]
        self._finish(data, now_s)

    def _body_came(self, data: bytes) -> None:
        now_s = self._worker.now()
        if self._chunks is not None:
            self._chunks_came(data, b"", now_s)
            return
        size = len(data)
        if size > self._rest:
            self._reusable = False
            data = data[: self._rest]
            size = self._rest
        self._rest -= size
        self._bytes_out += size
        if self._rest:
            self._forward(data, now_s)
        else:
            self._finish(data, now_s)

    def _chunks_came(self, data: bytes, before: bytes, now_s: float) -> None:
        """Forward what came of a chunked body, as one chunk."""
        assert self._chunks is not None
        events: list[Event] = []
        out = [before]
        rest: bytes | None = None
        if data:
            try:
                rest = self._chunks.read(data, events)
            except ProxyError as exc:
                self._stream.write(before)
                self._break_off(exc.fault)
                return
        for event in events:
            if isinstance(event, Chunk):
                self._bytes_out += len(event.data)
                out.append(b"%x\r\n%b\r\n" % (len(event.data), event.data))
        if rest is None:
            self._forward(b"".join(out), now_s)
            return
        if rest:
            self._reusable = False
        trailers = [field for event in events if isinstance(event, Trailers) for field in event.fields]
        out.append(BodyWriter(None, chunked=True).end(trailers if self._head.wants_trailers else ()))
        self._finish(b"".join(out), now_s)

    def _forward(self, data: bytes, now_s: float) -> None:
        """Write a part of the answer; while the client is slow, the endpoint is not read."""
        stream = self._stream
        if not data or stream.write(data):
            self._wait_for_body(now_s)
        elif stream.queued_bytes:
            assert self._connection is not None
            self._connection.stream.pause()
            self._wait_for_client(now_s)
        else:
            self._break_off(CLIENT_GONE)

    def _wait_for_body(self, now_s: float) -> None:
        plan = self._plan
        idle_s = plan.policy.timeouts.stream_idle_s
        due_s = now_s + idle_s if idle_s else math.inf
        if plan.whole_response and self._ends_at_s is not None:
            due_s = min(due_s, self._ends_at_s)
        self._wait(due_s)

    def _wait_for_client(self, now_s: float) -> None:
        self._pending = self._stream.pending_bytes
        self._wait(now_s + self._worker.limits.write_progress_s)

    # The end of a request.

    def _finish(self, last: bytes, now_s: float) -> None:
        """The answer is complete with `last`: give everything back, tell once, go on."""
        stream, exchange, connection, worker = self._stream, self._exchange, self._connection, self._worker
        assert exchange is not None
        assert connection is not None
        if len(last) <= PUT_MAX_BYTES:
            stream.put(last)
            written = True  # or it will be before anything else is
        else:
            written = stream.write(last)
            if not written and not stream.queued_bytes:
                self._break_off(CLIENT_GONE)
                return
        self._connection = self._exchange = None
        connection.user = None
        self._pool.give_back(exchange.cluster, connection, now_s, reusable=self._reusable)
        self._tell(exchange, connection, now_s)
        attempts.finish(exchange)
        worker.fast_requests[0] += 1
        if not self._head.keep_alive:
            self._go(Over.LAST, "", None)
        elif written or stream.queued_bytes <= HIGH_WATER_BYTES:
            self._at_rest(now_s)
        else:
            self._phase = Phase.FLUSHING
            self._wait_for_client(now_s)

    def _at_rest(self, now_s: float) -> None:
        """Between two requests: begin the next one if it is there."""
        self._phase = Phase.REST
        self._head, self._body, self._framed = _NO_REQUEST, b"", b""  # clients wait by the thousand
        if self._data:
            self._next()
        elif self._ended:
            self._go(None, "", None)
        elif self._worker.closing or now_s >= self._ends_s:
            self._go(Over.DRAIN, "drain", None)
        else:
            due_s = now_s + self._worker.limits.idle_s
            self._wait(due_s if due_s < self._ends_s else self._ends_s)
        if self._paused and self._phase is not Phase.LEFT and not self._ended:
            self._paused = False
            self._stream.resume()

    def _tell(self, exchange: Exchange, connection: UpstreamConnection, now_s: float) -> None:
        """Tell observers of a request that went well: as a number where that is all they make of it."""
        worker = self._worker
        if self._record is None:
            principal = self._peer.principal or connection.stream.peer.principal
            key = (self._plan, exchange.current, self._status, principal)
            tally = worker.tallies.get(key)
            if tally is None or tally.gone:
                tally = self._tally_for(key, principal)
            if tally is not None:
                tally.observe((now_s - self._started_s) * 1e3, self._bytes_in, self._bytes_out, now_s)
                return
        record = self._filled(connection)
        self._record = self._span = None
        tell(record, self._peer, self._side, worker)

    def _tally_for(self, key: TallyKey, principal: str) -> Tally | None:
        """What counts requests like this one; None: observers want each."""
        worker = self._worker
        record = self._recorded()
        record.status, record.principal = self._status, principal
        tally = worker.observer.tally(describe(record, self._peer, self._side, worker))
        if tally is not None:
            worker.keep_tally(key, tally)
        return tally

    def _break_off(self, fault: Fault) -> None:
        """End the connection in a way that nobody takes for a whole answer, and give everything back."""
        phase, exchange, connection = self._phase, self._exchange, self._connection
        if phase is Phase.LEFT:
            return
        if fault.limit and phase is Phase.FLUSHING:
            self._worker.observer.limit_reached(fault.limit)
        self._stream.abort()
        if exchange is not None:
            self._exchange = self._connection = None
            record = self._filled(connection)
            record.fault = fault
            self._record = self._span = None
            if connection is not None:
                connection.user = None
                connection.stream.close()
                self._pool.give_back(exchange.cluster, connection, 0.0, reusable=False)
            attempts.finish(exchange)
            self._worker.fast_requests[0] += 1
            tell(record, self._peer, self._side, self._worker)
        self._go(Over.CUT, "", None)

    # Handing over.

    def _recorded(self) -> HandOver:
        """The request as a record."""
        head, side = self._head, self._side
        record = HandOver(self._snapshot, head, self._started_s, body_complete=True)
        record.route, record.cluster, record.exchange = self._plan, self._cluster, self._exchange
        record.ends_at_s, record.step = self._ends_at_s, self._step
        if isinstance(self._step, Try):
            record.endpoint = self._step.endpoint
        record.trace, record.request_id = self._context(), self._request_id
        record.span_id = self._span_id if side.reporter == DESTINATION else ""
        record.body_seen, record.bytes_in = self._body, self._bytes_in
        return record

    def _filled(self, connection: UpstreamConnection | None) -> HandOver:
        """The record with what came of the request."""
        record = self._record or self._recorded()
        if connection is not None:
            record.principal = connection.stream.peer.principal
        record.status, record.bytes_out = self._status, self._bytes_out
        return record

    def _hand_over(self, why: str) -> None:
        """Give a begun request to the full path: with its step to take, and its connection if it was written."""
        record = self._record or self._recorded()
        self._record = self._span = None
        exchange, connection = self._exchange, self._connection
        self._exchange = self._connection = None
        record.why_left = why
        if connection is not None and exchange is not None:
            connection.user = None
            connection.stream.takeover()
            connection.codec = H1Client.resumed(self._head)
            record.lease = self._pool.lease_of(exchange.cluster, connection)
            record.principal = connection.stream.peer.principal
            record.response_prefix = self._prefix
        self._go(None, why, record)

    def _unread(self, why: str) -> None:
        """Give a request to the full path as it came."""
        self._data = self._head.raw + self._framed + self._data
        self._go(None, why, None)

    def _go(self, over: Over | None, why: str, record: HandOver | None) -> None:
        self._phase = Phase.LEFT
        self.due_s = math.inf
        self._left = Left(over, why, record, self._side, self._data, self._ended)
        self._head, self._data, self._body, self._framed, self._prefix = _NO_REQUEST, b"", b"", b"", b""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

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
        elif phase is Phase.ASKED:
            self._hand_over("timeout")
        elif self._stream.queued_bytes:
            self._client_is_slow(now_s)
        elif phase is Phase.ANSWERING:
            whole = self._plan.whole_response and self._ends_at_s is not None and now_s >= self._ends_at_s
            self._break_off(too_slow(self._plan.policy.timeouts.stream_idle_s, whole=whole))

    def _client_is_slow(self, now_s: float) -> None:
        if self._stream.pending_bytes < self._pending:
            self._wait_for_client(now_s)
        else:
            progress_s = self._worker.limits.write_progress_s
            self._break_off(CLIENT_STUCK.saying(f"the client took nothing for {progress_s:g}s"))
