"""The well-behaved client: requests at a fixed rate over HTTP/1.1 and over HTTP/2, each judged and timed.

A process of its own, run by play.py as `python -m bench.attacks.victim PORT1 PORT2 RATE`; ends when its standard input
does, and prints what it saw. Latency runs from the moment a request was due, not from when it was sent, so that a stall
of the sidecar costs every request that it delayed. New connections are made now and then, so that accepting counts too.
"""

import json
import sys
from dataclasses import dataclass
from time import monotonic

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from bench.attacks.fast import BODY
from bench.attacks.site import LOCAL

TIMEOUT_S = 10.0
USES = 25  # requests on one connection of HTTP/1.1
STREAMS = 500  # on one of HTTP/2
ERRORS_KEPT = 20
GET = b"GET /victim HTTP/1.1\r\nHost: fast.shop\r\n\r\n"
# The last: the peer breaks HTTP/2, or has as many streams under way as it takes. Either is a problem of the request.
BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due (CLOCK_MONOTONIC), how long it took, what was wrong with it."""

    due_s: float
    took_s: float
    problem: str


def samples_of(text: str) -> list[Sample]:
    """What the process printed."""
    return [Sample(*one) for one in json.loads(text)]


def p99_s(samples: list[Sample]) -> float:
    """99th percentile of the latencies."""
    ordered = sorted(sample.took_s for sample in samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0


class _Http1:
    """Kept connections, the newest first."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[trio.SocketStream, int]] = []

    async def get(self) -> str:
        """One request; what was wrong with the answer."""
        stream, uses = self._idle.pop() if self._idle else (await trio.open_tcp_stream(LOCAL, self._port), 0)
        try:
            await stream.send_all(GET)
            got = b""
            while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < len(BODY):
                piece = await stream.receive_some()
                if not piece:
                    return f"HTTP/1.1: the connection ended after {got[:60]!r}"
                got += piece
            head, _, body = got.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
                return f"HTTP/1.1: {head[:60]!r}"
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if uses + 1 < USES:
            self._idle.append((stream, uses + 1))
        else:
            await trio.aclose_forcefully(stream)
        return ""


class _Waiting:
    """A stream under way."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.status = 0
        self.body = b""
        self.problem = ""


class _Http2:
    """One connection, with another one after STREAMS requests; requests under way end where they began."""

    def __init__(self, port: int, nursery: trio.Nursery) -> None:
        self._port = port
        self._nursery = nursery
        self._now: Http2Connection | None = None
        self._turn = trio.Lock()

    async def get(self) -> str:
        """One request; what was wrong with the answer."""
        async with self._turn:
            if self._now is None or self._now.used >= STREAMS or self._now.over:
                self._now = Http2Connection(await trio.open_tcp_stream(LOCAL, self._port))
                self._nursery.start_soon(self._now.read)
            connection = self._now
            waiting = await connection.begin()
        await waiting.done.wait()
        if waiting.problem:
            return f"HTTP/2: {waiting.problem}"
        if waiting.status != 200 or waiting.body != BODY:
            return f"HTTP/2: status {waiting.status}, {len(waiting.body)} bytes"
        return ""


class Http2Connection:
    """A connection that requests share. `read` has to run meanwhile."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.used = 0
        self.over = False
        self._stream = stream
        self._sending = trio.Lock()  # a request and what the reader has to acknowledge can come together
        self._http = H2Connection(H2Configuration(client_side=True))
        self._http.initiate_connection()
        self._streams: dict[int, _Waiting] = {}

    async def begin(self) -> _Waiting:
        """Send a request."""
        number = self._http.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "fast.shop"), (":path", "/victim")]
        self._http.send_headers(number, fields, end_stream=True)
        waiting = self._streams[number] = _Waiting()
        self.used += 1
        await self._send()
        return waiting

    async def _send(self) -> None:
        async with self._sending:
            if out := self._http.data_to_send():
                await self._stream.send_all(out)

    async def read(self) -> None:
        """Until all its streams have ended after its last one, or the connection does."""
        problem = "the connection ended"
        try:
            while not (self.used >= STREAMS and not self._streams):
                piece = await self._stream.receive_some()
                if not piece:
                    break
                for event in self._http.receive_data(piece):
                    self._event(event)
                await self._send()
        except BROKEN as exc:
            problem = f"the connection broke: {exc}"
        finally:
            self.over = True
            for waiting in self._streams.values():
                waiting.problem = problem
                waiting.done.set()
            await trio.aclose_forcefully(self._stream)

    def _event(self, event: object) -> None:
        assert not isinstance(event, RequestReceived)
        if isinstance(event, ConnectionTerminated):
            self.over = True
            return
        waiting = self._streams.get(getattr(event, "stream_id", 0) or 0)
        if waiting is None:
            return
        if isinstance(event, ResponseReceived):
            waiting.status = int(dict(event.headers or ())[b":status"])
        elif isinstance(event, DataReceived):
            waiting.body += event.data or b""
            self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, StreamReset):
            waiting.problem = f"the stream was reset with {event.error_code}"
            self._end(event.stream_id)
        elif isinstance(event, StreamEnded):
            self._end(event.stream_id)

    def _end(self, number: int | None) -> None:
        self._streams.pop(number or 0).done.set()


async def run(port1: int, port2: int, rate: float) -> list[Sample]:
    """Ask until standard input ends."""
    samples: list[Sample] = []
    async with trio.open_nursery() as background, trio.open_nursery() as nursery:
        background.start_soon(_until_told, background.cancel_scope)
        clients = (_Http1(port1), _Http2(port2, background))
        due_s = trio.current_time()
        number = 0
        while not background.cancel_scope.cancel_called:
            due_s += 1 / rate
            await trio.sleep_until(due_s)
            nursery.start_soon(_one, clients[number % 2], due_s, samples)
            number += 1
    return samples


async def _one(client: _Http1 | _Http2, due_s: float, samples: list[Sample]) -> None:
    behind_s = monotonic() - trio.current_time()
    problem = f"no answer within {TIMEOUT_S:g}s"
    with trio.move_on_after(TIMEOUT_S):
        try:
            problem = await client.get()
        except BROKEN as exc:
            problem = f"{type(exc).__name__}: {exc}"
        finally:
            took_s = trio.current_time() - due_s
    samples.append(Sample(due_s + behind_s, took_s, problem))


async def _until_told(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as told:
        while await told.receive_some():
            pass
    scope.cancel()


def main() -> None:
    """See the module's text."""
    port1, port2, rate = sys.argv[1:]
    samples = trio.run(run, int(port1), int(port2), float(rate))
    print(json.dumps([(sample.due_s, sample.took_s, sample.problem) for sample in samples]))


if __name__ == "__main__":
    main()
