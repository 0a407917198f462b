"""A real HTTP/1.1 server that behaves as the simulator's endpoint does: works, makes wait, breaks on time.

The counterpart of `sidecar/sim/server.py`, on a socket of its own. The network of the scenario is put into its answers:
loopback has none. What is not played is refused by `play.py`: `calls` and partitions.
"""

import math
import socket
import struct
from collections.abc import Iterator
from random import Random

import h11
import trio

from sidecar.sim.scenario import Fault, Kind, Scenario, ServiceSpec
from sidecar.sim.server import OVERLOADED, log_normal

_LINGER = struct.pack("ii", 1, 0)  # close with a reset
_READ_BYTES = 65_536
_BACKLOG = 1024


class Endpoint:
    """One endpoint of a service at `host:port`; `serve` runs it.

    Attributes:
        arrivals: Requests that reached it.
    """

    def __init__(self, scenario: Scenario, spec: ServiceSpec, name: str, host: str, port: int, rng: Random) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.arrivals = 0
        self._faults = [fault for fault in scenario.faults if name in fault.whom]
        self._round_trip_s = 2 * scenario.network_s
        self._median_s, self._sigma = log_normal(spec.latency)
        self._busy = trio.Semaphore(spec.capacity)
        self._room = spec.capacity + spec.queue
        self._inside = 0
        self._rng = rng
        self._start_s = math.inf
        self._duration_s = scenario.duration_s

    async def serve(self, start_s: float) -> None:
        """Until cancelled; `start_s` is the scenario's beginning on trio's clock."""
        self._start_s = start_s
        while True:
            async with trio.open_nursery() as life:
                life.start_soon(self._listen)
                await self._wait_for(crashed=True)
                life.cancel_scope.cancel()
            await self._wait_for(crashed=False)

    async def _wait_for(self, *, crashed: bool) -> None:
        """Until it is to crash, or to come back."""
        crashes = [fault for fault in self._faults if fault.kind is Kind.CRASH]
        moments_s = sorted({at_s for fault in crashes for at_s in turns_s(fault, self._duration_s)})
        for at_s in moments_s:
            await trio.sleep_until(self._start_s + at_s)
            if (self._now(Kind.CRASH) is not None) is crashed:
                return
        await trio.sleep_forever()

    def _now(self, kind: Kind) -> Fault | None:
        now_s = trio.current_time() - self._start_s
        return next((fault for fault in self._faults if fault.kind is kind and fault.holds(now_s)), None)

    async def _listen(self) -> None:
        listeners = await trio.open_tcp_listeners(self.port, host=self.host, backlog=_BACKLOG)
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)  # whoever is under way at a crash is reset
        codec = h11.Connection(h11.SERVER)
        try:
            while await _request(codec, stream):
                self.arrivals += 1
                status = await self._work()
                if status is None:
                    return
                await stream.send_all(_answer(codec, status))
                codec.start_next_cycle()
        except (trio.BrokenResourceError, h11.ProtocolError):
            pass  # the caller left: what it asked for is done, and nobody waits
        finally:
            stream.socket.close()

    async def _work(self) -> int | None:
        """The status to answer, after the time that it takes; None: reset."""
        errors = self._now(Kind.ERRORS)
        if errors is not None and self._rng.random() < errors.amount:
            await trio.sleep(self._round_trip_s)
            return errors.status
        if self._inside >= self._room:
            await trio.sleep(self._round_trip_s)
            return OVERLOADED
        self._inside += 1
        try:
            async with self._busy:
                await trio.sleep(self._takes_s())
        finally:
            self._inside -= 1
        await trio.sleep(self._round_trip_s)
        resets = self._now(Kind.RESETS)
        return None if resets is not None and self._rng.random() < resets.amount else 200

    def _takes_s(self) -> float:
        slow = self._now(Kind.SLOW)
        return self._median_s * math.exp(self._sigma * self._rng.gauss(0.0, 1.0)) * (slow.amount if slow else 1.0)


def turns_s(fault: Fault, duration_s: float) -> Iterator[float]:
    """When it comes and when it goes."""
    at_s = fault.from_s
    while at_s < min(fault.until_s, duration_s):
        yield at_s
        if not fault.period_s:
            break
        at_s += fault.period_s
    yield min(fault.until_s, duration_s)


async def _request(codec: h11.Connection, stream: trio.SocketStream) -> bool:
    """Read a whole request; False at the end of the connection."""
    while True:
        event = codec.next_event()
        if event is h11.NEED_DATA:
            codec.receive_data(await stream.receive_some(_READ_BYTES))
        elif isinstance(event, h11.EndOfMessage):
            return True
        elif isinstance(event, h11.ConnectionClosed):
            return False


def _answer(codec: h11.Connection, status: int) -> bytes:
    parts = (
        codec.send(h11.Response(status_code=status, headers=[("content-length", "2")])),
        codec.send(h11.Data(b"ok")),
        codec.send(h11.EndOfMessage()),
    )
    return b"".join(part for part in parts if part)
