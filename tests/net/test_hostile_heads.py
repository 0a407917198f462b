"""Hostile heads against a running sidecar: its answer, the connection's end, and not one byte at the upstream."""

import pytest
import trio
import trio.testing

from sidecar.model.bootstrap import HostPort, ProcessLimits
from sidecar.model.clusters import Endpoint, EndpointSet, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot
from tests.conformance.test_http1_heads import REFUSED
from tests.support.planes import ask, outbound_bootstrap, raw_app, running

API = ServiceKey("shop", "api")
GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"


def snapshot(app: HostPort) -> Snapshot:
    """One service that speaks HTTP/1.1: what else comes on its port is malformed, not another protocol."""
    endpoint = Endpoint(id="api-1", service_port=80, host=app.host, port=app.port)
    return Snapshot(complete=True).changed(
        [
            Resource("Service/shop/api", 1, Service(API, (ServicePort(80, Protocol.HTTP),))),
            Resource("Endpoints/shop/api", 1, EndpointSet(API, (endpoint,))),
        ],
        version=1,
    )


@pytest.mark.parametrize("vector", sorted(REFUSED.keys() - {"HTTP/2 preface"}))  # that one is welcome on a socket
async def test_it_is_refused_and_the_upstream_sees_nothing(vector: str) -> None:
    status, data = REFUSED[vector]
    async with raw_app() as app, running(outbound_bootstrap("caller", {API: 80}), snapshot(app.address)) as sidecar:
        address = sidecar.addresses[0]
        answer, closed = await ask(address, data + GOOD)

        assert answer.split(b"\r\n", 1)[0].split(b" ")[1] == b"%d" % status
        assert closed
        assert app.received == b""
        assert answer.count(b"\r\n\r\n") == 1
        assert (await ask(address, GOOD))[0].startswith(b"HTTP/1.1 200 ")
        assert app.received.startswith(b"GET /good HTTP/1.1\r\n")


async def test_a_head_that_trickles_is_cut_at_its_deadline() -> None:
    limits = ProcessLimits(head_timeout_s=0.2)
    async with raw_app() as app, running(outbound_bootstrap("c", {API: 80}, limits), snapshot(app.address)) as sidecar:
        stream = await trio.open_tcp_stream(*sidecar.addresses[0])
        async with stream, trio.open_nursery() as nursery:

            async def trickle() -> None:
                for byte in GOOD[:-2] * 10:
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        return
                    await trio.testing.wait_all_tasks_blocked(0.01)

            nursery.start_soon(trickle)
            answer = await stream.receive_some()
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert app.received == b""
