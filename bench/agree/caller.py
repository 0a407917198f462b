"""A scenario's client as real requests through real sidecars: at random moments, not waiting for answers."""

from collections import deque
from random import Random

import h11
import trio

from sidecar.sim.record import Asked
from sidecar.sim.scenario import ClientSpec, Fault, Kind

_READ_BYTES = 65_536
_PATIENCE_S = 60.0  # the sidecar answers in its own time; a client without one would hide that it does not


class Client:
    """Asks for as long as the scenario lasts.

    Attributes:
        asked: What it got, in the order of the answers. How often the sidecars tried is for their logs to say.
    """

    def __init__(self, spec: ClientSpec, authority: str, ports: list[int], faults: list[Fault], rng: Random) -> None:
        """`ports`: of the sidecars, which it asks in turn."""
        self.asked: list[Asked] = []
        self._spec = spec
        self._ports = ports
        self._load = [fault for fault in faults if fault.kind is Kind.LOAD and spec.name in fault.whom]
        self._kept: dict[int, deque[_Line]] = {port: deque() for port in ports}
        self._authority = authority
        self._rng = rng

    async def run(self, start_s: float, duration_s: float) -> None:
        """Ask until the time is over, and wait for the last answers."""
        at_s, number = 0.0, 0
        async with trio.open_nursery() as nursery:
            while True:
                rate_per_s = self._spec.rate_per_s
                for fault in self._load:
                    rate_per_s *= fault.amount if fault.holds(at_s) else 1.0
                at_s += self._rng.expovariate(rate_per_s)
                if at_s >= duration_s:
                    break
                await trio.sleep_until(start_s + at_s)
                nursery.start_soon(self._ask, self._ports[number % len(self._ports)], start_s, at_s)
                number += 1
        for lines in self._kept.values():
            for line in lines:
                line.stream.socket.close()

    async def _ask(self, port: int, start_s: float, at_s: float) -> None:
        status = 0
        with trio.move_on_after(_PATIENCE_S):
            try:
                line = self._kept[port].pop() if self._kept[port] else await _Line.dial(port)
                status = await line.ask(self._spec.method, self._authority)
                if line.reusable:
                    self._kept[port].append(line)
            except (OSError, trio.BrokenResourceError, h11.ProtocolError):
                pass  # no answer: status 0
        self.asked.append(Asked(self._spec.name, at_s, trio.current_time() - start_s - at_s, status, 1, ""))


class _Line:
    """A connection to a sidecar."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._codec = h11.Connection(h11.CLIENT)

    @classmethod
    async def dial(cls, port: int) -> "_Line":
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    @property
    def reusable(self) -> bool:
        """Whether the last exchange left it in order."""
        if self._codec.our_state is not h11.DONE or self._codec.their_state is not h11.DONE:
            self.stream.socket.close()
            return False
        self._codec.start_next_cycle()
        return True

    async def ask(self, method: bytes, authority: str) -> int:
        """The answer's status."""
        codec = self._codec
        head = codec.send(
            h11.Request(method=method, target="/", headers=[("host", authority), ("content-length", "0")])
        )
        end = codec.send(h11.EndOfMessage())
        await self.stream.send_all((head or b"") + (end or b""))
        status = 0
        while True:
            event = codec.next_event()
            if event is h11.NEED_DATA:
                codec.receive_data(await self.stream.receive_some(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return status
