"""What a plain connection speaks, and who serves it: HTTP/1, HTTP/2, or bytes that are only relayed.

What a port declares decides; where it declares nothing, the first bytes do, for a fifth of a second (`detect.py`), and
a client that waits for its server to speak first gets a relay. On a port that declares HTTP nothing else is ever
relayed unread, so that no policy on requests can be escaped by not sending one.

On a port that declares nothing, a client chooses whether it is read: by being slow, or odd, or by CONNECT. That is
right as long as policies ask for principals only, which hold for a relay as for a request. A policy that asks for more
(paths, methods, headers) must refuse what is not read there, or be refused itself until the port declares HTTP.
"""

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

import trio

from sidecar.codec.sniff import classify
from sidecar.model.clusters import Protocol, ServiceKey
from sidecar.proxy import connection, l4, mux_server
from sidecar.proxy.detect import Detected, Kind, detect
from sidecar.proxy.inbound import Inbound, Target
from sidecar.proxy.outbound import Outbound, declared_protocol
from sidecar.proxy.worker import Worker
from sidecar.transport.stream import Stream, StreamBroken

RELAYED = (Protocol.TCP, Protocol.TLS)


async def outbound(
    stream: Stream, worker: Worker, listener: str, fixed: tuple[ServiceKey, int] | None
) -> Awaitable[None]:
    """What serves a connection of the local app, for the caller to await. Owns `stream`.

    Returned, and not awaited here: a connection lives long, and would keep this frame and the bytes that it has seen.

    Args:
        fixed: The one service and port that the connection can mean.
    """
    protocol = await declared_protocol(worker, *fixed) if fixed is not None else Protocol.HTTP
    if protocol in RELAYED:
        return l4.serve(stream, Outbound(worker, fixed), worker, tls=protocol is Protocol.TLS)
    found = await _found(stream, worker, listener, protocol)
    return serving(stream, worker, fixed, protocol, found) if found is not None else _nothing()


def serving(
    stream: Stream, worker: Worker, fixed: tuple[ServiceKey, int] | None, protocol: Protocol, found: Detected
) -> Coroutine[object, Any, None]:
    """What serves an outbound connection whose first bytes are known. `protocol`: what its port declares."""
    if found.kind is Kind.HTTP2:
        return mux_server.serve(stream, partial(Outbound, worker, fixed), worker, found.data)
    if protocol is Protocol.AUTO and found.kind is not Kind.HTTP1:
        return l4.serve(stream, Outbound(worker, fixed), worker, first=found.data, tls=found.kind is Kind.TLS)
    return connection.serve(stream, partial(Outbound, worker, fixed), worker, found.data)


async def inbound(stream: Stream, worker: Worker, targets: dict[int, Target], port: int | None) -> Awaitable[None]:
    """What serves a plain connection to the app, as `outbound` does. `port`: the declared one that it means, if that is
    known."""
    target = targets.get(port) if port is not None else next(iter(targets.values())) if len(targets) == 1 else None
    protocol = target.plan.backends[0].protocol if target is not None else Protocol.HTTP
    if protocol in RELAYED:
        return l4.serve(stream, Inbound(worker, targets, port), worker)
    found = await _found(stream, worker, "inbound", protocol)
    if found is None:
        return _nothing()
    if found.kind is Kind.HTTP2:
        return mux_server.serve(stream, partial(Inbound, worker, targets, port), worker, found.data)
    if protocol is Protocol.AUTO and found.kind is not Kind.HTTP1:
        return l4.serve(stream, Inbound(worker, targets, port), worker, first=found.data)
    return connection.serve(stream, partial(Inbound, worker, targets, port), worker, found.data)


async def _nothing() -> None:
    """Nobody is there to be served."""


def first_bytes_s(worker: Worker, protocol: Protocol) -> float:
    """How long a client may take for the bytes that say what it speaks."""
    return worker.limits.detect_s if protocol is Protocol.AUTO else worker.limits.first_request_s


async def _found(stream: Stream, worker: Worker, listener: str, protocol: Protocol) -> Detected | None:
    """What the client speaks; None when nothing is to be served: it left without a byte, or a drain found it silent."""
    limit_s = first_bytes_s(worker, protocol)
    try:
        with trio.CancelScope() as scope:
            worker.idle(scope)
            try:
                found = await detect(stream, limit_s)
            finally:
                worker.busy(scope)
    except BaseException as exc:
        stream.close()
        if isinstance(exc, StreamBroken):
            return None
        raise
    if scope.cancelled_caught:
        found = _come_meanwhile(stream)
    if found.kind is Kind.CLOSED:
        stream.close()
        return None
    worker.observer.protocol_detected(listener, found.kind.value)
    return found


def _come_meanwhile(stream: Stream) -> Detected:
    """A drain does not close over a request that has come: what is there, CLOSED for nothing."""
    try:
        data = stream.try_read()
    except StreamBroken:
        data = None
    if not data:
        return Detected(Kind.CLOSED, b"")
    sniffed = classify(data)
    return Detected(Kind(sniffed.value) if sniffed is not None else Kind.UNDECIDED, data)
