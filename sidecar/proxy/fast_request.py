"""The fast path from a client's bytes to a request that was written to its endpoint, or given away.

A request is begun when it is complete: a whole head, and a small body that came with it or right behind it.
"""

from sidecar.codec.chunks import ChunkedBody
from sidecar.codec.events import Chunk, End, Event
from sidecar.codec.plain_head import plain_request
from sidecar.errors import BROKEN_OFF, CLIENT_GONE, MALFORMED, ProxyError
from sidecar.policy import attempts
from sidecar.policy.attempts import Try
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.affinity import request_hash, share
from sidecar.proxy.fast_state import FastState, Over, Phase
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.proxy.way import Way
from sidecar.transport.stream import Stream, StreamBroken

BODY_MAX_BYTES = 65_536  # of a request, waited for here; a larger one streams on the full path
BODY_WAIT_S = 0.02  # for the rest of it: head and body often are two writes. A body that is streamed goes on elsewhere
AHEAD_MAX_BYTES = 65_536  # of requests sent ahead of their turn; then the client is not read


class FastRequest(FastState):
    """See the module's text."""

    __slots__ = ()

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
        way = ways[share(plan, head, self._peer, worker.rng) if len(ways) > 1 else 0]
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
            way.balancer,
            head.method,
            b"idempotency-key" in noted,
            plan.per_try_s,
            ends_at_s,
            now_s,
        )
        where = way.balancer.hash_key
        if where is not None:
            exchange.key = request_hash(where, head, self._peer)
        if len(self._body) > way.max_body_bytes:
            exchange.replayable = False
        self._identify(noted.get)
        step = self._step = attempts.next_step(exchange, now_s, worker.rng)
        if not isinstance(step, Try):
            self._hand_over("no-try")
            return
        connection = self._pool.take_idle(way.live, step.endpoint, way.policy)
        if connection is None:
            self._dial(step, way, now_s)
        else:
            self._connection = connection
            self._send(step, connection, now_s)

    def _dial(self, step: Try, way: Way, now_s: float) -> None:
        """Send it on a new connection as soon as there is one; who waits for a place, or has to shake hands, leaves."""
        try:
            begun = self._pool.begin_dial(way.live, step.endpoint, way.policy, self)
        except ProxyError as exc:
            self._hand_over("connect", exc)
            return
        if begun is None:
            self._hand_over("connect")
        elif isinstance(begun, UpstreamConnection):
            self._connection = begun
            self._send(step, begun, now_s)
        else:
            self._dialling = begun
            self._phase = Phase.DIALLING
            due_s = now_s + way.policy.timeouts.connect_s
            self._wait(due_s if step.until_s is None or due_s < step.until_s else step.until_s)

    def on_dialled(self, stream: Stream) -> None:
        """As of `Dialled`: the connection is there."""
        exchange, step = self._exchange, self._step
        assert exchange is not None
        assert isinstance(step, Try)
        self._dialling = None
        self._connection = self._pool.dialled(exchange.cluster, step.endpoint, stream)
        self._send(step, self._connection, self._worker.now())

    def on_not_dialled(self, problem: ProxyError) -> None:
        """As of `Dialled`: there is none."""
        exchange = self._exchange
        assert exchange is not None
        self._dialling = None
        self._pool.not_dialled(exchange.cluster, problem)
        self._hand_over("connect", problem)

    def on_dial_crashed(self) -> None:
        """As of `Dialled`."""
        self._break_off(BROKEN_OFF)

    def _unread(self, why: str) -> None:
        """Give a request to the full path as it came."""
        self._data = self._head.raw + self._framed + self._data
        self._go(None, why, None)

    def _send(self, step: Try, connection: UpstreamConnection, now_s: float) -> None:
        """Write it to a connection that is at rest. For the subclass, which hears the answer too."""
        raise NotImplementedError
