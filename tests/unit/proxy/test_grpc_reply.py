"""Our own answers to gRPC callers: one head that says what the body says to others."""

import pytest

from sidecar import errors
from sidecar.errors import Fault
from sidecar.policy import grpc
from sidecar.proxy.grpc_reply import grpc_reply, grpc_trailers

FAULTS = [row for row in vars(errors).values() if isinstance(row, Fault)]


def test_the_answer_is_trailers_only() -> None:
    head = grpc_reply(errors.NO_ENDPOINT.saying("orders.shop has no endpoint"), denied="attempts")

    assert (head.status, head.has_body) == (200, False)
    assert head.fields == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"orders.shop has no endpoint (meshctl explain flag UH)"),
        (b"x-mesh-flags", b"UH"),
        (b"x-mesh-retry-denied", b"attempts"),
    ]


def test_only_a_mesh_peer_is_told_that_nothing_was_touched() -> None:
    assert grpc_reply(errors.CONNECT_FAILED, to_mesh_peer=True).get(b"x-mesh-untouched") == b"1"
    assert grpc_reply(errors.CONNECT_FAILED).get(b"x-mesh-untouched") is None
    assert grpc_reply(errors.UPSTREAM_RESET, to_mesh_peer=True).get(b"x-mesh-untouched") is None


def test_a_call_that_broke_off_ends_with_status_and_sentence_alone() -> None:
    assert grpc_trailers(errors.UPSTREAM_RESET) == [
        (b"grpc-status", b"14"),
        (b"grpc-message", b"the endpoint reset the connection before it answered (meshctl explain flag UR)"),
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_callers_side_reads_the_code_that_was_meant(fault: Fault) -> None:
    assert grpc.status_in(grpc_reply(fault)) == grpc.status_of(fault)
