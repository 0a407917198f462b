"""Sends spans to an OpenTelemetry collector: OTLP over HTTP in protobuf, in batches, off the request path.

An observer puts sampled requests into a bounded queue; one task encodes and posts them, 512 spans or two seconds at a
time. A collector that is slow, away or refusing costs spans, which are counted, and never a request.
"""

from collections import deque
from random import Random

import trio

from sidecar.model.bootstrap import TracingConfig
from sidecar.telemetry.export.http_post import PostAnswer, Poster, PostError
from sidecar.telemetry.observer import Observer, RequestDone
from sidecar.telemetry.spans import SpanEncoder, TraceResource, span_count

QUEUE_SPANS = 8_192
BATCH_SPANS = 512
BATCH_S = 2.0
POST_TIMEOUT_S = 5.0
FINAL_FLUSH_S = 1.0
TRIES = 5
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
_SPANS_A_TURN = 64  # encoded in one go; about a millisecond
# OTLP/HTTP: these may be sent again, every other failure is final.
_RETRYABLE = frozenset((429, 502, 503, 504))


class SpanExporter(Observer):
    """Construct, tell, run `run()` in a nursery; cancelling that task sends what is left, for at most a second.

    Attributes:
        exported: Spans that the collector took.
        dropped: Spans that it did not get, for whatever reason.
        last_error: Sentence on the newest failure, "" once an export succeeds.
    """

    def __init__(self, config: TracingConfig, resource: TraceResource, wall_offset_s: float, rng: Random) -> None:
        self.exported = 0
        self.dropped = 0
        self.last_error = ""
        self._rng = rng
        self._queue: deque[RequestDone] = deque()
        self._queued_spans = 0
        self._full = trio.Event()
        self._encoder = SpanEncoder(resource, wall_offset_s, rng)
        agent = f"sidecar-mesh/{resource.software_version}"
        self._poster = Poster(config.collector, config.path, "application/x-protobuf", agent)

    def request_done(self, done: RequestDone) -> None:
        """Queue a sampled request's spans, or drop and count them."""
        if done.trace is None or not done.trace.sampled:
            return
        count = span_count(done)
        if self._queued_spans + count > QUEUE_SPANS:
            self.dropped += count
            return
        self._queue.append(done)
        self._queued_spans += count
        if self._queued_spans >= BATCH_SPANS:
            self._full.set()

    async def run(self) -> None:
        """Export until cancelled."""
        try:
            while True:
                with trio.move_on_after(BATCH_S):
                    await self._full.wait()
                if self._queue:
                    await self._export(TRIES)
                while self._queued_spans >= BATCH_SPANS:
                    await self._export(TRIES)
                self._full = trio.Event()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + FINAL_FLUSH_S, shield=True):
                while self._queue or self._encoder.count:
                    await self._export(1)
            self.dropped += self._queued_spans + self._encoder.count
            self._queue.clear()
            self._poster.close()

    async def _export(self, tries: int) -> None:
        """Send one batch, up to `tries` times."""
        await self._encode_batch()
        count = self._encoder.count
        body = self._encoder.take()
        sent = False
        try:
            for attempt in range(1, tries + 1):
                wait_s = await self._post(body, count)
                sent = wait_s is None
                if wait_s is None or attempt == tries:
                    break
                ceiling_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
                await trio.sleep(max(min(wait_s, MAX_PAUSE_S), self._rng.uniform(ceiling_s / 2, ceiling_s)))
        finally:
            if not sent:
                self.dropped += count

    async def _encode_batch(self) -> None:
        turn = self._encoder.count
        while self._queue and self._encoder.count < BATCH_SPANS:
            done = self._queue.popleft()
            self._queued_spans -= span_count(done)
            self._encoder.add(done)
            if self._encoder.count - turn >= _SPANS_A_TURN:
                turn = self._encoder.count
                await trio.lowlevel.checkpoint()

    async def _post(self, body: bytes, count: int) -> float | None:
        """One try. None: settled, one way or the other; else the seconds that the collector asks to wait."""
        try:
            with trio.fail_after(POST_TIMEOUT_S):
                answer = await self._poster.post(body)
        except trio.TooSlowError:
            self.last_error = f"the collector did not answer within {POST_TIMEOUT_S:g} s"
            return 0.0
        except PostError as exc:
            self.last_error = str(exc)
            return 0.0
        return self._settle(answer, count)

    def _settle(self, answer: PostAnswer, count: int) -> float | None:
        if answer.status in _RETRYABLE:
            self.last_error = f"the collector answered {answer.status}"
            return answer.retry_after_s
        if 200 <= answer.status < 300:
            rejected = min(count, self._encoder.rejected(answer.body))
            self.exported += count - rejected
            self.dropped += rejected
            self.last_error = f"the collector rejected {rejected} spans" if rejected else ""
        else:
            self.dropped += count
            self.last_error = f"the collector answered {answer.status}; spans are not sent again after that"
        return None
