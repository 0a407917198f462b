"""A link of HTTP/2 is written with the end of a turn, also when so many are that the turn ends at once."""

import socket

import trio
import trio.testing

from sidecar.codec.h2_lean.client import LeanClient
from sidecar.errors import UPSTREAM_RESET, ProxyError
from sidecar.model.bootstrap import ProcessLimits
from sidecar.proxy.mux import MuxLink
from sidecar.proxy.timer import Timer
from sidecar.telemetry.observer import Observer
from sidecar.transport.epoll_stream import EpollStream
from sidecar.transport.reactor import MAX_PUTS, Reactor
from sidecar.transport.stream import Peer


async def test_links_that_tasks_mark_are_all_written() -> None:
    bugs: list[BaseException] = []
    reactor = Reactor(bugs.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        timer = Timer(trio.current_time, bugs.append)
        links: list[MuxLink] = []
        others: list[socket.socket] = []
        for _ in range(2 * MAX_PUTS + 1):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            stream = EpollStream(ours, reactor, Peer("pair"))
            links.append(
                MuxLink(
                    stream,
                    LeanClient(),
                    Observer(),
                    trio.current_time,
                    lambda reset: ProxyError(UPSTREAM_RESET, reset.sentence),
                    ProcessLimits(),
                    timer,
                )
            )
            others.append(theirs)
        for _ in range(3):
            for link in links:
                link.codec.ping()
                link.mark()
            await trio.testing.wait_all_tasks_blocked()
            for theirs in others:
                theirs.setblocking(False)
                assert theirs.recv(65_536)
        for link in links:
            link.stream.close()
        for theirs in others:
            theirs.close()
        assert bugs == []
        nursery.cancel_scope.cancel()
