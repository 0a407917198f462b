"""As much HTTP/1.1 as the demo needs, on trio and h11: `Server` for its apps, `ask` for its clients.

Simple on purpose: whole bodies of at most 64 KiB, a connection for each call. Balancing, retries, deadlines and mutual
TLS are nowhere in here: an app in a mesh leaves them to its sidecar.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import h11
import trio

MAX_BODY_BYTES = 4 * 1024 * 1024  # a page of metrics is the largest that anybody asks for
IDLE_S = 75.0  # a sidecar keeps a connection to its app for 3 s: of the two, the app must not close first
READ_BYTES = 16_384


class NoAnswer(Exception):  # noqa: N818 - what happened, in the words of whoever asked
    """The call brought no whole answer; str() says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. Names of `fields` are in lower case."""

    method: str = "GET"
    target: str = "/"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of `fields` are in lower case."""

    status: int
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Answer]]


class Server:
    """Answers requests with `handle`; `await serve(stream)` once for each connection."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._stopping = False
        self._waiting: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one request after the other until the client leaves, or until `finish`. Owns `stream`."""
        http = h11.Connection(h11.SERVER)
        try:
            while not self._stopping and (request := await self._next(http, stream)) is not None:
                answer = await self._handle(request)
                fields = [*answer.fields.items(), ("content-length", str(len(answer.body)))]
                await _send(http, stream, h11.Response(status_code=answer.status, headers=fields), answer.body)
                if http.our_state is not h11.DONE:
                    break
                http.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # the client is gone, or speaks something else
        finally:
            await trio.aclose_forcefully(stream)

    def finish(self) -> None:
        """Answer what is under way and nothing else; every `serve` returns soon."""
        self._stopping = True
        for scope in self._waiting:
            scope.cancel()

    async def _next(self, http: h11.Connection, stream: trio.abc.Stream) -> Request | None:
        with trio.move_on_after(IDLE_S) as scope:
            self._waiting.add(scope)
            try:
                head, body = await _receive(http, stream)
            finally:
                self._waiting.remove(scope)
            if isinstance(head, h11.Request):
                return Request(head.method.decode(), head.target.decode(), _fields(head), body)
        return None


async def ask(address: str, request: Request) -> Answer:
    """Send one request to `HOST:PORT` and return the answer. Never tries twice.

    Raises:
        NoAnswer: No connection, or it ended before the whole answer was there.
    """
    host, _, port = address.rpartition(":")
    fields = [("host", request.fields.get("host", address)), ("connection", "close")]
    fields += [(name, value) for name, value in request.fields.items() if name != "host"]
    fields += [("content-length", str(len(request.body)))] if request.body else []
    http = h11.Connection(h11.CLIENT)
    try:
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            head = h11.Request(method=request.method, target=request.target, headers=fields)
            await _send(http, stream, head, request.body)
            got, body = await _receive(http, stream)
    except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as exc:
        raise NoAnswer(f"{address}: {exc}") from exc
    if not isinstance(got, h11.Response):
        raise NoAnswer(f"{address}: the connection ended before the answer")
    return Answer(got.status_code, body, _fields(got))


async def _receive(http: h11.Connection, stream: trio.abc.Stream) -> tuple[h11.Event | None, bytes]:
    """The next head and its whole body; (None, ...) when the peer closed instead."""
    head, body = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = bytes(await stream.receive_some(READ_BYTES))
            if not data and head is None:
                return None, b""
            http.receive_data(data)
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError(f"the body has more than {MAX_BODY_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return head, body
        elif not isinstance(event, h11.InformationalResponse):
            return None, b""  # paused by an upgrade that nobody here wants


async def _send(http: h11.Connection, stream: trio.abc.Stream, head: h11.Request | h11.Response, body: bytes) -> None:
    data = http.send(head) or b""
    data += http.send(h11.Data(data=body)) or b"" if body else b""
    await stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))


def _fields(head: h11.Request | h11.Response) -> dict[str, str]:
    return {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
