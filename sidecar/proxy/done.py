"""From a request's record to what observers are told: one `RequestDone` for each request, whatever became of it."""

from sidecar.policy import grpc
from sidecar.proxy.handover import HandOver
from sidecar.proxy.side import Side
from sidecar.proxy.worker import Worker
from sidecar.telemetry.observer import SOURCE, TCP, RequestDone
from sidecar.transport.stream import Peer

_PROTOCOLS = {b"1.1": "HTTP/1.1", b"1.0": "HTTP/1.0", b"2": "HTTP/2"}


def tell(record: HandOver, peer: Peer, side: Side, worker: Worker) -> None:
    """Tell the worker's observer how the request, or the TCP connection, went."""
    if record.fault is not None and record.fault.limit:
        worker.observer.limit_reached(record.fault.limit)
    worker.observer.request_done(describe(record, peer, side, worker))


def describe(record: HandOver, peer: Peer, side: Side, worker: Worker) -> RequestDone:
    """What there is to be told of it now."""
    head, exchange, fault = record.head, record.exchange, record.fault
    source = side.reporter == SOURCE
    principal = record.principal if source else peer.principal
    return RequestDone(
        reporter=side.reporter,
        started_s=record.started_s,
        ended_s=worker.now(),
        method=head.method,
        target=head.target,
        authority=head.authority,
        protocol=TCP if record.raw else _PROTOCOLS.get(head.version, "HTTP/1.1"),
        route=record.route.name if record.route is not None else "",
        service=side.service,
        cluster=record.cluster.key if record.cluster is not None else None,
        endpoint=record.endpoint,
        status=record.status,
        flags=_flags(record),
        details=fault.sentence if fault is not None else "",
        attempts=exchange.attempt if exchange is not None else 0,
        tried=tuple(live.endpoint.id for live in exchange.tried) if exchange is not None else (),
        retry_denied=exchange.denied.value if exchange is not None and exchange.denied is not None else "",
        bytes_received=record.bytes_in,
        bytes_sent=record.bytes_out,
        downstream_peer=peer.address,
        principal=principal,
        tls=bool(principal),
        user_agent=head.get(b"user-agent") or b"",
        request_id=record.request_id,
        trace=record.trace,
        span_id=record.span_id if record.trace is not None and record.trace.sampled else "",
        spans=record.spans,
        grpc_status=grpc.final_status(record.grpc_told, fault, record.status) if record.grpc else "",
        tcp_told=record.tcp_told,
        config_version=record.snapshot.version,
    )


def _flags(record: HandOver) -> str:
    flags = [record.fault.flag] if record.fault is not None else []
    if record.mark:
        flags.append(record.mark)
    return ",".join(flags) or "-"
