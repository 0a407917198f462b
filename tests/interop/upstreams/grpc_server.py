"""The interop service in gRPC (grpcio): every shape of call, with bytes for messages, so that nothing is generated.

usage: python -m tests.interop.upstreams.grpc_server PORT
"""

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

FILLER = b"f" * 65536
MESSAGES = 16  # of a streamed answer: a megabyte


def _unary(message: bytes, context: Any) -> bytes:
    context.send_initial_metadata((("x-initial", "one"), ("x-raw-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-checksum", "c0ffee"),))
    return hashlib.sha256(message).digest()


def _upload(messages: Iterator[bytes], context: Any) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(message)
    return digest.digest()


def _download(message: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(MESSAGES):
        yield message + FILLER
    context.set_trailing_metadata((("x-checksum", "c0ffee"),))


def _talk(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for message in messages:
        yield message[::-1]


def _fail(message: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100% sure")
    raise AssertionError("abort raises")


def main() -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Upload": grpc.stream_unary_rpc_method_handler(_upload),
        "Download": grpc.unary_stream_rpc_method_handler(_download),
        "Talk": grpc.stream_stream_rpc_method_handler(_talk),
        "Fail": grpc.unary_unary_rpc_method_handler(_fail),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Echo", handlers),))
    if not server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}"):
        raise SystemExit(f"cannot listen on 127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
