"""A stream of the fast path from its head to its answer, frame by frame, in synchronous handlers of both connections.

A request is begun when it is complete: all of it in one read of the client, or a small body right behind its head.
Everything is decided by the same functions as on the full path (`exchange.py`): routing, access, split, the attempts
machine, what an answer of gRPC says, telemetry. The endpoint's stream begins on a connection that is there and has
room. Anything else is handed over, and so is every failure before the answer's head went on: they are judged there.

Back-pressure: DATA goes on within the client's windows, or waits, at most a stream's window of it, and the endpoint's
credit comes back once it has gone on. What is written to a connection leaves with the end of the turn, in one piece.
"""

import math

from sidecar.codec.events import End, Event, Head, Reset
from sidecar.codec.h2_lean.client import LeanClient
from sidecar.codec.h2_lean.stream import LeanStream
from sidecar.errors import BROKEN_OFF, ProxyError
from sidecar.model.clusters import Mesh
from sidecar.model.messages import Fields, ResponseHead
from sidecar.policy import attempts, grpc
from sidecar.policy.attempts import Try
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.affinity import request_hash, share
from sidecar.proxy.attempt_span import close_span, open_span
from sidecar.proxy.edits import (
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    REQUEST_ID,
    forwarded_for,
    forwarded_response,
    from_afar,
    streamed_request,
    streamed_response,
)
from sidecar.proxy.fast_stream import FastStream, Phase
from sidecar.proxy.mux import MERGED_BYTES
from sidecar.proxy.mux_client import MuxUpstream
from sidecar.proxy.relay import too_slow
from sidecar.telemetry import trace
from sidecar.telemetry.observer import DESTINATION
from sidecar.transport.stream import HIGH_WATER_BYTES

BODY_MAX_BYTES = 32_768  # of a request; a larger one streams on the full path
BODY_WAIT_S = 0.02  # for an announced body, or for any byte of another one; as over HTTP/1.1
_GRPC_TIMEOUT = frozenset((grpc.TIMEOUT_HEADER,))


class FastRelay(FastStream):
    """See the module's text. The handler of the client's stream."""

    __slots__ = ()

    # The request: as of `StreamHandler`.

    def on_data(self, data: bytes, end: bool) -> None:
        """A piece of the request's body."""
        self._body += data
        self._complete = end
        if end or self._head.content_length is None:
            self._home.ready(self)

    def on_trailers(self, fields: Fields) -> None:
        """The request ends with trailers."""
        self._trailers = fields
        self._complete = True
        self._home.ready(self)

    def on_reset(self, reset: Reset) -> None:
        """The client gave it up."""
        self.lose(self._home.link.blame(reset))

    def on_interim(self, head: ResponseHead) -> None:
        """No client sends one."""

    def on_head(self, head: ResponseHead, end: bool) -> None:
        """No client sends one."""

    def go(self, now_s: float) -> None:
        """All that one read brought of the request is here: begin it, wait for the rest, or give it away."""
        if self._phase is not Phase.BODY:
            return
        if self._complete:
            if self._trailers:
                self._leave("trailers")
            else:
                self._begin(now_s)
            return
        length = self._head.content_length
        if (length is None and self._body) or (length is not None and length > BODY_MAX_BYTES):
            self._leave("stream")  # whoever sends a part without its end has more to come
        elif self.due_s == math.inf:
            self._wait(now_s + BODY_WAIT_S)

    def _begin(self, now_s: float) -> None:
        """Route it, start the machine, send it."""
        worker, side, head = self._worker, self._side, self._head
        self._snapshot = worker.snapshot
        plan = side.route_now(head, self._peer)
        if plan is None:
            self._leave("route")
            return
        self._service = side.service
        ways = worker.ways.get(plan)
        if ways is None:
            ways = worker.ways_of(plan, side.live)
        if not ways:
            self._leave("filters")
            return
        way = ways[share(plan, head, self._peer, worker.rng) if len(ways) > 1 else 0]
        if not way.streams:
            self._leave("wire")
            return
        get = head.get
        told = get(DEADLINE_HEADER)
        self._grpc = grpc.is_grpc(head)
        if self._grpc:
            asked = get(grpc.TIMEOUT_HEADER)
            since_s = now_s if told is None and asked is None and not plan.whole_response else self._started_s
            ends_at_s = side.grpc_end_s(plan, told, asked, since_s, self._peer)
        else:
            since_s = now_s if told is None and not plan.whole_response else self._started_s
            ends_at_s = side.end_s(plan, told, since_s, self._peer)
        self._plan, self._cluster, self._ends_at_s = plan, way.cluster, ends_at_s
        exchange = self._exchange = attempts.begin(
            way.live,
            way.cluster.known,
            way.policy,
            way.balancer,
            head.method,
            get(b"idempotency-key") is not None,
            plan.per_try_s,
            ends_at_s,
            now_s,
        )
        where = way.balancer.hash_key
        if where is not None:
            exchange.key = request_hash(where, head, self._peer)
        body = self._body
        if body:
            self._bytes_in = len(body)
            exchange.replayable = len(body) <= way.max_body_bytes
            self._home.codec.credit(self.number, len(body))  # all of it is here: the window is the other streams' now
        self._identify(get)
        step = self._step = attempts.next_step(exchange, now_s, worker.rng)
        if not isinstance(step, Try):
            self._hand_over("no-try")
            return
        upstream = side.pool.share(way.live, step.endpoint)
        if upstream is None:
            self._hand_over("connect")
            return
        codec = upstream.codec
        assert isinstance(codec, LeanClient)
        if body and codec.room_at_once < len(body):
            self._hand_over("window")
        else:
            self._send(step, upstream, codec, now_s)

    def _send(self, step: Try, upstream: MuxUpstream, codec: LeanClient, now_s: float) -> None:
        """Begin a stream of the endpoint's."""
        head, side, context = self._head, self._side, self._trace
        own: Fields = []
        if context is None:
            assert self._sent is not None
            own.append((b"traceparent", self._sent))
        else:
            if context.sampled:
                self._record = record = self._recorded()
                self._span = open_span(record, side.reporter, now_s, self._worker.rng)
                if self._span is not None:
                    self._span_id = self._span.span_id
            own.append((b"traceparent", trace.format_traceparent(context, self._span_id)))
            if context.tracestate:
                own.append((b"tracestate", context.tracestate.encode("ascii")))
        get = head.get
        if get(REQUEST_ID) is None:
            own.append((REQUEST_ID, self._request_id))
        mesh_hop = isinstance(step.endpoint.hop, Mesh)
        if mesh_hop or side.reporter == DESTINATION:
            own += side.hop_fields(self._ends_at_s, self._peer, mesh_hop=mesh_hop)
        replaced: frozenset[bytes] = frozenset()
        if self._grpc and self._ends_at_s is not None:
            own.append((grpc.TIMEOUT_HEADER, grpc.timeout_header(self._ends_at_s, now_s)))
            replaced = _GRPC_TIMEOUT
        if from_afar(self._peer):
            own += forwarded_for(get(FORWARDED_FOR), get(FORWARDED_PROTO), self._peer)
            replaced |= FORWARDED
        fields = streamed_request(head, own, replaced)
        body = self._body
        answer = Answer(self)
        answer.stream = codec.begin(fields, head.method, left=head.content_length, end=not body, handler=answer)
        answer.number = answer.stream.number
        self._answer, self._upstream = answer, upstream
        upstream.began(answer)
        if body:
            codec.send_data(answer.stream, body, end=True)
        self._phase = Phase.ASKED
        self._wait(math.inf if step.until_s is None else step.until_s)
        upstream.link.mark()

    # The answer.

    def interim(self, head: ResponseHead) -> None:
        """Forward a 1xx answer."""
        self._home.codec.send_interim(self.number, forwarded_response(head))
        self._home.link.mark()

    def answered(self, head: ResponseHead, end: bool) -> None:
        """Forward the answer's head, unless it is to be judged."""
        exchange, worker, grpc_ = self._exchange, self._worker, self._grpc
        assert exchange is not None
        if head.status >= 500 or (grpc_ and (end or head.status != 200 or grpc.status_in(head) is not None)):
            events: list[Event] = [Head(head, self.number)]
            if end:
                events.append(End(self.number))
            self._hand_over("status", events)
            return
        now_s = self._upstream.link.read_s
        shed = head.status == attempts.SHED_STATUS
        attempts.outcome(exchange, None, now_s, worker.rng, judged=not grpc_, shed=shed)
        if self._span is not None:
            close_span(self._span, now_s, head, None)
        self._status = head.status
        home = self._home
        home.codec.answer(self._stream, streamed_response(head), head.status, left=head.content_length, end=end)
        home.link.mark()
        self._phase = Phase.ANSWERING
        if end:
            self._finish(now_s)
        else:
            self._wait_for_body(now_s)

    def came(self, data: bytes, end: bool) -> None:
        """Forward a piece of the answer's body."""
        home, upstream, answer = self._home, self._upstream, self._answer
        assert answer is not None
        size = len(data)
        link, codec = home.link, home.codec
        if self._pending or size > codec.room_of(self._stream) or link.stream.queued_bytes > HIGH_WATER_BYTES:
            self._hold(data, [] if end else None)
            return
        codec.send_data(self._stream, data, end=end)
        link.mark()
        self._bytes_out += size
        if not end:
            upstream.codec.credit(answer.number, size)
            self._moved_s = upstream.link.read_s  # `due_s` stays: what puts it off is looked at then
            return
        if self._grpc:  # without trailers nobody knows how it went
            self._told_by([])
        self._finish(upstream.link.read_s)

    def ended(self, fields: Fields) -> None:
        """Forward the answer's trailers, and the end."""
        if self._grpc:
            self._told_by(fields)
        if self._pending:
            self._hold(b"", fields)
            return
        self._send_end(fields)
        self._finish(self._upstream.link.read_s)

    def _told_by(self, trailers: Fields) -> None:
        self._grpc_told = grpc.status_at_end(trailers)
        self._judge(grpc.judge_end(trailers))

    def blame(self, reset: Reset) -> ProxyError:
        """What it means that the endpoint's stream is gone."""
        return self._upstream.link.blame(reset)

    def lost(self, problem: ProxyError) -> None:
        """The endpoint gave the stream up, or has left."""
        if self._phase is Phase.ASKED:
            self._hand_over("reset", lost=problem)
        else:
            self._break_off(problem.fault)

    def crashed(self, bug: Exception) -> None:
        """A bug in a turn of this stream: it ends, and nobody else."""
        self._worker.on_bug(bug)
        if self._phase is not Phase.BODY:
            self._break_off(BROKEN_OFF)
            return
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            attempts.finish(exchange)
        self._leave("bug")  # nothing was sent: the full path may do better, and tells of it

    # A client that is slow.

    def _hold(self, data: bytes, ending: Fields | None) -> None:
        """Keep what the client does not take now. The endpoint's stream is free once all of it has come."""
        if not self._pending:
            self._blocked_s = self._worker.now()
            self._home.link.starved[self] = None
            self._wait(self._blocked_s + self._home.link.progress_s)
        if data:
            pending = self._pending
            if pending and len(pending[-1]) + len(data) <= MERGED_BYTES:
                pending[-1] += data
            else:
                pending.append(data)
        if ending is not None:
            self._ending = ending
            self._give_back()
        self._let_out()

    def wake(self) -> None:
        """As of `LinkEnd`: there is room on the client's stream."""
        try:
            self._let_out()
        except Exception as bug:
            self.crashed(bug)

    def _let_out(self) -> None:
        pending, home, answer = self._pending, self._home, self._answer
        link, codec, sent = home.link, home.codec, 0
        while pending and link.stream.queued_bytes <= HIGH_WATER_BYTES:
            room = codec.room_of(self._stream)
            if room <= 0:
                break
            data = pending.popleft()
            if len(data) > room:
                pending.appendleft(data[room:])
                data = data[:room]
            codec.send_data(self._stream, data, end=False)
            link.write()
            sent += len(data)
        if sent:
            self._bytes_out += sent
            self._blocked_s = self._worker.now()
            if answer is not None:
                self._upstream.codec.credit(answer.number, sent)
                self._upstream.link.mark()
        link.starved.pop(self, None)
        if pending:
            link.starved[self] = None  # behind the others
            return
        now_s = self._worker.now()
        if self._ending is not None:
            self._send_end(self._ending)
            self._finish(now_s)
        else:
            self._wait_for_body(now_s)

    def _send_end(self, trailers: Fields) -> None:
        home = self._home
        if trailers:
            home.codec.send_trailers(self._stream, trailers)
        else:
            home.codec.send_data(self._stream, b"", end=True)
        home.link.mark()

    # Time.

    def _wait(self, due_s: float) -> None:
        self.due_s = due_s
        self._home.watch(due_s)

    def _wait_for_body(self, now_s: float) -> None:
        """More of the answer is awaited: as long as the stream may idle, or the call as a whole may take."""
        self._moved_s = now_s
        self._wait(self._body_due_s())

    def _bounded(self) -> bool:
        return self._plan.whole_response or (self._grpc and self._head.get(grpc.TIMEOUT_HEADER) is not None)

    def _body_due_s(self) -> float:
        idle_s = self._plan.policy.timeouts.stream_idle_s
        due_s = self._moved_s + idle_s if idle_s else math.inf
        return min(due_s, self._ends_at_s) if self._ends_at_s is not None and self._bounded() else due_s

    def on_due(self, now_s: float) -> None:
        """What was waited for has not come, if nothing has since."""
        phase = self._phase
        if phase is Phase.BODY:
            self._leave("slow")
        elif phase is Phase.ASKED:
            self._hand_over("timeout")
        elif self._pending:
            link = self._home.link
            if self._home.codec.room_of(self._stream) > 0:  # the others are served first, or all wait for the socket
                self._blocked_s = now_s
            due_s = self._blocked_s + link.progress_s
            if due_s > now_s:
                self._wait(due_s)
                return
            problem = link.stuck(f"the peer took nothing of the stream for {link.progress_s:g}s")
            link.codec.reset(self.number)
            self._break_off(problem.fault)
        elif phase is Phase.ANSWERING:
            due_s = self._body_due_s()
            if due_s > now_s:
                self._wait(due_s)
                return
            idle_s = self._plan.policy.timeouts.stream_idle_s
            whole = self._bounded() and self._ends_at_s is not None and now_s >= self._ends_at_s
            self._break_off(too_slow(idle_s, whole=whole))


class Answer:
    """The endpoint's stream of a call: its handler, and an end of the endpoint's link."""

    __slots__ = ("_call", "number", "owed", "stream")

    stream: LeanStream

    def __init__(self, call: FastRelay) -> None:
        self._call = call
        self.number = 0
        self.owed = 0

    def on_interim(self, head: ResponseHead) -> None:
        """See `StreamHandler`."""
        try:
            self._call.interim(head)
        except Exception as bug:
            self._call.crashed(bug)

    def on_head(self, head: ResponseHead, end: bool) -> None:
        """See `StreamHandler`."""
        try:
            self._call.answered(head, end)
        except Exception as bug:
            self._call.crashed(bug)

    def on_data(self, data: bytes, end: bool) -> None:
        """See `StreamHandler`."""
        try:
            self._call.came(data, end)
        except Exception as bug:
            self._call.crashed(bug)

    def on_trailers(self, fields: Fields) -> None:
        """See `StreamHandler`."""
        try:
            self._call.ended(fields)
        except Exception as bug:
            self._call.crashed(bug)

    def on_reset(self, reset: Reset) -> None:
        """See `StreamHandler`."""
        self.lose(self._call.blame(reset))

    # As of `LinkEnd`.

    def take(self, event: Event) -> None:
        """Nothing comes as an event while there is a handler."""

    def wake(self) -> None:
        """The request is written whole: nothing waits for room."""

    def lose(self, problem: ProxyError) -> None:
        """The endpoint gave the stream up, or has left."""
        try:
            self._call.lost(problem)
        except Exception as bug:
            self._call.crashed(bug)
