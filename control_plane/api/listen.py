"""Open the API's port and serve it: hypercorn on trio, quiet, bounded, with a graceful end.

The socket is ours, so that port 0 works, `listening api ADDRESS` names the real port, and a port in use is one clear
line. Nothing here knows what is served.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import cast

import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import Framework
from starlette.types import ASGIApp

BACKLOG = 128
HEAD_BYTES = 16 * 1024
KEEP_ALIVE_S = 15.0
# A client that does not read its answer is dropped after this long: the server waits for it without an end.
UNREAD_S = 20.0
GRACE_S = 2.0


class ListenError(Exception):
    """A port that cannot be opened; the text is one complete line."""


def bind(address: str, *, unread_s: float = UNREAD_S) -> socket.socket:
    """Return a listening socket on `HOST:PORT` (`[::1]:0` for IPv6; port 0 picks one).

    A client that leaves an answer unread for `unread_s` loses its connection; accepted sockets inherit this.

    Raises:
        ListenError: In use, not allowed, not an address of this machine.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_s * 1000))
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise ListenError(f"cannot listen on {address}: {(exc.strerror or str(exc)).lower()}") from exc
    listener.setblocking(False)
    return listener


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        ListenError: Not of that form.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"{address!r} is not an address such as 127.0.0.1:15010 or [::1]:0")
    return host, int(port)


def address_of(listener: socket.socket) -> str:
    """`HOST:PORT` as the socket is really bound; IPv6 in brackets."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    stop: Callable[[], Awaitable[None]],
    *,
    grace_s: float = GRACE_S,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `stop()` returns; requests in progress get `grace_s` to end. Closes `listener`."""
    with closing(listener):
        # The server closes the descriptor it is given; a duplicate leaves ours to be closed exactly once.
        config = _config(os.dup(listener.fileno()), grace_s)
        framework = cast("Framework", app)  # the same interface, written down twice
        await hypercorn.trio.serve(framework, config, shutdown_trigger=stop, task_status=task_status, mode="asgi")


def _config(descriptor: int, grace_s: float) -> Config:
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.backlog = BACKLOG
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_BYTES
    config.h2_max_concurrent_streams = 1
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.graceful_timeout = grace_s
    config.shutdown_timeout = grace_s
    return config
