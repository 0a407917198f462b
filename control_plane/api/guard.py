"""Who may ask, how much, and for how long: the outermost layer of the API, around every route.

An ASGI application that checks the Host (against DNS rebinding: a web page that resolves its own name to 127.0.0.1),
the bearer token and the size of the body, bounds the time of the answer and turns whatever goes wrong into a JSON
error. It reads bodies itself, to their end: the server below stops for ever when it may neither deliver the rest of a
body nor learn that nobody wants it.

`/live` and `/ready` answer anybody, because probes carry no token; they say nothing about the mesh. `/metrics` names
services and nodes, so it needs the token as everything else does, unless the control plane's file opens it. Who is
refused for host or token loses the connection: only those who may ask can keep one.
"""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.api.answers import ApiError, bug, too_slow

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})
OPEN_PATHS = frozenset({"/live", "/ready"})
CLOSE = {"connection": "close"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the API.

    Attributes:
        body_bytes: Largest request body. A frame to a sidecar has the same bound.
        answer_s: Time for body and answer together; a route that waits on purpose says its own bound on top.
        longest_wait_s: Upper bound of `timeout_s` of a waiting route.
        in_flight: Requests at a time; the next is answered 503.
    """

    body_bytes: int = 4 * 1024 * 1024
    answer_s: float = 30.0
    longest_wait_s: float = 600.0
    in_flight: int = 128


class Guard:
    """The API as the server sees it; `app` is only asked what passed every check."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: frozenset[str] = frozenset(),
        open_paths: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        report: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """Guard `app`.

        Args:
            token: The bearer token that every request must carry.
            hosts: Names by which the API is reached, beside loopback names and IP addresses.
            open_paths: Paths that need no token beside `/live` and `/ready`.
            report: Told about bugs: (which request, the exception).
        """
        self._app = app
        self._token = token.encode()
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}
        self._open = OPEN_PATHS | open_paths
        self._limits = limits or Limits()
        self._report = report
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, answered exactly once unless the client left."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        else:
            self._in_flight += 1
            try:
                await self._request(scope, receive, send)
            finally:
                self._in_flight -= 1

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        body = _Body(self._limits.body_bytes)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as work:
                nursery.start_soon(body.read_all, receive, work)
                try:
                    self._check(scope, body)
                    await self._answered(scope, body, answer)
                except ApiError as problem:
                    await answer.instead(problem, scope)
                except trio.TooSlowError:
                    await answer.instead(too_slow(), scope)
                except Exception as exc:  # the edge of the API: a bug is a line for the operator, not for the client
                    if self._report is not None:
                        self._report(f"{scope['method']} {scope['path']}", exc)
                    await answer.instead(bug(), scope)
            await answer.finish()
            nursery.cancel_scope.cancel()

    async def _answered(self, scope: Scope, body: "_Body", answer: "_Answer") -> None:
        with trio.fail_after(self._limits.answer_s):
            await body.complete()
        # Routes have narrower bounds of their own; this one holds whatever they do.
        with trio.fail_after(self._limits.answer_s + self._limits.longest_wait_s):
            await self._app(scope, body.receive, answer.send)

    def _check(self, scope: Scope, body: "_Body") -> None:
        headers = dict(scope["headers"])  # h11 has refused a second Host; of others the last one counts
        if scope["path"] in OPEN_PATHS:
            return
        if self._in_flight > self._limits.in_flight:
            raise ApiError(503, "too many requests at a time", hint="try again", kind="busy")
        self._check_host(headers.get(b"host", b"").decode("latin-1"))
        if scope["path"] not in self._open:
            self._check_token(headers.get(b"authorization", b""))
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise body.too_big()

    def _check_host(self, value: str) -> None:
        name = _host_name(value)
        if name in self._hosts or _is_address(name):
            return
        raise ApiError(
            421,
            f"this API is not served under the host {value[:100]!r}",
            hint="use an IP address or localhost, or list the name under api.hosts of the control plane's file",
            kind="host",
            headers=CLOSE,
        )

    def _check_token(self, value: bytes) -> None:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token):
            return
        raise ApiError(
            401,
            "the API token is not right" if value else "this needs the API token",
            hint="send `Authorization: Bearer TOKEN`; the token is in api.token of the control plane's data folder",
            kind="token",
            headers={"www-authenticate": "Bearer", **CLOSE},
        )


class _Body:
    """A request's body: kept up to a limit, read to its end however long it is."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self._over = False
        self._done = trio.Event()
        self._delivered = False

    async def read_all(self, receive: Receive, work: trio.CancelScope) -> None:
        """Take everything the client sends; cancel `work` when the client leaves."""
        while (message := await receive())["type"] != "http.disconnect":
            piece: bytes = message.get("body", b"")
            if len(self._kept) + len(piece) > self._limit_bytes:
                self._over = True
                self._kept.clear()
                self._done.set()
            elif not self._over:
                self._kept += piece
            if not message.get("more_body", False):
                self._done.set()
        work.cancel()

    async def complete(self) -> None:
        """Return when the whole body is here. Raises ApiError 413 as soon as it is over the limit."""
        await self._done.wait()
        if self._over:
            raise self.too_big()

    async def receive(self) -> Message:
        """The body for the application, in one message; then nothing until the request is over."""
        if self._delivered:
            await trio.sleep_forever()
        self._delivered = True
        return {"type": "http.request", "body": bytes(self._kept), "more_body": False}

    def too_big(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._limit_bytes} bytes", hint="split it", kind="size")


class _Answer:
    """The way back. Never a second head, and the last piece leaves when no deadline can interrupt it any more.

    An interrupted last piece would leave the server's connection neither closed nor ready for the next request.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False
        self._last: Message | None = None

    async def send(self, message: Message) -> None:
        """Pass a message of the application on; keep the last one for `finish`."""
        if message["type"] == "http.response.start":
            self._begun = True
            # Answers hold tokens and certificates; no cache and no other origin has a use for them.
            extra = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        elif not message.get("more_body", False):
            self._last = message
            return
        await self._send(message)

    async def instead(self, problem: ApiError, scope: Scope) -> None:
        """Answer with `problem`, if nothing was answered yet; an answer that broke off stays broken off."""
        if not self._begun:
            await problem.answer()(scope, _no_body, self.send)

    async def finish(self) -> None:
        """Send the last piece, if the answer got that far."""
        if self._last is not None:
            await self._send(self._last)


async def _no_body() -> Message:
    await trio.sleep_forever()
    raise AssertionError


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _host_name(value: str) -> str:
    """The lower-case name in a Host field, without port, brackets and a root's full stop."""
    host = value.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    # A browser sends the name it resolved, never the address it got: an address proves that nobody re-bound a name.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
