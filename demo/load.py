"""An open-loop load generator: requests leave at their intended times, whatever became of those before them.

Every send is counted, nothing is tried again, and latency runs from the *intended* moment to the last byte, so that a
stall shows in every request that it delayed. For the demo and for tests; it stands outside the mesh.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from demo.http1 import Answer, NoAnswer, Request, ask

MAX_OUTSTANDING = 1_000  # more means that nobody answers; what comes on top is counted as failed at once
KEPT = 50_000  # of the newest results; the totals count all

Send = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one send.

    Attributes:
        at_s: Intended moment, on trio's clock.
        latency_s: From then to the whole answer, or to the failure.
        status: 0 when there was no answer; `problem` says why.
    """

    at_s: float
    latency_s: float
    status: int
    body: bytes = b""
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Answered with 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Summary:
    """All sends so far. Percentiles are over the kept results, milliseconds; None without any."""

    sent: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    problems: Counter[str]


@dataclass
class Load:
    """Sends to one address at a fixed rate. `await run()` in a nursery; `stop()` ends it.

    Attributes:
        rate: Sends a second.
        timeout_s: For each, from its intended moment.
        results: The newest results, in order of completion.
        on_done: Told of each result.
        send: How one request is made; tests put their own.
    """

    address: str
    rate: float
    timeout_s: float = 20.0
    method: str = "GET"
    name: str = "load"
    kept: int = KEPT
    on_done: Callable[[Result], None] = lambda _: None
    send: Send | None = None
    sent: int = 0
    failed: int = 0
    outstanding: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.results: deque[Result] = deque(maxlen=self.kept)
        self._stopping = trio.CancelScope()

    async def run(self) -> None:
        """Send until `stop`; return when every answer is there or overdue."""
        begin_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            with self._stopping:
                while True:
                    at_s = begin_s + self.sent / self.rate
                    await trio.sleep_until(at_s)
                    self._start(nursery, at_s)

    def stop(self) -> None:
        """Send no more. What is under way goes on."""
        self._stopping.cancel()

    def summary(self) -> Summary:
        """Totals and percentiles so far."""
        latencies = sorted(result.latency_s for result in self.results)
        return Summary(
            self.sent, self.failed, percentile_ms(latencies, 0.5), percentile_ms(latencies, 0.99), self.problems.copy()
        )

    def _start(self, nursery: trio.Nursery, at_s: float) -> None:
        request = Request(self.method, "/", {"x-request-id": f"{self.name}-{self.sent}"})
        self.sent += 1
        if self.outstanding >= MAX_OUTSTANDING:
            self._done(Result(at_s, 0.0, 0, problem=f"not sent: {MAX_OUTSTANDING} requests are waiting"))
            return
        self.outstanding += 1
        nursery.start_soon(self._one, request, at_s)

    async def _one(self, request: Request, at_s: float) -> None:
        answer, problem = Answer(0), f"no answer within {self.timeout_s:g} s"
        with trio.move_on_at(at_s + self.timeout_s):
            try:
                answer = await (self.send(request) if self.send else ask(self.address, request))
                problem = "" if answer.status < 400 else f"{answer.status} {answer.body.decode('latin-1')[:300]}"
            except NoAnswer as exc:
                problem = str(exc)
        self.outstanding -= 1
        self._done(Result(at_s, trio.current_time() - at_s, answer.status, answer.body, problem))

    def _done(self, result: Result) -> None:
        if not result.ok:
            self.failed += 1
            if result.problem in self.problems or len(self.problems) < 100:
                self.problems[result.problem] += 1
        self.results.append(result)
        self.on_done(result)


def percentile_ms(ordered_s: list[float], ratio: float) -> float | None:
    """The value below which `ratio` of the ordered values lie, in milliseconds."""
    return ordered_s[min(int(len(ordered_s) * ratio), len(ordered_s) - 1)] * 1000 if ordered_s else None
