"""Ends that nobody announced (rows 18 and 19): resets in the middle, half-closed connections, services that hang, close
early or lie about their length.
"""

import struct
from time import monotonic
from typing import Any

import trio

from bench.attacks.service import ANSWER, Behaviours, Client
from bench.attacks.site import Site
from bench.attacks.table import Attack, Outcome
from bench.attacks.turn import Turn
from bench.attacks.wire import exchange, http2, status, whole
from tests.support.http2 import GET, POST, data, rst

CANCELLED_S, SHORT_CANCELLED_S = 0.100, 1.0  # a busy machine delays the measurement, too
ROUTE_TIMEOUT_S = 1.0
LATE_S = 1.5
PIECE = bytes(16 * 1024)
PIECES = 8
APART_S = 0.01


def _reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def _request(kind: str, name: str) -> bytes:
    if kind == "down":
        return b"GET /down/%b HTTP/1.1\r\nHost: x\r\n\r\n" % name.encode()
    return b"POST /up/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" % name.encode() + PIECE


async def resets(site: Site, turn: Turn, number: int) -> None:
    """A client that resets in the middle of an answer, of an upload, of a stream: the service hears of it at once."""
    for kind in ("down", "up"):
        await turn.pace(4.0)
        name = f"{kind}-{number}-{turn.serial()}"
        stream = await site.plain(site.http1)
        await stream.send_all(_request(kind, name))
        if kind == "down":
            await stream.receive_some(65536)
        await trio.sleep(0.1)
        turn.time(name)
        _reset(stream)
    for kind, head in (("down", GET), ("up", POST)):
        await turn.pace(4.0)
        name = f"{kind}2-{number}-{turn.serial()}"
        async with http2(site, secure=bool(number % 2)) as peer:
            await peer.send(peer.wire.headers(1, (*head[:3], (":path", f"/{kind}/{name}")), end=kind == "down"))
            if kind == "up":
                await peer.send(data(1, PIECE[:16000]))
            else:
                await peer.until(lambda: 1 in peer.statuses)
            await trio.sleep(0.1)
            turn.time(name)
            await peer.send(rst(1))
            await trio.sleep(SHORT_CANCELLED_S)
    await trio.sleep(SHORT_CANCELLED_S)


async def _half_a_talk(client: Client) -> None:
    """Sends to /down for ever, reads /up to its end; notes when which ended."""
    while piece := await client.read():
        path = piece.split(b" ", 2)[1].decode()
        if not path.startswith(("/down/", "/up/")):
            await client.stream.send_all(ANSWER)
            continue
        async with trio.open_nursery() as nursery:
            if path.startswith("/down/"):
                nursery.start_soon(_drip, client)
            while await client.read():
                pass
            client.service.ended[path.rpartition("/")[2]] = monotonic()
            nursery.cancel_scope.cancel()


async def _drip(client: Client) -> None:
    await client.stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await client.stream.send_all(b"4000\r\n" + PIECE + b"\r\n")
        await trio.sleep(APART_S)


def _told_at_once(outcome: Outcome) -> list[str]:
    allowed_s = CANCELLED_S if outcome.long else SHORT_CANCELLED_S
    found = []
    for name, left_s in outcome.seen.times_s.items():
        ended_s = outcome.service.ended.get(name)
        if ended_s is None:
            found.append(f"{name}: the service never heard of the reset")
        elif ended_s - left_s > allowed_s:
            found.append(f"{name}: the service heard of the reset after {(ended_s - left_s) * 1e3:.0f} ms")
        # A meshed request is logged by one sidecar here: the attacker has none.
        lines = sum(1 for line in outcome.logged if f'/{name}"' in line)
        if lines != 1:
            found.append(f"{name}: {lines} log lines")
    return found[:5]


# Half-close over TCP


async def half_close(site: Site, turn: Turn, number: int) -> None:
    """A client ends its direction and reads: all comes back, then the end. A reset is passed on as a reset."""
    await turn.pace(4.0)
    stream = await site.plain(site.tcp)
    async with stream:
        for _ in range(PIECES):
            await stream.send_all(PIECE)
        await stream.send_eof()
        got = 0
        with trio.move_on_after(10):
            while piece := await stream.receive_some(65536):
                got += len(piece)
    turn.expect(got == PIECES * len(PIECE), f"{got} of {PIECES * len(PIECE)} bytes came back after a half-close")
    await turn.pace(4.0)
    stream = await site.plain(site.tcp)
    await stream.send_all(b"reset %d %d\n" % (number, turn.serial()))
    await stream.receive_some(100)
    _reset(stream)
    turn.count("resets")
    await trio.sleep(0.1)


async def _after_the_end(client: Client) -> None:
    """Gives back what came once its sender has ended; a line `reset` at once."""
    got = bytearray()
    while piece := await client.read():
        got += piece
        if piece.startswith(b"reset"):
            await client.stream.send_all(piece)
    await client.stream.send_all(bytes(got))
    await client.stream.send_eof()


def _resets_arrive(outcome: Outcome) -> list[str]:
    sent, seen = outcome.seen.counts["resets"], outcome.service.resets
    return [] if seen >= sent else [f"{seen} of {sent} resets reached the service as resets"]


# Row 19

_TRUNCATED = {
    "/short": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PIECE,
    "/no-last-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" + PIECE + b"\r\n",
    "/half-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" + PIECE,
}
_UNANSWERED = {"/never": 504, "/half-head": 504, "/close": 503, "/reset": 503}


async def _faulty(client: Client) -> None:
    while piece := await client.read():
        path = piece.split(b" ", 2)[1].decode()
        if path in _TRUNCATED:
            await client.stream.send_all(_TRUNCATED[path])
            await trio.sleep(0.05)
            return
        if path == "/close":
            return
        if path == "/reset":
            await client.reset()
            return
        if path == "/half-head":
            await client.stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
        elif path != "/never":
            await client.stream.send_all(ANSWER)


async def faults(site: Site, turn: Turn, number: int) -> None:
    """A service that hangs is 504 in time, one that breaks off is never taken for one that ended."""
    del number
    for path, wanted in _UNANSWERED.items():
        await turn.pace(4.0)
        stream = await site.plain(site.http1)
        began_s = trio.current_time()
        async with stream:
            got, _ = await exchange(stream, _closing(path), ROUTE_TIMEOUT_S + 2 * LATE_S)
        took_s = trio.current_time() - began_s
        turn.expect(status(got) == wanted, f"{path}: {got[:60]!r}")
        turn.expect(took_s < ROUTE_TIMEOUT_S + LATE_S, f"{path}: answered after {took_s:.1f} s")
    for path in _TRUNCATED:
        await turn.pace(4.0)
        stream = await site.plain(site.http1)
        async with stream:
            got, closed = await exchange(stream, _closing(path), 2.0)
        clean = whole(got) or got.endswith(b"0\r\n\r\n")
        turn.expect(closed and not clean, f"{path}: ended as if whole, {len(got)} bytes")
        for secure in (False, True):
            async with http2(site, secure=secure) as peer:
                await peer.send(peer.wire.headers(1, (*GET[:3], (":path", path)), end=True))
                await peer.until(lambda: 1 in peer.resets or 1 in peer.ended)
                turn.expect(1 in peer.resets and 1 not in peer.ended, f"{path} over HTTP/2: ended as if whole")


def _closing(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def timed_route(http1: int, http2_port: int, tcp: int) -> tuple[dict[str, Any], ...]:
    """A request has ROUTE_TIMEOUT_S; nothing is tried again."""
    del http2_port, tcp
    parent = {"group": "", "kind": "Service", "name": "hostile", "port": http1}
    rule = {"timeouts": {"request": f"{ROUTE_TIMEOUT_S:g}s"}, "backendRefs": [{"name": "hostile", "port": http1}]}
    route: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "timed", "namespace": "shop"},
        "spec": {"parentRefs": [parent], "rules": [rule]},
    }
    return (route,)


BROKEN = (
    Attack("18", "resets", "the service hears of it within 100 ms; one log line", resets, _told_at_once,
           Behaviours(http1=_half_a_talk), short_s=3.0),
    Attack("18", "half-close", "a half-close is passed on, a reset too", half_close, _resets_arrive,
           Behaviours(tcp=_after_the_end)),
    Attack("19", "faults", "504 at the route's timeout; a truncated answer never ends cleanly", faults,
           behaviours=Behaviours(http1=_faulty), documents=timed_route),
)  # fmt: skip
