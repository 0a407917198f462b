"""What goes from a client to an app and back is the same in all four translations between HTTP/1.1 and HTTP/2.

Heads, bodies, trailers, interim answers and the fields that each version says in its own way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import h11
import pytest
import trio
from trio.testing import MockClock

from sidecar.model.clusters import Protocol
from sidecar.transport.memory import MemoryStream
from sidecar.transport.stream import StreamBroken
from tests.support.http2_peers import Call, Client, Fields, Http2Mesh

HTTP2_CODECS = True  # each test runs with both

PAIRS = [(1, 1), (1, 2), (2, 1), (2, 2)]
BODY = bytes(range(256)) * 300
TRAILERS = [("x-checksum", "abc"), ("x-more", "1, 2")]


@dataclass
class Seen:
    """A message, whatever it was spoken in; names in lower case."""

    first: str = ""  # status, or method and path
    authority: str = ""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    interims: list[str] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name]


@dataclass
class Answer:
    """What the app is to say."""

    status: int = 200
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    hints: bool = False


def lower(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    return [(name.decode().lower(), value.decode()) for name, value in fields]


class World:
    """One client, the sidecar, one app."""

    def __init__(self, nursery: trio.Nursery, client: int, app: int, answer: Answer) -> None:
        self.mesh = Http2Mesh(nursery, protocol=Protocol.HTTP2 if app == 2 else Protocol.HTTP)
        self.answer = answer
        self.asked = Seen()
        self._client = client
        self._nursery = nursery
        if app == 2:
            self.mesh.http2("a", self._answer2)
        else:
            self.mesh.network.listen("a:8080", lambda stream: nursery.start_soon(self._answer1, stream))
        self.mesh.configure(["a"])

    async def _answer2(self, call: Call) -> None:
        got, answer = await call.arrived(), self.answer
        pseudo = dict(got.fields[:4])
        rest = [each for each in got.fields if not each[0].startswith(":")]
        first = f"{pseudo[':method']} {pseudo[':path']}"
        self.asked = Seen(first, pseudo[":authority"], rest, got.body, got.trailers or [])
        if answer.hints:
            call.head(103, [("link", "</a.css>")])
        await call.answer(answer.status, answer.body, answer.fields, answer.trailers)

    async def _answer1(self, stream: MemoryStream) -> None:
        http = h11.Connection(h11.SERVER)
        asked, answer = self.asked, self.answer
        try:
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive())
                elif isinstance(event, h11.Request):
                    asked.first = f"{event.method.decode()} {event.target.decode()}"
                    asked.fields = [each for each in lower(event.headers) if each[0] != "host"]
                    asked.authority = dict(event.headers)[b"host"].decode()
                elif isinstance(event, h11.Data):
                    asked.body += bytes(event.data)
            asked.trailers = lower(event.headers)
            out = b""
            if answer.hints:
                hint = h11.InformationalResponse(status_code=103, headers=[("link", "</a.css>")])
                out += http.send(hint) or b""
            framing = [("transfer-encoding", "chunked")] if answer.trailers or answer.body else []
            framing = [] if any(name == "content-length" for name, _ in answer.fields) else framing
            out += http.send(h11.Response(status_code=answer.status, headers=[*framing, *answer.fields])) or b""
            if answer.body and http.their_state is not h11.ERROR:
                out += http.send(h11.Data(data=answer.body)) or b""
            out += http.send(h11.EndOfMessage(headers=answer.trailers)) or b""
            await stream.send(out)
            await stream.flush()
        except StreamBroken:
            pass
        finally:
            stream.send_eof()

    async def ask(
        self,
        method: str = "GET",
        path: str = "/a?b=c",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        trailers: Iterable[tuple[str, str]] = (),
    ) -> Seen:
        with trio.fail_after(10):
            ask = self._ask2 if self._client == 2 else self._ask1
            return await ask(method, path, list(fields), body, list(trailers))

    async def _ask2(self, method: str, path: str, fields: Fields, body: bytes, trailers: Fields) -> Seen:
        client = Client(self.mesh)
        number = client.begin(method, path, fields, end=not body)
        if body:
            await client.send_body(number, body, end=not trailers)
        if trailers:
            client.http.send_headers(number, trailers, end_stream=True)
            client.send()
        got = await client.answer(number)
        rest = [each for each in got.fields if not each[0].startswith(":")]
        interims = [dict(each)[":status"] for each in got.interims]
        assert got.whole, got
        return Seen(str(got.status), "", rest, got.body, got.trailers or [], interims)

    async def _ask1(self, method: str, path: str, fields: Fields, body: bytes, trailers: Fields) -> Seen:
        stream = self.mesh.network.dial("proxy:1")
        http = h11.Connection(h11.CLIENT)
        framing = (
            [("transfer-encoding", "chunked")] if trailers else [("content-length", str(len(body)))] if body else []
        )
        head = [("host", "orders"), *framing, *fields]
        out = http.send(h11.Request(method=method, target=path, headers=head)) or b""
        out += (http.send(h11.Data(data=body)) or b"") if body else b""
        out += http.send(h11.EndOfMessage(headers=trailers)) or b""
        got = Seen()
        self._nursery.start_soon(stream.send, out)
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive())
            elif isinstance(event, h11.InformationalResponse):
                got.interims.append(str(event.status_code))
            elif isinstance(event, h11.Response):
                got.first, got.fields = str(event.status_code), lower(event.headers)
            elif isinstance(event, h11.Data):
                got.body += bytes(event.data)
            else:
                raise AssertionError(event)
        got.trailers = lower(event.headers)
        stream.close()
        return got


@pytest.mark.parametrize(("client", "app"), PAIRS)
async def test_a_request_arrives_as_it_was_meant(client: int, app: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, client, app, Answer(201, [("x-one", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]))
        sent = [("x-a", "1"), ("x-a", "2"), ("accept", "*/*"), ("user-agent", "me"), ("te", "trailers")]
        if client == 1:
            sent += [("connection", "x-hop, te"), ("x-hop", "1")]
        got = await world.ask("PUT", "/x%2Fy/z?q=%20", sent, BODY, TRAILERS)
        asked = world.asked
        assert (asked.first, asked.authority) == ("PUT /x%2Fy/z?q=%20", "orders")
        assert asked.body == BODY
        assert asked.trailers == TRAILERS
        assert asked.all("x-a") in (["1", "2"], ["1, 2"])
        assert (asked.all("accept"), asked.all("user-agent"), asked.all("x-hop")) == (["*/*"], ["me"], [])
        assert asked.all("te") == ["trailers"]
        assert len(asked.all("x-request-id")) == len(asked.all("traceparent")) == 1
        assert asked.all("x-forwarded-for") == asked.all("x-forwarded-proto") == []  # the local app's own
        assert (got.first, got.all("x-one"), got.all("set-cookie")) == ("201", ["1"], ["a=1", "b=2"])
        assert world.mesh.bugs == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("client", "app"), PAIRS)
async def test_an_answer_arrives_as_it_was_meant(client: int, app: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, client, app, Answer(404, [("x-one", "1")], BODY, TRAILERS, hints=True))
        got = await world.ask(fields=[("te", "trailers"), *([("connection", "te")] if client == 1 else [])])
        assert (got.first, got.interims, got.body, got.all("x-one")) == ("404", ["103"], BODY, ["1"])
        assert got.trailers == TRAILERS
        assert world.mesh.told.done[-1].bytes_sent == len(BODY)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("client", "app"), PAIRS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_answers_without_body(method: str, status: int, client: int, app: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        length = [] if status == 204 else [("content-length", "1234")]
        world = World(nursery, client, app, Answer(status, length))
        got = await world.ask(method)
        assert (got.first, got.body) == (str(status), b"")
        assert got.all("content-length") == [value for _, value in length]
        assert world.mesh.bugs == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("app", [1, 2])
async def test_crumbs_of_a_cookie_and_the_authority(app: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, 2, app, Answer())
        fields = [(":authority", "orders.shop:8080"), ("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]
        got = await world.ask(fields=fields)
        assert got.first == "200"
        assert "; ".join(world.asked.all("cookie")) == "a=1; b=2; c=3"
        assert len(world.asked.all("cookie")) == 1 or app == 2
        assert (world.asked.authority, world.asked.all("host")) == ("orders.shop:8080", [])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("app", [1, 2])
async def test_an_empty_answer_and_an_empty_request_have_no_body(app: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, 2, app, Answer(200, [("content-length", "0")]))
        got = await world.ask("POST", fields=[("content-length", "0")])
        assert (got.first, got.body, got.all("content-length")) == ("200", b"", ["0"])
        assert world.asked.all("content-length") == ["0"]
        nursery.cancel_scope.cancel()
