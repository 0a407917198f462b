"""Answers that the sidecar makes itself, in the form that gRPC callers read: trailers-only, or the trailers of a call
that broke off.

HTTP 200, the code in `grpc-status` (policy/grpc.py has the table), and in `grpc-message` the sentence that other
callers find in the body. In a head, flag, reason for no further try and `x-mesh-untouched` are the fields of
`replies.py`, so that people and mesh peers find them in the same place; trailers carry none of them
(codec/trailers.py).
"""

from sidecar.errors import Fault
from sidecar.model.messages import Fields, ResponseHead
from sidecar.policy import grpc
from sidecar.proxy.replies import reply


def grpc_reply(fault: Fault, *, denied: str = "", to_mesh_peer: bool = False) -> ResponseHead:
    """The whole answer for `fault`; to be sent as the end of the stream. Arguments as for `replies.reply`."""
    plain, _ = reply(fault, denied=denied, to_mesh_peer=to_mesh_peer)
    fields: Fields = [(b"content-type", grpc.CONTENT_TYPE), *grpc_trailers(fault)]
    fields += [(name, value) for name, value in plain.fields if name != b"content-type"]
    return ResponseHead(200, fields, content_length=0)


def grpc_trailers(fault: Fault) -> Fields:
    """The end of an answer that had begun when `fault` came."""
    _, body = reply(fault)
    return [
        (grpc.STATUS, b"%d" % grpc.status_of(fault)),
        (grpc.MESSAGE, grpc.message(body.decode().rstrip("\n"))),
    ]
