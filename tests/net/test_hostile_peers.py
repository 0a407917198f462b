"""What peers do to a running data plane on real sockets: whatever it is, the process and its other clients go on."""

import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio
import trio.testing

from sidecar.errors import CONNECT_FAILED, TLS_FAILED, ProxyError
from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import Endpoint, Mesh
from sidecar.model.snapshot import Snapshot
from sidecar.transport.dial import SocketDialer
from sidecar.transport.listen import accept_loop, bind
from sidecar.transport.reactor import Reactor
from sidecar.transport.tls import Contexts
from tests.support import pki
from tests.support.planes import ask, inbound_bootstrap, raw_app, running

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reset(address: tuple[str, int], data: bytes = b"") -> None:
    """Connect, perhaps say something, and reset."""
    with socket.create_connection(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        if data:
            sock.sendall(data)


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x02\x00", GET])
async def test_a_reset_before_the_handshake_ends_nothing_else(data: bytes) -> None:
    async with raw_app() as app:
        inbound = inbound_bootstrap("orders", app.address)
        async with running(inbound, Snapshot(complete=True), pki.identity("orders")) as called:
            for _ in range(20):
                reset(called.addresses[0], data)
                await trio.testing.wait_all_tasks_blocked()
            answer, closed = await ask(called.addresses[0], GET)

            assert closed
            assert not answer.startswith(b"HTTP/")
            assert called.plane.worker.connections == 0


async def test_a_refusal_while_the_body_streams_reaches_the_client() -> None:
    refusal = b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (8 << 20)

    async def refuse(stream: trio.SocketStream, _: bytes) -> None:
        await stream.send_all(refusal)
        await stream.aclose()  # over unread data: a reset, if the sender goes on

    async with raw_app(refuse) as app:
        inbound = inbound_bootstrap("orders", app.address, mtls=MtlsMode.OFF)
        async with running(inbound, Snapshot(complete=True)) as called:
            for _ in range(5):
                client = await trio.open_tcp_stream(*called.addresses[0])
                async with client, trio.open_nursery() as nursery:
                    nursery.start_soon(upload, client, head)
                    answer = b""
                    with suppress(trio.BrokenResourceError):
                        while piece := await client.receive_some():
                            answer += piece
                    nursery.cancel_scope.cancel()
                assert answer.startswith(b"HTTP/1.1 413 ")
                assert answer.endswith(b"big")
            assert [done.status for done in called.told.done] == [413] * 5


async def upload(client: trio.SocketStream, head: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await client.send_all(head)
        while True:
            await client.send_all(b"x" * 65_536)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".shop", "\udcff", "bad host", ""])
async def test_a_name_that_cannot_be_looked_up_is_a_failed_dial(host: str) -> None:
    dialer = SocketDialer(Reactor(lambda _: None), lambda _: None)
    with pytest.raises(ProxyError) as caught:
        await dialer.dial(Endpoint(id="a", service_port=80, host=host, port=1), ())

    assert caught.value.fault.flag == CONNECT_FAILED.flag


@pytest.mark.parametrize("name", ["x" * 64 + ".orders.shop.mesh", ".orders", "8080.orders..mesh"])
async def test_a_server_name_that_cannot_be_sent_is_a_failed_dial(name: str) -> None:
    contexts = Contexts(pki.identity("orders"))
    dialer = SocketDialer(Reactor(lambda _: None), contexts.client)
    async with raw_app() as app:
        endpoint = Endpoint(
            id="a", service_port=80, host=app.address.host, port=app.address.port, hop=Mesh(name, frozenset())
        )
        with pytest.raises(ProxyError) as caught:
            await dialer.dial(endpoint, ("http/1.1",))

    assert caught.value.fault.flag == TLS_FAILED.flag


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Nothing more can be opened as long as this lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


async def test_accepting_goes_on_when_there_are_descriptors_again() -> None:
    listening = bind("test", "127.0.0.1", 0)
    served: list[socket.socket] = []
    admitted = 0

    async def admit() -> None:
        nonlocal admitted
        admitted += 1
        await trio.lowlevel.checkpoint()

    with socket.socket() as early:
        early.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listening, admit, lambda sock, _: served.append(sock))
            await trio.testing.wait_all_tasks_blocked()
            with no_descriptors_left():
                early.connect_ex(listening.getsockname())
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert served == []
                assert admitted <= 2  # it pauses; it does not spin
            with trio.fail_after(5):
                while not served:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    served[0].close()
