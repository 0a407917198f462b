"""The head of a request as one try sends it: filtered, less what is not end to end, with what this side sets."""

from sidecar.model.clusters import Mesh
from sidecar.model.messages import RequestHead
from sidecar.policy import grpc
from sidecar.proxy.edits import (
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    add_websocket_key,
    forwarded_for,
    forwarded_request,
    from_afar,
)
from sidecar.proxy.handover import HandOver
from sidecar.proxy.side import Side
from sidecar.proxy.worker import Worker
from sidecar.telemetry import trace
from sidecar.telemetry.observer import AttemptSpan
from sidecar.transport.stream import Peer

_NOTHING: frozenset[bytes] = frozenset()
_GRPC_TIMEOUT = frozenset((grpc.TIMEOUT_HEADER,))


def outgoing_head(record: HandOver, side: Side, peer: Peer, span: AttemptSpan | None, worker: Worker) -> RequestHead:
    """The head for the try whose lease is in the record; `peer` is the client."""
    assert record.endpoint is not None
    mesh_hop = isinstance(record.endpoint.hop, Mesh)
    span_id = span.span_id if span is not None else record.span_id or trace.new_span_id(worker.rng)
    own = side.own_fields(record, peer, span_id, mesh_hop=mesh_hop)
    replaced = _NOTHING
    if record.grpc and record.ends_at_s is not None:
        own.append((grpc.TIMEOUT_HEADER, grpc.timeout_header(record.ends_at_s, worker.now())))
        replaced = _GRPC_TIMEOUT
    if from_afar(peer):
        head = record.outgoing
        own += forwarded_for(head.get(FORWARDED_FOR), head.get(FORWARDED_PROTO), peer)
        replaced |= FORWARDED
    head = forwarded_request(record.outgoing, own, replaced)
    if not head.authority and record.cluster is not None:  # HTTP/1.0 need not say; many servers refuse an empty Host
        head.authority = str(record.cluster.key).encode()
    if head.upgrade == b"websocket":
        add_websocket_key(head, worker.rng)
    return head
