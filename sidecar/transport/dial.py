"""Connect to an endpoint: name, TCP, and with a mesh hop mutual TLS and the check of who answered.

The proxy knows only the `Dialer` contract; the real one is here, the one for virtual time beside the memory network.
A name is resolved in trio's thread; an address is not. The caller bounds the time of the whole.
"""

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import trio

from sidecar.errors import CONNECT_FAILED, NO_IDENTITY, TLS_FAILED, ProxyError
from sidecar.model.clusters import Endpoint, Mesh
from sidecar.transport import tls
from sidecar.transport.epoll_stream import EpollStream, TlsStream, broken_reason
from sidecar.transport.memory import MemoryNetwork
from sidecar.transport.reactor import Reactor
from sidecar.transport.stream import Peer, Stream, StreamBroken


class Dialled(Protocol):
    """Who waits for a `Dialling`; told in a turn of the reactor."""

    def on_dialled(self, stream: Stream) -> None:
        """It is connected."""

    def on_not_dialled(self, problem: ProxyError) -> None:
        """It is not; CONNECT_FAILED."""

    def on_dial_crashed(self) -> None:
        """A bug ended the turn."""


class Dialling(Protocol):
    """A connection under way. The owner bounds its time."""

    def give_up(self) -> None:
        """Nobody waits for it any more."""


class Dialer(Protocol):
    """How the pool gets a connection."""

    def begin(self, endpoint: Endpoint, waiting: Dialled) -> Stream | Dialling | None:
        """A connected stream at once, or one under way of which `waiting` hears; None: only `dial` can.

        Raises:
            ProxyError: CONNECT_FAILED.
        """

    async def dial(self, endpoint: Endpoint, alpn: tuple[str, ...]) -> Stream:
        """A connected stream, its peer verified if the hop asks for it, and offered the protocols of `alpn`.

        Raises:
            ProxyError: CONNECT_FAILED or TLS_FAILED, with the endpoint and the reason in the sentence.
        """


class SocketDialer:
    """Real sockets on a reactor. `identity` is asked at each dial, so that a renewed one is used at once."""

    def __init__(self, reactor: Reactor, contexts: Callable[[tuple[str, ...]], ssl.SSLContext | None]) -> None:
        self._reactor = reactor
        self._contexts = contexts

    def begin(self, endpoint: Endpoint, waiting: Dialled) -> Stream | Dialling | None:
        """See `Dialer`: for a plain hop to an address. A handshake needs a task, a name a thread."""
        family = None if isinstance(endpoint.hop, Mesh) else _family(endpoint.host)
        if family is None:
            return None
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex((endpoint.host, endpoint.port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError as exc:
            if sock is not None:
                sock.close()
            raise _failed(endpoint, exc) from None
        under_way = SocketDialling(sock, self._reactor, endpoint, waiting)
        return under_way.connected() if code == 0 or _is_connected(sock) else under_way.watched()

    async def dial(self, endpoint: Endpoint, alpn: tuple[str, ...]) -> Stream:
        """See `Dialer`."""
        try:
            sock = await _connect(endpoint.host, endpoint.port)
        except OSError as exc:
            raise _failed(endpoint, exc) from None
        except UnicodeError:
            raise ProxyError(CONNECT_FAILED, f"endpoint {endpoint.id}: {endpoint.host!r:.100} is no name") from None
        if not isinstance(endpoint.hop, Mesh):
            return EpollStream(sock, self._reactor, Peer(endpoint.address))
        return await self._secure(sock, endpoint, endpoint.hop, alpn)

    async def _secure(self, sock: socket.socket, endpoint: Endpoint, hop: Mesh, alpn: tuple[str, ...]) -> Stream:
        where = f"endpoint {endpoint.id} at {endpoint.address}"
        try:
            context = self._contexts(alpn)
        except ValueError as exc:  # an identity, or a list of protocols, that OpenSSL does not take
            sock.close()
            raise ProxyError(TLS_FAILED, f"{where}: {exc}") from None
        if context is None:
            sock.close()
            raise ProxyError(NO_IDENTITY)
        try:
            stream = TlsStream.wrap(sock, context, self._reactor, Peer(endpoint.address), hop.server_name)
        except StreamBroken as exc:
            raise ProxyError(TLS_FAILED, f"{where}: {exc}") from None
        try:
            await stream.handshake()
            principal = tls.verify_peer(stream.tls, hop.spiffe_ids)
        except (StreamBroken, tls.PeerRefused) as exc:
            stream.close()
            reason = broken_reason(exc) if isinstance(exc, StreamBroken) else str(exc)
            raise ProxyError(TLS_FAILED, f"{where}: {reason}") from None
        except BaseException:
            stream.abort()
            raise
        stream.peer = replace(stream.peer, principal=principal, alpn=stream.tls.selected_alpn_protocol() or "")
        return stream


class SocketDialling:
    """A plain connection under way, a source of the reactor until it is decided. Owns `sock`."""

    __slots__ = ("_endpoint", "_reactor", "_sock", "_waiting")

    def __init__(self, sock: socket.socket, reactor: Reactor, endpoint: Endpoint, waiting: Dialled) -> None:
        self._sock = sock
        self._reactor = reactor
        self._endpoint = endpoint
        self._waiting = waiting

    def watched(self) -> "SocketDialling":
        """Itself, from now on told by the reactor."""
        self._reactor.register(self._sock.fileno(), self, select.EPOLLOUT)
        return self

    def connected(self) -> EpollStream:
        """The stream, which owns the socket from now on."""
        return EpollStream(self._sock, self._reactor, Peer(self._endpoint.address))

    def give_up(self) -> None:
        """See `Dialling`."""
        self._reactor.unregister(self._sock.fileno())
        self._reactor.bury(self._sock)

    def on_ready(self, events: int) -> None:  # noqa: ARG002 - whatever happened, the socket says what it means
        """The reactor's turn: it is connected, or never will be."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.give_up()
            self._waiting.on_not_dialled(_failed(self._endpoint, OSError(code, os.strerror(code))))
        else:
            self._reactor.unregister(self._sock.fileno())
            self._waiting.on_dialled(self.connected())

    def on_crash(self) -> None:
        """See `Source`."""
        self._waiting.on_dial_crashed()


def _failed(endpoint: Endpoint, exc: OSError) -> ProxyError:
    return ProxyError(CONNECT_FAILED, f"endpoint {endpoint.id} at {endpoint.address}: {exc.strerror or exc}")


def _family(host: str) -> socket.AddressFamily | None:
    """Of an address; None for a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, UnicodeError):
        return None
    return family


def _is_connected(sock: socket.socket) -> bool:
    """True on loopback, where the answer comes while we ask; elsewhere it takes its time."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _connect(host: str, port: int) -> socket.socket:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = OSError("the name has no address")
    for family, kind, proto, _, address in found:
        sock = trio.socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await sock.connect(address)
        except OSError as exc:
            problem = exc
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            plain = socket.socket(family, kind, proto, fileno=sock.detach())
            plain.setblocking(False)
            return plain
    raise problem


class MemoryDialer:
    """Dials in a memory network; a mesh hop asserts `principal` to the peer and expects its first allowed identity."""

    def __init__(self, network: MemoryNetwork, principal: str = "") -> None:
        self._network = network
        self._principal = principal

    def begin(self, endpoint: Endpoint, waiting: Dialled) -> Stream | Dialling | None:  # noqa: ARG002 - at once
        """See `Dialer`."""
        if isinstance(endpoint.hop, Mesh):
            return None
        try:
            return self._network.dial(endpoint.address)
        except OSError as exc:
            raise ProxyError(CONNECT_FAILED, f"endpoint {endpoint.id}: {exc}") from None

    async def dial(self, endpoint: Endpoint, alpn: tuple[str, ...]) -> Stream:
        """See `Dialer`."""
        await trio.lowlevel.checkpoint()
        hop = endpoint.hop
        try:
            if not isinstance(hop, Mesh):
                return self._network.dial(endpoint.address)
            stream = self._network.dial(
                endpoint.address, principal=self._principal, server_name=hop.server_name, alpn=alpn[0]
            )
        except OSError as exc:
            raise ProxyError(CONNECT_FAILED, f"endpoint {endpoint.id}: {exc}") from None
        stream.peer = replace(stream.peer, principal=min(hop.spiffe_ids, default=""))
        return stream
