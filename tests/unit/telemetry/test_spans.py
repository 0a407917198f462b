"""Spans say who called whom with OpenTelemetry's names, and nothing that could be a secret or grow without bound."""

import subprocess
import sys
from random import Random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sidecar.telemetry.observer import AttemptSpan, RequestDone
from sidecar.telemetry.spans import SpanEncoder, TraceResource, span_count
from sidecar.telemetry.trace import TraceContext
from tests.unit.telemetry.told import FRONTEND_ID, ORDERS_1, done, inbound

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ONE, TWO, SERVER = "1" * 16, "2" * 16, "3" * 16
RESOURCE = TraceResource(
    service="frontend", namespace="shop", version="v1", instance="frontend-1", software_version="0.1.0"
)
SAMPLED = TraceContext(TRACE, PARENT, sampled=True, tracestate="vendor=1")


def encoder() -> SpanEncoder:
    return SpanEncoder(RESOURCE, 1_000.0, Random(1))


def spans(*requests: RequestDone) -> list[Span]:
    encoding = encoder()
    for request in requests:
        encoding.add(request)
    assert encoding.count == sum(span_count(request) for request in requests if request.trace and request.trace.sampled)
    message = ExportTraceServiceRequest.FromString(encoding.take())
    return list(message.resource_spans[0].scope_spans[0].spans)


def attributes(span: Span) -> dict[str, str | int]:
    return {
        pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
        for pair in span.attributes
    }


def test_one_client_span_for_each_try() -> None:
    tries = [
        AttemptSpan(ONE, 100.0, 100.002, ORDERS_1, 0, "UF"),
        AttemptSpan(TWO, 100.004, 100.012, ORDERS_1, 200, "", 1),
    ]
    first, second = spans(done(trace=SAMPLED, spans=tries, attempts=2))
    assert (first.trace_id.hex(), first.span_id.hex(), first.parent_span_id.hex()) == (TRACE, ONE, PARENT)
    assert second.parent_span_id.hex() == PARENT
    assert first.kind == second.kind == Span.SPAN_KIND_CLIENT
    assert first.name == "GET shop/orders/canary"
    assert first.trace_state == "vendor=1"
    assert first.start_time_unix_nano == 1_100 * 10**9
    assert second.end_time_unix_nano - second.start_time_unix_nano == 8_000_000
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert second.status.code == Status.STATUS_CODE_UNSET
    assert attributes(first)["error.type"] == "UF"
    assert "http.response.status_code" not in attributes(first)
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/orders/7",
        "url.full": "http://orders.shop/orders/7",
        "server.address": "orders.shop",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "network.peer.address": "10.0.0.5",
        "network.peer.port": 15006,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "mesh.service": "orders.shop",
        "mesh.cluster": "orders-v1.shop:8080",
        "mesh.endpoint": "orders-1",
    }


def test_inbound_request_is_a_server_span_under_the_callers() -> None:
    (span,) = spans(inbound(trace=SAMPLED, span_id=SERVER, user_agent=b"curl/7", downstream_peer="[::1]:9"))
    assert (span.span_id.hex(), span.parent_span_id.hex(), span.kind) == (SERVER, PARENT, Span.SPAN_KIND_SERVER)
    found = attributes(span)
    assert found["client.address"] == found["network.peer.address"] == "::1"
    assert found["network.peer.port"] == 9
    assert found["mesh.peer"] == FRONTEND_ID
    assert found["user_agent.original"] == "curl/7"


def test_tries_of_an_inbound_request_hang_under_its_server_span() -> None:
    server, client = spans(inbound(trace=SAMPLED, span_id=SERVER, spans=[AttemptSpan(ONE, 100.0, 0.0, None, 200)]))
    assert client.parent_span_id.hex() == server.span_id.hex() == SERVER
    assert client.end_time_unix_nano == server.end_time_unix_nano  # a try that was never closed ends with its request


def test_root_has_no_parent() -> None:
    root = TraceContext(TRACE, "", sampled=True)
    (span,) = spans(done(trace=root, spans=[AttemptSpan(ONE, 100.0, 100.1, ORDERS_1, 200)]))
    assert span.parent_span_id == b""


def test_request_without_a_try_is_one_failed_span() -> None:
    (span,) = spans(
        done(trace=SAMPLED, cluster=None, endpoint=None, route="", status=404, flags="NR", details="no route there")
    )
    assert span.name == "GET"
    assert len(span.span_id) == 8
    assert span.status.message == "no route there"
    assert attributes(span)["error.type"] == attributes(span)["mesh.flags"] == "NR"


def test_refusals_are_errors_of_the_client_span_only() -> None:
    (client,) = spans(done(trace=SAMPLED, status=404, spans=[AttemptSpan(ONE, 100.0, 100.1, ORDERS_1, 404)]))
    (server,) = spans(inbound(trace=SAMPLED, span_id=SERVER, status=403, flags="RBAC"))
    (broken,) = spans(inbound(trace=SAMPLED, span_id=SERVER, status=500))
    assert attributes(client)["error.type"] == "404"
    assert "error.type" not in attributes(server)
    assert server.status.code == Status.STATUS_CODE_UNSET
    assert attributes(broken)["error.type"] == "500"


CALL = {"method": b"POST", "target": b"/shop.v1.Orders/Get", "protocol": "HTTP/2"}


def test_a_call_of_grpc_is_named_by_its_service_and_method_and_its_status() -> None:
    tries = [
        AttemptSpan(ONE, 100.0, 100.002, ORDERS_1, 200, "", grpc_status="14"),
        AttemptSpan(TWO, 100.004, 100.012, ORDERS_1, 200, "", 1),  # its status came with the trailers
    ]
    first, second = spans(done(**CALL, trace=SAMPLED, spans=tries, attempts=2, grpc_status="0"))
    assert (attributes(first)["rpc.system"], attributes(first)["rpc.grpc.status_code"]) == ("grpc", 14)
    assert (attributes(first)["rpc.service"], attributes(first)["rpc.method"]) == ("shop.v1.Orders", "Get")
    assert (attributes(first)["error.type"], first.status.code) == ("14", Status.STATUS_CODE_ERROR)
    assert attributes(second)["rpc.grpc.status_code"] == 0
    assert "error.type" not in attributes(second)
    assert first.name == "POST shop/orders/canary"  # a path never names a span


def test_what_the_caller_asked_wrongly_is_an_error_of_its_span_and_not_of_the_servers() -> None:
    for status, failed in (("0", False), ("5", False), ("7", False), ("2", True), ("12", True), ("14", True)):
        (server,) = spans(inbound(**CALL, trace=SAMPLED, span_id=SERVER, grpc_status=status))
        assert attributes(server)["rpc.grpc.status_code"] == int(status)
        assert (server.status.code == Status.STATUS_CODE_ERROR) == failed
    tries = [AttemptSpan(ONE, 100.0, 100.002, ORDERS_1, 200, "")]
    (client,) = spans(done(**CALL, trace=SAMPLED, spans=tries, grpc_status="5"))
    assert attributes(client)["error.type"] == "5"


def test_what_a_peer_sends_is_cut_and_never_names_a_span() -> None:
    hostile = b"\xff" * 5_000
    (span,) = spans(
        done(
            trace=SAMPLED, method=b"BREW", target=b"/" + hostile + b"?token=secret", authority=hostile, route="",
            spans=[AttemptSpan(ONE, 100.0, 100.1, ORDERS_1, 200)],
        )
    )  # fmt: skip
    found = attributes(span)
    assert span.name == "HTTP"
    assert found["http.request.method"] == "_OTHER"
    assert found["http.request.method_original"] == "BREW"
    assert len(str(found["url.path"])) == 1_024
    assert "secret" not in str(found)


def test_ports_are_numbers_or_not_there() -> None:
    for authority, host, port in ((b"orders:8080", "orders", 8080), (b"[fd00::1]:80", "fd00::1", 80),
                                  (b"orders:x", "orders", None), (b"a:b:c", "a:b:c", None)):  # fmt: skip
        (span,) = spans(inbound(trace=SAMPLED, span_id=SERVER, authority=authority))
        assert attributes(span)["server.address"] == host
        assert attributes(span).get("server.port") == port


def test_unsampled_requests_add_nothing() -> None:
    assert spans(done(), done(trace=TraceContext(TRACE, PARENT))) == []


def test_resource_says_whose_spans_they_are() -> None:
    message = ExportTraceServiceRequest.FromString(encoder().take())
    assert {pair.key: pair.value.string_value for pair in message.resource_spans[0].resource.attributes} == {
        "service.name": "frontend",
        "service.namespace": "shop",
        "service.version": "v1",
        "service.instance.id": "frontend-1",
    }
    assert message.resource_spans[0].scope_spans[0].scope.name == "sidecar-mesh"


def test_rejected_spans_are_read_from_the_answer() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 3
    assert encoder().rejected(answer.SerializeToString()) == 3
    assert encoder().rejected(b"") == 0
    assert encoder().rejected(b"\xff\xff") == 0


def test_protobuf_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, sidecar.telemetry.export.otlp; print(sorted(m for m in sys.modules if m.startswith('google')))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
