"""What clients ask that mean no harm: one request on each way into the sidecar, or many at once."""

from functools import partial

import trio

from bench.attacks.service import Behaviours, Client, Hostile
from bench.attacks.site import Site
from bench.attacks.wire import answer, http2, status
from tests.support.http2 import GET as GET2
from tests.support.http2 import POST, data

GET = b"GET /ordinary HTTP/1.1\r\nHost: hostile.shop\r\n\r\n"
CROWD_S = 30.0
APART_S = 0.002  # between two connections of a crowd


async def ordinary(site: Site) -> None:
    """Raises AssertionError when one is not answered."""
    plain = await site.plain(site.http1)
    async with plain:
        assert status(await answer(plain, GET)), "no answer over HTTP/1.1"
    for secure in (False, True):
        async with http2(site, secure=secure) as peer:
            await peer.send(peer.wire.headers(1, GET2, end=True))
            assert await peer.until(lambda: peer.statuses.get(1)), f"no answer over HTTP/2, TLS: {secure}"


async def crowd(site: Site, hostile: Hostile, connections: int, requests: int) -> None:
    """Have so many connections at once, with so many requests under way on each: half of the request was sent, half of
    the answer has come; the rest follows when all are there. One request goes over HTTP/1.1, more go over HTTP/2, every
    other time with TLS.

    Raises AssertionError when one is not answered, TooSlowError when they are not all there in CROWD_S.
    """
    hostile.behave(Behaviours(http1=_by_halves))
    gate = _Gate(connections * requests)
    with trio.fail_after(CROWD_S):
        async with trio.open_nursery() as nursery:
            for number in range(connections):
                talk = _one_of_crowd if requests == 1 else partial(_streams_of_crowd, requests=requests)
                nursery.start_soon(talk, site, number, gate)
                await trio.sleep(APART_S)


async def _by_halves(client: Client) -> None:
    """Answers half a request by half an answer, and the rest by the rest."""
    got = b""
    while piece := await client.read():
        got += piece
        if b"\r\n\r\n" in piece:
            await client.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        if got.endswith(b"\r\n\r\nok"):
            await client.stream.send_all(b"k")


class _Gate:
    """Opens when so many have come."""

    def __init__(self, wanted: int) -> None:
        self._missing = wanted
        self._all = trio.Event()

    async def come(self, many: int) -> None:
        """So many more are there; wait for the others."""
        self._missing -= many
        if self._missing <= 0:
            self._all.set()
        await self._all.wait()


async def _one_of_crowd(site: Site, number: int, gate: _Gate) -> None:
    stream = await site.plain(site.http1)
    async with stream:
        await stream.send_all(b"POST /ordinary HTTP/1.1\r\nHost: hostile.shop\r\nContent-Length: 2\r\n\r\no")
        got = b""
        while b"\r\n\r\no" not in got:
            got += (piece := await stream.receive_some())
            assert piece, f"the connection of {number} of a crowd ended after {got[:60]!r}"
        await gate.come(1)
        await stream.send_all(b"k")
        assert await stream.receive_some() == b"k", f"half an answer for {number} of a crowd"


async def _streams_of_crowd(site: Site, number: int, gate: _Gate, *, requests: int) -> None:
    streams = range(1, 2 * requests, 2)
    async with http2(site, secure=bool(number % 2)) as peer:
        for stream in streams:
            await peer.send(peer.wire.headers(stream, (*POST, ("content-length", "2"))), data(stream, b"o"))
        assert await peer.until(lambda: peer.body_bytes.total() >= requests, CROWD_S), f"{number} of a crowd waits"
        await gate.come(requests)
        await peer.send(*[data(stream, b"k", end=True) for stream in streams])
        found = await peer.until(lambda: len(peer.ended) >= requests, CROWD_S)
        assert found, f"{len(peer.ended)} of {requests} answers for {number} of a crowd"
