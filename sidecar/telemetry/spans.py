"""Sampled requests as OpenTelemetry spans: from `RequestDone` to the bytes of an OTLP export request.

One SERVER span beside the app, one CLIENT span for each try beside the caller; a request that got no try is one failed
CLIENT span. Attribute names are OpenTelemetry's HTTP conventions; spans are named after the route's rule, never after a
path, and no query is ever sent. Called by `export/otlp.py` off the request path; the protobuf classes are imported
when the first encoder is made, so that nobody pays for them whose tracing is off.
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from sidecar.telemetry.observer import GRPC_ERRORS, AttemptSpan, RequestDone
from sidecar.telemetry.trace import new_span_id

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

# Methods with a meaning of their own (RFC 9110, RFC 5789); any other is `_OTHER`, so that names stay few.
_METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
)  # fmt: skip
_MAX_VALUE_BYTES = 1_024
_SPAN_FLAG_SAMPLED = 1

Value = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResource:
    """Whose spans these are: OpenTelemetry's resource. `software_version` is the sidecar's own."""

    service: str
    namespace: str
    version: str
    instance: str
    software_version: str


def span_count(done: RequestDone) -> int:
    """How many spans the request makes."""
    return (1 if done.span_id else 0) + len(done.spans) or 1


class SpanEncoder:
    """Collects sampled requests and turns them into one OTLP message at a time.

    Attributes:
        wall_offset_s: Unix time minus monotonic time.
        count: Spans collected since the last `take`.
    """

    def __init__(self, resource: TraceResource, wall_offset_s: float, rng: Random) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
        from opentelemetry.proto.common.v1 import common_pb2
        from opentelemetry.proto.trace.v1 import trace_pb2

        self.wall_offset_s = wall_offset_s
        self.count = 0
        self._rng = rng
        self._resource = resource
        self._pair_class = common_pb2.KeyValue
        self._kinds = trace_pb2.Span
        self._error_code = trace_pb2.Status.STATUS_CODE_ERROR
        self._request_class = trace_service_pb2.ExportTraceServiceRequest
        self._response_class = trace_service_pb2.ExportTraceServiceResponse
        self._begin()

    def add(self, done: RequestDone) -> None:
        """Add the spans of a sampled request; one that is not sampled adds nothing."""
        context = done.trace
        if context is None or not context.sampled:
            return
        if done.span_id:
            self._add_server(done, context.trace_id, context.parent_span_id)
        parent_id = done.span_id or context.parent_span_id
        for attempt in done.spans:
            self._add_client(done, attempt, context.trace_id, parent_id)
        if not done.spans and not done.span_id:
            refused = AttemptSpan(new_span_id(self._rng), done.started_s, done.ended_s, None, done.status, done.flags)
            self._add_client(done, refused, context.trace_id, parent_id)

    def take(self) -> bytes:
        """The message with everything added, serialized; begins the next one."""
        data: bytes = self._request.SerializeToString()
        self._begin()
        return data

    def rejected(self, answer: bytes) -> int:
        """How many spans the collector says that it did not take; 0 when its answer cannot be read."""
        from google.protobuf.message import DecodeError

        try:
            message = self._response_class.FromString(answer)
        except DecodeError:
            return 0
        return max(0, message.partial_success.rejected_spans)

    def _begin(self) -> None:
        resource = self._resource
        self.count = 0
        self._request: ExportTraceServiceRequest = self._request_class()
        spans = self._request.resource_spans.add()
        about: dict[str, Value] = {
            "service.name": resource.service,
            "service.namespace": resource.namespace,
            "service.version": resource.version,
            "service.instance.id": resource.instance,
        }
        spans.resource.attributes.extend(self._pairs(about))
        self._scope = spans.scope_spans.add()
        self._scope.scope.name = "sidecar-mesh"
        self._scope.scope.version = resource.software_version

    def _add_server(self, done: RequestDone, trace_id: str, parent_id: str) -> None:
        span = self._span(done, trace_id, done.span_id, parent_id, done.started_s, done.ended_s)
        span.kind = self._kinds.SPAN_KIND_SERVER
        peer_host, peer_port = _host_port(done.downstream_peer)
        attributes = _common(done) | {
            "client.address": peer_host,
            "network.peer.address": peer_host,
            "network.peer.port": peer_port,
            "user_agent.original": _text(done.user_agent),
            "mesh.peer": done.principal,
        }
        if done.grpc_status:
            attributes["rpc.grpc.status_code"] = int(done.grpc_status)
        # For a server an answer of 4xx is the client's mistake, not an error of the span; so are most codes of gRPC.
        error = _error(done.flags, done.status, done.grpc_status)
        if 0 < done.status < 500 and done.grpc_status not in GRPC_ERRORS:
            error = ""
        self._finish(span, attributes, done.status, error, done.details)

    def _add_client(self, done: RequestDone, attempt: AttemptSpan, trace_id: str, parent_id: str) -> None:
        last = done.spans[-1] if done.spans else attempt
        ended_s = attempt.ended_s if attempt.ended_s >= attempt.started_s else done.ended_s
        span = self._span(done, trace_id, attempt.span_id, parent_id, attempt.started_s, ended_s)
        span.kind = self._kinds.SPAN_KIND_CLIENT
        attributes = _common(done)
        host = _text(done.authority)
        attributes["url.full"] = f"http://{host}{attributes['url.path']}"
        if attempt.resend_count:
            attributes["http.request.resend_count"] = attempt.resend_count
        if attempt.endpoint is not None:
            attributes["network.peer.address"] = attempt.endpoint.host
            attributes["network.peer.port"] = attempt.endpoint.port
            attributes["mesh.endpoint"] = attempt.endpoint.id
        grpc_status = attempt.grpc_status
        if done.grpc_status and attempt is last:  # its trailers came after the try was over
            grpc_status = grpc_status or done.grpc_status
        if grpc_status:
            attributes["rpc.grpc.status_code"] = int(grpc_status)
        details = done.details if attempt.error == done.flags else ""
        error = _error(attempt.error, attempt.status, grpc_status)
        self._finish(span, attributes, attempt.status, error, details)

    def _span(
        self, done: RequestDone, trace_id: str, span_id: str, parent_id: str, started_s: float, ended_s: float
    ) -> "Span":
        self.count += 1
        span = self._scope.spans.add()
        span.trace_id = bytes.fromhex(trace_id)
        span.span_id = bytes.fromhex(span_id)
        span.parent_span_id = bytes.fromhex(parent_id)
        span.flags = _SPAN_FLAG_SAMPLED
        if done.trace is not None:
            span.trace_state = done.trace.tracestate
        method = _method(done.method)
        # The convention's name for an unknown method is HTTP.
        method = "HTTP" if method == "_OTHER" else method
        span.name = f"{method} {done.route}" if done.route else method
        span.start_time_unix_nano = int((started_s + self.wall_offset_s) * 1e9)
        span.end_time_unix_nano = int((ended_s + self.wall_offset_s) * 1e9)
        return span

    def _finish(self, span: "Span", attributes: dict[str, Value], status: int, error: str, details: str) -> None:
        if status:
            attributes["http.response.status_code"] = status
        if error:
            attributes["error.type"] = error
            span.status.code = self._error_code
            span.status.message = details[:_MAX_VALUE_BYTES]
        span.attributes.extend(self._pairs(attributes))

    def _pairs(self, values: dict[str, Value]) -> "list[KeyValue]":
        pairs = []
        for key, value in values.items():
            if value == "":
                continue
            pair = self._pair_class(key=key)
            if isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.string_value = value
            pairs.append(pair)
        return pairs


def _common(done: RequestDone) -> dict[str, Value]:
    host, port = _host_port(_text(done.authority))
    method = _method(done.method)
    return {
        "http.request.method": method,
        "http.request.method_original": _text(done.method) if method == "_OTHER" else "",
        "url.scheme": "http",
        "url.path": _text(done.target.partition(b"?")[0]),
        "server.address": host,
        "server.port": port,
        "network.protocol.name": "http",
        "network.protocol.version": done.protocol.partition("/")[2],
        "mesh.service": str(done.service or ""),
        "mesh.cluster": str(done.cluster or ""),
        "mesh.flags": done.flags if done.flags != "-" else "",
        **_rpc(done),
    }


def _method(method: bytes) -> str:
    return method.decode("ascii") if method in _METHODS else "_OTHER"


def _rpc(done: RequestDone) -> dict[str, Value]:
    """What OpenTelemetry's RPC conventions add: service and method are what the path says, `/shop.Orders/Get`."""
    if not done.grpc_status:
        return {}
    service, _, method = _text(done.target).removeprefix("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def _error(flags: str, status: int, grpc_status: str) -> str:
    """`error.type`: the flag of a fault, else a status that says error."""
    if flags not in ("", "-"):
        return flags
    if status >= 400:
        return str(status)
    return grpc_status if grpc_status != "0" else ""


def _text(value: bytes) -> str:
    return value[:_MAX_VALUE_BYTES].decode("utf-8", "replace")


def _host_port(address: str) -> tuple[str, Value]:
    """Host without brackets, and the port; "" where there is none, and an attribute of "" is not sent."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:
        host, port = address, ""
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else ""
