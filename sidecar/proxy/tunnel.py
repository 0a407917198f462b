"""Carry bytes both ways after the upstream switched protocols: WebSocket and other upgrades, CONNECT, raw TCP.

Called by exchange.py in the place of `relay`. A route change does not touch it. Each direction ends by itself where
both protocols can say so; where one cannot (TLS), an end on either side ends both. Bounded by its own idle time, over
both directions: a tunnel that is used in one direction only is in use.

Between two plain sockets nothing needs a task for each direction: handlers move the bytes, and the kernel does where
there are many (`transport/splice.py`).
"""

import math
from collections.abc import Awaitable, Callable

import trio

from sidecar.codec.events import Chunk, End
from sidecar.errors import CLIENT_GONE, TUNNEL_IDLE, UPSTREAM_RESET, ProxyError
from sidecar.errors import Side as Blame
from sidecar.model.messages import ResponseHead
from sidecar.proxy.done import describe
from sidecar.proxy.downstream import LINGER_S, Downstream
from sidecar.proxy.edits import forwarded_response
from sidecar.proxy.handover import HandOver, Sent
from sidecar.proxy.side import Side
from sidecar.proxy.upstream import Lease
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import SOURCE
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.splice import ClientBroken, Moved, UpstreamClosed, relay_plain
from sidecar.transport.stream import Peer, StreamBroken

TELL_S = 15.0  # between two counts of a TCP connection's bytes; as Istio


async def tunnel(
    record: HandOver, client: Downstream, lease: Lease, head: ResponseHead, side: Side, worker: Worker
) -> None:
    """Serve the tunnel until both directions have ended. Gives the lease back.

    Raises:
        ProxyError: It broke, or nothing moved for too long; the client's end has to be cut.
    """
    client.watch_hangup(None)  # from here on its end is an end like any other
    client.put_tunnel(forwarded_response(head, record.filters))
    record.status = head.status
    record.sent_downstream = Sent.BODY
    await client.push()
    carrier = _Tunnel(record, client, lease, side, worker)
    record.raw = record.raw or record.head.asks_for_bytes
    if record.raw:
        record.tcp_told = (0, 0)
        worker.observer.tcp_opened(describe(record, client.peer, side, worker))
    try:
        await carrier.run()
    except ProxyError:
        lease.abort()
        record.lease = None
        raise
    lease.discard()
    record.lease = None


class _Tunnel:
    """The two directions of one tunnel and what they share."""

    __slots__ = (
        "_both",
        "_client",
        "_closed",
        "_ends",
        "_idle_s",
        "_lease",
        "_moved_s",
        "_problem",
        "_record",
        "_side",
        "_worker",
    )

    def __init__(self, record: HandOver, client: Downstream, lease: Lease, side: Side, worker: Worker) -> None:
        self._side = side
        self._record = record
        self._client = client
        self._lease = lease
        self._worker = worker
        self._idle_s = _idle_s(record, side, client.peer, worker)
        self._moved_s = worker.now()
        self._both = trio.CancelScope()
        self._closed = False  # the endpoint has, for good
        self._ends = 0
        self._problem: ProxyError | None = None

    async def run(self) -> None:
        """Until both directions have ended. Raises ProxyError."""
        client, upstream = self._client.spliceable(), self._lease.spliceable()
        if client is not None and upstream is not None:
            in_ended = await self._came_already(self._client, self._lease, self._count_in)
            out_ended = await self._came_already(self._lease, self._client, self._count_out)
            await self._relay(client, upstream, in_ended, out_ended)
        else:
            await self._pump_both()
        if self._closed:
            await self._last_words()

    async def _came_already(
        self, source: Downstream | Lease, sink: Downstream | Lease, count: Callable[[int], int]
    ) -> bool:
        """Pass on what was read ahead of the switch. True when the direction's end was among it."""
        ended = False
        while (event := source.pop()) is not None:
            if isinstance(event, Chunk):
                count(len(event.data))
                sink.put_chunk(event.data)
            elif isinstance(event, End):
                sink.put_end()
                ended = True
        await sink.push()
        return ended

    async def _pump_both(self) -> None:
        self._client.watch_hangup(self._client_gone)  # for when the endpoint is slow, and the client is not read
        with self._both:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guarded, self._upstream)
                nursery.start_soon(self._guarded, self._downstream)
                nursery.start_soon(self._watch)
        self._client.watch_hangup(None)
        if self._problem is not None:
            raise ProxyError(self._problem.fault)  # itself it would keep us, and we it, in a cycle

    async def _guarded(self, direction: Callable[[], Awaitable[bool]]) -> None:
        """One direction; its failure ends both, and so does its end where the other side cannot be half closed."""
        try:
            whole = await direction()
        except ProxyError as exc:
            if self._ends == 1 and direction == self._upstream and exc.fault.side is Blame.UPSTREAM:
                self._endpoint_closed()
            else:
                self._fail(exc)
            return
        self._ends += 1
        if not whole or self._ends == 2:
            self._both.cancel()
        elif direction == self._downstream:
            # Our end and the client's together are a hang-up, too, and what it sent before its own is still to be read.
            self._client.watch_hangup(None)
            self._lease.watch_hangup(self._endpoint_closed)
        else:
            self._client.watch_hangup(self._client_gone)

    def _fail(self, problem: ProxyError) -> None:
        self._problem = self._problem or problem
        self._both.cancel()

    def _client_gone(self) -> None:
        """The client is gone while nobody reads from it: nobody takes the rest of the other direction."""
        if self._ends < 2:  # a stream of which both directions have ended hangs up, too
            self._fail(ProxyError(CLIENT_GONE, "the client left: it reset the connection"))

    def _endpoint_closed(self) -> None:
        """The endpoint reset what it was sent after its end: it had closed, which is no fault. TLS has such last words.

        The client was sent all that the endpoint said; closing over what it sends now could take that from it.
        """
        if self._ends < 2:
            self._closed = True
            self._both.cancel()

    async def _last_words(self) -> None:
        """Take from the client what nobody wants, until it ends; bounded."""
        client = self._client
        if client.spliceable() is None:
            return  # a stream of many can be closed over what was not read
        with trio.move_on_after(LINGER_S):
            try:
                while not isinstance(event := client.pop(), End):
                    if event is None:
                        await client.fill()
            except ProxyError:
                pass  # it heard, and is gone

    async def _upstream(self) -> bool:
        """From the client to the endpoint."""
        return await self._pump(self._client, self._lease, self._count_in)

    async def _downstream(self) -> bool:
        """From the endpoint to the client."""
        return await self._pump(self._lease, self._client, self._count_out)

    def _count_in(self, size: int) -> int:
        self._record.bytes_in += size
        return self._record.bytes_in

    def _count_out(self, size: int) -> int:
        self._record.bytes_out += size
        return self._record.bytes_out

    async def _pump(self, source: Downstream | Lease, sink: Downstream | Lease, count: Callable[[int], int]) -> bool:
        """Carry one direction until its end; False when the other one cannot go on after it."""
        credit = 0
        while True:
            event = source.pop()
            if event is None:
                await sink.push()
                if credit:
                    source.credit(credit)
                    credit = 0
                await source.fill()
            elif isinstance(event, Chunk):
                self._moved_s = self._worker.now()
                count(len(event.data))
                credit += event.credit
                sink.put_chunk(event.data)
            elif isinstance(event, End):
                sink.put_end()
                await sink.push()
                if credit:  # the other direction may go on for an hour, and others need the connection's window
                    source.credit(credit)
                return sink.half_closes

    async def _watch(self) -> None:
        """End what is idle, and tell now and then what a TCP connection has moved."""
        tell_s = TELL_S if self._record.raw else math.inf
        while (left_s := self._moved_s + self._idle_s - self._worker.now()) > 0:
            await trio.sleep(min(left_s, tell_s))
            self._tell()
        self._fail(ProxyError(TUNNEL_IDLE, f"nothing moved through the tunnel for {self._idle_s:g}s"))

    def _tell(self) -> None:
        """Let observers count the bytes of a connection that may stay for days."""
        record = self._record
        if record.tcp_told is None:
            return
        told_in, told_out = record.tcp_told
        record.tcp_told = (record.bytes_in, record.bytes_out)
        now = describe(record, self._client.peer, self._side, self._worker)
        self._worker.observer.tcp_progress(now, record.bytes_in - told_in, record.bytes_out - told_out)

    async def _relay(self, client: EpollStream, upstream: EpollStream, in_ended: bool, out_ended: bool) -> None:
        """Both directions by handlers of the two sockets; of one that has ended already, nothing more comes."""
        problem: Exception | None = None
        moved = Moved(self._record.bytes_in, self._record.bytes_out)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_spliced, moved)
            try:
                await relay_plain(client, upstream, self._idle_s, moved, ended=(in_ended, out_ended))
            except UpstreamClosed:
                self._closed = True
            except (StreamBroken, TimeoutError) as exc:
                problem = exc
            nursery.cancel_scope.cancel()
        self._record.bytes_in, self._record.bytes_out = moved.bytes_in, moved.bytes_out
        if isinstance(problem, ClientBroken):
            raise ProxyError(CLIENT_GONE, f"the client left: {problem}")
        if isinstance(problem, StreamBroken):
            raise ProxyError(UPSTREAM_RESET, f"the tunnel broke: {problem}")
        if problem is not None:
            raise ProxyError(TUNNEL_IDLE, f"nothing moved through the tunnel for {self._idle_s:g}s")

    async def _tell_spliced(self, moved: Moved) -> None:
        while True:
            await trio.sleep(TELL_S)
            self._record.bytes_in, self._record.bytes_out = moved.bytes_in, moved.bytes_out
            self._tell()


def _idle_s(record: HandOver, side: Side, peer: Peer, worker: Worker) -> float:
    """How long a tunnel may be silent: as the caller's side says, which knows the service's policy."""
    limits, route = worker.limits, record.route
    if side.reporter == SOURCE and route is not None:
        limit_s = route.policy.timeouts.tunnel_idle_s
    elif peer.alpn == "h2" and limits.http2_ping_s:
        limit_s = None  # a sidecar: it ends the tunnel in its time, and is asked whether it is still there
    else:
        limit_s = limits.tunnel_idle_s
    return limit_s or math.inf
