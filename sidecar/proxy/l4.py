"""Serve a connection that carries no HTTP: raw TCP, and TLS that is not ours to end.

Makes the CONNECT request that such a connection stands for and runs the exchange with it (`raw.py`). TLS is routed by
the ServerName of its first message, which goes on as it came; nothing is decrypted. Passing a captured connection on to
an address of no known service is the same with a plan made for it.
"""

import trio

from sidecar.codec.client_hello import HelloReader, NotTls
from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import ClusterKey, Endpoint, Protocol, ServiceKey
from sidecar.model.live import LiveRegistry
from sidecar.model.messages import Fields
from sidecar.model.policies import Ejection, Limits, Retries, RetryOn, Timeouts, TrafficPolicy
from sidecar.proxy import exchange
from sidecar.proxy.handover import HandOver
from sidecar.proxy.patience import Patience
from sidecar.proxy.pool import Pool
from sidecar.proxy.raw import RawDownstream, raw_head
from sidecar.proxy.side import Side
from sidecar.proxy.worker import Worker
from sidecar.routing.plan import ClusterPlan, RoutePlan
from sidecar.telemetry.observer import SOURCE
from sidecar.transport.stream import Peer, Stream, StreamBroken

PASSTHROUGH = ServiceKey("", "passthrough")
HELLO_S = 5.0  # for a ClientHello; whoever needs longer holds a place for nothing


async def serve(stream: Stream, side: Side, worker: Worker, *, first: bytes = b"", tls: bool = False) -> None:
    """Relay `stream` to where `side` leads until both directions have ended. Owns `stream`.

    Args:
        first: Bytes that were read from it already.
        tls: It begins with a ClientHello, whose ServerName takes part in routing.
    """
    try:
        name = b""
        if tls:
            first, name = await _hello(stream, first)
        record = HandOver(worker.snapshot, raw_head(), worker.now(), body_complete=True)
        record.raw = True
        record.server_name = name
        client = RawDownstream(stream, first)
        patience = Patience(worker.timer)
        try:
            await exchange.serve(record, client, side, worker, patience)
        finally:
            patience.leave()
    except StreamBroken:
        pass  # it left before it said what it wanted
    finally:
        stream.close()


async def _hello(stream: Stream, first: bytes) -> tuple[bytes, bytes]:
    """What was read, and the ServerName in it; b"" when there is none, or it is not TLS: then no name routes it."""
    reader = HelloReader()
    data = first
    with trio.move_on_after(HELLO_S):
        try:
            while (hello := reader.feed(data) if data else None) is None:
                data = await stream.receive()
                if not data:
                    break
            else:
                return bytes(reader.taken), hello.server_name
        except NotTls:
            pass
    return bytes(reader.taken), b""


class PassThrough:
    """The side of a captured connection to an address that no known service has."""

    __slots__ = ("_address", "_policy", "_worker", "live", "reporter", "service")

    def __init__(self, worker: Worker, address: HostPort) -> None:
        self.reporter = SOURCE
        self.service: ServiceKey | None = PASSTHROUGH
        self.live = LiveRegistry()  # of this connection alone: addresses are many, and nothing is balanced
        self._address = address
        places = worker.limits.connections  # nobody's limits but our own: all addresses of a port share them
        self._policy = TrafficPolicy(
            timeouts=Timeouts(tunnel_idle_s=worker.limits.tunnel_idle_s or None),
            retries=Retries(attempts=1, on=frozenset({RetryOn.CONNECT_FAILURE})),
            ejection=Ejection(max_percent=0),  # there is one address
            limits=Limits(connections=places, requests=places),
        )
        self._worker = worker

    @property
    def pool(self) -> Pool:
        """See `Side`."""
        return self._worker.pool

    async def route(self, record: HandOver, peer: Peer, patience: Patience) -> RoutePlan:
        """See `Side`."""
        del record, peer, patience
        policy, (host, port) = self._policy, self._address
        endpoint = Endpoint(id=str(self._address), service_port=port, host=host, port=port)
        cluster = ClusterPlan(ClusterKey(PASSTHROUGH, port), (endpoint,), policy, Protocol.TCP, True, PASSTHROUGH)
        return RoutePlan("passthrough", (cluster,), (1,), policy, (policy,), None, False, None)

    def ends_at(self, record: HandOver, plan: RoutePlan, peer: Peer) -> float | None:
        """See `Side`; the dial has its own bound."""
        del record, plan, peer
        return None

    def own_fields(self, record: HandOver, peer: Peer, span_id: str, *, mesh_hop: bool) -> Fields:
        """See `Side`; nobody reads heads here."""
        del record, peer, span_id, mesh_hop
        return []
