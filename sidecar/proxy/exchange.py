"""Carry one request: the full path, the reference for every other.

A plain loop that does what the attempts machine returns. Three ways in, told by the record: before routing, after
attempt n failed, with the request written and bytes of the answer in hand. The answer's head goes to the client once;
after that a failure cuts the connection, never a second head. A request body is kept up to the policy's limit, so that
it can be sent again; the rest streams, one buffer at a time, both ways at once.

Every wait is bounded: a try by the machine's `until_s`, the request body by its idle time, the answer's body by the
policy's stream idle time, writes to the client by their progress.
"""

import math
from functools import partial

import trio

from sidecar.balance.balancer import balancer_of
from sidecar.codec.events import Head, Interim, Tunnel
from sidecar.errors import (
    BROKEN_OFF,
    CLIENT_GONE,
    INVALID_BACKEND,
    NO_ROUTE,
    RETRY_LIMIT,
    Fault,
    ProxyError,
)
from sidecar.errors import Side as Blame
from sidecar.model.messages import ResponseHead
from sidecar.policy import attempts, grpc
from sidecar.policy.attempts import Answer, Try, Wait
from sidecar.policy.retry import Failure, GiveUp
from sidecar.proxy.affinity import request_hash, share
from sidecar.proxy.attempt_span import close_span, open_span
from sidecar.proxy.done import tell
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.edits import REQUEST_ID, forwarded_response
from sidecar.proxy.filtering import filter_request
from sidecar.proxy.grpc_reply import grpc_reply, grpc_trailers
from sidecar.proxy.handover import HandOver, Sent
from sidecar.proxy.injected import meet_faults
from sidecar.proxy.judging import failed, judged, timed_out, tunnel_refused
from sidecar.proxy.outgoing import outgoing_head
from sidecar.proxy.patience import Patience
from sidecar.proxy.raw import raw_head
from sidecar.proxy.relay import relay
from sidecar.proxy.replies import FALLBACK, degraded, redirection, reply
from sidecar.proxy.side import Side
from sidecar.proxy.tunnel import tunnel
from sidecar.proxy.upload import Upload
from sidecar.proxy.upstream import Lease
from sidecar.proxy.worker import Worker
from sidecar.routing.plan import RoutePlan
from sidecar.routing.wire import carries_requests, wire_for
from sidecar.telemetry import trace
from sidecar.telemetry.observer import DESTINATION, AttemptSpan
from sidecar.transport.stream import Interrupted

REPLY_S = 5.0  # for our own small answer to a client whose request was broken off


async def serve(record: HandOver, client: Downstream, side: Side, worker: Worker, patience: Patience) -> None:
    """Answer one request, whatever happens; afterwards `client.cut` says if its connection is of no more use.

    Raises nothing but trio.Cancelled of the caller's own scope; a bug raises too, after the connection was cut.
    `patience` is the calling task's.
    """
    await _Run(record, client, side, worker, patience).serve()


class _Run:
    """One request on the full path."""

    __slots__ = ("client", "complete", "patience", "record", "side", "upload", "worker")

    def __init__(self, record: HandOver, client: Downstream, side: Side, worker: Worker, patience: Patience) -> None:
        self.record = record
        self.client = client
        self.side = side
        self.worker = worker
        self.patience = patience
        self.upload = None if record.body_complete else Upload(record, client, worker, patience)
        self.complete = False  # the client has a whole answer

    async def serve(self) -> None:
        record, client, patience = self.record, self.client, self.patience
        patience.begin()
        client.watch_hangup(patience.end)
        try:
            try:
                if not patience.ended:  # else it left in the same breath: nobody need hear of it
                    await self._carry()
            except ProxyError as exc:
                record.fault = exc.fault
            except Interrupted:
                pass  # it was ended, and nobody waits for anything of it
            client.watch_hangup(None)
            if patience.ended and record.fault is None and not self.complete:
                record.fault = CLIENT_GONE
            await self._break_off()
        except BaseException:
            if not self.complete:  # a bug, or the process ends: what was sent must not pass for a whole answer
                record.fault = record.fault or BROKEN_OFF
                client.cut_short()
            raise
        finally:
            self._end()

    # Deciding: ask the machine, do what it says.

    async def _carry(self) -> None:
        record = self.record
        if record.exchange is None:
            try:
                plan = await self._route()
                redirect = plan.filters.redirect(record.head) if plan.filters is not None else None
                if redirect is None:
                    self._begin(plan)
            except ProxyError as exc:
                await self._reply(exc.fault, None)
                return
            if redirect is not None:
                await self._answer(*redirection(*redirect))
                return
        exchange = record.exchange
        assert exchange is not None
        begun, record.step = record.step, None
        if record.lease is not None:
            if await self._attempt(begun.until_s if isinstance(begun, Try) else record.ends_at_s):
                return
            begun = None
        while True:
            step = begun or attempts.next_step(exchange, self.worker.now(), self.worker.rng)
            begun = None
            if isinstance(step, Try):
                record.endpoint = step.endpoint
                if await self._attempt(step.until_s):
                    return
            elif isinstance(step, Wait):
                await self.patience.bounded(partial(trio.sleep, step.delay_s))
            else:
                await self._give_up(step)
                return

    async def _route(self) -> RoutePlan:
        """Begin the trace and ask the side for a rule. Raises ProxyError when there is none."""
        record, worker, side, head = self.record, self.worker, self.side, self.record.head
        record.grpc = head.version == b"2" and grpc.is_grpc(head)
        record.request_id = head.get(REQUEST_ID) or b"%032x" % worker.rng.getrandbits(128)
        record.trace = trace.begin(
            head.get(b"traceparent"), head.get(b"tracestate"), head.get(b"b3"), worker.sample, worker.rng
        )
        if side.reporter == DESTINATION:
            record.span_id = trace.new_span_id(worker.rng)
            # A CONNECT stream of a sidecar is its word for a TCP connection, and nobody's request.
            record.raw = record.raw or (head.asks_for_bytes and bool(self.client.peer.principal))
        plan = record.route = await side.route(record, self.client.peer, self.patience)
        return plan

    def _begin(self, plan: RoutePlan) -> None:
        """Split, filter, fix the deadline, start the machine. Raises ProxyError when the request may go nowhere."""
        record, worker, side, head = self.record, self.worker, self.side, self.record.head
        if not plan.backends:
            raise ProxyError(INVALID_BACKEND, f"rule {plan.name} has no backend with a weight above 0")
        index = share(plan, head, self.client.peer, worker.rng) if len(plan.backends) > 1 else 0
        cluster = record.cluster = plan.backends[index]
        if record.raw:
            record.outgoing = raw_head(str(cluster.key).encode())
        elif plan.filters is not None or plan.backend_filters:
            filter_request(record, plan, index)
        if not carries_requests(cluster.protocol) and head.method != b"CONNECT":
            raise ProxyError(NO_ROUTE, f"{cluster.key} is declared {cluster.protocol.value}, which carries no requests")
        ends_at_s = side.ends_at(record, plan, self.client.peer)
        record.ends_at_s = ends_at_s if self.upload is None else self.upload.first_end(ends_at_s, plan)
        live, policy = side.live.cluster(cluster.key), plan.policies[index]
        balancer = balancer_of(live, policy.balancing, worker.node.zone)
        exchange = record.exchange = attempts.start(
            live,
            cluster.endpoints,
            cluster.known,
            policy,
            balancer,
            method=head.method,
            idempotency_key=head.get(b"idempotency-key") is not None,
            per_try_s=plan.per_try_s,
            ends_at_s=record.ends_at_s,
            now_s=worker.now(),
        )
        # What came together with the head is sent once in any case; again only if the policy keeps so much.
        exchange.replayable = len(record.body_seen) <= policy.retries.max_body_bytes
        if balancer.hash_key is not None:
            exchange.key = request_hash(balancer.hash_key, head, self.client.peer)

    async def _give_up(self, step: Answer) -> None:
        assert step.fault is not None, "an answer to forward is forwarded by the try that got it"
        fault = step.fault
        if step.denied is GiveUp.ATTEMPTS and fault.flag != "UT":
            fault = Fault(f"URX,{fault.flag}", fault.side, fault.status, fault.upstream_untouched, fault.sentence)
        if not await self._fall_back(fault.status, fault):
            await self._reply(fault, step.denied)

    async def _fall_back(self, status: int, fault: Fault | None) -> bool:
        """Answer as the policy says instead of with `status`; False when it says nothing of it."""
        record, exchange = self.record, self.record.exchange
        assert exchange is not None
        fallback = exchange.policy.fallback
        if fallback is None or status not in fallback.statuses or record.grpc or record.raw:
            return False
        record.fault, record.mark = fault, FALLBACK
        await self._answer(*degraded(fallback))
        return True

    # One try.

    async def _attempt(self, until_s: float | None) -> bool:
        """One try, with the rest of the request body streaming beside it. True when the client was answered."""
        if self.record.body_complete:
            return await self._try(until_s, None)
        assert self.record.exchange is not None
        self.record.exchange.asked_s = math.inf  # what the client takes to send it is not the endpoint's time
        problem: ProxyError | None = None
        answered = interrupted = False
        async with trio.open_nursery() as nursery:
            try:
                answered = await self._try(until_s, nursery)
            except ProxyError as exc:
                problem = exc
            except Interrupted:
                interrupted = True
            nursery.cancel_scope.cancel()
        if interrupted:
            raise Interrupted
        if problem is not None:
            raise ProxyError(problem.fault)  # itself it would keep this frame, and this frame it, in a cycle
        return answered

    async def _try(self, until_s: float | None, nursery: trio.Nursery | None) -> bool:
        record, worker, exchange, patience = self.record, self.worker, self.record.exchange, self.patience
        assert exchange is not None
        span = open_span(record, self.side.reporter, worker.now(), worker.rng)
        answer: ResponseHead | None = None
        failure: Failure | None = None
        late = False
        patience.until(math.inf if until_s is None else until_s)
        try:
            answer = await self._until_head(span, nursery)
            failure = judged(record, answer)
        except ProxyError as exc:
            if exc.fault.side is Blame.CLIENT:
                raise
            failure = failed(record, exc.fault, untouched=exc.fault.upstream_untouched)
        except Interrupted:
            if patience.ended:
                raise
            late = True
        patience.until(math.inf)
        now_s = worker.now()
        if late:
            failure = failed(record, timed_out(record, self.side.pool, now_s), untouched=record.lease is None)
        # gRPC is judged by the trailers, unless the head is all there is of an answer, or it is not an answer of gRPC.
        final = not record.grpc or record.grpc_told is not None or (answer is not None and answer.status != 200)
        shed = answer is not None and answer.status == attempts.SHED_STATUS
        attempts.outcome(exchange, failure, now_s, worker.rng, judged=final, shed=shed)
        close_span(span, now_s, answer, failure)
        self._tell_ejected()
        lease = record.lease
        if answer is None or exchange.over is None:
            if lease is not None:
                lease.put_down()
                record.lease = None
            return False
        assert lease is not None
        if exchange.denied is GiveUp.ATTEMPTS:
            record.fault = RETRY_LIMIT
        if await self._fall_back(answer.status, record.fault):
            lease.put_down()
            record.lease = None
            return True
        if record.tunnelled:
            await patience.bounded(partial(tunnel, record, self.client, lease, answer, self.side, worker))
        elif record.raw:
            raise tunnel_refused(record, answer)
        else:
            try:
                trailers = await relay(record, self.client, lease, answer, worker, patience)
            except ProxyError as exc:
                if not final and exc.fault.side is not Blame.CLIENT:
                    self._ended(failed(record, exc.fault, untouched=False))
                raise
            if not final:
                record.grpc_told = grpc.status_at_end(trailers)
                self._ended(grpc.judge_end(trailers))
        self.complete = True
        return True

    def _ended(self, failure: Failure | None) -> None:
        """Tell what the end of a call said of its endpoint."""
        exchange = self.record.exchange
        assert exchange is not None
        attempts.ended(exchange, failure, self.worker.now(), self.worker.rng)
        self._tell_ejected()

    async def _until_head(self, span: AttemptSpan | None, nursery: trio.Nursery | None) -> ResponseHead:
        """Get a connection, send the request, wait for the final head of the answer."""
        record = self.record
        lease = record.lease
        if lease is None:
            lease = await self._send_request(span, nursery)
        elif record.response_prefix:
            prefix, record.response_prefix = record.response_prefix, b""
            lease.give(prefix)
        while True:
            event = lease.pop()
            if event is None:
                await self.patience.fill(lease)
            elif isinstance(event, Head):
                assert isinstance(event.head, ResponseHead)
                return event.head
            elif isinstance(event, Tunnel):
                record.tunnelled = True
                return event.head
            elif isinstance(event, Interim):
                await self._interim(event.head)

    async def _send_request(self, span: AttemptSpan | None, nursery: trio.Nursery | None) -> Lease:
        record, exchange = self.record, self.record.exchange
        assert exchange is not None
        assert record.endpoint is not None
        record.principal = ""
        assert record.cluster is not None
        wire = wire_for(record.cluster.protocol, record.head)
        record.grpc_told = None  # by the last try
        refused, record.refused = record.refused, None
        if refused is not None:
            raise refused
        if exchange.policy.faults:
            await meet_faults(record, self.worker, self.patience)
        pool, whose = self.side.pool, (exchange.cluster, record.endpoint, exchange.policy, wire)
        lease = pool.lease_now(*whose)
        if lease is None:
            lease = await self.patience.bounded(partial(pool.lease, *whose))
        record.lease = lease
        record.principal = lease.principal
        head = outgoing_head(record, self.side, self.client.peer, span, self.worker)
        lease.read_at_most(self.client.appetite)
        lease.put_request(head, wants_trailers=self.client.wants_trailers)
        if record.body_seen:
            lease.put_chunk(record.body_seen)
        if record.body_complete and not head.opens_tunnel:
            lease.put_end(record.trailers)
        if not lease.push_now():
            await self.patience.bounded(lease.push)
        if nursery is not None and self.upload is not None and not record.body_complete:
            nursery.start_soon(self.upload.pump, lease)
        return lease

    def _tell_ejected(self) -> None:
        exchange = self.record.exchange
        if exchange is not None and exchange.ejected is not None:
            self.worker.observer.ejected(exchange.ejected)
            exchange.ejected = None

    # Towards the client.

    async def _interim(self, head: ResponseHead) -> None:
        self.record.sent_downstream = max(self.record.sent_downstream, Sent.INTERIM)
        self.client.put_interim(forwarded_response(head))
        await self._push()

    async def _reply(self, fault: Fault, denied: GiveUp | None) -> None:
        """Send our own answer."""
        record, client = self.record, self.client
        record.fault = fault
        to_mesh_peer = self.side.reporter == DESTINATION and bool(client.peer.principal)
        told = denied.value if denied is not None else ""
        if record.grpc:
            record.grpc_told = None  # it is us who say it
            await self._answer(grpc_reply(fault, denied=told, to_mesh_peer=to_mesh_peer), b"")
        else:
            await self._answer(*reply(fault, denied=told, to_mesh_peer=to_mesh_peer))

    async def _answer(self, head: ResponseHead, body: bytes) -> None:
        """Send a whole answer that no endpoint gave."""
        record, client = self.record, self.client
        if self.worker.draining:
            client.close_after()
        client.put_head(head)
        client.put_chunk(body)
        client.put_end()
        record.status = head.status
        record.bytes_out += len(body)
        record.sent_downstream = Sent.BODY
        await self._push()
        self.complete = True

    async def _push(self) -> None:
        if not self.client.push_now():
            await self.patience.bounded(self.client.push)

    async def _break_off(self) -> None:
        """After a fault outside the machine: answer if nothing was sent and somebody is there, else cut."""
        record, client = self.record, self.client
        fault = record.fault
        if fault is None or self.complete:
            return
        begun = record.sent_downstream >= Sent.HEAD
        if (begun and not record.grpc) or not fault.status:
            client.cut_short()
            return
        client.close_after()
        self.patience.begin()  # what ended the request does not end its reply
        with trio.move_on_after(REPLY_S) as scope:
            try:
                if begun:  # gRPC says in its trailers how a call ended
                    client.put_end(grpc_trailers(fault))
                    await client.push()
                else:
                    await self._reply(fault, None)
            except (ProxyError, ValueError):  # the client is gone, or was promised more bytes than came
                client.cut_short()
        if scope.cancelled_caught:
            client.cut_short()

    # The end.

    def _end(self) -> None:
        """Give everything back and tell once; runs on every way out."""
        record = self.record
        if record.exchange is not None:
            attempts.finish(record.exchange)
        if record.lease is not None:
            if record.tunnelled:  # cut, not ended: neither side may take what it got for everything
                record.lease.abort()
            else:
                record.lease.discard()
            record.lease = None
        self.worker.observer.path_taken("full", record.why_left)
        tell(record, self.client.peer, self.side, self.worker)
