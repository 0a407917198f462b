"""Serve plain HTTP/1.1 requests of one client connection in synchronous handlers, without waking a task.

The plain case: a whole head, with a small body, of a kind that asks for nothing unusual; a route without filters; an
idle connection to the chosen endpoint at hand; an answer with a length or in chunks. Everything is decided by the same
functions as on the full path (`exchange.py`): routing, access, split, the attempts machine, telemetry. What is not
plain is handed over, at one of the three entries of the full path: the bytes as they came; a request with its next
step decided; or one that was written, with its connection and what came of the answer. Failures are never judged here.

Owned by `connection.py`'s task, which sleeps in `serve` while this works as the stream's handler; or by no task at all
(`newcomer.py`), as long as there is nothing for one. Timeouts are the
worker's coarse timer's. A request ends in exactly one of `_finish`, `_hand_over` and `_break_off`.
"""

import math
from collections.abc import Callable

import trio

from sidecar.codec.chunks import ChunkedBody
from sidecar.codec.events import Chunk, Event, Trailers
from sidecar.codec.h1_write import BodyWriter
from sidecar.codec.plain_head import plain_response
from sidecar.errors import BROKEN_OFF, CLIENT_GONE, UPSTREAM_CLOSED, UPSTREAM_PROTOCOL, UPSTREAM_RESET, ProxyError
from sidecar.model.clusters import Mesh
from sidecar.policy import attempts
from sidecar.policy.attempts import Try
from sidecar.proxy.attempt_span import close_span, open_span
from sidecar.proxy.edits import FORWARDED_FOR, FORWARDED_PROTO, REQUEST_ID, forwarded_for
from sidecar.proxy.fast_request import FastRequest
from sidecar.proxy.fast_state import NO_REQUEST, Left, Over, Phase
from sidecar.proxy.pool import idle_s
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.telemetry import trace
from sidecar.transport.stream import HIGH_WATER_BYTES, READ_BYTES, StreamBroken

__all__ = ["FastPath", "Left", "Over"]

PUT_MAX_BYTES = 16_384  # of an answer; a larger one is worth a write of its own


class FastPath(FastRequest):
    """See the module's text. One for each client connection that speaks HTTP/1."""

    __slots__ = ()

    async def serve(self, data: bytes, rest_s: float) -> Left:
        """Serve plain requests until there is something else to do; the caller's task sleeps meanwhile.

        Args:
            data: Bytes of the client that were read already.
            rest_s: For the first byte of a request, if there is none yet.
        """
        worker = self._worker
        self._start(data)
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
            if self._exchange is not None or self._phase is not Phase.REST:  # at rest nothing is cut
                self._break_off(BROKEN_OFF)
            self._stop()
            raise
        self._task = None
        return self.result()

    def begin(self, data: bytes, on_left: Callable[[], None]) -> None:
        """The same without a task: `on_left` is called once there is something else to do, maybe before this returns.

        It asks for `result`, and finds the stream without an owner.
        """
        self._on_left = on_left
        self._start(data)
        self._next()

    def end(self) -> None:
        """End what `begin` began, whatever is under way."""
        if self._exchange is not None or self._phase not in (Phase.REST, Phase.LEFT):
            self._break_off(BROKEN_OFF)
        elif self._phase is Phase.REST:
            self._go(Over.CUT, "", None)

    def result(self) -> Left:
        """What there is to do now. Afterwards `serve` may be called again."""
        self._stop()
        left, self._left = self._left, None
        assert left is not None
        return left

    def _start(self, data: bytes) -> None:
        self._left = None
        self._ended = self._paused = False
        self._data = data
        self._phase = Phase.REST
        self._worker.lanes.add(self)
        self._entry = self._worker.timer.join(self)
        self._stream.handle_with(self)

    def _stop(self) -> None:
        worker = self._worker
        worker.lanes.discard(self)
        worker.timer.leave(self._entry)  # nor does it hold us any more: each would keep the other
        self.due_s = math.inf
        self._stream.takeover()

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def part(self) -> None:
        """The worker's word that connections at rest are to end."""
        if self._phase is Phase.REST and not self._data:
            self.on_readable()  # a drain does not close over a request that has come meanwhile
            if self._phase is Phase.REST:
                self._go(Over.DRAIN, "drain", None)

    # The request.

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
        stream.put(b"".join(lines), silent=connection.used > 0)

    # The streams' handler.

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

    def on_answer(self) -> None:
        """The endpoint sent something, or left. A bug on the way ends the client's connection too."""
        try:
            self._answered()
        except Exception:
            self._break_off(BROKEN_OFF)
            raise

    def _answered(self) -> None:
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

    # The answer.

    def _answer(self, data: bytes) -> None:
        """Forward the head of the answer, and what came of its body."""
        worker, exchange = self._worker, self._exchange
        assert exchange is not None
        answer = plain_response(data, worker.response_acts, self._head.method)
        if isinstance(answer, str) or worker.draining:
            self._prefix = data
            self._hand_over(answer if isinstance(answer, str) else "drain")
            return
        events: list[Event] = []
        behind: bytes | None = None  # a chunked answer's end
        if answer.content_length is None:
            self._chunks = ChunkedBody(UPSTREAM_PROTOCOL)
            try:
                behind = self._chunks.read(answer.data[answer.size :], events) if answer.data[answer.size :] else None
            except ProxyError:  # nothing was sent: the full path judges it
                self._prefix = data
                self._hand_over("answer-body")
                return
        now_s = worker.now()
        attempts.outcome(exchange, None, now_s, worker.rng, shed=answer.status == attempts.SHED_STATUS)
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
            self._phase = Phase.ANSWERING
            self._chunks_came(events, behind, data[:size], now_s)
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
            events: list[Event] = []
            try:
                rest = self._chunks.read(data, events)
            except ProxyError as exc:
                self._break_off(exc.fault)
            else:
                self._chunks_came(events, rest, b"", now_s)
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

    def _chunks_came(self, events: list[Event], rest: bytes | None, before: bytes, now_s: float) -> None:
        """Forward what came of a chunked body, as one chunk. `rest`: what is behind its end, if that came."""
        out = [before]
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

    # The end of a request.

    def _finish(self, last: bytes, now_s: float) -> None:
        """The answer is complete with `last`: give everything back, tell once, go on."""
        stream, exchange, connection, worker = self._stream, self._exchange, self._connection, self._worker
        assert exchange is not None
        assert connection is not None
        if len(last) <= PUT_MAX_BYTES:
            stream.put(last)
            written = stream.queued_bytes <= HIGH_WATER_BYTES  # it is before anything else is, but for a slow client
        else:
            written = stream.write(last)
            if not written and not stream.queued_bytes:
                self._break_off(CLIENT_GONE)
                return
        self._connection = self._exchange = None
        connection.user = None
        self._pool.give_back(exchange.cluster, connection, now_s, reusable=self._reusable)
        try:
            endpoint = connection.stream.peer.principal
            key = (self._plan, exchange.current, self._status, self._peer.principal or endpoint)
            self._tell(exchange, endpoint, now_s, key)
        finally:
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
        self.served = True
        self._head, self._body, self._framed = NO_REQUEST, b"", b""  # clients wait by the thousand
        if self._data:
            self._next()
        elif self._ended:
            self._go(None, "", None)
        elif self._worker.closing or now_s >= self._ends_s:
            # Who was not told that this answer is the last may have asked again: closing over that loses the answer.
            self._go(Over.DRAIN if self._peer.principal else Over.LAST, "drain", None)
        else:
            due_s = now_s + self._worker.limits.idle_s
            self._wait(due_s if due_s < self._ends_s else self._ends_s)
        if self._paused and self._phase is not Phase.LEFT and not self._ended:
            self._paused = False
            self._stream.resume()
