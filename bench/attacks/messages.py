"""Messages that two readers understand differently, or that pretend (rows 1 to 4 and 6 to 9, 38, 39).

The vectors are those of the conformance tests; here they go through a whole process, over plain text and mutual TLS,
while others use it.
"""

import json
import re
from typing import Any

import trio

from bench.attacks.service import ANSWER, Behaviours, Client
from bench.attacks.site import Site
from bench.attacks.table import Attack, Outcome
from bench.attacks.turn import Turn
from bench.attacks.wire import Stream, answer, exchange, http2, status, whole
from sidecar.codec.target import canonical_target
from sidecar.errors import ProxyError
from tests.conformance.test_http1_heads import REFUSED
from tests.conformance.test_http2_vectors import MALFORMED
from tests.net.test_hostile_messages import FOO, INVALID, LYING, POSTC, SMUGGLED
from tests.support.http2 import GET, OK, POST, Seen, data, settings
from tests.unit.codec import test_target
from tests.unit.codec.test_chunks import BAD

SHARES = 4  # connections among which the short run divides a list of vectors
PLAIN = {
    name: vector for name, vector in REFUSED.items() if name != "HTTP/2 preface"
}  # that one is welcome on a socket
CONNECT_UNITS = 2.0


def _share(vectors: list[str], number: int) -> list[str]:
    """What one connection plays of them; all, where there are too few for everyone."""
    return vectors[number % SHARES :: SHARES] or vectors


def _shares(long: bool) -> int:
    return 2 * SHARES if long else SHARES


async def _ways(site: Site, turn: Turn) -> list[Stream]:
    await turn.pace(2 * CONNECT_UNITS)
    return [await site.plain(site.http1), await site.secure("http/1.1")]


# Rows 1, 3, 4


async def heads(site: Site, turn: Turn, number: int) -> None:
    """Each head that others read differently: its status, an end, and nothing behind it is read."""
    for name in _share(sorted(PLAIN), number):
        wanted, raw = PLAIN[name]
        for stream in await _ways(site, turn):
            async with stream:
                got, closed = await exchange(stream, raw + SMUGGLED)
            turn.expect(status(got) == wanted, f"{name}: {got[:40]!r} for {wanted}")
            turn.expect(closed, f"{name}: the connection stayed open")
            turn.expect(got.count(b"\r\n\r\n") == 1, f"{name}: {got[:200]!r}")


async def chunks(site: Site, turn: Turn, number: int) -> None:
    """Each bad chunk: 400, an end, and the request never ends upstream."""
    for name in _share(sorted(BAD), number):
        for stream in await _ways(site, turn):
            async with stream:
                got, closed = await exchange(stream, POSTC + BAD[name] + SMUGGLED)
            turn.expect(status(got) == 400, f"{name}: {got[:40]!r}")
            turn.expect(closed, f"{name}: the connection stayed open")


def _nothing_smuggled(outcome: Outcome) -> list[str]:
    seen = bytes(outcome.service.received)
    found = ["a hidden request reached the service"] if b"/admin" in seen else []
    if b"0\r\n\r\n" in seen:
        found.append("a broken body was ended as a whole one")
    return found


def _nothing_at_all(outcome: Outcome) -> list[str]:
    got = outcome.service.received_bytes
    return [f"{got} bytes reached the service: {bytes(outcome.service.received[:80])!r}"] if got else []


# Row 2


async def frames(site: Site, turn: Turn, number: int) -> None:
    """Each head that HTTP/1.1 would read as something else: the stream or the connection ends, unanswered."""
    for name in _share(sorted(MALFORMED), number):
        for secure in (False, True):
            await turn.pace(CONNECT_UNITS)
            async with http2(site, secure=secure) as peer:
                await peer.send(peer.wire.headers(1, MALFORMED[name], end=True))
                await peer.until(lambda: 1 in peer.resets or 1 in peer.statuses or peer.goaway >= 0)
                refused = 1 in peer.resets or peer.goaway > 0
                turn.expect(refused and 1 not in peer.statuses, f"{name}: answered {peer.statuses}")


_LENGTH_LIES = {
    "shorter than it says": ((*POST, ("content-length", "5")), (data(1, b"abc", end=True),)),
    "longer than it says": ((*POST, ("content-length", "3")), (data(1, b"abc"), data(1, b"de", end=True))),
    "shorter, with trailers": ((*POST, ("content-length", "5")), (data(1, b"abc"),)),
}


async def lengths(site: Site, turn: Turn, number: int) -> None:
    """Bodies that are not as long as they say: never whole upstream, and nothing of them stands in a later request."""
    for name in _share(sorted(_LENGTH_LIES), number):
        head, body = _LENGTH_LIES[name]
        for secure in (False, True):
            await turn.pace(CONNECT_UNITS)
            async with http2(site, secure=secure) as peer:
                trailers = [peer.wire.headers(1, (("x-end", "1"),), end=True)] if "trailers" in name else []
                await peer.send(peer.wire.headers(1, head), *body, *trailers)
                await peer.until(lambda: 1 in peer.resets or 1 in peer.ended or peer.goaway >= 0)
                turn.expect(peer.statuses.get(1) != 200, f"{name}: answered {peer.statuses}")


async def _silent(client: Client) -> None:
    while await client.read():
        pass


async def _answer_whole(client: Client) -> None:
    """Answer a request when its body is there, as an app does."""
    got = b""
    while piece := await client.read():
        got += piece
        head, end, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            await client.stream.send_all(ANSWER)
            got = body[int(length[1] if length else 0) :]


def _no_whole_lie(outcome: Outcome) -> list[str]:
    found = []
    for body in outcome.service.bodies.values():
        for head, sent in re.findall(rb"(?is)(POST .*?\r\n\r\n)(.*?)(?=POST |GET |$)", bytes(body)):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length is None or len(sent) >= int(length[1]):
                found.append(f"a lie about its length reached the service whole: {head + sent!r}")
    return found[:3]


# Row 6

_H1_LIES = {f"/lie/{at}": one for at, one in enumerate((*LYING.values(), *INVALID.values()))}


async def _lie(client: Client) -> None:
    while piece := await client.read():
        path = piece.split(b" ", 2)[1].decode()
        await client.stream.send_all(_H1_LIES.get(path, ANSWER))


def _frames_of(lie: str, client: Client, number: int) -> bytes:
    wire = client.wire
    ok = wire.headers(number, OK)
    return {
        "body before head": lambda: data(number, b"x"),
        "two heads": lambda: ok + wire.headers(number, OK) + data(number, b"ok", end=True),
        "longer than it says": lambda: (
            wire.headers(number, (*OK, ("content-length", "2"))) + data(number, b"ok and more", end=True)
        ),
        "shorter than it says": lambda: (
            wire.headers(number, (*OK, ("content-length", "9"))) + data(number, b"ok", end=True)
        ),
        "1xx flood": lambda: wire.headers(number, ((":status", "103"),)) * 1 + _interims(client, number) + ok,
        "request's pseudo-header": lambda: wire.headers(number, (*OK, (":path", "/")), end=True),
        "no status": lambda: wire.headers(number, (("x", "y"),), end=True),
        "connection field": lambda: wire.headers(number, (*OK, ("transfer-encoding", "chunked")), end=True),
        "line break in a value": lambda: wire.headers(number, (*OK, ("x", "a\r\nset-cookie: b")), end=True),
        "101": lambda: wire.headers(number, ((":status", "101"),)),
        "answer to nobody": lambda: wire.headers(number + 200, OK, end=True),
    }[lie]()


def _interims(client: Client, number: int) -> bytes:
    return b"".join(client.wire.headers(number, ((":status", "103"),)) for _ in range(11))


_H2_LIES = ("body before head", "two heads", "longer than it says", "shorter than it says", "1xx flood",
            "request's pseudo-header", "no status", "connection field", "line break in a value", "101",
            "answer to nobody")  # fmt: skip


async def _lie_in_frames(client: Client) -> None:
    await client.stream.send_all(settings())
    while frames_ := await client.frames():
        for frame in frames_:
            if frame.name == "Settings" and "ACK" not in frame.flags:
                await client.stream.send_all(settings(ack=True))
            elif frame.name == "Headers":
                await client.stream.send_all(_answer_in_frames(client, frame))


def _answer_in_frames(client: Client, frame: Seen) -> bytes:
    path = dict(frame.headers)[b":path"].decode()
    if path.startswith("/lie/"):
        return _frames_of(_H2_LIES[int(path[5:])], client, frame.stream)
    return client.wire.headers(frame.stream, OK) + data(frame.stream, b"ok", end=True)


def _get(path: str, port: int = 0) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: hostile.shop{f':{port}' if port else ''}\r\n\r\n".encode()


async def answers(site: Site, turn: Turn, number: int) -> None:
    """Answers that hide a second one, or could be misread: never given to the next request, of either protocol."""
    for path in _share(sorted(_H1_LIES), number):
        await turn.pace(3 * CONNECT_UNITS)
        lied, _ = await _one_get(site, site.http1, path)
        turn.expect(b"second" not in lied and b"ok and more" not in lied, f"{path}: the hidden part reached the client")
        good, _ = await _one_get(site, site.http1, "/good")
        turn.expect(status(good) == 200 and good.endswith(b"\r\n\r\nok"), f"{path}: then {good[:60]!r}")


async def answers_in_frames(site: Site, turn: Turn, number: int) -> None:
    """The same from a service that speaks HTTP/2: 502 or a cut, and others on its connection are served."""
    for lie in _share(list(_H2_LIES), number):
        await turn.pace(3 * CONNECT_UNITS)
        lied, closed = await _one_get(site, site.http2, f"/lie/{_H2_LIES.index(lie)}")
        taken = status(lied) == 200 and (whole(lied) or lied.endswith(b"0\r\n\r\n"))
        turn.expect(not taken and (closed or status(lied) in (502, 503)), f"{lie}: {lied[:120]!r}")
        good, _ = await _one_get(site, site.http2, "/good")
        turn.expect(status(good) == 200, f"{lie}: then {good[:60]!r}")


async def _one_get(site: Site, port: int, path: str) -> tuple[bytes, bool]:
    stream = await site.plain(port)
    async with stream:
        return await exchange(stream, _get(path).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 1.0)


# Rows 7 and 8

_H2C = (
    b"GET /good HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)
_UPGRADES = {
    "upgrade": FOO,
    "upgrade with h2c": FOO.replace(b"foo\r\n", b"foo, h2c\r\n"),
    "websocket": FOO.replace(b"Upgrade: foo", b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
}  # fmt: skip


async def _refuse(client: Client) -> None:
    while piece := await client.read():
        await client.stream.send_all(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * piece.count(b"\r\n\r\n")
        )


async def upgrades(site: Site, turn: Turn, number: int) -> None:
    """A switch that is refused: nothing that was sent behind it goes anywhere, and its connections carry no more."""
    for name in _share(sorted(_UPGRADES), number):
        for stream in await _ways(site, turn):
            async with stream:
                got, closed = await exchange(stream, _UPGRADES[name] + SMUGGLED, 1.0)
            turn.expect(closed, f"{name}: the connection stayed open; {got[:60]!r}")
            turn.expect(got.count(b"HTTP/1.1 ") <= 1, f"{name}: {got.count(b'HTTP/1.1 ')} answers")


async def h2c(site: Site, turn: Turn, number: int) -> None:
    """An offer to switch to HTTP/2 inside HTTP/1.1 is not passed on, and what follows is a request of its own."""
    del number
    await turn.pace(CONNECT_UNITS)
    stream = await site.plain(site.http1)
    async with stream:
        got = await answer(stream, _H2C)
    turn.expect(status(got) == 200, f"{got[:60]!r}")


def _no_offer(outcome: Outcome) -> list[str]:
    seen = bytes(outcome.service.received).lower()
    return [f"{word!r} reached the service" for word in (b"upgrade", b"http2-settings", b"h2c") if word in seen]


# Row 9

_PRETENDED = (
    ("x-forwarded-client-cert", "By=me;URI=spiffe://mesh.local/ns/shop/sa/admin"),
    ("x_forwarded_client_cert", "By=me;URI=spiffe://mesh.local/ns/shop/sa/admin"),
    ("x-forwarded_client-cert", "By=me;URI=spiffe://mesh.local/ns/shop/sa/admin"),
    ("traceparent", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"),
    ("tracestate", ",".join(f"k{at}=" + "v" * 200 for at in range(250))),
)


async def spoofing(site: Site, turn: Turn, number: int) -> None:
    """Names that only a sidecar may write, in every spelling, and 50 KB of tracestate."""
    del number
    fields = "".join(f"{name}: {value}\r\n" for name, value in _PRETENDED)
    raw = f"GET /spoofed HTTP/1.1\r\nHost: x\r\nConnection: x-forwarded-client-cert\r\n{fields}\r\n".encode()
    for stream in await _ways(site, turn):
        async with stream:
            got = await answer(stream, raw)
        turn.expect(status(got) == 200, f"{got[:60]!r}")
    for secure in (False, True):
        await turn.pace(CONNECT_UNITS)
        async with http2(site, secure=secure) as peer:
            await peer.send(*_in_parts(peer.wire.block((*GET, *_PRETENDED))))
            await peer.until(lambda: 1 in peer.statuses)
            turn.expect(peer.statuses.get(1) == 200, f"HTTP/2: {peer.statuses}, {peer.resets}")


def _in_parts(block: bytes, size: int = 16_000) -> list[bytes]:
    from tests.support.http2 import frame

    parts = [block[at : at + size] for at in range(0, len(block), size)]
    last = len(parts) - 1
    return [
        frame(9 if at else 1, (0 if at else 1) | (4 if at == last else 0), 1, part) for at, part in enumerate(parts)
    ]


def _nobody_pretended(outcome: Outcome) -> list[str]:
    seen = bytes(outcome.service.received)
    found = ["a pretended identity reached the service"] if b"sa/admin" in seen else []
    certs = set(re.findall(rb"(?im)^x-forwarded-client-cert: (.*)\r$", seen))
    wanted = b"By=spiffe://mesh.local/ns/shop/sa/hostile;URI=spiffe://mesh.local/ns/shop/sa/attacker"
    if certs != {wanted}:
        found.append(f"the service was told of {certs}")
    longest = max((len(one) for one in re.findall(rb"(?im)^tracestate: (.*)\r$", seen)), default=0)
    if longest > 512:  # W3C Trace Context section 3.3.1.5
        found.append(f"{longest} bytes of tracestate reached the service")
    return found


# Row 38

_ESCAPES = "\x1b[31m\x9b31m"
_LOGGED = {
    "quotes": b'GET /log/%22%7D HTTP/1.1\r\nHost: x\r\nUser-Agent: "},{"\\\r\n\r\n',
    "terminal": b"GET /log/a HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x9b31m\xff\xfe\xc3\x28\r\n\r\n",
    "large": b"GET /log/b HTTP/1.1\r\nHost: x\r\nUser-Agent: " + b"u" * 59_000 + b"\r\n\r\n",
    "long path": b"GET /log/" + b"p" * 8_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority": b'GET /log/c HTTP/1.1\r\nHost: "<x>\r\n\r\n',
    "method": b"LOG-" + b"M" * 28 + b" /log/d HTTP/1.1\r\nHost: x\r\n\r\n",
    "line": b"GET /log/%0d%0a{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "request id": b'GET /log/e HTTP/1.1\r\nHost: x\r\nX-Request-Id: "\x80' + b"i" * 9_000 + b"\r\n\r\n",
}


def _log_all(long: bool) -> dict[str, object]:
    del long
    return {"access_log": {"path": "access.log", "when": "all"}}


LINE_MAX_BYTES = 32 * 1024
LOG_S = 0.5  # until a line is in the file


async def logs(site: Site, turn: Turn, number: int) -> None:
    """Whatever a client writes, one line of JSON a request."""
    del number
    for name in sorted(_LOGGED):
        for stream in await _ways(site, turn):
            async with stream:
                await answer(stream, _LOGGED[name])
            turn.count("requests")
    await trio.sleep(LOG_S)


def _every_line_is_json(outcome: Outcome) -> list[str]:
    found = []
    lines = [line for line in outcome.logged if line]
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            found.append(f"a line is no JSON: {line[:120]!r}")
            continue
        if not isinstance(told, dict) or any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in line):
            found.append(f"a line has control characters: {line[:120]!r}")
    longest = max(map(len, lines), default=0)
    if longest > LINE_MAX_BYTES:
        found.append(f"a line has {longest} bytes")
    # The victim's requests and the one that ends a reading stand there too.
    own = sum(1 for line in lines if '"fast.shop"' not in line and "/victim" not in line)
    requests = outcome.seen.counts["requests"]
    if not requests <= own <= requests + 4:
        found.append(f"{own} lines for {requests} requests")
    return found[:5]


# Row 39

_TARGETS = [*test_target.SAME, *test_target.CHANGED, *test_target.REFUSED, "/admin", "/admin/x", "/x/../admin",
            "/%61dmin/secret", "/./admin", "/x/%2e%2e/admin", "/x/..;/admin", "/..%2fadmin"]  # fmt: skip
_SENDABLE = [target for target in _TARGETS if target and not re.search(r"[\x00-\x20\x7f-\uffff#]", target)]


def guarded(http1: int, http2_port: int, tcp: int) -> tuple[dict[str, Any], ...]:
    """/admin leads to a service without endpoints, everything else to the hostile one."""
    del http2_port, tcp
    route: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "guarded", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "hostile", "port": http1}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}],
                    "filters": [
                        {
                            "type": "RequestRedirect",
                            "requestRedirect": {"hostname": "guarded.example", "statusCode": 302},
                        }
                    ],
                },
                {"backendRefs": [{"name": "hostile", "port": http1}]},
            ],
        },
    }
    return (route,)


def _wanted(target: str) -> tuple[int, bytes]:
    """Status, and the path that the service may see."""
    try:
        path = canonical_target(target.encode("latin-1"))
    except ProxyError:
        return 400, b""
    place = path.partition(b"?")[0]
    return (302, b"") if place == b"/admin" or place.startswith(b"/admin/") else (200, path)


async def paths(site: Site, turn: Turn, number: int) -> None:
    """One path for the rules and for the service, however it is written, over both protocols."""
    for target in _share(_SENDABLE, number):
        await turn.pace(2.0)
        wanted, _ = _wanted(target)
        stream = await site.plain(site.http1)
        async with stream:
            got = await answer(stream, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        if target.startswith("/"):
            turn.expect(status(got) == wanted, f"{target!r}: {status(got)} for {wanted}")
        async with http2(site) as peer:
            await peer.send(peer.wire.headers(1, (*GET[:3], (":path", target)), end=True))
            await peer.until(lambda: 1 in peer.statuses or 1 in peer.resets)
            seen = peer.statuses.get(1, 400)  # a reset refuses as well
            if target.startswith("/"):
                turn.expect(seen == wanted, f"HTTP/2 {target!r}: {seen} for {wanted}")


def _no_way_around(outcome: Outcome) -> list[str]:
    allowed = {path for status_, path in map(_wanted, _SENDABLE) if status_ == 200} | {b"/ordinary", b"/", b"*"}
    asked = set(re.findall(rb"(?m)^GET (\S+) HTTP/1.1\r$", bytes(outcome.service.received)))
    bad = sorted(path for path in asked if path not in allowed)
    return [f"the service saw {bad[:5]}"] if bad else []


_400 = Behaviours(http1=_refuse)

MESSAGES = (
    Attack("1, 3, 4", "heads", "400 or 501 and a close; 0 bytes reach the service", heads, _nothing_at_all,
           connections=_shares),
    Attack("1, 4", "chunks", "400 and a close; nothing hidden reaches the service", chunks, _nothing_smuggled,
           Behaviours(http1=_silent), connections=_shares),
    Attack("2", "frames", "RST_STREAM or GOAWAY; 0 bytes reach the service", frames, _nothing_at_all,
           connections=_shares),
    Attack("2", "lengths", "never whole at the service", lengths, _no_whole_lie, Behaviours(http1=_answer_whole),
           connections=_shares),
    Attack("6", "answers", "502, and never given to another request", answers, behaviours=Behaviours(http1=_lie),
           connections=_shares, units_per_s=100),
    Attack("6", "answers-in-frames", "502, and never given to another request", answers_in_frames,
           behaviours=Behaviours(http2=_lie_in_frames), connections=_shares, units_per_s=100),
    Attack("7", "upgrades", "0 bytes behind a refused switch reach the service", upgrades, _nothing_smuggled, _400,
           connections=_shares),
    Attack("8", "h2c", "not upgradable", h2c, _no_offer),
    Attack("9", "spoofing", "identity fields are stripped and written anew", spoofing, _nobody_pretended),
    Attack("38", "logs", "one line of JSON a request, bounded", logs, _every_line_is_json,
           more=_log_all),
    Attack("39", "paths", "rules and service see one path, or 400", paths, _no_way_around, connections=_shares,
           documents=guarded),
)  # fmt: skip
