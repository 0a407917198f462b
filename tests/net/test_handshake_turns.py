"""Handshakes that come together take turns: between two steps of theirs everybody else has one."""

from collections import Counter

import trio

from sidecar.transport.epoll_stream import TlsStream
from sidecar.transport.reactor import Reactor
from sidecar.transport.stream import Peer
from sidecar.transport.tls import Contexts, MeshSocket
from tests.net.test_stream_contract import connected
from tests.support import pki

COUNT = 12


class Passes(trio.abc.Instrument):
    """Counts the scheduler's passes."""

    now = 0

    def before_io_wait(self, timeout: float) -> None:
        del timeout
        self.now += 1


async def test_one_step_in_each_pass() -> None:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    passes = Passes()
    steps: Counter[int] = Counter()

    class Recorded(MeshSocket):
        def do_handshake(self, block: bool = False) -> None:
            steps[passes.now] += 1
            super().do_handshake(block)

    mine, theirs = Contexts(pki.identity("orders")), Contexts(pki.identity("stock"))
    context = theirs.server(("http/1.1",))
    before, context.sslsocket_class = context.sslsocket_class, Recorded
    turns = trio.Lock()
    streams: list[TlsStream] = []
    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        with trio.fail_after(10):
            async with trio.open_nursery() as shaking:
                for _ in range(COUNT):
                    one, other = connected()
                    client = mine.client(("http/1.1",))
                    here = TlsStream.wrap(one, client, reactor, Peer("a"), "8080.stock.shop.mesh")
                    there = TlsStream.wrap(other, context, reactor, Peer("b"))
                    streams += (here, there)
                    shaking.start_soon(here.handshake)
                    shaking.start_soon(there.handshake, turns)
        for stream in streams:
            stream.close()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)
    context.sslsocket_class = before
    assert bugs == []
    assert sum(steps.values()) >= 2 * COUNT
    assert max(steps.values()) == 1
