"""One client connection over HTTP/2: each stream becomes a request, served by a task of its own.

`serve` reads, the exchanges of its streams write; see `mux.py`. A drain says GOAWAY in two steps, so that a request
that is on its way meanwhile is still served. A stream's end costs nobody but itself: what breaks one is reset alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from sidecar.codec.contract import CANCEL, MuxServer
from sidecar.codec.events import Chunk, End, Event, Head, Reset, Trailers
from sidecar.errors import CLIENT_GONE, UPSTREAM_PROTOCOL, ProxyError
from sidecar.model.clusters import ServiceKey
from sidecar.model.messages import RequestHead, ResponseHead
from sidecar.proxy import exchange
from sidecar.proxy.codecs import http2_server
from sidecar.proxy.handover import HandOver
from sidecar.proxy.mux import IDLE, LinkEnd, MuxEnd, MuxLink
from sidecar.proxy.patience import Patience
from sidecar.proxy.side import FastSide
from sidecar.proxy.worker import Worker
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.stream import READ_BYTES, Peer, Stream

if TYPE_CHECKING:
    from sidecar.proxy.fast_streams import FastStreams

# Of answers that a client asks for and does not take, one buffer of each is held here. With these at most about 1 MiB a
# connection, in whatever order its 100 streams come; 64 KiB of each would be 6 MiB. Up to 4 streams have all of that.
APPETITE_BYTES, APPETITE_LEAST_BYTES = 256 * 1024, 4096

NO_ERROR, INTERNAL_ERROR = 0x0, 0x2  # RFC 9113 section 7

GOODBYE_S = 1.0  # for a client's answer to the first GOAWAY

MakeSide = Callable[[], FastSide]


class Http2Downstream(MuxEnd):
    """One stream of a client; see `Downstream`."""

    __slots__ = ("_codec", "_head", "_wants_trailers", "cut")

    def __init__(self, link: MuxLink, codec: MuxServer, number: int, *, wants_trailers: bool) -> None:
        super().__init__(link, number)
        self._codec = codec
        self._wants_trailers = wants_trailers
        self._head: ResponseHead | None = None  # due; sent with what follows it, which may be the end
        self.cut = False

    @property
    def peer(self) -> Peer:
        """See `Downstream`."""
        return self.link.stream.peer

    @property
    def appetite(self) -> int:
        """See `Downstream`. The more streams the client has open, the less each of its answers may wait here."""
        return max(APPETITE_LEAST_BYTES, min(READ_BYTES, APPETITE_BYTES // (len(self.link.ends) or 1)))

    @property
    def wants_trailers(self) -> bool:
        """See `Downstream`. Every HTTP/2 client can take them; `TE: trailers` says who looks at them."""
        return self._wants_trailers

    def put_interim(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._codec.send_interim(self.number, head)

    def put_head(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._head = head

    def put_tunnel(self, head: ResponseHead) -> None:
        """See `Downstream`."""
        self._head = head
        self.progress_s = math.inf

    def put_end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """See `Downstream`."""
        trailing = list(trailers)
        if self._head is not None and not self._out and not trailing:
            self._send_head(end=True)
        else:
            super().put_end(trailing)

    def _begin(self) -> None:
        if self._head is not None:
            self._send_head(end=False)

    def _send_head(self, *, end: bool) -> None:
        head, self._head = self._head, None
        assert head is not None
        try:
            self._codec.send_head(self.number, head, end=end)
        except ValueError as exc:  # for example 204 of an HTTP/1 upstream to an extended CONNECT
            raise ProxyError(UPSTREAM_PROTOCOL, f"HTTP/2 cannot carry the answer: {exc}") from None

    def close_after(self) -> None:
        """The connection goes on; a drain says GOAWAY for all its streams."""

    def cut_short(self) -> None:
        """See `Downstream`."""
        self.cut = True
        self._codec.reset(self.number, INTERNAL_ERROR)
        self.link.write()

    def look(self) -> None:
        """See `Downstream`; the connection is always read."""

    def spliceable(self) -> EpollStream | None:
        """See `Downstream`; the tunnel's bytes are framed."""
        return None


async def serve(stream: Stream, make_side: MakeSide, worker: Worker, first: bytes = b"") -> None:
    """Serve a client until it or we are done. Owns `stream`; `first` are bytes read from it already."""
    connection = _Connection(stream, make_side, worker)
    try:
        async with trio.open_nursery() as nursery:
            connection.nursery = nursery
            await connection.run(first)
    finally:
        stream.close()


class _Connection:
    """One client's connection: a link, and who serves its streams."""

    __slots__ = (
        "_codec",
        "_drained_s",
        "_ends_s",
        "_fast",
        "_link",
        "_make_side",
        "_new",
        "_rest_s",
        "_served",
        "_worker",
        "nursery",
    )

    nursery: trio.Nursery

    def __init__(self, stream: Stream, make_side: MakeSide, worker: Worker) -> None:
        self._codec = http2_server(worker.limits.http2_streams, lean=worker.fast_path)
        self._link = MuxLink(
            stream, self._codec, worker.observer, worker.now, _client_gone, worker.limits, worker.timer
        )
        self._make_side = make_side
        self._worker = worker
        self._new: list[tuple[Http2Downstream, RequestHead]] = []
        self._drained_s: float | None = None
        self._served = False
        self._ends_s = worker.connection_ends_s(stream.peer)
        self._rest_s = worker.now()  # when the last stream ended
        self._fast = self._fast_streams() if worker.fast_path else None

    def _fast_streams(self) -> "FastStreams":
        """Who serves plain streams; imported with our own codec, which it needs."""
        from sidecar.codec.h2_lean.server import LeanServer
        from sidecar.proxy.fast_streams import FastStreams

        assert isinstance(self._codec, LeanServer)
        return FastStreams(self, self._link, self._codec, self._make_side(), self._worker)

    async def run(self, first: bytes) -> None:
        """Until the connection is over and the client was told; its exchanges end by themselves then."""
        try:
            await self._serve(first)
        finally:
            if self._fast is not None:
                self._fast.leave()
                self._fast = None

    async def _serve(self, first: bytes) -> None:
        with self._worker.told_of_drain(self._drain):
            why = await self._link.read(self, self._idle_until, first)
            if why == IDLE and self._drained_s is None:
                if self._worker.now() < self._ends_s:
                    self._worker.observer.limit_reached("idle" if self._served else "firstRequest")
                self._drain()  # in order: a request may be on its way
                await self._link.read(self, self._idle_until)
        self._codec.go_away(at_once=True)  # what crosses it was not taken, and may be sent again
        await self._link.bid_farewell()

    def on_event(self, event: Event) -> None:
        """See `MuxOwner`."""
        if not isinstance(event, Head):
            return  # of a stream whose exchange is over: an answer came before the request's end
        head = event.head
        assert isinstance(head, RequestHead)
        self._new.append((self._client_end(event.stream, head), head))

    def _client_end(self, number: int, head: RequestHead) -> Http2Downstream:
        trailers = b"trailers" in (head.get(b"te") or b"")
        end = Http2Downstream(self._link, self._codec, number, wants_trailers=trailers)
        self._link.ends[number] = end
        return end

    def on_fed(self) -> None:
        """See `MuxOwner`: start what is new, with all that already came of it."""
        new, self._new = self._new, []
        began = bool(new)
        if self._fast is not None and self._fast.fed():
            began = True
        self._served = self._served or began
        if began and self._drained_s is None and self._worker.now() >= self._ends_s:
            self._drain()
        if self._drained_s is not None and self._worker.now() >= self._drained_s + GOODBYE_S:
            self._codec.go_away(at_once=True)  # it does not say that it has heard
        for end, head in new:
            record = self._record(end, head)
            record.why_left = "tunnel" if self._fast is not None else "off"
            self.nursery.start_soon(self._exchange, end, record, self._make_side())

    def go_on(
        self,
        number: int,
        head: RequestHead,
        why: str,
        record: HandOver | None,
        service: ServiceKey | None,
        events: Sequence[Event],
        lost: ProxyError | None,
    ) -> None:
        """See `Home`: what the fast path gives away."""
        end, side = self._client_end(number, head), self._make_side()
        for event in events:
            end.take(event)
        if record is None:
            record = self._record(end, head)
        else:
            side.service = service
        record.why_left = why
        if lost is not None:
            end.lose(lost)
        self.nursery.start_soon(self._exchange, end, record, side)

    def _record(self, end: Http2Downstream, head: RequestHead) -> HandOver:
        events, worker = end.events, self._worker
        complete = bool(events) and isinstance(events[-1], End) and not head.opens_tunnel
        record = HandOver(worker.snapshot, head, worker.now(), body_complete=complete or head.opens_tunnel)
        if complete:
            record.body_seen = b"".join(event.data for event in events if isinstance(event, Chunk))
            record.bytes_in = len(record.body_seen)
            record.trailers = [field for event in events if isinstance(event, Trailers) for field in event.fields]
            events.clear()
            end.credit(end.owed)  # all of it is here: the window is the other streams' now
        return record

    async def _exchange(self, end: Http2Downstream, record: HandOver, side: FastSide) -> None:
        patience = Patience(self._worker.timer)
        try:
            await exchange.serve(record, end, side, self._worker, patience)
        except Exception as bug:
            # Whatever one stream causes must not end the others of its connection.
            self._worker.on_bug(bug)
            self._codec.reset(end.number, INTERNAL_ERROR)
        except BaseException:
            self._codec.reset(end.number, CANCEL)
            raise
        finally:
            patience.leave()
            self._over(end)

    def _over(self, end: Http2Downstream) -> None:
        self._codec.reset(end.number, NO_ERROR)  # only if something of it is still open: the rest of its request
        self.answered(end)

    def answered(self, end: LinkEnd) -> None:
        """A stream is over."""
        link = self._link
        link.forget(end)
        link.mark()
        if not link.ends:
            self._rest_s = self._worker.now()
            link.nudge()

    def _idle_until(self) -> float:
        if self._link.ends:
            return math.inf
        if self._drained_s is None:
            limits = self._worker.limits
            return min(self._rest_s + (limits.idle_s if self._served else limits.first_request_s), self._ends_s)
        # At rest and draining: a request may be on its way until the client has heard of it.
        return -math.inf if self._codec.draining else self._drained_s + GOODBYE_S

    def _drain(self) -> None:
        self._drained_s = self._worker.now()
        self._codec.go_away(at_once=False)
        self._link.write()
        self._link.nudge()


def _client_gone(reset: Reset) -> ProxyError:
    return ProxyError(CLIENT_GONE, f"the client left: {reset.sentence}")
