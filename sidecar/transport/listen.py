"""Listening sockets: bind, accept in batches, hand each connection to its server.

Accepting waits in trio, once for all that have come by then; after ACCEPTS_PER_TURN of them everybody else has a turn
first, so that a burst of new connections is not what requests on kept ones wait for. Above the connection limit, or
when the process has no descriptor left, accepting pauses: existing traffic is not disturbed, the kernel's backlog holds
the rest.
"""

import resource
import socket
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import trio

from sidecar.errors import ConfigError
from sidecar.transport.epoll_stream import address_text

BACKLOG = 1024
# A new connection takes 30 us until its first bytes are read: half a millisecond before others have their turn.
ACCEPTS_PER_TURN = 16
# No descriptor left (EMFILE, ENFILE) or no memory: wait for some to be freed rather than spin on accept.
PAUSE_S = 0.1
# Descriptors for everything but clients and their endpoints: listeners, log, control plane, health checks, pipes.
OWN_FILES = 64


def allow_open_files(wanted: int) -> None:
    """Raise the process's own limit as far as it may; 1024, the usual default, is fewer than there may be peers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def clients_within(wanted: int) -> int:
    """How many of `wanted` clients at once the process has descriptors for, after raising its limit as far as it may.

    Each may need a second one, for its endpoint. Above that accepting would fail, and so would dials for those
    already here; below it only the next client waits.
    """
    allow_open_files(2 * wanted + OWN_FILES)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, (soft - OWN_FILES) // 2))


def bind(
    name: str, host: str, port: int, *, beside: Collection[tuple[str, int]] = (), shared: bool = False
) -> socket.socket:
    """A listening TCP socket, whose address another process of the same user may share later if it asks to.

    Args:
        beside: All addresses of the same listener. `::` leaves IPv4 to 0.0.0.0 where both are listed with one port;
            else it takes both.
        shared: Share the address with a process that listens there already; else it is an error that one does.

    Raises:
        ConfigError: The address cannot be had; the sentence names listener, address and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError([_cannot_listen(name, f"{host}:{port}", exc)]) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::" and port and ("0.0.0.0", port) in beside:  # noqa: S104 - compared, not bound
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # after the kernel has checked that it is ours alone
    except OSError as exc:
        sock.close()
        raise ConfigError([_cannot_listen(name, f"{host}:{port}", exc)]) from None
    except UnicodeError:
        sock.close()
        raise ConfigError([f"{name}: {host!r:.100} is neither an address nor a name"]) from None
    sock.setblocking(False)
    return sock


def bind_several(sock: socket.socket, count: int) -> list[socket.socket]:
    """Close `sock`, and have `count` sockets listen at its address, among which the kernel spreads connections.

    That `sock` could be had shows that no stranger listens there, who would get a share. Raises ConfigError.
    """
    address = sock.getsockname()
    family, only_ipv6 = sock.family, False
    if family == socket.AF_INET6:
        only_ipv6 = bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    sock.close()
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.socket(family, socket.SOCK_STREAM)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
            one.bind(address)
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError as exc:
        for one in made:
            one.close()
        raise ConfigError([_cannot_listen("workers", address_text(address), exc)]) from None
    return made


def bind_unix(name: str, path: str, *, shared: bool = False) -> socket.socket:
    """A listening unix socket, mode 0600; a socket left by a dead process is replaced. Raises ConfigError.

    `shared` replaces one of a living process too, which keeps those that are connected: such a path has one owner.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket() and (shared or _nobody_answers(path)):
            Path(path).unlink()
        sock.bind(path)
        Path(path).chmod(0o600)
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise ConfigError([_cannot_listen(name, path, exc)]) from None
    sock.setblocking(False)
    return sock


def _nobody_answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


def _cannot_listen(name: str, address: str, exc: OSError) -> str:
    hint = {
        98: "another process listens there; stop it or choose another port (0 picks a free one)",
        97: "this machine has no IPv6; list IPv4 addresses only",
        99: "no interface of this machine has that address",
        13: "ports below 1024 need privileges; choose a higher one",
    }.get(exc.errno or 0, "choose another address")
    return f"{name}: cannot listen on {address}: {(exc.strerror or str(exc)).lower()}; {hint}"


def bound_address(sock: socket.socket) -> str:
    """Where `sock` listens, the port resolved."""
    return address_text(sock.getsockname())


async def accept_loop(
    sock: socket.socket, admit: Callable[[], Awaitable[None]], serve: Callable[[socket.socket, object], None]
) -> None:
    """Accept for ever and give each connection to `serve` (which must not block). Owns `sock`.

    `admit` is awaited before each accept and returns when another connection is allowed; `serve` counts it. When
    cancelled, those are accepted that the kernel has connected meanwhile: it would reset them, and nobody listens a
    moment later.
    """
    with sock:
        try:
            while True:
                for _ in range(ACCEPTS_PER_TURN):
                    await admit()
                    try:
                        accepted, address = sock.accept()
                    except BlockingIOError:
                        await trio.lowlevel.wait_readable(sock)
                        break
                    except ConnectionError:
                        continue  # the client left while it was queued
                    except OSError:
                        await trio.sleep(PAUSE_S)
                        break
                    _serve(accepted, address, serve)
                else:
                    await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            _accept_the_last(sock, serve)
            raise


def _accept_the_last(sock: socket.socket, serve: Callable[[socket.socket, object], None]) -> None:
    for _ in range(BACKLOG):
        try:
            accepted, address = sock.accept()
        except OSError:
            return
        _serve(accepted, address, serve)


def _serve(plain: socket.socket, address: object, serve: Callable[[socket.socket, object], None]) -> None:
    plain.setblocking(False)
    if plain.family != socket.AF_UNIX:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    serve(plain, address)
