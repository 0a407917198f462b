"""The rest of a request body, on its way from the client to the endpoint while the answer is already awaited.

Used by exchange.py for requests whose body did not come whole with the head. Keeps what it carries up to the policy's
limit, so that another try can send it again; starts the time for the answer when the body is complete.
"""

import math
from dataclasses import replace

import trio

from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.errors import BODY_TIMEOUT, ProxyError, Side
from sidecar.policy.body_rate import MinRate
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.policy.grpc import TIMEOUT_HEADER
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.handover import HandOver, Sent
from sidecar.proxy.patience import Patience
from sidecar.proxy.upstream import Lease
from sidecar.proxy.worker import Worker
from sidecar.routing.plan import RoutePlan

LOOK_S = 1.0  # while an endpoint takes nothing: how often the client is looked at


class Upload:
    """One request's body."""

    __slots__ = ("_after_body_s", "_client", "_owed", "_patience", "_rate", "_record", "_waited_s", "_worker")

    def __init__(self, record: HandOver, client: Downstream, worker: Worker, patience: Patience) -> None:
        """`patience`: of the request's task, ended when the client's side fails; `record.fault` says why."""
        self._record = record
        self._client = client
        self._worker = worker
        self._patience = patience
        self._rate = MinRate(worker.limits.body_min_bytes_per_s, worker.limits.body_idle_s)
        self._owed = 0  # of what the client sent, not credited yet: no endpoint has taken it
        self._waited_s = 0.0  # for the client, since its last bytes
        self._after_body_s: float | None = None  # time for the answer's head once the request is complete

    def first_end(self, ends_at_s: float | None, plan: RoutePlan) -> float | None:
        """The end of the request as far as it is known now.

        A limit on the way to the answer's head begins when the request is complete, as Envoy's does: an upload may take
        as long as it makes progress. What a route sets for the whole response, and what a caller has left, run already.
        """
        record = self._record
        told = record.head.get(DEADLINE_HEADER) is not None
        told = told or (record.grpc and record.head.get(TIMEOUT_HEADER) is not None)
        if ends_at_s is None or plan.whole_response or told:
            return ends_at_s
        self._after_body_s = ends_at_s - record.started_s
        return None

    async def pump(self, lease: Lease) -> None:
        """Carry the body until its end, or until the endpoint takes no more of it.

        What goes wrong on the client's side ends the whole request; on the endpoint's side its answer, or the lack of
        one, tells more than a failed write. It takes nothing from the client once its try is over: what comes then is
        the next try's, which was decided on with what is kept of the body now.
        """
        record = self._record
        self._credit()  # what an earlier try had in hand went out again with the head
        try:
            while not record.body_complete and record.lease is lease:
                await self._take_piece(lease)
                if not await self._taken(lease):
                    if self._trying:
                        self._patience.cancel()  # the endpoint takes nothing of the body any more
                    return
                self._credit()
        except ProxyError as exc:
            if exc.fault.side is Side.CLIENT:
                record.fault = exc.fault
                self._patience.end()

    @property
    def _trying(self) -> bool:
        """True while the answer's head is awaited."""
        return self._record.sent_downstream < Sent.HEAD

    async def _taken(self, lease: Lease) -> bool:
        """Wait until the endpoint took what was put. False: not as long as a stream may idle.

        Meanwhile the client is not read, so that its end, behind what it sent, would go unseen as long.
        """
        until_s = self._worker.now() + self._idle_s()
        while True:
            look_s = min(until_s, self._worker.now() + LOOK_S)
            with trio.CancelScope(deadline=look_s) as waiting:
                await lease.push()
            if not waiting.cancelled_caught:
                return True
            if look_s == until_s:
                return False
            self._client.look()

    def _credit(self) -> None:
        if self._owed:
            self._client.credit(self._owed)
            self._owed = 0

    async def _take_piece(self, lease: Lease) -> None:
        """Put what comes next of the body into the lease, and keep it for another try.

        All that is here goes together, above all the end with the last bytes: an endpoint that answers at once would
        else have given a whole answer to half a request, which Envoy, for one, takes as a reason to reset the stream.
        """
        client, record = self._client, self._record
        while (event := client.pop()) is None:
            began_s, answered = self._worker.now(), record.bytes_out
            # The messages of a gRPC stream are no upload: they come when there is something to say.
            with trio.move_on_after(self._idle_s() if record.grpc else self._rate.left_s) as scope:
                await client.fill()
            if scope.cancelled_caught and not (record.grpc and record.bytes_out > answered):
                raise self._too_slow()
            self._waited_s += self._worker.now() - began_s
            if self._record.lease is not lease:
                return
        while event is not None:
            self._put(event, lease)
            event = None if record.body_complete else client.pop()

    def _put(self, event: Event, lease: Lease) -> None:
        if isinstance(event, Chunk):
            self._rate.came(len(event.data), self._waited_s)
            self._waited_s = 0.0
            self._keep(event.data)
            lease.put_chunk(event.data)
            self._owed += event.credit
        elif isinstance(event, Trailers):
            self._record.trailers = event.fields
        elif isinstance(event, End):
            self._complete()
            lease.put_end(self._record.trailers)

    def _too_slow(self) -> ProxyError:
        limits = self._worker.limits
        if self._record.grpc:
            return ProxyError(BODY_TIMEOUT, f"nothing moved in the call for {self._idle_s():g}s")
        rate = f", or less than {limits.body_min_bytes_per_s} bytes a second" if limits.body_min_bytes_per_s else ""
        fault = replace(BODY_TIMEOUT, limit="bodyMinRate") if self._record.bytes_in else BODY_TIMEOUT
        return ProxyError(fault, f"no byte of the request body came for {limits.body_idle_s:g}s{rate}")

    def _keep(self, data: bytes) -> None:
        record, exchange = self._record, self._record.exchange
        record.bytes_in += len(data)
        if exchange is None or not exchange.replayable:
            return
        if len(record.body_seen) + len(data) <= exchange.policy.retries.max_body_bytes:
            record.body_seen += data
        else:
            exchange.replayable = False
            record.body_seen = b""

    def _complete(self) -> None:
        record, exchange = self._record, self._record.exchange
        record.body_complete = True
        if exchange is not None:
            exchange.asked_s = self._worker.now()
        if self._after_body_s is None or exchange is None:
            return
        record.ends_at_s = exchange.ends_at_s = self._worker.now() + self._after_body_s
        self._after_body_s = None
        if self._trying:
            self._patience.until(min(self._patience.due_s, record.ends_at_s))

    def _idle_s(self) -> float:
        """How long the endpoint may take nothing of it."""
        route = self._record.route
        return (route.policy.timeouts.stream_idle_s if route is not None else 0.0) or math.inf
