"""The sides of a data plane end one after the other, and nobody who was connected already is sent away."""

import socket

import trio

from sidecar.model.bootstrap import MtlsMode
from sidecar.model.snapshot import Snapshot
from tests.support.planes import inbound_bootstrap, raw_app, running

GET = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"
CLIENTS = 50


async def test_clients_that_the_kernel_has_connected_are_served_before_the_listener_closes() -> None:
    async with raw_app() as app:
        bootstrap = inbound_bootstrap("orders", app.address, mtls=MtlsMode.OFF)
        async with running(bootstrap, Snapshot(complete=True)) as made:
            await trio.testing.wait_all_tasks_blocked()
            clients = [socket.create_connection(made.addresses[0]) for _ in range(CLIENTS)]
            for client in clients:  # nothing has run since they connected: none was accepted
                client.sendall(GET)
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(made.plane.finish_inbound)
                    for client in clients:
                        async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
                            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200 ")
