"""Floods of HTTP/2 frames (rows 12 and 14): each connection ends at its cap, and is made again at once.

Odd connections come over mutual TLS to the inbound listener, even ones in plain text to an outbound one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from bench.attacks.site import Site
from bench.attacks.table import Attack, Expect, Outcome
from bench.attacks.turn import Turn
from bench.attacks.wire import H2Peer, http2
from sidecar.codec.h2_abuse import (
    CONTINUATIONS_MAX,
    EMPTY_DATA_MAX,
    IGNORED_PER_STREAM,
    RESETS_ABORT,
    WINDOW_UPDATES_SPARE,
)
from tests.support.http2 import GET, POST, data, frame, ping, priority, rst, settings, window

# What is sent before the sidecar is looked at: it reads up to so many frames more than its cap before we notice.
BATCH = 25
LOOK_S = 0.02
ENDS_S = 3.0
CONNECT_UNITS = 10.0  # accepting, a handshake, two codecs
FRAMES_A_UNIT = 10  # frames that make no request are so much cheaper

Send = Callable[[H2Peer, int], Awaitable[bool]]


async def _flood(peer: H2Peer, turn: Turn, send: Send, most: int, units_a_frame: float) -> int:
    """Send until the connection is over, or `most` were sent; how many were."""
    sent = 0
    while sent < most and not peer.closed.is_set():
        await turn.pace(BATCH * units_a_frame)
        for _ in range(BATCH):
            if not await send(peer, sent):
                break
            sent += 1
        await peer.pause(LOOK_S)
    return sent


def _ends(send: Send, cap: int, *, request: bool = False, begin: Send | None = None) -> Callable[..., Awaitable[None]]:
    """An attack of frames that must end the connection after `cap` of them."""
    units = 1.0 if request else 1.0 / FRAMES_A_UNIT

    async def play(site: Site, turn: Turn, number: int) -> None:
        await turn.pace(CONNECT_UNITS)
        async with http2(site, secure=bool(number % 2)) as peer:
            if begin is not None:
                await begin(peer, 0)
            sent = await _flood(peer, turn, send, cap + 4 * BATCH, units)
            await peer.pause(ENDS_S)
            turn.count("frames", sent)
            turn.most("frames of one connection", sent)
            turn.count(f"GOAWAY {peer.goaway}")
            turn.expect(peer.closed.is_set(), f"{sent} frames did not end the connection; GOAWAY {peer.goaway}")

    return play


def _noted(*kinds: str) -> Expect:
    """The flood is counted under one of these words, once a connection or more."""

    def expect(outcome: Outcome) -> list[str]:
        noted = sum(outcome.notes.get(kind, 0) for kind in kinds)
        rounds = outcome.seen.counts["rounds"]
        return [] if noted >= rounds else [f"{noted:g} notes of {'/'.join(kinds)} for {rounds} rounds"]

    return expect


def _odd(sent: int) -> int:
    return 2 * sent + 1


async def _rapid_reset(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, GET, end=True), rst(number))


# MadeYouReset (CVE-2025-8671): six ways to have the server reset a stream whose request it has taken.


async def _made_window_overflow(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, POST), window(number, 2**31 - 1))


async def _made_window_zero(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, POST), window(number, 0))


async def _made_headers_after_end(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, GET, end=True), peer.wire.headers(number, GET, end=True))


async def _made_data_after_end(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, GET, end=True), data(number, b"x"))


async def _made_bad_priority(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    return await peer.send(peer.wire.headers(number, POST), frame(2, 0, number, b"\0\0\0\0"))


async def _made_length_lie(peer: H2Peer, sent: int) -> bool:
    number = _odd(sent)
    head = peer.wire.headers(number, (*POST, ("content-length", "1")))
    return await peer.send(head, data(number, b"xx"))


async def _open_body(peer: H2Peer, _: int) -> bool:
    return await peer.send(peer.wire.headers(1, POST))


async def _empty_data(peer: H2Peer, _: int) -> bool:
    return await peer.send(data(1))


async def _ping(peer: H2Peer, _: int) -> bool:
    return await peer.send(ping())


async def _settings(peer: H2Peer, _: int) -> bool:
    return await peer.send(settings())


async def _priority(peer: H2Peer, sent: int) -> bool:
    """A chain: each stream hangs on the one before."""
    return await peer.send(priority(_odd(sent), max(0, _odd(sent) - 2)))


async def _priority_on_itself(peer: H2Peer, sent: int) -> bool:
    return await peer.send(priority(_odd(sent), _odd(sent)))


async def _window_update(peer: H2Peer, _: int) -> bool:
    return await peer.send(window(0, 1))


async def _begin_block(peer: H2Peer, _: int) -> bool:
    return await peer.send(peer.wire.headers(1, GET, whole=False))


async def _continuation(peer: H2Peer, sent: int) -> bool:
    return await peer.send(frame(9, 0, 1, bytes(1024 if sent % 2 else 0)))


async def hpack_bomb(site: Site, turn: Turn, number: int) -> None:
    """Heads of 1 700 references to one field, in a window of 0: refused one by one, or the connection ends."""
    await turn.pace(CONNECT_UNITS)
    async with http2(site, secure=bool(number % 2), own=settings((4, 0))) as peer:
        await peer.send(peer.wire.headers(1, (*GET, ("x", "")), end=True))
        for sent in range(1, 100):
            await turn.pace(2.0)
            block = peer.wire.block(GET) + peer.wire.block((("x", ""),)) * 1700
            if not await peer.send(frame(1, 5, _odd(sent), block)):
                break
            turn.count("bombs")
        await peer.pause(LOOK_S)
        answered = sum(1 for stream in peer.statuses if stream > 1)
        turn.expect(not answered, f"{answered} heads of 1 700 fields were answered")


def _refused_bombs(outcome: Outcome) -> list[str]:
    complaints = []
    if not outcome.notes.get("head-too-big", 0):
        complaints.append("no head was counted as too big")
    if b"x: \r\n" * 100 in bytes(outcome.service.received):
        complaints.append("a bomb reached the service")
    return complaints


async def tiny_data(site: Site, turn: Turn, number: int) -> None:
    """3 000 frames of one byte are a slow way to send, and no attack by themselves: the request is answered."""
    size = 3000
    await turn.pace(CONNECT_UNITS)
    async with http2(site, secure=bool(number % 2)) as peer:
        await peer.send(peer.wire.headers(1, (*POST, ("content-length", str(size)))))
        for _ in range(size // BATCH):
            await turn.pace(BATCH / FRAMES_A_UNIT)
            if not await peer.send(*[data(1, b"y")] * BATCH):
                break
        await peer.send(data(1, end=True))
        await peer.until(lambda: 1 in peer.statuses or 1 in peer.resets)
        turn.count("frames", size)
        turn.expect(peer.statuses.get(1) == 200, f"the answer was {peer.statuses.get(1)}, GOAWAY {peer.goaway}")


async def unread_replies(site: Site, turn: Turn, number: int) -> None:
    """PINGs of a client that reads nothing: their answers may not pile up."""
    await turn.pace(CONNECT_UNITS)
    async with http2(site, secure=bool(number % 2), reads=False, receive_buffer=4096) as peer:
        for _ in range(400):
            await turn.pace(BATCH / FRAMES_A_UNIT)
            if not await peer.send(*[ping()] * BATCH):
                turn.count("ended")
                return
        for _ in range(25):  # it lingers, so that a client that reads could have its GOAWAY
            await trio.sleep(0.2)
            if not await peer.send(ping()):
                turn.count("ended")
                return
    turn.complain("10 000 PINGs of a client that does not read were taken")


async def above_the_limit(site: Site, turn: Turn, number: int) -> None:
    """120 requests at once: those above the limit are refused, the others served."""
    wanted = 120
    await turn.pace(CONNECT_UNITS + wanted)
    async with http2(site, secure=bool(number % 2), own=settings((4, 0))) as peer:
        await peer.send(*[peer.wire.headers(_odd(at), GET, end=True) for at in range(wanted)])
        await peer.until(lambda: len(peer.statuses) + len(peer.resets) >= wanted)
        refused = [stream for stream, code in peer.resets.items() if code == 7]
        served = [stream for stream, code in peer.statuses.items() if code == 200]
        turn.count("refused", len(refused))
        turn.expect(peer.goaway < 0, f"120 requests at once ended the connection with GOAWAY {peer.goaway}")
        turn.expect(len(refused) == 20, f"{len(refused)} of 120 requests were refused, {len(served)} served")
        turn.expect(len(served) == 100, f"{len(served)} of 120 requests were served; {peer.statuses}")


_MADE = {
    "window-overflow": _made_window_overflow,
    "window-zero": _made_window_zero,
    "headers-after-end": _made_headers_after_end,
    "data-after-end": _made_data_after_end,
    "bad-priority": _made_bad_priority,
    "length-lie": _made_length_lie,
}
ROW_12_S = 60.0  # of each flood, reconnecting
_ENDS = "every connection ends at its cap and is counted"

_ATTACKS = (
    Attack("12", "rapid-reset", _ENDS, _ends(_rapid_reset, RESETS_ABORT, request=True), _noted("rapid-reset")),
    *(
        Attack("12", f"made-you-reset-{name}", _ENDS, _ends(send, RESETS_ABORT, request=True), _noted("rapid-reset"))
        for name, send in _MADE.items()
    ),
    Attack("12", "empty-data", _ENDS, _ends(_empty_data, EMPTY_DATA_MAX, begin=_open_body), _noted("empty-data")),
    Attack("12", "ping-flood", _ENDS, _ends(_ping, 3000), _noted("control-flood")),
    Attack("12", "settings-flood", _ENDS, _ends(_settings, 3000), _noted("control-flood")),
    Attack("12", "ping-flood-unread", "answers that nobody reads end the connection", unread_replies),
    Attack("12", "window-update-flood", _ENDS, _ends(_window_update, WINDOW_UPDATES_SPARE),
           _noted("window-update-flood")),
    Attack("12", "continuation-flood", _ENDS, _ends(_continuation, CONTINUATIONS_MAX, begin=_begin_block),
           _noted("head-too-big")),
    Attack("12", "hpack-bomb", "no head above 100 fields is read or held", hpack_bomb, _refused_bombs),
    Attack("12", "tiny-data", "answered", tiny_data),
    Attack("12", "above-the-stream-limit", "20 of 120 refused, 100 served", above_the_limit),
    Attack("14", "priority-chain", _ENDS, _ends(_priority, IGNORED_PER_STREAM), _noted("ignored-flood")),
    Attack("14", "priority-of-itself", "PROTOCOL_ERROR at the first", _ends(_priority_on_itself, 1),
           _noted("protocol-error")),
)  # fmt: skip

FLOODS = tuple(replace(attack, proof_s=ROW_12_S) if attack.row == "12" else attack for attack in _ATTACKS)
