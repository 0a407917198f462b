"""A worker with its sockets: reactor, listeners, and the proxy's shared state, in one nursery.

Told what to serve through `link.py`'s contract; knows nothing of where configuration comes from.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import trio

from sidecar.model.bootstrap import Bootstrap
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.inbound import targets
from sidecar.proxy.listener import Listeners
from sidecar.proxy.worker import Directory, Worker
from sidecar.telemetry.observer import Observer
from sidecar.transport.dial import SocketDialer
from sidecar.transport.listen import bind
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
    try:
        if bootstrap.inbound is not None:
            made += [Bound("inbound", bind("inbound.listen", *address)) for address in bootstrap.inbound.listen]
        made += [Bound("outbound", bind("outbound.listen", *address)) for address in bootstrap.outbound.listen]
        for upstream in bootstrap.outbound.upstreams:
            name = f"outbound {upstream.service}:{upstream.port}"
            fixed = (upstream.service, upstream.port)
            made.append(Bound(name, bind("outbound.upstreams", *upstream.listen), fixed))
    except BaseException:
        for bound in made:
            bound.sock.close()
        raise
    return made


class DataPlane:
    """See the module's text.

    Attributes:
        worker: The proxy's shared state.
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
        sample = bootstrap.tracing.sample if bootstrap.tracing is not None else 0.0
        self.worker = Worker(
            bootstrap.node,
            SocketDialer(self._reactor, self._client_context),
            observer,
            rng,
            trio.current_time,
            on_bug=on_bug,
            limits=bootstrap.limits,
            directory=directory,
            sample=sample,
        )
        self._accepting = trio.CancelScope()

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""
        self.worker.switch(snapshot)

    def identify(self, contexts: Contexts) -> None:
        """Use this identity for new connections; those that are up keep theirs."""
        self.contexts = contexts
        self.worker.identity = contexts.identity.spiffe_id

    async def run(self, bound: list[Bound]) -> None:
        """Serve until `stop_accepting` and the last connection, or until cancelled. Owns the sockets."""
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self._reactor.run)
                background.start_soon(self.worker.run)
                async with trio.open_nursery() as connections:
                    listeners = Listeners(self.worker, self._reactor, connections)
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for one in bound:
                                accepting.start_soon(self._serve, listeners, one)
                background.cancel_scope.cancel()
        finally:
            self.worker.pool.close()
            self.worker.inbound_pool.close()

    def stop_accepting(self) -> None:
        """Close the listeners; connections go on until their drain ends them."""
        self._accepting.cancel()

    async def _serve(self, listeners: Listeners, bound: Bound) -> None:
        inbound = self._bootstrap.inbound
        if bound.name == "inbound" and inbound is not None:
            known = targets(self._bootstrap.node, inbound.ports, self._bootstrap.limits.connections)
            await listeners.inbound(bound.sock, known, inbound.mtls, lambda: self.contexts)
        else:
            await listeners.outbound(bound.name, bound.sock, bound.fixed)

    def _client_context(self, alpn: tuple[str, ...]) -> ssl.SSLContext | None:
        return self.contexts.client(alpn) if self.contexts is not None else None
