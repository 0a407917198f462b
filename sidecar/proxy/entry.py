"""What a plain connection speaks, and who serves it: HTTP/1, HTTP/2, or bytes that are only relayed.

What a port declares decides; where it declares nothing, the first bytes do, for a fifth of a second (`detect.py`), and
a client that waits for its server to speak first gets a relay. On a port that declares HTTP nothing else is ever
relayed unread, so that no policy on requests can be escaped by not sending one.

On a port that declares nothing, a client chooses whether it is read: by being slow, or odd, or by CONNECT. That is
right as long as policies ask for principals only, which hold for a relay as for a request. A policy that asks for more
(paths, methods, headers) must refuse what is not read there, or be refused itself until the port declares HTTP.
"""

import trio

from sidecar.model.clusters import Protocol, ServiceKey
from sidecar.proxy import connection, l4, mux_server
from sidecar.proxy.detect import Detected, Kind, detect
from sidecar.proxy.inbound import Inbound, Target
from sidecar.proxy.outbound import Outbound, declared_protocol
from sidecar.proxy.worker import Worker
from sidecar.transport.stream import Stream, StreamBroken

_RELAYED = (Protocol.TCP, Protocol.TLS)


async def outbound(stream: Stream, worker: Worker, listener: str, fixed: tuple[ServiceKey, int] | None) -> None:
    """Serve a connection of the local app. `fixed`: the one service and port that it can mean. Owns `stream`."""
    protocol = await declared_protocol(worker, *fixed) if fixed is not None else Protocol.HTTP
    if protocol in _RELAYED:
        await l4.serve(stream, Outbound(worker, fixed), worker, tls=protocol is Protocol.TLS)
        return
    found = await _found(stream, worker, listener, protocol)
    if found is None:
        return
    if found.kind is Kind.HTTP2:
        await mux_server.serve(stream, lambda: Outbound(worker, fixed), worker, found.data)
    elif protocol is Protocol.AUTO and found.kind is not Kind.HTTP1:
        tls = found.kind is Kind.TLS
        await l4.serve(stream, Outbound(worker, fixed), worker, first=found.data, tls=tls)
    else:
        await connection.serve(stream, lambda: Outbound(worker, fixed), worker, found.data)


async def inbound(stream: Stream, worker: Worker, targets: dict[int, Target], port: int | None) -> None:
    """Serve a plain connection to the app. `port`: the declared port that it means, if that is known. Owns `stream`."""
    target = targets.get(port) if port is not None else next(iter(targets.values())) if len(targets) == 1 else None
    protocol = target.plan.backends[0].protocol if target is not None else Protocol.HTTP
    if protocol in _RELAYED:
        await l4.serve(stream, Inbound(worker, targets, port), worker)
        return
    found = await _found(stream, worker, "inbound", protocol)
    if found is None:
        return
    if found.kind is Kind.HTTP2:
        await mux_server.serve(stream, lambda: Inbound(worker, targets, port), worker, found.data)
    elif protocol is Protocol.AUTO and found.kind is not Kind.HTTP1:
        await l4.serve(stream, Inbound(worker, targets, port), worker, first=found.data)
    else:
        await connection.serve(stream, lambda: Inbound(worker, targets, port), worker, found.data)


async def _found(stream: Stream, worker: Worker, listener: str, protocol: Protocol) -> Detected | None:
    """What the client speaks; None when nothing is to be served: it left without a byte, or a drain found it silent."""
    limit_s = worker.limits.detect_s if protocol is Protocol.AUTO else worker.limits.first_request_s
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
    if scope.cancelled_caught or found.kind is Kind.CLOSED:
        stream.close()
        return None
    worker.observer.protocol_detected(listener, found.kind.value)
    return found
