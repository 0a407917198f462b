"""One client connection over HTTP/1.1: heads become requests, one after the other, until either side is done.

Waits for a head under two bounds, both absolute: a connection at rest may idle, a head that has begun must be
complete in time, however its bytes trickle. What is not HTTP is answered once and the connection closed, in a way that
lets the answer arrive. A sidecar that calls is told when we close between two requests, so that none is lost that was
on its way.
"""

from collections.abc import Callable, Coroutine
from typing import Never

import trio

from sidecar.codec.events import Chunk, End, Event, Head, Trailers
from sidecar.codec.h1_server import H1Server
from sidecar.errors import HEAD_TIMEOUT, UPSTREAM_REFUSED, Fault, ProxyError
from sidecar.model.messages import RequestHead
from sidecar.proxy import exchange
from sidecar.proxy.downstream import Http1Downstream, linger
from sidecar.proxy.edits import from_afar
from sidecar.proxy.fast_path import FastPath, Left, Over
from sidecar.proxy.handover import HandOver
from sidecar.proxy.patience import Patience
from sidecar.proxy.replies import reply
from sidecar.proxy.side import FastSide, Side
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.stream import Interrupted, Stream, StreamBroken

MakeSide = Callable[[], FastSide]


def serve(stream: Stream, make_side: MakeSide, worker: Worker, first: bytes = b"") -> Coroutine[object, Never, None]:
    """To be awaited: serve a client until it or we are done. Owns `stream` and closes it on every path.

    `first` are bytes that were read from it already.
    """
    return _Http1(stream, make_side, worker, first).serve()


def go_on(
    stream: Stream, make_side: MakeSide, worker: Worker, fast: FastPath, left: Left
) -> Coroutine[object, Never, None]:
    """The same for a connection that `fast` has served until now without a task. `left`: why it does not any more."""
    http1 = _Http1(stream, make_side, worker, b"", fast)
    http1.left = left
    return http1.serve()


class _Http1:
    """One connection.

    Clients wait by the thousand, and what awaits a wait is kept as long: there are as few frames around it as can be,
    and nothing of a request that is over.
    """

    __slots__ = (
        "client",
        "codec",
        "ends_s",
        "fast",
        "first",
        "left",
        "limit",
        "make_side",
        "patience",
        "why",
        "worker",
    )

    def __init__(
        self, stream: Stream, make_side: MakeSide, worker: Worker, first: bytes, fast: FastPath | None = None
    ) -> None:
        self.first = first
        self.ends_s = worker.connection_ends_s(stream.peer)
        self.limit = "firstRequest"  # the setting that bounds the wait for the next request
        self.codec = H1Server(worker.request_acts, far=from_afar(stream.peer))
        self.client = Http1Downstream(stream, self.codec, worker.limits.write_progress_s)
        self.make_side = make_side
        self.worker = worker
        if fast is None and worker.fast_path:
            fast = FastPath(stream, make_side(), worker, self.ends_s)
        self.fast = fast
        self.left: Left | None = None  # on the fast path, before this began
        self.patience: Patience | None = None  # made when the full path is first taken: most never take it
        self.why = "" if self.fast is not None else "off"  # why the request that comes is not on the fast path

    async def serve(self) -> None:
        """See the module's function."""
        client, codec = self.client, self.codec
        try:
            while True:
                if self.fast is not None:
                    left, self.left = self.left, None
                    if left is None:
                        left = await self.fast.serve(self.first, self._rest_s())
                    self.first = left.data
                    if left.over is not None or (left.ended and not left.data and left.record is None):
                        await self._over(left.over)
                        break
                    record, side, self.why = left.record, left.side, left.why
                    if record is not None:
                        codec.resume(record.head, left.data, ended=left.ended)
                    del left
                else:
                    record = None
                if record is None:
                    head = await self._read_head()
                    if head is None:
                        break
                    record, side = self._record(head), self.make_side()
                    del head
                self.first = b""
                self.limit = "idle"
                again = await self._exchange(record, side)
                del record, side
                if not again or not await self._go_on():
                    break
            client.stream.write(b"")
            if client.stream.queued_bytes:  # of the last answer: the client is slow, not gone
                await linger(client.stream, self.worker.limits.write_progress_s)
        except StreamBroken:
            pass  # it left between two requests; nothing was lost
        finally:
            if self.patience is not None:
                self.patience.leave()
            client.stream.close()

    def _own_patience(self) -> Patience:
        if self.patience is None:
            self.patience = Patience(self.worker.timer)
        return self.patience

    async def _read_head(self) -> RequestHead | None:
        """The next request's head, for the full path; None when there is none, and the client knows."""
        client, codec, worker = self.client, self.codec, self.worker
        try:
            if self.first:
                client.events.extend(codec.feed(self.first))
                self.first = b""
            head = await self._next_head()
        except ProxyError as exc:
            if exc.fault.status or not codec.at_rest:
                await self._refuse(exc.fault)
            return None  # a client that leaves between two requests loses nothing
        if head is None:
            await self._part()
        elif worker.now() >= self.ends_s:
            codec.close_after()
        return head

    async def _exchange(self, record: HandOver, side: Side) -> bool:
        """Serve one request on the full path. True when another may follow it."""
        client, worker = self.client, self.worker
        record.why_left = record.why_left or self.why
        await exchange.serve(record, client, side, worker, self._own_patience())
        if client.cut:
            return False
        if not self.codec.keep_alive or (worker.closing and not client.peer.principal):
            await linger(client.stream, worker.limits.write_progress_s)
            return False
        client.events.clear()
        return True

    async def _go_on(self) -> bool:
        """Turn to what was sent ahead of its turn: a queue of such requests must not keep others from theirs."""
        client, codec = self.client, self.codec
        if self.fast is not None:
            self.first = codec.take_held()
        else:
            try:
                client.events.extend(codec.next_request())
            except ProxyError as exc:
                await self._refuse(exc.fault)
                return False
        if self.first or client.events:
            await trio.lowlevel.checkpoint()
        return True

    def _rest_s(self) -> float:
        """How long the connection may rest now."""
        limits = self.worker.limits
        served = self.limit == "idle" or (self.fast is not None and self.fast.served)
        return limits.idle_s if served else limits.first_request_s

    async def _over(self, over: Over | None) -> None:
        """The fast path has found the connection's end between two requests; None: the client ended it."""
        if over is None or over is Over.CUT:
            return
        if over is Over.LAST:
            await linger(self.client.stream, self.worker.limits.write_progress_s)
            return
        if over is Over.IDLE and self.worker.now() < self.ends_s:
            served = self.fast is not None and self.fast.served
            self.worker.observer.limit_reached("idle" if served else self.limit)
        await self._part()

    async def _next_head(self) -> RequestHead | None:
        """The next request's head; None when the client is done. Raises ProxyError of DPE."""
        client, codec, worker, patience = self.client, self.codec, self.worker, self._own_patience()
        patience.begin()
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
            patience.until(limit_s)
            if codec.at_rest:
                worker.idle(patience)
            try:
                while True:
                    client.events.extend(codec.feed(await patience.receive(client.stream)))
                    if client.events or codec.at_rest or not codec.wants_input:
                        break
                    worker.busy(patience)  # a head has begun
                    head_due_s = head_due_s or worker.now() + worker.limits.head_timeout_s
                    patience.until(head_due_s)
            except StreamBroken as exc:
                raise client.left(exc) from None
            except Interrupted:
                if codec.at_rest:
                    # A drain does not close over a request that has come meanwhile.
                    if client.fill_now():
                        continue
                    if not worker.closing and worker.now() < self.ends_s:
                        worker.observer.limit_reached(self.limit)
                    return None
                raise ProxyError(
                    HEAD_TIMEOUT, f"the request head did not arrive within {worker.limits.head_timeout_s:g}s"
                ) from None
            finally:
                worker.busy(patience)

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
