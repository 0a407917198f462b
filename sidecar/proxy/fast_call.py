"""One request that handlers serve without a task: what is known of it, its trace, and how observers are told of it.

What HTTP/1.1 (`fast_state.py`) and a stream of HTTP/2 (`fast_stream.py`) have in common there. Decides nothing.
"""

from collections.abc import Callable

from sidecar.errors import Fault
from sidecar.model.messages import RequestHead
from sidecar.model.snapshot import Snapshot
from sidecar.policy.attempts import Exchange, Step, Try
from sidecar.proxy.done import tell
from sidecar.proxy.edits import REQUEST_ID
from sidecar.proxy.handover import HandOver
from sidecar.proxy.side import FastSide
from sidecar.proxy.worker import TallyKey, Worker
from sidecar.routing.plan import ClusterPlan, RoutePlan
from sidecar.telemetry import trace
from sidecar.telemetry.observer import DESTINATION, AttemptSpan, Lines, RequestDone
from sidecar.transport.stream import Peer


class FastCall:
    """See the module's text."""

    __slots__ = (
        "_body", "_bytes_in", "_bytes_out", "_cluster", "_ends_at_s", "_exchange", "_head", "_peer", "_plan", "_record",
        "_request_id", "_sent", "_side", "_snapshot", "_span", "_span_id", "_started_s", "_status", "_step", "_trace",
        "_worker",
    )  # fmt: skip

    _worker: Worker
    _side: FastSide
    _peer: Peer
    _head: RequestHead
    _body: bytes
    _record: HandOver | None
    _exchange: Exchange | None
    _span: AttemptSpan | None

    # Set when a request begins, and not looked at before.
    _snapshot: Snapshot
    _plan: RoutePlan
    _cluster: ClusterPlan
    _step: Step
    _trace: trace.TraceContext | None
    _sent: bytes | None  # `traceparent` as sent, for a trace that nobody records
    _span_id: str
    _request_id: bytes
    _started_s: float
    _ends_at_s: float | None
    _bytes_in: int
    _bytes_out: int
    _status: int

    def _identify(self, given: Callable[[bytes], bytes | None]) -> None:
        """Which trace it belongs to, and its id. A trace that nobody records costs its header and nothing else.

        `given`: the value of a field of the client's, by name.
        """
        worker = self._worker
        parent, request_id = given(b"traceparent"), given(REQUEST_ID)
        self._trace = self._sent = None
        if parent is not None:
            if given(b"tracestate") is None:
                self._sent = trace.pass_on_unsampled(parent, worker.rng)
        elif not worker.sample and given(b"b3") is None:
            self._sent, drawn = trace.begin_unsampled(worker.rng)
            request_id = request_id or drawn
        self._request_id = request_id or b"%032x" % worker.rng.getrandbits(128)
        if self._sent is None:
            self._trace = trace.begin(parent, given(b"tracestate"), given(b"b3"), worker.sample, worker.rng)
            self._span_id = trace.new_span_id(worker.rng)

    def _recorded(self) -> HandOver:
        """The request as a record."""
        side = self._side
        record = HandOver(self._snapshot, self._head, self._started_s, body_complete=True)
        record.route, record.cluster, record.exchange = self._plan, self._cluster, self._exchange
        record.ends_at_s, record.step = self._ends_at_s, self._step
        if isinstance(self._step, Try):
            record.endpoint = self._step.endpoint
        record.trace, record.request_id = self._context(), self._request_id
        record.span_id = self._span_id if side.reporter == DESTINATION else ""
        record.body_seen, record.bytes_in = self._body, self._bytes_in
        return record

    def _filled(self, principal: str) -> HandOver:
        """The record with what came of the request. `principal`: the endpoint's."""
        record = self._record or self._recorded()
        record.principal = principal or record.principal
        record.status, record.bytes_out = self._status, self._bytes_out
        return record

    def _context(self) -> trace.TraceContext | None:
        """The trace, for whoever wants to know after all."""
        if self._trace is None and self._sent is not None:
            given = self._head.get(b"traceparent")
            context = self._trace = trace.parse_traceparent(given or self._sent)
            self._span_id = self._sent[36:52].decode("ascii")
            if context is not None and given is None:
                context.parent_span_id = ""
        return self._trace

    def _tell(self, exchange: Exchange, endpoint: str, now_s: float, key: TallyKey) -> None:
        """Tell observers of a request that went well: as a number where that is all they make of it.

        `endpoint`: who it is, if it said so. `key`: requests of it differ in nothing but times and sizes.
        """
        worker = self._worker
        if self._record is None:
            tally = worker.tallies.get(key)
            if tally is None or tally.gone:
                tally = worker.observer.tally(self._done(exchange, self._peer.principal or endpoint, now_s))
                if tally is not None:
                    worker.keep_tally(key, tally)
            if tally is not None:
                took_ms = (now_s - self._started_s) * 1e3
                tally.observe(took_ms, self._bytes_in, self._bytes_out, now_s)
                for lines in tally.lines:
                    self._write_line(lines, took_ms)
                return
        tell(self._over(exchange, endpoint, None), self._peer, self._side, worker)

    def _over(self, exchange: Exchange, endpoint: str, fault: Fault | None) -> HandOver:
        """The record of a request that has ended, for observers. `fault`: what ended it."""
        record = self._filled(endpoint)
        record.exchange, record.fault = exchange, fault  # the exchange is not this call's any more
        self._record = self._span = None
        return record

    def _write_line(self, lines: Lines, took_ms: float) -> None:
        context, sent = self._trace, self._sent
        lines.write(
            self._head,
            self._request_id,
            sent[3:35] if sent is not None else context.trace_id.encode("ascii") if context is not None else b"",
            self._peer.address.encode("utf-8", "replace"),
            self._started_s,
            took_ms,
            self._bytes_in,
            self._bytes_out,
            self._snapshot.version,
        )

    def _done(self, exchange: Exchange, principal: str, now_s: float) -> RequestDone:
        """What there is to be told of a request that went well at the first try, without a record of it."""
        head, side, live, context = self._head, self._side, exchange.current, self._context()
        assert live is not None
        return RequestDone(
            reporter=side.reporter,
            started_s=self._started_s,
            ended_s=now_s,
            method=head.method,
            target=head.target,
            authority=head.authority,
            route=self._plan.name,
            service=side.service,
            cluster=self._cluster.key,
            endpoint=live.endpoint,
            status=self._status,
            attempts=exchange.attempt,
            tried=(live.endpoint.id,),
            bytes_received=self._bytes_in,
            bytes_sent=self._bytes_out,
            downstream_peer=self._peer.address,
            principal=principal,
            tls=bool(principal),
            user_agent=head.get(b"user-agent") or b"",
            request_id=self._request_id,
            trace=context,
            config_version=self._snapshot.version,
        )
