"""A small HTTP/1.1 server for the admin and metrics listeners: bounded in every direction, and never in traffic's way.

Separate from the proxy on purpose: h11 on plain trio streams, a task for each connection, at most 64. A head has 16 KiB
and 5 s; when all places are taken the connection that has been idle longest makes room. An endpoint that fails answers
500, because no page about the sidecar may take the sidecar down. Bodies of requests are read and ignored.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

import h11
import trio

from sidecar.admin.endpoints import Routes
from sidecar.admin.messages import AdminAnswer, AdminRequest, refusal
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import HostPort, UnixPath
from sidecar.transport.listen import accept_loop, bind, bind_unix

_READ_BYTES = 4_096
_MAX_QUERY_FIELDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLimits:
    """Seconds, bytes and a count; Prometheus and kubelets stay far below all of them."""

    head_s: float = 5.0  # also how long a kept connection may be idle
    block_s: float = 5.0  # for each block of an answer
    answer_s: float = 60.0  # for a whole answer
    head_bytes: int = 16_384
    body_bytes: int = 16_384
    connections: int = 64


def bind_admin(listen: HostPort | UnixPath, *, shared: bool = False) -> socket.socket:
    """The listening socket of the admin endpoints. Raises ConfigError for any address but loopback."""
    if isinstance(listen, UnixPath):
        return bind_unix("admin", str(listen.path), shared=shared)
    host = "127.0.0.1" if listen.host == "localhost" else listen.host
    if not _is_loopback(host):
        problem = (
            f"admin.listen: {listen} can be reached from other machines, and whoever reaches it can stop this process"
        )
        raise ConfigError([f"{problem}; use 127.0.0.1, [::1] or unix:/PATH"])
    return bind("admin", host, listen.port, shared=shared)


def bind_metrics(listen: HostPort, *, shared: bool = False) -> socket.socket:
    """The listening socket for scrapers and kubelets. Raises ConfigError."""
    return bind("metrics", listen.host, listen.port, shared=shared)


class AdminServer:
    """Serves `routes` on a socket.

    Args:
        local_only: Refuse requests that a browser may have been tricked into: a `Host` that is neither localhost nor an
            address (DNS rebinding), and a POST with an `Origin`. For the admin listener.
    """

    def __init__(self, routes: Routes, *, local_only: bool, limits: AdminLimits | None = None) -> None:
        self._routes = routes
        self._local_only = local_only
        self._limits = limits or AdminLimits()
        self._open = 0
        self._idle: dict[trio.CancelScope, None] = {}  # oldest first

    async def serve(self, sock: socket.socket) -> None:
        """Accept until cancelled. Owns `sock` and every connection."""
        async with trio.open_nursery() as nursery:

            def take(accepted: socket.socket, _address: object) -> None:
                if self._open >= self._limits.connections and not self._make_room():
                    accepted.close()
                    return
                self._open += 1
                nursery.start_soon(self._connection, accepted)

            await accept_loop(sock, _at_once, take)

    def _make_room(self) -> bool:
        """Give up the connection that has been idle longest; False when none is idle."""
        for scope in self._idle:
            del self._idle[scope]
            scope.cancel()
            return True
        return False

    async def _connection(self, accepted: socket.socket) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        # h11 measures what is incomplete; the read that completes a head may add as much again as one read takes.
        codec = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes - _READ_BYTES)
        try:
            while await self._exchange(stream, codec):
                codec.start_next_cycle()
        except (trio.BrokenResourceError, trio.TooSlowError, h11.LocalProtocolError):
            pass  # the client left or stopped reading, maybe in the middle of an answer; nobody is there to be told
        finally:
            self._open -= 1
            stream.socket.close()

    async def _exchange(self, stream: trio.SocketStream, codec: h11.Connection) -> bool:
        """One request and its answer; True when another may follow on this connection."""
        head = None
        try:
            head = await self._head(stream, codec)
            if head is None:
                return False
            with trio.fail_after(self._limits.head_s):
                fits = await self._skip_body(stream, codec)
            too_long = f"the request body is longer than {self._limits.body_bytes} bytes"
            answer = await self._answer(head) if fits else refusal(413, too_long)
        except h11.RemoteProtocolError as exc:
            if codec.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return False
            answer = refusal(exc.error_status_hint, f"not a valid HTTP/1.1 request: {exc}")
        try:
            with trio.fail_after(self._limits.answer_s):
                await self._send(stream, codec, answer, bodyless=head is not None and head.method == b"HEAD")
        finally:
            if answer.after is not None:
                answer.after()
        return codec.our_state is h11.DONE and codec.their_state is h11.DONE

    async def _head(self, stream: trio.SocketStream, codec: h11.Connection) -> h11.Request | None:
        """The next request's head; None when the client is done, too slow, or had to make room."""
        with trio.move_on_after(self._limits.head_s) as scope:
            self._idle[scope] = None
            try:
                while (event := codec.next_event()) is h11.NEED_DATA:
                    codec.receive_data(await stream.receive_some(_READ_BYTES))
            finally:
                self._idle.pop(scope, None)
            if isinstance(event, h11.Request):
                return event
        return None

    async def _skip_body(self, stream: trio.SocketStream, codec: h11.Connection) -> bool:
        """Read the body away; False when it is too long. One that waits for `100 Continue` is left unsent."""
        size = 0
        while not codec.they_are_waiting_for_100_continue:
            event = codec.next_event()
            if event is h11.NEED_DATA:
                codec.receive_data(await stream.receive_some(_READ_BYTES))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._limits.body_bytes:
                    return False
            else:
                break
        return True

    async def _answer(self, head: h11.Request) -> AdminAnswer:
        """What the request gets. Never raises."""
        fields = dict(head.headers)
        target = head.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        method = head.method.decode("ascii", "replace")
        if self._local_only and not _is_local_name(fields.get(b"host", b"")):
            return refusal(403, "the Host of an admin request must be localhost or an IP address")
        if self._local_only and method == "POST" and b"origin" in fields:
            return refusal(403, "admin endpoints take no requests from web pages")
        route = self._routes.get(path)
        if route is None:
            return refusal(404, f"no such path; there are {', '.join(self._routes)}")
        if method != route.method and not (method == "HEAD" and route.method == "GET"):
            return refusal(405, f"{path} takes {route.allow} only", ("Allow", route.allow))
        try:
            values = dict(parse_qsl(query, max_num_fields=_MAX_QUERY_FIELDS))
        except ValueError:
            return refusal(400, f"the query has more than {_MAX_QUERY_FIELDS} fields")
        try:
            if route.first is not None:
                await route.first()
            return route.handle(AdminRequest(method, path, values, fields.get(b"accept")))
        except Exception as exc:  # a bug in a page about traffic must not end the traffic; it is shown to who asked
            return refusal(500, f"{path} failed: {type(exc).__name__}: {exc}")

    async def _send(
        self, stream: trio.SocketStream, codec: h11.Connection, answer: AdminAnswer, *, bodyless: bool
    ) -> None:
        fields = [
            ("Content-Type", answer.content_type),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.fields,
        ]
        if isinstance(answer.body, bytes):
            fields.append(("Content-Length", str(len(answer.body))))
        if codec.their_state is not h11.DONE:
            fields.append(("Connection", "close"))  # what is left of the request is not read
        pending = codec.send(h11.Response(status_code=answer.status, headers=fields)) or b""
        for block in () if bodyless else _blocks(answer.body):
            pending += codec.send(h11.Data(data=block)) or b""
            await self._write(stream, pending)
            pending = b""
        await self._write(stream, pending + (codec.send(h11.EndOfMessage()) or b""))

    async def _write(self, stream: trio.SocketStream, data: bytes) -> None:
        if data:
            with trio.fail_after(self._limits.block_s):
                await stream.send_all(data)


def _blocks(body: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """The blocks of a body. One whose making fails is cut off there, and the client sees that it has no end."""
    if isinstance(body, bytes):
        yield body
        return
    try:
        yield from body
    except Exception as exc:  # see AdminServer._answer; the head is sent, so all that is left is to hang up
        raise trio.BrokenResourceError("the page failed in the middle") from exc


async def _at_once() -> None:
    """Accept without a condition; the limit is kept after it, where the idle make room."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local_name(host: bytes) -> bool:
    """Whether a `Host` is localhost or an address: what no web page elsewhere can call itself."""
    text = host.decode("ascii", "replace").lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
