"""One client connection over HTTP/1.1: heads become requests, one after the other, until either side is done.

Waits for a head under two bounds, both absolute: a connection at rest may idle, a head that has begun must be
complete in time, however its bytes trickle. What is not HTTP is answered once and the connection closed, in a way that
lets the answer arrive. A sidecar that calls is told when we close between two requests, so that none is lost that was
on its way.
"""

from collections.abc import Callable

import trio

from sidecar.codec.events import Chunk, End, Event, Head, Trailers
from sidecar.codec.h1_server import H1Server
from sidecar.errors import HEAD_TIMEOUT, UPSTREAM_REFUSED, Fault, ProxyError
from sidecar.model.messages import RequestHead
from sidecar.proxy import exchange
from sidecar.proxy.downstream import Http1Downstream, linger
from sidecar.proxy.fast_path import FastPath, Over
from sidecar.proxy.handover import HandOver
from sidecar.proxy.replies import reply
from sidecar.proxy.side import FastSide, Side
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.stream import Stream, StreamBroken

MakeSide = Callable[[], FastSide]


async def serve(stream: Stream, make_side: MakeSide, worker: Worker, first: bytes = b"") -> None:
    """Serve a client until it or we are done. Owns `stream` and closes it on every path.

    `first` are bytes that were read from it already.
    """
    try:
        await _Http1(stream, make_side, worker).serve(first)
    except StreamBroken:
        pass  # it left between two requests; nothing was lost
    finally:
        stream.close()


class _Http1:
    __slots__ = ("client", "codec", "ends_s", "fast", "limit", "make_side", "why", "worker")

    def __init__(self, stream: Stream, make_side: MakeSide, worker: Worker) -> None:
        self.ends_s = worker.connection_ends_s(stream.peer)
        self.limit = "firstRequest"  # the setting that bounds the wait for the next request
        self.codec = H1Server()
        self.client = Http1Downstream(stream, self.codec, worker.limits.write_progress_s)
        self.make_side = make_side
        self.worker = worker
        self.fast = FastPath(stream, make_side(), worker, self.ends_s) if worker.fast_path else None
        self.why = "" if self.fast is not None else "off"  # why the request that comes is not on the fast path

    async def serve(self, first: bytes) -> None:
        await self._requests(first)
        if self.client.stream.queued_bytes:  # of the last answer: the client is slow, not gone
            await linger(self.client.stream, self.worker.limits.write_progress_s)

    async def _requests(self, first: bytes) -> None:
        client, codec, worker = self.client, self.codec, self.worker
        while True:
            if self.fast is not None:
                left = await self.fast.serve(first, self._rest_s())
                first = left.data
                if left.over is not None:
                    await self._over(left.over)
                    return
                if left.record is not None:
                    codec.resume(left.record.head, first, ended=left.ended)
                    first = b""
                    self.limit = "idle"
                    if not await self._exchange(left.record, left.side):
                        return
                    first = await self._ahead()
                    continue
                self.why = left.why
                if not first and left.ended:
                    return
            try:
                if first:
                    data, first = first, b""
                    client.events.extend(codec.feed(data))
                head = await self._next_head()
            except ProxyError as exc:
                if exc.fault.status or not codec.at_rest:
                    await self._refuse(exc.fault)
                return  # a client that leaves between two requests loses nothing
            if head is None:
                await self._part()
                return
            self.limit = "idle"
            if worker.now() >= self.ends_s:
                codec.close_after()
            record = self._record(head)
            record.why_left = self.why
            if not await self._exchange(record, self.make_side()):
                return
            if self.fast is not None:
                first = await self._ahead()
                continue
            try:
                client.events.extend(codec.next_request())
            except ProxyError as exc:
                await self._refuse(exc.fault)
                return
            if client.events:  # sent ahead of its turn: a queue of such requests must not keep others from theirs
                await trio.lowlevel.checkpoint()

    async def _exchange(self, record: HandOver, side: Side) -> bool:
        """Serve one request on the full path. True when another may follow it."""
        client, worker = self.client, self.worker
        await exchange.serve(record, client, side, worker)
        if client.cut:
            return False
        if not self.codec.keep_alive or (worker.closing and not client.peer.principal):
            await linger(client.stream, worker.limits.write_progress_s)
            return False
        client.events.clear()
        return True

    async def _ahead(self) -> bytes:
        """What was sent ahead of its turn: a queue of such requests must not keep others from theirs."""
        held = self.codec.take_held()
        if held:
            await trio.lowlevel.checkpoint()
        return held

    def _rest_s(self) -> float:
        """How long the connection may rest now."""
        limits = self.worker.limits
        return limits.idle_s if self.limit == "idle" else limits.first_request_s

    async def _over(self, over: Over) -> None:
        """The fast path has found the connection's end between two requests."""
        if over is Over.CUT:
            self.client.cut = True
            return
        if over is Over.LAST:
            await linger(self.client.stream, self.worker.limits.write_progress_s)
            return
        if over is Over.IDLE and self.worker.now() < self.ends_s:
            self.worker.observer.limit_reached(self.limit)
        await self._part()

    async def _next_head(self) -> RequestHead | None:
        """The next request's head; None when the client is done. Raises ProxyError of DPE."""
        client, codec, worker = self.client, self.codec, self.worker
        head_due_s = None
        while True:
            event: Event | None = client.pop()
            if isinstance(event, Head):
                assert isinstance(event.head, RequestHead)
                return event.head
            if not codec.wants_input:
                return None
            if codec.at_rest:
                limit_s = min(worker.now() + self._rest_s(), self.ends_s)
            else:
                head_due_s = head_due_s or worker.now() + worker.limits.head_timeout_s
                limit_s = head_due_s
            with trio.CancelScope(deadline=limit_s) as scope:
                if codec.at_rest:
                    worker.idle(scope)
                try:
                    await client.fill()
                finally:
                    worker.busy(scope)
            if scope.cancelled_caught:
                if codec.at_rest:
                    # A drain does not close over a request that has come meanwhile.
                    if client.fill_now():
                        continue
                    if not worker.closing and worker.now() < self.ends_s:
                        worker.observer.limit_reached(self.limit)
                    return None
                raise ProxyError(
                    HEAD_TIMEOUT, f"the request head did not arrive within {worker.limits.head_timeout_s:g}s"
                )

    async def _part(self) -> None:
        """Close between two requests.

        A request may be on its way, and HTTP/1.1 cannot say that it will not be taken: its sender would find a broken
        connection, and must not repeat a POST. So another sidecar gets an answer ahead. Where no request is under way,
        it closes the connection as it does with any that speaks unasked; a request that crosses it was provably not
        taken, and is sent again elsewhere, as after HTTP/2's REFUSED_STREAM.
        """
        client, codec = self.client, self.codec
        if not client.peer.principal or not codec.wants_input:
            return
        fault = UPSTREAM_REFUSED.saying("this connection was about to end when the request came")
        head, body = reply(fault, to_mesh_peer=True)
        client.stream.write(codec.encode_head(head) + codec.encode_chunk(body) + codec.encode_end())
        await linger(client.stream, self.worker.limits.write_progress_s)

    def _record(self, head: RequestHead) -> HandOver:
        """The record of a new request, with what already came of its body."""
        events = self.client.events
        complete = head.opens_tunnel or (isinstance(events[-1], End) if events else False)
        record = HandOver(self.worker.snapshot, head, self.worker.now(), body_complete=complete)
        if complete and len(events) > 1:
            record.body_seen = b"".join(event.data for event in events if isinstance(event, Chunk))
            record.bytes_in = len(record.body_seen)
            record.trailers = [field for event in events if isinstance(event, Trailers) for field in event.fields]
        if complete:
            events.clear()
        return record

    async def _refuse(self, fault: Fault) -> None:
        """Answer what is not a request, tell it, close."""
        client, worker = self.client, self.worker
        side = self.make_side()
        now_s = worker.now()
        sent = 0
        if fault.status:
            head, body = reply(fault)
            self.codec.close_after()
            data = self.codec.encode_head(head) + self.codec.encode_chunk(body) + self.codec.encode_end()
            client.stream.write(data)
            sent = len(body)
        if fault.limit:
            worker.observer.limit_reached(fault.limit)
        worker.observer.request_done(
            RequestDone(
                reporter=side.reporter,
                started_s=now_s,
                ended_s=now_s,
                status=fault.status,
                flags=fault.flag,
                details=fault.sentence,
                bytes_sent=sent,
                downstream_peer=client.peer.address,
                config_version=worker.snapshot.version,
            )
        )
        if fault.status:
            await linger(client.stream, self.worker.limits.write_progress_s)
