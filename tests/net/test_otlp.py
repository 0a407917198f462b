"""Spans reach a real HTTP receiver that reads them with OpenTelemetry's own messages; a bad one costs spans only."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import h11
import pytest
import trio
import trio.testing
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.model.bootstrap import HostPort, TracingConfig
from sidecar.telemetry.export import otlp
from sidecar.telemetry.export.otlp import SpanExporter
from sidecar.telemetry.observer import AttemptSpan, RequestDone
from sidecar.telemetry.spans import TraceResource
from sidecar.telemetry.trace import TraceContext, new_span_id
from tests.unit.telemetry.told import ORDERS_1, done, inbound

RESOURCE = TraceResource(service="frontend", namespace="shop", version="", instance="f-1", software_version="0.1.0")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

Answer = tuple[int, list[tuple[str, str]], bytes]
FINE: Answer = (200, [("Content-Type", "application/x-protobuf")], b"")


@dataclass
class Collector:
    """A collector on loopback: takes what comes, answers what it is told, then what is fine."""

    address: HostPort
    script: list[Answer] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    heads: list[h11.Request] = field(default_factory=list)
    connections: int = 0
    keeps: bool = True

    @property
    def spans(self) -> list[Span]:
        messages = map(ExportTraceServiceRequest.FromString, self.bodies)
        return [span for message in messages for span in message.resource_spans[0].scope_spans[0].spans]

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                await self._talk(stream, h11.Connection(h11.SERVER))
        except trio.BrokenResourceError:
            pass  # the exporter hung up in the middle; some tests make it

    async def _talk(self, stream: trio.SocketStream, codec: h11.Connection) -> None:
        while True:
            event = codec.next_event()
            if event is h11.NEED_DATA:
                codec.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Request):
                self.heads.append(event)
                self.bodies.append(b"")
            elif isinstance(event, h11.Data):
                self.bodies[-1] += event.data
            elif isinstance(event, h11.EndOfMessage):
                await self._answer(stream, codec)
                if not self.keeps:
                    return
                codec.start_next_cycle()
            else:
                return

    async def _answer(self, stream: trio.SocketStream, codec: h11.Connection) -> None:
        status, headers, body = self.script.pop(0) if self.script else FINE
        if status != 200:
            self.bodies.pop()
        head = h11.Response(status_code=status, headers=[*headers, ("Content-Length", str(len(body)))])
        await stream.send_all(
            (codec.send(head) or b"")
            + (codec.send(h11.Data(data=body)) or b"")
            + (codec.send(h11.EndOfMessage()) or b"")
        )


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made = Collector(HostPort(*listener.socket.getsockname()[:2]))
        nursery.start_soon(trio.serve_listeners, made.serve, [listener])
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def exporter(address: HostPort) -> AsyncIterator[tuple[SpanExporter, Callable[[], None]]]:
    """A running exporter, and what stops it as the end of the process does."""
    made = SpanExporter(TracingConfig(collector=address), RESOURCE, 1_000.0, Random(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        with trio.fail_after(10):
            yield made, nursery.cancel_scope.cancel
        nursery.cancel_scope.cancel()


def sampled(count: int, *, tries: int = 1) -> Iterator[RequestDone]:
    rng = Random(2)
    for _ in range(count):
        attempts = [AttemptSpan(new_span_id(rng), 100.0, 100.1, ORDERS_1, 200, "", n) for n in range(tries)]
        yield done(trace=TraceContext(TRACE, sampled=True), spans=attempts)


async def until(holds: Callable[[], bool]) -> None:
    """Return once `holds()`; what the other side does next is not ours to await."""
    with trio.fail_after(5):
        while not holds():
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same behaviour in a hundredth of the time."""
    monkeypatch.setattr(otlp, "BATCH_S", 0.02)
    monkeypatch.setattr(otlp, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(otlp, "MAX_PAUSE_S", 0.05)


async def test_spans_of_both_sides_arrive_as_one_trace() -> None:
    async with collector() as receiver, exporter(receiver.address) as (spans, _):
        context = TraceContext(TRACE, "0" * 15 + "9", sampled=True)
        spans.request_done(done(trace=context, spans=[AttemptSpan("a" * 16, 100.0, 100.1, ORDERS_1, 200)]))
        spans.request_done(inbound(trace=TraceContext(TRACE, "a" * 16, sampled=True), span_id="b" * 16))
        spans.request_done(done(trace=TraceContext(TRACE, sampled=False)))
        await until(lambda: spans.exported == 2)
        client, server = receiver.spans
        assert client.trace_id == server.trace_id
        assert server.parent_span_id == client.span_id
        assert receiver.heads[0].target == b"/v1/traces"
        assert dict(receiver.heads[0].headers)[b"content-type"] == b"application/x-protobuf"
    assert (spans.exported, spans.dropped, spans.last_error) == (2, 0, "")


async def test_full_batch_goes_at_once_and_the_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BATCH_S", 1_000.0)
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        for request in sampled(600, tries=2):
            spans.request_done(request)
        await until(lambda: spans.exported == 1_024)
        stop()
    sizes = [len(ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans)
             for body in receiver.bodies]  # fmt: skip
    assert sizes == [512, 512, 176]
    assert receiver.connections == 1


async def test_end_of_the_process_sends_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BATCH_S", 1_000.0)
    async with collector() as receiver:
        async with exporter(receiver.address) as (spans, stop):
            await trio.testing.wait_all_tasks_blocked()
            for request in sampled(3):
                spans.request_done(request)
            stop()
        assert len(receiver.spans) == spans.exported == 3


async def test_queue_is_bounded_and_drops_are_counted() -> None:
    spans = SpanExporter(TracingConfig(collector=HostPort("127.0.0.1", 1)), RESOURCE, 1_000.0, Random(1))
    for request in sampled(5_000, tries=2):
        spans.request_done(request)
    assert spans.dropped == 10_000 - 8_192


async def test_busy_collector_is_asked_again() -> None:
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        receiver.script = [(503, [("Retry-After", "0")], b""), (429, [], b""), FINE]
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.exported > 0)
        stop()
    assert (spans.exported, spans.dropped, spans.last_error) == (1, 0, "")


async def test_refused_batch_is_not_sent_again() -> None:
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        receiver.script = [(400, [], b"no")]
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.dropped > 0)
        stop()
    assert (spans.exported, spans.dropped) == (0, 1)
    assert spans.last_error == "the collector answered 400; spans are not sent again after that"
    assert len(receiver.heads) == 1


async def test_partly_rejected_batch_is_counted_as_the_collector_says() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        receiver.script = [(200, [], answer.SerializeToString())]
        for request in sampled(3):
            spans.request_done(request)
        await until(lambda: spans.exported + spans.dropped == 3)
        stop()
    assert (spans.exported, spans.dropped) == (1, 2)


async def test_connection_that_the_collector_closed_is_replaced() -> None:
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        receiver.keeps = False
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.exported == 1)
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.exported == 2)
        stop()
    assert receiver.connections == 2
    assert spans.dropped == 0


async def test_absent_collector_costs_spans_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "TRIES", 2)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = HostPort(*listener.socket.getsockname()[:2])
    await listener.aclose()
    async with exporter(address) as (spans, _):
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.dropped > 0)
    assert spans.dropped == 1
    assert str(address) in spans.last_error


async def test_endless_answer_is_cut_and_a_mute_collector_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "TRIES", 1)
    async with collector() as receiver, exporter(receiver.address) as (spans, stop):
        receiver.script = [(200, [], b"x" * 100_000)]
        spans.request_done(next(sampled(1)))
        await until(lambda: spans.dropped > 0)
        assert "longer than 65536 bytes" in spans.last_error
        stop()

    monkeypatch.setattr(otlp, "POST_TIMEOUT_S", 0.05)

    async def mute(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, mute, [listener])
        async with exporter(HostPort(*listener.socket.getsockname()[:2])) as (spans, _):
            spans.request_done(next(sampled(1)))
            await until(lambda: spans.dropped > 0)
        nursery.cancel_scope.cancel()
    assert spans.last_error == "the collector did not answer within 0.05 s"
