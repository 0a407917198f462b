"""A small closed-loop client that reads every answer: checks that a proxy does its work before it is measured.

Counts answers by status and version; not a load generator (h11 costs it more than what it measures).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import h11
import trio

from bench.process import BenchError
from bench.traffic import UPLOADED, Request

_LIMIT_S = 120.0


@dataclass
class Answers:
    """What came back. `misrouted` are canary requests that v2 did not answer, `broken` why connections ended early."""

    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    misrouted: int = 0
    body_bytes: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


def send(address: str, host: str, requests: Sequence[Request], *, total: int, connections: int) -> Answers:
    """Send `total` requests in turn over kept connections and wait for every answer.

    Raises BenchError when connections break, or after two minutes.
    """
    try:
        answers = trio.run(_send, address, host, requests, total, connections)
    except trio.TooSlowError:
        raise BenchError(f"{address} did not answer {total} requests within {_LIMIT_S:g}s") from None
    if answers.broken:
        raise BenchError(f"{address}: {len(answers.broken)} connections broke; the first: {answers.broken[0]}")
    return answers


async def _send(address: str, host: str, requests: Sequence[Request], total: int, connections: int) -> Answers:
    answers = Answers()
    turns = iter(range(total))
    with trio.fail_after(_LIMIT_S):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(_connection, address, host, requests, turns, answers)
    return answers


async def _connection(
    address: str, host: str, requests: Sequence[Request], turns: Iterator[int], answers: Answers
) -> None:
    name, _, port = address.rpartition(":")
    try:
        async with await trio.open_tcp_stream(name, int(port)) as stream:
            http = h11.Connection(h11.CLIENT)
            for turn in turns:
                request = requests[turn % len(requests)]
                await stream.send_all(_encoded(http, request, host))
                await _answer(stream, http, request, answers)
                http.start_next_cycle()
    except (OSError, trio.BrokenResourceError, h11.ProtocolError) as exc:
        answers.broken.append(f"{type(exc).__name__}: {exc}")


def _encoded(http: h11.Connection, request: Request, host: str) -> bytes:
    head = h11.Request(method=request.method, target=request.target, headers=[("Host", host), *request.all_headers])
    events: list[h11.Event] = [head]
    if request.upload:
        events += [h11.Data(data=UPLOADED.encode("ascii")), h11.EndOfMessage(headers=[("x-checksum", "1")])]
    else:
        events += [h11.EndOfMessage()]
    return b"".join(http.send(event) or b"" for event in events)


async def _answer(stream: trio.SocketStream, http: h11.Connection, request: Request, answers: Answers) -> None:
    size = 0
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Response):
            answers.statuses[event.status_code] += 1
            version = dict(event.headers).get(b"x-version", b"-").decode("ascii")
            answers.versions[version] += 1
            answers.misrouted += request.canary and version != "v2"
        elif isinstance(event, h11.Data):
            size += len(event.data)
    answers.body_bytes.add(size)
