"""grpcio: every shape of call. The code stands where HTTP has a status, initial metadata where it has fields."""

from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from tests.interop.clients.common import CLIENT_TIMEOUT_S, body_facts
from tests.interop.record import Ask, FieldsSeen, Record

_MESSAGE_BYTES = 1 << 20
_METADATA = (("x-asked", "Mixed Case"), ("x-asked-bin", b"\x00\x01\xff"))
# The channel's own connection, and no proxy that the environment may name.
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


def run(version: str, port: int, ask: Ask) -> Record:
    """Make the call that `ask.path` names, and a unary one after it on the same channel."""
    shape, sent = _CALLS[ask.path.rpartition("/")[2]]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        call = getattr(channel, shape)(ask.path)
        messages = sent(ask)
        given = next(messages) if shape.startswith("unary") else messages
        record = _record(ask, call, shape, given)
        after = channel.unary_unary("/interop.Echo/Unary")(b"after", timeout=CLIENT_TIMEOUT_S)
        assert len(after) == 32
    return record


def _record(ask: Ask, method: Any, shape: str, given: object) -> Record:
    if shape.endswith("_stream"):
        call = method(given, timeout=CLIENT_TIMEOUT_S, metadata=_METADATA)
        messages = list(call)
    else:
        try:
            message, call = method.with_call(given, timeout=CLIENT_TIMEOUT_S, metadata=_METADATA)
            messages = [message]
        except grpc.RpcError as error:
            call, messages = error, []
    code, details = call.code(), call.details()
    return Record(
        version="2",
        status=code.value[0],
        fields=_metadata(call.initial_metadata()),
        trailers=(*_metadata(call.trailing_metadata()), ("(details)", details or "")),
        **body_facts(ask, b"|".join(messages)),
    )


def _metadata(pairs: Iterable[tuple[str, str | bytes]] | None) -> FieldsSeen:
    return tuple((name, value.hex() if isinstance(value, bytes) else value) for name, value in pairs or ())


def _one(ask: Ask) -> Iterator[bytes]:
    yield b"one message"


def _file(ask: Ask) -> Iterator[bytes]:
    assert ask.body is not None
    with ask.body.open("rb") as file:
        while message := file.read(_MESSAGE_BYTES):
            yield message


def _several(ask: Ask) -> Iterator[bytes]:
    yield from (b"", b"one", b"x" * 100_000, b"last")


_CALLS = {
    "Unary": ("unary_unary", _one),
    "Upload": ("stream_unary", _file),
    "Download": ("unary_stream", _one),
    "Talk": ("stream_stream", _several),
    "Fail": ("unary_unary", _one),
}
