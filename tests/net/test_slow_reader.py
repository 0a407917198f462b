"""A client that reads slowly, but reads, is not one that is gone."""

import hashlib
import socket

import trio

from sidecar.model.bootstrap import ProcessLimits
from sidecar.model.clusters import PLAIN, Endpoint, EndpointSet, Protocol, Service, ServiceKey, ServicePort
from sidecar.model.snapshot import Resource, Snapshot
from tests.support.planes import outbound_bootstrap, running

ORDERS = ServiceKey("shop", "orders")
BODY = bytes(range(256)) * 65_536  # 16 MiB: more than the buffers of loopback hold


async def _app(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some()
        try:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        except trio.BrokenResourceError:
            pass


async def test_reading_slowly_is_progress() -> None:
    """The kernel takes more from us only when a third of its buffer is free: here, long after `writeProgress`."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    endpoint = Endpoint(id="a", service_port=8080, host="127.0.0.1", port=port, hop=PLAIN)
    snapshot = Snapshot(complete=True).changed(
        [
            Resource("Service/shop/orders", 1, Service(ORDERS, (ServicePort(8080, Protocol.HTTP),))),
            Resource("Endpoints/shop/orders", 1, EndpointSet(ORDERS, (endpoint,))),
        ],
        version=1,
    )
    bootstrap = outbound_bootstrap("front", {ORDERS: 8080}, limits=ProcessLimits(write_progress_s=0.5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, _app, listeners)
        async with running(bootstrap, snapshot, None) as plane:
            client = trio.socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
            await client.connect(plane.addresses[0])
            await client.send(b"GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
            got = bytearray()
            with trio.move_on_after(2.5):
                while True:
                    got += await client.recv(8 * 1024)
                    await trio.sleep(0.05)
            while more := await client.recv(1 << 20):
                got += more
            client.close()
        nursery.cancel_scope.cancel()
    body = bytes(got).partition(b"\r\n\r\n")[2]
    assert len(body) == len(BODY)
    assert hashlib.sha256(body).digest() == hashlib.sha256(BODY).digest()
