"""Services that fail under load (rows 15 and 20): connections that end while requests are on their way, and a service
that answers nothing but 503.
"""

import math
import re
from collections import Counter

import trio

from bench.attacks.service import Behaviours, Client
from bench.attacks.site import Site
from bench.attacks.table import Attack, Outcome
from bench.attacks.turn import Turn
from bench.attacks.wire import GONE, answer, http2, status
from tests.support.http2 import OK, data, goaway, settings

RETRY_RATIO, RETRY_PER_S = 0.20, 3.0  # what the default retry budget allows above the requests themselves
BUDGET_S = 10.0  # over which the budget counts: what it allows a second may be used at once
EARLIER = 5  # retries that the requests before the attack have earned
STREAMS = 40  # of one of our connections, before it is made again
A_CONNECTION = 10  # streams that their connection takes before GOAWAY
UNTAKEN_S = 0.02  # in which some come that it does not take


async def _requests(site: Site, turn: Turn, number: int, port: int) -> None:
    """GET and POST in turn, each with a name of its own: even connections over HTTP/1.1, odd ones over HTTP/2."""
    if number % 2 == 0:
        stream = await site.plain(port)
        async with stream:
            for at in range(STREAMS):
                if turn.over:
                    return
                await turn.pace()
                method, name = ("POST", "GET")[at % 2], f"{number}-{turn.serial()}"
                turn.count(method)
                got = await answer(
                    stream, f"{method} /{method}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
                )
                turn.count(f"{method} {status(got)}")
                if b"onnection: close" in got:
                    return
        return
    async with http2(site, port=port) as peer:
        for at in range(STREAMS):
            if turn.over:
                break
            await turn.pace()
            method, name = ("POST", "GET")[at % 2], f"{number}-{turn.serial()}"
            head = ((":method", method), (":scheme", "http"), (":authority", "x"), (":path", f"/{method}/{name}"))
            turn.count(method)
            await peer.send(peer.wire.headers(2 * at + 1, head, end=True))
        sent = at + (not turn.over)
        await peer.until(lambda: len(peer.statuses) + len(peer.resets) >= sent)
        for stream_number in range(1, 2 * sent, 2):
            method = ("POST", "GET")[stream_number // 2 % 2]
            turn.count(f"{method} {peer.statuses.get(stream_number, 0)}")


async def goaways(site: Site, turn: Turn, number: int) -> None:
    """Requests to a service that ends its connection after some streams, the last of which it did not take."""
    await _requests(site, turn, number, site.http2)


async def _goes_away(client: Client) -> None:
    """Takes A_CONNECTION streams, then says GOAWAY for those that came meanwhile, and closes when it likes."""
    await client.stream.send_all(settings())
    last, ends_s, taken = 0, math.inf, 0
    while trio.current_time() < ends_s:
        with trio.move_on_at(ends_s) as over:
            frames = await client.frames()
        if over.cancelled_caught:
            break
        if not frames:
            return
        out = b""
        for frame in frames:
            if frame.name == "Settings" and "ACK" not in frame.flags:
                out += settings(ack=True)
            elif frame.name == "Headers" and taken < A_CONNECTION:
                last, taken = frame.stream, taken + 1
                client.service.processed[dict(frame.headers)[b":path"].decode()] += 1
                out += client.wire.headers(frame.stream, OK) + data(frame.stream, b"ok", end=True)
            elif frame.name == "Headers":
                ends_s = min(ends_s, trio.current_time() + UNTAKEN_S)
        if out:
            await client.stream.send_all(out)
    await client.stream.send_all(goaway(last))
    await trio.sleep(UNTAKEN_S)


def _none_lost_none_doubled(outcome: Outcome) -> list[str]:
    found = []
    counts = outcome.seen.counts
    if any(counts[method] != counts[f"{method} 200"] for method in ("GET", "POST")):
        found.append(f"not every request got 200: {dict(counts)}")
    doubled = [path for path, times in outcome.service.processed.items() if times > 1 and path.startswith("/POST")]
    if doubled:
        found.append(f"{len(doubled)} POST were taken twice: {doubled[:3]}")
    return found


async def storm(site: Site, turn: Turn, number: int) -> None:
    """Requests to a service that answers all of them with 503."""
    await _requests(site, turn, number, site.http1)


async def _unavailable(client: Client) -> None:
    try:
        while piece := await client.read():
            for path in re.findall(rb"(?m)^[A-Z]+ (/\S*) HTTP/1.1\r$", piece):
                client.service.processed[path.decode()] += 1
                await client.stream.send_all(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")
    except GONE:
        pass


def _little_more_load(outcome: Outcome) -> list[str]:
    found = []
    counts, processed = outcome.seen.counts, outcome.service.processed
    asked = counts["GET"] + counts["POST"]
    extra = sum(processed.values()) - len(processed)
    allowed = RETRY_RATIO * asked + RETRY_PER_S * max(outcome.seconds, BUDGET_S) + EARLIER
    if extra > allowed:
        found.append(f"{extra} requests more than the {asked} asked for; {allowed:.0f} are allowed")
    again = Counter({path: times for path, times in processed.items() if times > 1 and path.startswith("/POST")})
    if again:
        found.append(f"{len(again)} POST were tried again")
    if not asked:
        found.append("nothing was asked")
    return found


STORMS = (
    Attack("15", "goaway-races", "0 requests lost, 0 POST taken twice", goaways, _none_lost_none_doubled,
           Behaviours(http2=_goes_away), units_per_s=200),
    Attack("20", "retry-storm", "at most 20 % + 3/s more load; no POST tried again", storm, _little_more_load,
           Behaviours(http1=_unavailable), units_per_s=500),
)  # fmt: skip
