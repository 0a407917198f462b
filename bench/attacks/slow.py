"""Clients that take their time (rows 10, 11, 13 and 17): heads and bodies that trickle, answers that nobody reads,
windows that stay shut, messages without end. Each ends at its bound, and holds little until then.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamReset

from bench.attacks.service import Behaviours, Client
from bench.attacks.site import Site
from bench.attacks.table import Attack, Expect, Outcome
from bench.attacks.turn import Turn
from bench.attacks.wire import GONE, H2Peer, Stream, answer, exchange, http2, status, whole
from tests.support.http2 import GET, POST, data, settings, window

MIB = 1024 * 1024
# The bounds of a short run; a long one has the defaults, which Site.long tells.
SHORT_LIMITS = {"headTimeout": "1s", "bodyIdle": "1s", "writeProgress": "1s"}
HEAD_S, BODY_S, WRITE_S, SHORT_S = 10.0, 30.0, 30.0, 1.0
LATE_S = 3.0  # timers fire late on a busy machine
MANY, FEW = 1000, 50
SMALL_BUFFER = 4096
HEAD_END = b"\r\n\r\n"


def _bounds(long: bool) -> Mapping[str, object]:
    return {} if long else {"limits": SHORT_LIMITS}


def _many(long: bool) -> int:
    return MANY if long else FEW


async def _sends_slowly(
    stream: Stream, first: bytes, piece: bytes, apart_s: float, seconds: float
) -> tuple[bytes, float]:
    """Send `first`, then a piece now and then until there is an answer; the answer and when it came."""
    began_s = trio.current_time()
    got = b""

    async def trickle() -> None:
        try:
            while True:
                await trio.sleep(apart_s)
                await stream.send_all(piece)
        except GONE:
            pass

    async with trio.open_nursery() as nursery:
        await stream.send_all(first)
        nursery.start_soon(trickle)
        with trio.move_on_after(seconds):
            try:
                got = bytes(await stream.receive_some(65536))
            except GONE:
                pass
        nursery.cancel_scope.cancel()
    return got, trio.current_time() - began_s


async def _refused_in_time(site: Site, turn: Turn, first: bytes, piece: bytes, bound_s: float) -> None:
    stream = await site.plain(site.http1)
    async with stream:
        got, took_s = await _sends_slowly(stream, first, piece, bound_s / 8, bound_s + 3 * LATE_S)
    turn.expect(status(got) == 408, f"after {took_s:.1f} s: {got[:60]!r}")
    turn.expect(took_s < bound_s + LATE_S, f"408 came after {took_s:.1f} s")
    turn.most("seconds until 408", took_s)


async def slow_heads(site: Site, turn: Turn, number: int) -> None:
    """Heads, a field now and then."""
    del number
    await turn.pace()
    await _refused_in_time(site, turn, b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n", HEAD_S if site.long else SHORT_S)


async def slow_bodies(site: Site, turn: Turn, number: int) -> None:
    """Bodies, some bytes now and then: far below a KiB a second."""
    del number
    await turn.pace()
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    await _refused_in_time(site, turn, first, b"12345678", BODY_S if site.long else SHORT_S)


async def slow_reads(site: Site, turn: Turn, number: int) -> None:
    """Answers of 50 MiB that nobody reads: cut when nothing was taken for the bound.

    The kernel takes 2.6 MiB for a client that does not read, as much work as ten small requests and more. A thousand of
    them fill all its TCP memory: who came last gets more when others have been cut. To the sidecar that is progress:
    it begins to count again. Each client comes once, 50 a second, as those of slowhttptest do.
    """
    del number
    bound_s = WRITE_S if site.long else SHORT_S
    await turn.pace(10.0)
    stream = await site.plain(site.http1, SMALL_BUFFER)
    async with stream:
        await stream.send_all(b"GET /50 HTTP/1.1\r\nHost: x\r\n\r\n")
        began_s = trio.current_time()
        with trio.move_on_after(3 * bound_s):
            while not _is_reset(stream):  # noqa: ASYNC110 - whoever waits for it would have to read
                await trio.sleep(bound_s / 30)
        took_s = trio.current_time() - began_s
        turn.expect(_is_reset(stream), f"a client that read nothing for {took_s:.1f} s was not cut")
    turn.most("seconds until all were cut", took_s)


def _is_reset(stream: trio.SocketStream) -> bool:
    """True once the peer has reset the connection: the kernel knows, before anybody reads."""
    return stream.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_INFO, 1) == _TCP_CLOSE


_TCP_CLOSE = b"\7"  # the first byte of struct tcp_info


# Row 13


async def shut_windows(site: Site, turn: Turn, number: int) -> None:
    """100 streams ask for 1 MiB each in windows of 0: the heads come, nothing else, and each is reset at the bound."""
    streams = range(1, 200, 2)
    bound_s = WRITE_S if site.long else SHORT_S
    await turn.pace(100.0)
    async with http2(site, secure=bool(number % 2), own=settings((4, 0))) as peer:
        await peer.send(*[peer.wire.headers(stream, _get("/1"), end=True) for stream in streams])
        began_s = trio.current_time()
        await peer.until(lambda: len(peer.resets) == len(streams), bound_s + 2 * LATE_S)
        took_s = trio.current_time() - began_s
        turn.expect(len(peer.statuses) == 100, f"{len(peer.statuses)} of 100 heads came through windows of 0")
        turn.expect(len(peer.resets) == 100, f"{len(peer.resets)} of 100 streams were reset after {took_s:.1f} s")
        turn.most("seconds until all were reset", took_s)


async def tiny_windows(site: Site, turn: Turn, number: int) -> None:
    """The same, then a byte at a time: served as slowly as that, and bounded."""
    streams = list(range(1, 200, 2))
    await turn.pace(100.0)
    async with http2(site, secure=bool(number % 2), own=settings((4, 0))) as peer:
        await peer.send(*[peer.wire.headers(stream, _get("/1"), end=True) for stream in streams])
        await peer.until(lambda: len(peer.statuses) == len(streams))
        ends_s = trio.current_time() + (site.seconds / 2)
        while trio.current_time() < ends_s and not peer.closed.is_set():
            await turn.pace(10.0)
            await peer.send(*[window(stream, 1) for stream in streams])
            await trio.sleep(0.2)
        turn.count("bytes", sum(peer.body_bytes.values()))
        turn.expect(peer.body_bytes or peer.goaway >= 0, "no byte came through windows of one byte")


async def stalled_uploads(site: Site, turn: Turn, number: int) -> None:
    """100 streams upload to a service that reads nothing: windows shut, nothing piles up."""
    await turn.pace(100.0)
    async with http2(site, secure=bool(number % 2)) as peer:
        streams = range(1, 200, 2)
        for stream in streams:
            await peer.send(peer.wire.headers(stream, (*POST[:3], (":path", "/deaf"))))
        for stream in streams:
            for _ in range(4):
                if not await _send_bounded(peer, data(stream, bytes(15_000)), turn):
                    break
        await trio.sleep(min(site.seconds / 2, 5.0))


async def _send_bounded(peer: H2Peer, frame: bytes, turn: Turn) -> bool:
    with trio.move_on_after(0.5):
        return await peer.send(frame)
    turn.count("stalled")
    return False


def _get(path: str) -> tuple[tuple[str, str], ...]:
    return (*GET[:3], (":path", path))


async def _sized(client: Client) -> None:
    """Answers as many MiB as the path says, nothing to /deaf and no byte of its body read; else `ok`."""
    while piece := await client.read():
        path = piece.split(b" ", 2)[1]
        if path == b"/deaf":
            await trio.sleep_forever()
        size = int(path[1:]) * MIB if path[1:].isdigit() else 2
        await client.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for at in range(0, size, MIB):
            await client.stream.send_all(_PATTERN[: min(MIB, size - at)])


async def _deaf(client: Client) -> None:
    """Reads everything, answers nothing."""
    while await client.read():
        pass


_PATTERN = bytes(range(256)) * (MIB // 256)

STREAMS = 100  # at once, of each connection here
OBJECTS_KIB = 16  # an exchange under way, without what it buffers (measured)
CONNECTION_KIB = 1024 + STREAMS * OBJECTS_KIB  # of one HTTP/2 connection, however many of its answers wait
# Uploads that wait: each has a window's worth on the way, and what has been sent is kept for another try.
UPLOADS_KIB = STREAMS * (64 + 64 + OBJECTS_KIB)


def _at_most(kib_each: int) -> Expect:
    def expect(outcome: Outcome) -> list[str]:
        allowed = kib_each * outcome.parallel + SPARE_KIB
        grown = outcome.grown_kib
        return [f"memory grew by {grown} KiB, {allowed} are allowed"] if grown > allowed else []

    return expect


SPARE_KIB = 4 * 1024  # the allocator's, and the victim's requests under way


# Row 10

_ENDLESS_BYTES = 32 * MIB
UPLOAD_IDLE_S = 5.0


async def oversize(site: Site, turn: Turn, number: int) -> None:
    """Heads and bodies above every limit: refused with their status, and not held."""
    del number
    cases = {
        "101 fields": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n"),
        "61 KiB": (431, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 61 * 1024 + HEAD_END),
        "endless head": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y" * MIB),
        "9 KiB target": (414, b"GET /" + b"p" * 9 * 1024 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    }
    for name, (wanted, raw) in cases.items():
        await turn.pace(4.0)
        stream = await site.plain(site.http1)
        async with stream:
            got, _ = await exchange(stream, raw)
        # Closing over a megabyte that was not read can reset the connection under the answer; then there is none.
        turn.expect(status(got) == wanted or (not got and name == "endless head"), f"{name}: {got[:60]!r}")
    await _declares_much(site, turn)
    await _endless_chunk(site, turn)


async def _declares_much(site: Site, turn: Turn) -> None:
    """10 GiB are announced, some KiB come: nothing is set aside for them."""
    stream = await site.plain(site.http1)
    async with stream:
        await stream.send_all(b"POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n" + bytes(4096))
        await trio.sleep(0.2)
    turn.count("announced")


async def _endless_chunk(site: Site, turn: Turn) -> None:
    """One chunk of 32 MiB to a service that reads nothing: the client has to wait, not the memory to grow."""
    stream = await site.plain(site.http1)
    async with stream:
        await stream.send_all(b"POST /deaf HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2000000\r\n")
        sent = 0
        with trio.move_on_after(0.5):
            try:
                while sent < _ENDLESS_BYTES:
                    await turn.pace(2.0)
                    await stream.send_all(bytes(64 * 1024))
                    sent += 64 * 1024
            except GONE:
                pass
    # Sockets' buffers of loopback take some MiB by themselves.
    turn.expect(sent < _ENDLESS_BYTES, "32 MiB to a service that reads nothing were taken")


def _soon_idle(http1: int, http2_port: int, tcp: int) -> tuple[dict[str, Any], ...]:
    """An endpoint may take nothing of an upload for UPLOAD_IDLE_S.

    By default it may for minutes, and as long nobody knows that a client has left whose end waits behind bytes that it
    could not send: its kernel goes on asking for room.
    """
    del http1, http2_port, tcp
    policy: dict[str, Any] = {
        "apiVersion": "sidecar-mesh.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "soon-idle", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "hostile"}],
            "timeouts": {"streamIdle": f"{UPLOAD_IDLE_S:g}s"},
        },
    }
    return (policy,)


# Row 17

CLIENTS, SHORT_CLIENTS = 200, 20
SLOW_BYTES_PER_S = 10 * 1024
SLOW_S, SHORT_SLOW_S = 60.0, 1.5
WANTED_MIB, SHORT_WANTED_MIB = 50, 5
SLOW_KIB_EACH = 256


async def slow_consumers(site: Site, turn: Turn, number: int) -> None:
    """Each client reads 10 KiB/s for a minute, then at full speed: all of it comes, and is right."""
    del number
    size = (WANTED_MIB if site.long else SHORT_WANTED_MIB) * MIB
    await turn.pace(4.0)
    stream = await site.plain(site.http1, 64 * 1024)
    digest, got = hashlib.sha256(), 0
    async with stream:
        await stream.send_all(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % (size // MIB))
        head = b""
        while not head.endswith(HEAD_END):
            head += await stream.receive_some(1)
        ends_s = trio.current_time() + (SLOW_S if site.long else SHORT_SLOW_S)
        while trio.current_time() < ends_s:
            piece = await stream.receive_some(SLOW_BYTES_PER_S)
            digest.update(piece)
            got += len(piece)
            await trio.sleep(1.0)
        while got < size and (piece := await stream.receive_some(MIB)):
            digest.update(piece)
            got += len(piece)
    wanted = hashlib.sha256(_PATTERN * (size // MIB)).hexdigest()
    turn.expect(got == size, f"{got} of {size} bytes came")
    turn.expect(digest.hexdigest() == wanted, "the bytes that came are others")
    turn.count("right", int(digest.hexdigest() == wanted))


NEIGHBOUR_S = 2.0  # a small answer of a service that gives it at once; nothing of it is slow


async def slow_neighbours(site: Site, turn: Turn, number: int) -> None:
    """Clients that take nothing share the connections to an HTTP/2 service with one who asks and reads."""
    if number == 0:
        while not turn.over:
            stream = await site.plain(site.http2)
            began_s = trio.current_time()
            async with stream:
                got = await answer(stream, b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n", 5.0)
            took_s = trio.current_time() - began_s
            turn.most("seconds of a neighbour", took_s)
            turn.expect(whole(got) and took_s < NEIGHBOUR_S, f"{took_s:.1f} s: {got[:40]!r}")
            await trio.sleep(0.2)
        return
    async with http2(site, own=settings((4, 0)), port=site.http2) as peer:
        for asked in range(1, 40, 2):
            await turn.pace()
            await peer.send(peer.wire.headers(asked, _get("/1"), end=True))
        await peer.until(lambda: False, turn.ends_s - trio.current_time())


async def _sized_frames(client: Client) -> None:
    """HTTP/2 with windows as they should be obeyed: as many MiB as the path says, else two bytes."""
    http = H2Connection(H2Configuration(client_side=False))
    http.initiate_connection()
    left: dict[int, int] = {}
    while True:
        for stream, size in list(left.items()):
            while size and (room := min(size, http.local_flow_control_window(stream), 16_384)):
                http.send_data(stream, _PATTERN[:room], end_stream=room == size)
                size -= room
            left[stream] = size
            if not size:
                del left[stream]
        await client.stream.send_all(http.data_to_send())
        piece = await client.stream.receive_some(65536)
        if not piece:
            return
        for event in http.receive_data(bytes(piece)):
            if isinstance(event, RequestReceived):
                path = dict(event.headers)[b":path"].decode()
                size = int(path[1:] or 0) * MIB or 2
                http.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(size))])
                left[event.stream_id] = size
            elif isinstance(event, StreamReset):
                left.pop(event.stream_id, None)


def _clients(long: bool) -> int:
    return CLIENTS if long else SHORT_CLIENTS


def _all_right(outcome: Outcome) -> list[str]:
    found = []
    allowed = SLOW_KIB_EACH * outcome.parallel
    if outcome.grown_kib > allowed:
        found.append(f"memory grew by {outcome.grown_kib} KiB, {allowed} are allowed")
    if outcome.seen.counts["right"] != outcome.parallel:
        found.append(f"{outcome.seen.counts['right']} of {outcome.parallel} bodies are right")
    return found


def _neighbours(long: bool) -> int:
    """20 streams each: the first one fills 1 MiB with the 64 KiB that each stream may have on the way."""
    return 8 if long else 3


_SIZED = Behaviours(http1=_sized)
_DEAF = Behaviours(http1=_deaf)

SLOW = (
    Attack("10", "oversize", "431, 414; memory bounded", oversize, _at_most(256), _SIZED, units_per_s=2000,
           documents=_soon_idle),
    Attack("11", "slow-heads", "408 in 10 s", slow_heads, _at_most(64), connections=_many,
           held=1, at_least_s=20, proof_s=120, more=_bounds),
    Attack("11", "slow-bodies", "408 below 1 KiB/s", slow_bodies, _at_most(128), _DEAF, connections=_many,
           held=1, at_least_s=40, proof_s=120, more=_bounds),
    Attack("11", "slow-reads", "cut after 30 s without progress", slow_reads, _at_most(256), _SIZED,
           connections=_many, held=1, once=True, more=_bounds),
    Attack("13", "shut-windows", "heads come; each stream is reset after 30 s", shut_windows, _at_most(CONNECTION_KIB),
           _SIZED, held=STREAMS, at_least_s=40, more=_bounds, units_per_s=2000),
    Attack("13", "tiny-windows", "at most 1 MiB a connection is held", tiny_windows, _at_most(CONNECTION_KIB), _SIZED,
           held=STREAMS, units_per_s=2000),
    Attack("13", "stalled-uploads", "at most a window and a kept body for each", stalled_uploads, _at_most(UPLOADS_KIB),
           _SIZED, held=STREAMS, units_per_s=2000),
    Attack("17", "slow-consumers", "at most 256 KiB each; every SHA-256 right", slow_consumers, _all_right, _SIZED,
           connections=_clients, held=1, once=True, units_per_s=2000),
    Attack("17", "slow-neighbours", "a small answer within 2 s beside clients that take nothing", slow_neighbours,
           behaviours=Behaviours(http2=_sized_frames), connections=_neighbours, units_per_s=2000, once=True,
           short_s=3.0),
)  # fmt: skip
