"""One stream of a client's HTTP/2 connection on the fast path: how it ends, or is handed over.

Base of `fast_relay.py`, which carries request and answer. A stream is handed over alone: whoever else shares its
connections, the client's or the endpoint's, stays where it is, and what comes of it afterwards are events again.
"""

import math
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from sidecar.codec.events import Chunk, End, Event, Trailers
from sidecar.codec.h2_frames import Code
from sidecar.codec.h2_lean.server import LeanServer
from sidecar.codec.h2_lean.stream import LeanStream
from sidecar.errors import CLIENT_GONE, Fault, ProxyError
from sidecar.errors import Side as Blame
from sidecar.model.clusters import ServiceKey
from sidecar.model.messages import Fields, RequestHead
from sidecar.policy import attempts, grpc
from sidecar.policy.attempts import Exchange
from sidecar.policy.retry import Failure
from sidecar.proxy.done import tell
from sidecar.proxy.fast_call import FastCall
from sidecar.proxy.grpc_reply import grpc_trailers
from sidecar.proxy.handover import HandOver
from sidecar.proxy.mux import LinkEnd, MuxLink
from sidecar.proxy.mux_client import MuxLease, MuxUpstream
from sidecar.proxy.side import FastSide
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import RequestDone
from sidecar.transport.stream import Peer


class Phase(Enum):
    """Where a stream is."""

    BODY = auto()  # the rest of the request is awaited
    ASKED = auto()  # the request was written, the answer's head is awaited
    ANSWERING = auto()  # the answer's body is under way
    LEFT = auto()  # not ours any more, or over


class Home(Protocol):
    """The client's connection, for its streams."""

    worker: Worker
    side: FastSide
    peer: Peer
    link: MuxLink
    codec: LeanServer

    def go_on(
        self,
        number: int,
        head: RequestHead,
        why: str,
        *,
        record: HandOver | None = None,
        service: ServiceKey | None = None,
        events: Sequence[Event] = (),
        lost: ProxyError | None = None,
    ) -> None:
        """Let a task of the full path serve the stream from now on.

        Args:
            why: The reason, in a word of a fixed set.
            record: As `exchange.serve` takes it; `service` was asked for. None: nothing was decided yet.
            events: What came of the request behind its head.
            lost: The client gave it up.
        """

    def ready(self, call: "FastStream") -> None:
        """More of a request has come than was there when it began to wait."""

    def over(self, call: "FastStream") -> None:
        """The stream is answered."""

    def watch(self, due_s: float) -> None:
        """See that a stream that waits until `due_s` hears of it."""


class Upstream(LinkEnd, Protocol):
    """The endpoint's stream of a call."""

    stream: LeanStream


class FastStream(FastCall):
    """See the module's text. An end of the client's link (`LinkEnd`).

    Attributes:
        due_s: Until when it waits, monotonic seconds.
    """

    __slots__ = (
        "_answer", "_blocked_s", "_complete", "_ending", "_fault", "_grpc", "_grpc_told", "_home", "_moved_s",
        "_pending", "_phase", "_service", "_stream", "_trailers", "_upstream", "due_s", "number", "owed",
    )  # fmt: skip

    _upstream: MuxUpstream  # once there is an `_answer`
    _blocked_s: float  # since when the client takes nothing; with `_pending`
    _moved_s: float  # when the endpoint sent something last

    def __init__(self, home: Home, stream: LeanStream, head: RequestHead, now_s: float, *, complete: bool) -> None:
        """`complete`: nothing follows the head."""
        self._home = home
        self._worker, self._side, self._peer = home.worker, home.side, home.peer
        self._stream = stream
        self.number = stream.number
        self.owed = 0  # credit is given frame by frame
        self._head = head
        self._body = b""
        self._complete = complete
        self._trailers: Fields = []  # of the request
        self._started_s = now_s
        self._phase = Phase.BODY
        self.due_s = math.inf
        self._grpc = False
        self._grpc_told: int | None = None
        self._service: ServiceKey | None = None
        self._answer: Upstream | None = None
        self._pending: deque[bytes] = deque()  # of the answer, for a client that takes no more now
        self._ending: Fields | None = None  # the trailers behind it, perhaps none
        self._fault: Fault | None = None  # that ended the answer
        self._record = self._exchange = self._span = None
        self._bytes_in = self._bytes_out = self._status = 0

    # Handing over.

    def _leave(self, why: str, lost: ProxyError | None = None) -> None:
        """Give a request to the full path as it came."""
        events: list[Event] = [Chunk(self._body, len(self._body), self.number)] if self._body else []
        if self._trailers:
            events.append(Trailers(self._trailers, self.number))
        if self._complete:
            events.append(End(self.number))
        self._let_go()
        self._home.go_on(self.number, self._head, why, events=events, lost=lost)

    def _hand_over(self, why: str, events: Sequence[Event] = (), lost: ProxyError | None = None) -> None:
        """Give a begun request to the full path: with its step to take, or with the endpoint's stream.

        `events`: what came of the answer and nobody has seen. `lost`: why nothing more will.
        """
        record = self._record or self._recorded()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.stream.handler = None
            record.lease = MuxLease.resumed(self._upstream, answer.number, events, lost)
            record.principal = record.lease.principal
        self._record = self._span = self._exchange = None
        self._let_go()
        self._home.go_on(self.number, self._head, why, record=record, service=self._service)

    def _let_go(self) -> None:
        self._phase = Phase.LEFT
        self.due_s = math.inf
        self._stream.handler = None
        self._home.link.starved.pop(self, None)

    def _recorded(self) -> HandOver:
        record = super()._recorded()
        record.grpc = self._grpc
        return record

    # The end.

    def _finish(self, now_s: float) -> None:
        """The client has all that it will get: give everything back, tell once."""
        exchange, worker = self._exchange, self._worker
        assert exchange is not None
        self._give_back()
        self._let_go()
        self._exchange = None
        self._home.over(self)
        principal = self._upstream.link.stream.peer.principal
        self._side.service = self._service
        try:
            if self._fault is not None:
                tell(self._over(exchange, principal, self._fault), self._peer, self._side, worker)
            else:
                told = grpc.final_status(self._grpc_told, None, self._status) if self._grpc else ""
                key = (self._plan, exchange.current, self._status, self._peer.principal or principal, told)
                self._tell(exchange, principal, now_s, key)
        finally:
            attempts.finish(exchange)
            worker.fast_requests[0] += 1

    def _filled(self, principal: str) -> HandOver:
        record = super()._filled(principal)
        record.grpc_told = self._grpc_told
        return record

    def _done(self, exchange: Exchange, principal: str, now_s: float) -> RequestDone:
        done = super()._done(exchange, principal, now_s)
        done.protocol = "HTTP/2"
        if self._grpc:
            done.grpc_status = grpc.final_status(self._grpc_told, None, self._status)
        return done

    def _give_back(self) -> None:
        """The endpoint's stream is not needed any more; what is still open of it is given up."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.stream.handler = None
            self._upstream.over(answer)

    def _break_off(self, fault: Fault) -> None:
        """End an answer so that nobody takes it for a whole one. gRPC says in its trailers how a call ended."""
        if self._exchange is None:
            return
        self._fault = fault
        self._give_back()
        if fault.side is not Blame.CLIENT and self._grpc and self._phase is Phase.ANSWERING and self._ending is None:
            self._judge(grpc.failure_of(fault, untouched=False))
            if fault.status:
                self._ending = grpc_trailers(fault)
                try:
                    self._let_out()
                except ValueError:  # the client was promised more bytes than came
                    pass
                else:
                    return
        self._home.codec.reset(self.number, Code.INTERNAL_ERROR)
        self._home.link.mark()
        self._finish(self._worker.now())

    def go(self, now_s: float) -> None:
        """All that one read brought of the request is here."""
        raise NotImplementedError

    def on_due(self, now_s: float) -> None:
        """`due_s` is over."""
        raise NotImplementedError

    def wake(self) -> None:
        """See `LinkEnd`."""
        raise NotImplementedError

    def crashed(self, bug: Exception) -> None:
        """A bug in a turn of this stream: it ends, and nobody else."""
        raise NotImplementedError

    def _let_out(self) -> None:
        """Send what is pending, as far as it goes, and the end behind it. Raises ValueError: it cannot end so."""
        raise NotImplementedError

    def _judge(self, failure: Failure | None) -> None:
        """Tell what the end of a call of gRPC said of its endpoint."""
        exchange, worker = self._exchange, self._worker
        assert exchange is not None
        attempts.ended(exchange, failure, worker.now(), worker.rng)
        if exchange.ejected is not None:
            worker.observer.ejected(exchange.ejected)
            exchange.ejected = None

    # As of `LinkEnd`.

    def take(self, event: Event) -> None:
        """Nothing comes as an event while there is a handler."""

    def lose(self, problem: ProxyError) -> None:
        """The client gave the stream up, or has left."""
        if self._phase is Phase.BODY:
            self._leave("client", problem)
        elif self._phase is not Phase.LEFT:
            self._break_off(CLIENT_GONE)
