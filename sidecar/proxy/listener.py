"""From an accepted socket to a served connection: TLS where it is due, who the peer is, which side.

Two kinds of listener. Outbound ones are plain text for the local app. The inbound one does mutual TLS, refuses a peer
before one application byte is read or sent (with an audit line), and in permissive mode tells TLS from plain text by
the first byte. A connection that the kernel redirected is served by where its client wanted to go (`captured.py`). What
is spoken on a plain connection, `entry.py` finds out.
"""

import socket
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any, Protocol

import trio

from sidecar.model.bootstrap import MtlsMode
from sidecar.model.clusters import Protocol as Spoken
from sidecar.model.clusters import ServiceKey
from sidecar.proxy import captured, connection, entry, l4, mux_server
from sidecar.proxy.inbound import Inbound, Target
from sidecar.proxy.newcomer import Newcomer
from sidecar.proxy.outbound import protocol_now
from sidecar.proxy.redirected import NeverCaptured
from sidecar.proxy.worker import Connected, Worker
from sidecar.telemetry.observer import DESTINATION, SOURCE, PeerRefused
from sidecar.transport import tls
from sidecar.transport.epoll_stream import EpollStream, TlsStream, address_text
from sidecar.transport.listen import accept_loop
from sidecar.transport.reactor import Reactor
from sidecar.transport.stream import Peer, Stream, StreamBroken

HANDSHAKE_S = 5.0  # a handshake takes three packets; whoever needs longer holds a place for nothing
ALPN = ("h2", "http/1.1")
_TLS_RECORD = b"\x16"  # the first byte of a TLS handshake; no HTTP method begins so


class Captured(Protocol):
    """What is known of connections that the kernel redirected to us; `NeverCaptured` where nothing is."""

    def outbound(self, sock: socket.socket) -> captured.ToService | captured.PassThrough | captured.Refuse | None:
        """What becomes of a connection of the app; None when it was made to us."""

    def inbound(self, sock: socket.socket, declared: Collection[int]) -> captured.ToApp | captured.Refuse | None:
        """Which port of the app a connection means; None when it was made to us."""


class Listeners:
    """Accepts for one worker and serves each connection in a task of its own, all inside one nursery; or in none, as
    long as there is nothing for one (`newcomer.py`)."""

    def __init__(
        self, worker: Worker, reactor: Reactor, nursery: trio.Nursery, redirected: Captured | None = None
    ) -> None:
        self._worker = worker
        self._reactor = reactor
        self._nursery = nursery
        self._captured: Captured = redirected or NeverCaptured()
        self._handshakes = trio.Lock()
        self._newcomers: set[Newcomer] = set()
        self._accepting = 0
        self._over = trio.Event()  # nobody accepts any more, and there are no newcomers
        self._kept = False
        self._cut = False  # nobody is served without a task any more

    async def outbound(self, name: str, sock: socket.socket, fixed: tuple[ServiceKey, int] | None) -> None:
        """Serve an outbound listener for ever. Owns `sock`."""
        task = f"connection to {name}"  # one text for all of them; trio would make one for each
        worker = self._worker

        def accept(plain: socket.socket, address: object) -> None:
            decision = self._captured.outbound(plain) if fixed is None else None
            stream = EpollStream(plain, self._reactor, Peer(address_text(address)))
            if decision is None and worker.fast_path:
                protocol = protocol_now(worker, *fixed) if fixed is not None else Spoken.HTTP
                if protocol is not None and protocol not in entry.RELAYED:
                    newcomer = Newcomer(stream, worker, name, fixed, protocol, self)
                    self._newcomers.add(newcomer)
                    newcomer.start()
                    if self._cut:
                        newcomer.cut()
                    return
            self._nursery.start_soon(self._outbound, worker.client(name), name, stream, fixed, decision, name=task)

        self._keep_newcomers()
        try:
            await accept_loop(sock, self._worker.room, accept)
        finally:
            self._accepting -= 1
            self._maybe_over()

    async def inbound(
        self,
        sock: socket.socket,
        targets: dict[int, Target],
        mode: MtlsMode,
        contexts: Callable[[], tls.Contexts | None],
    ) -> None:
        """Serve the inbound listener for ever. `contexts` is asked for each connection: renewals count at once."""

        def accept(plain: socket.socket, address: object) -> None:
            client, text = self._worker.client("inbound"), address_text(address)
            self._nursery.start_soon(
                self._inbound, client, plain, text, targets, mode, contexts, name="connection to inbound"
            )

        await accept_loop(sock, self._worker.room, accept)

    # As of `Host`.

    def begin(self, client: Connected, serving: Coroutine[object, Any, None]) -> None:
        """See `Host`."""
        self._nursery.start_soon(_serve, client, serving, name="connection to outbound")

    def forget(self, newcomer: Newcomer) -> None:
        """See `Host`."""
        self._newcomers.discard(newcomer)
        self._maybe_over()

    def _keep_newcomers(self) -> None:
        """One listener more; see that there is a task that outlives the newcomers of all."""
        self._accepting += 1
        if not self._kept:
            self._kept = True
            self._nursery.start_soon(self._keep)

    def _maybe_over(self) -> None:
        if not self._accepting and not self._newcomers:
            self._over.set()

    async def _keep(self) -> None:
        """Keep the nursery open as long as somebody without a task is served; cancelled, end them."""
        try:
            await self._over.wait()
        finally:
            self._cut = True
            for newcomer in list(self._newcomers):
                newcomer.cut()

    async def _outbound(
        self,
        client: Connected,
        name: str,
        stream: Stream,
        fixed: tuple[ServiceKey, int] | None,
        decision: captured.ToService | captured.PassThrough | captured.Refuse | None,
    ) -> None:
        worker = self._worker
        with client:
            if isinstance(decision, captured.Refuse):
                self._refuse(stream, decision, SOURCE)
                return
            if isinstance(decision, captured.PassThrough):
                await l4.serve(stream, l4.PassThrough(worker, decision.address), worker)
                return
            if decision is not None:
                fixed = decision.cluster
            await (await entry.outbound(stream, worker, name, fixed))

    async def _inbound(
        self,
        client: Connected,
        plain: socket.socket,
        address: str,
        targets: dict[int, Target],
        mode: MtlsMode,
        contexts: Callable[[], tls.Contexts | None],
    ) -> None:
        worker = self._worker
        with client:
            try:
                decision = self._captured.inbound(plain, targets) if mode is not MtlsMode.STRICT else None
                # Sidecars dial this listener itself: who dialled the app's port knows of none. Its TLS is the app's
                # own, and its silence may be waiting for the server to speak first.
                unencrypted = mode is not MtlsMode.STRICT and (
                    mode is MtlsMode.OFF or isinstance(decision, captured.ToApp) or not await _speaks_tls(plain)
                )
            except BaseException:
                plain.close()
                raise
            if unencrypted:
                stream: Stream = EpollStream(plain, self._reactor, Peer(address))
                if isinstance(decision, captured.Refuse):
                    self._refuse(stream, decision, DESTINATION)
                    return
                port = decision.port if decision is not None else None
                await (await entry.inbound(stream, worker, targets, port))
                return
            try:
                secure, port = await self._handshake(plain, address, targets, contexts())
            except tls.PeerRefused as exc:
                self._audit(address, exc)
                return
            serve = mux_server.serve if secure.peer.alpn == "h2" else connection.serve
            await serve(secure, lambda: Inbound(worker, targets, port), worker)

    def _refuse(self, stream: Stream, decision: captured.Refuse, reporter: str) -> None:
        stream.abort()
        self._audit(stream.peer.address, tls.PeerRefused(decision.reason.value, decision.sentence), reporter)

    async def _handshake(
        self, plain: socket.socket, address: str, targets: dict[int, Target], contexts: tls.Contexts | None
    ) -> tuple[TlsStream, int]:
        """Mutual TLS, then who and what for. Raises PeerRefused after closing."""
        if contexts is None:
            plain.close()
            raise tls.PeerRefused("not-ready", "this sidecar has no identity yet")
        try:
            stream = TlsStream.wrap(plain, contexts.server(ALPN), self._reactor, Peer(address))
        except StreamBroken as exc:
            raise tls.PeerRefused("handshake", str(exc)) from None
        except BaseException:
            plain.close()
            raise
        try:
            with trio.move_on_after(HANDSHAKE_S) as scope:
                await stream.handshake(self._handshakes)
            if scope.cancelled_caught:
                raise tls.PeerRefused("handshake-timeout", f"no TLS handshake within {HANDSHAKE_S:g}s")
            principal = tls.peer_spiffe_id(stream.tls)
            name = tls.requested_name(stream.tls)
            port, service = tls.server_name_parts(name)
            if service != self._worker.node.key or port not in targets:
                raise tls.PeerRefused("server-name", f"the peer asked for {name}, which is not declared here")
        except StreamBroken as exc:
            stream.close()
            raise tls.PeerRefused("handshake", str(exc)) from None
        except BaseException:
            stream.abort()
            raise
        stream.peer = replace(
            stream.peer, principal=principal, server_name=name, alpn=stream.tls.selected_alpn_protocol() or ""
        )
        return stream, port

    def _audit(self, address: str, refused: tls.PeerRefused, reporter: str = DESTINATION) -> None:
        self._worker.observer.peer_refused(
            PeerRefused(
                at_s=self._worker.now(),
                reporter=reporter,
                peer=address,
                principal="",
                reason=refused.reason,
                details=str(refused),
            )
        )


async def _serve(client: Connected, serving: Coroutine[object, Any, None]) -> None:
    with client:
        await serving


async def _speaks_tls(plain: socket.socket) -> bool:
    """Look at the first byte without taking it; a peer that says nothing in time is served as plain text."""
    with trio.move_on_after(HANDSHAKE_S):
        await trio.lowlevel.wait_readable(plain)
        try:
            return plain.recv(1, socket.MSG_PEEK) == _TLS_RECORD
        except OSError:
            return False
    return False
