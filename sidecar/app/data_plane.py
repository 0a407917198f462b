"""The data plane of one process: reactor, listeners, and the proxy's shared state, in one nursery.

Told what to serve by calls; knows nothing of where configuration comes from. Its two sides end one after the other:
when callers are gone the app may still need to make calls.
"""

import select
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import trio

from sidecar.app.trim import give_back_memory
from sidecar.model.bootstrap import INBOUND_CAPTURE_LISTEN, OUTBOUND_CAPTURE_LISTEN, Bootstrap, HostPort
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.inbound import targets
from sidecar.proxy.listener import Captured, Listeners
from sidecar.proxy.places import Places
from sidecar.proxy.redirected import Redirected
from sidecar.proxy.worker import Directory, Worker
from sidecar.telemetry.observer import Observer
from sidecar.transport.capture import is_local
from sidecar.transport.dial import SocketDialer
from sidecar.transport.listen import bind, bind_several
from sidecar.transport.reactor import Reactor
from sidecar.transport.tls import Contexts


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket, bound by the holder before anything runs, so that a taken port is told at once.

    Attributes:
        name: `inbound`, `outbound`, or `outbound SERVICE:PORT` for the listener of one upstream.
        fixed: The one service and port that an upstream's listener leads to.
    """

    name: str
    sock: socket.socket
    fixed: tuple[ServiceKey, int] | None = None


def bind_all(bootstrap: Bootstrap) -> list[Bound]:
    """Bind every traffic listener, or none. Raises ConfigError."""
    made: list[Bound] = []
    shared = bootstrap.take_over
    try:
        if bootstrap.inbound is not None:
            listen = _possible(bootstrap.inbound.listen, INBOUND_CAPTURE_LISTEN)
            made += [
                Bound("inbound", bind("inbound.listen", *address, beside=listen, shared=shared)) for address in listen
            ]
        listen = _possible(bootstrap.outbound.listen, OUTBOUND_CAPTURE_LISTEN)
        made += [
            Bound("outbound", bind("outbound.listen", *address, beside=listen, shared=shared)) for address in listen
        ]
        for upstream in bootstrap.outbound.upstreams:
            if upstream.listen is None:
                continue
            name = f"outbound {upstream.service}:{upstream.port}"
            fixed = (upstream.service, upstream.port)
            made.append(Bound(name, bind("outbound.upstreams", *upstream.listen, shared=shared), fixed))
    except BaseException:
        for bound in made:
            bound.sock.close()
        raise
    return made


def bind_for_each(bound: list[Bound], count: int) -> list[list[Bound]]:
    """The same listeners for each of `count` workers; takes the place of `bound`. Raises ConfigError."""
    by_worker: list[list[Bound]] = [[] for _ in range(count)]
    try:
        for one in bound:
            for its, sock in zip(by_worker, bind_several(one.sock, count), strict=True):
                its.append(Bound(one.name, sock, one.fixed))
    except BaseException:
        for one in [*bound, *(one for its in by_worker for one in its)]:
            one.sock.close()
        raise
    return by_worker


def _possible(listen: tuple[HostPort, ...], default: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
    """`listen`; IPv6 that is only there by default is left out on a machine without it, as many containers are."""
    return tuple(one for one in listen if ":" not in one.host) if listen == default and not is_local("::1") else listen


# A thread that computes (it reads a changed folder) takes Python's lock at each system call of the loop, and keeps it
# so long: five calls a request would be 25 ms at Python's own 5 ms.
SWITCH_S = 0.0001
LAST_ACCEPTS_S = 0.1  # a full backlog is accepted in a few milliseconds
# For clients of a closed listener to go with their next answer, which says so. A client of HTTP/1.1 cannot know that
# its connection is being closed just when it uses it; most use theirs several times a second, or hardly ever.
LEAVE_S = 1.0


def _somebody_waits(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _refuse_everybody(listener: socket.socket) -> None:
    """Stop listening here and wherever else the socket is open: the processes that started this one have it too, and
    the kernel would go on to connect callers that nobody accepts."""
    try:
        listener.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # it did not listen any more


class _Side:
    """The listeners of one side: closed by `accepting`, and `done` once the last of their connections is."""

    def __init__(self) -> None:
        self.bound: list[Bound] = []
        self.accepting = trio.CancelScope()
        self.done = trio.Event()

    async def end(self, worker: Worker) -> None:
        """Accept no more, lead those away that are connected, close what is at rest, wait for the others."""
        await self.close()
        worker.lead_away()
        with trio.move_on_after(LEAVE_S):
            await self.done.wait()
        worker.drain()
        await self.done.wait()

    async def close(self) -> None:
        """Close the listeners, after those were accepted that the kernel has connected already: it would reset them."""
        with trio.move_on_after(LAST_ACCEPTS_S):
            while not self.accepting.cancel_called and any(_somebody_waits(one.sock) for one in self.bound):
                await trio.lowlevel.checkpoint()
        if not self.accepting.cancel_called:
            for one in self.bound:
                _refuse_everybody(one.sock)
        self.accepting.cancel()


class DataPlane:
    """See the module's text.

    Attributes:
        worker: The proxy's shared state.
        inbound_worker: The inbound side's, another one where there are both sides: a drain is of a whole Worker.
        contexts: The identity in use, as TLS contexts; None before there is one.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        observer: Observer,
        rng: Random,
        directory: Directory | None,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._reactor = Reactor(on_bug)
        self.contexts: Contexts | None = None
        dialer = SocketDialer(self._reactor, self._client_context)

        def worker(places: Places | None = None) -> Worker:
            return Worker(
                bootstrap.node,
                dialer,
                observer,
                rng,
                trio.current_time,
                on_bug=on_bug,
                limits=bootstrap.limits,
                directory=directory,
                sample=bootstrap.tracing.sample if bootstrap.tracing is not None else 0.0,
                places=places,
                fast_path=bootstrap.fast_path,
            )

        outbound = bootstrap.outbound
        self.worker = worker()
        both = bootstrap.inbound is not None and (outbound.listen or outbound.upstreams)
        self.inbound_worker = worker(self.worker.places) if both else self.worker
        self._workers = (self.worker, self.inbound_worker) if both else (self.worker,)
        self._inbound, self._outbound = _Side(), _Side()

    def forget_tallies(self) -> None:
        """Observers want to be asked again what they make of requests."""
        for worker in self._workers:
            worker.tallies.clear()

    def fast_requests(self) -> int:
        """Requests that the fast path served since this was last asked."""
        served = sum(worker.fast_requests[0] for worker in self._workers)
        for worker in self._workers:
            worker.fast_requests[0] = 0
        return served

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""
        for worker in self._workers:
            worker.switch(snapshot)

    def identify(self, contexts: Contexts) -> None:
        """Use this identity for new connections; those that are up keep theirs."""
        self.contexts = contexts
        for worker in self._workers:
            worker.identity = contexts.identity.spiffe_id

    async def run(self, bound: list[Bound]) -> None:
        """Serve until both sides were finished and the last connection ended, or until cancelled. Owns the sockets."""
        sys.setswitchinterval(SWITCH_S)
        self._inbound.bound += [one for one in bound if one.name == "inbound"]
        self._outbound.bound += [one for one in bound if one.name != "inbound"]
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self._reactor.run)
                background.start_soon(give_back_memory)
                for worker in self._workers:
                    background.start_soon(worker.run)
                async with trio.open_nursery() as sides:
                    sides.start_soon(self._run_side, self._inbound, self.inbound_worker)
                    sides.start_soon(self._run_side, self._outbound, self.worker)
                background.cancel_scope.cancel()
        finally:
            for worker in self._workers:
                worker.pool.close()
                worker.inbound_pool.close()

    async def finish_inbound(self) -> None:
        """Accept no callers any more, and wait until the requests under way have their answers. Not bounded."""
        if self._inbound.bound:
            await self._inbound.end(self.inbound_worker)
        await self._inbound.done.wait()

    async def finish(self) -> None:
        """The same of both sides: afterwards `run` returns."""
        await self.finish_inbound()
        await self._outbound.end(self.worker)

    async def _run_side(self, side: _Side, worker: Worker) -> None:
        async with trio.open_nursery() as connections:
            listeners = Listeners(worker, self._reactor, connections, self._redirected(worker))
            with side.accepting:
                async with trio.open_nursery() as accepting:
                    for one in side.bound:
                        accepting.start_soon(self._serve, listeners, one)
        side.done.set()

    async def _serve(self, listeners: Listeners, bound: Bound) -> None:
        inbound = self._bootstrap.inbound
        if bound.name == "inbound" and inbound is not None:
            known = targets(self._bootstrap.node, inbound.ports, self._bootstrap.limits.connections)
            await listeners.inbound(bound.sock, known, inbound.mtls, lambda: self.contexts)
        else:
            await listeners.outbound(bound.name, bound.sock, bound.fixed)

    def _redirected(self, worker: Worker) -> Captured | None:
        """Who answers for captured connections, if the file says that there may be any."""
        inbound, outbound = self._bootstrap.inbound, self._bootstrap.outbound
        if outbound.capture is None and (inbound is None or inbound.capture is None):
            return None
        return Redirected(worker, outbound.unknown, self._own_addresses)

    def _own_addresses(self) -> list[HostPort]:
        """Where this process accepts traffic; a captured connection that leads there is a loop."""
        return [HostPort(*one.sock.getsockname()[:2]) for side in (self._inbound, self._outbound) for one in side.bound]

    def _client_context(self, alpn: tuple[str, ...]) -> ssl.SSLContext | None:
        return self.contexts.client(alpn) if self.contexts is not None else None
