"""Heads by `Random`, fast enough for millions, and the check that the fast path reads them as the full one does.

Mostly valid and usual ones, so that what is accepted is what is asked about; the rest has what readers differ in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

import h11

from sidecar.codec.grammar import END_OF_HEAD, fields_of
from sidecar.codec.head_rules import request_head, response_head
from sidecar.codec.plain_head import (
    PlainRequest,
    PlainResponse,
    RequestActs,
    ResponseActs,
    plain_request,
    plain_response,
)
from sidecar.errors import ProxyError
from sidecar.model.messages import Fields, nominated
from sidecar.policy.deadline import DEADLINE_HEADER
from sidecar.proxy.edits import (
    FORWARDED,
    NOT_FROM_CLIENTS,
    REQUEST_ID,
    forwarded_request,
    forwarded_response,
)
from sidecar.proxy.replies import UNTOUCHED
from tests.fuzz.test_codec_bytes import WORDS

PROVEN = 10_000_000
PART = 100_000
LEAST_ACCEPTED_RATIO = 0.4
FRAMING = (b"content-length", b"transfer-encoding")

_METHODS = (b"GET", b"GET", b"GET", b"POST", b"POST", b"HEAD", b"PUT", b"DELETE", b"get", b"OPTIONS", b"M-SEARCH")
_TARGETS = (
    *(b"/", b"/a/b?c=%2F", b"/orders/17", b"/x?y=z&a", b"/a;b=c/d", b"/~u/,;:@!$&'()*+="),
    *(b"/a/../b", b"/.", b"/.well-known/x", b"/%7e", b"/a%2", b"*", b"http://y/", b"x:1", b"/a#b", b"/a\\b", b"//a"),
)
_VERSIONS = (b"HTTP/1.1",) * 14 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1")
_HOSTS = (b"orders", b"orders.shop:8080", b"[::1]:80", b"a_b", b"", b"a,b", b"x:65536", b"x y", b"u@h")
# Lines that any reader takes, some of them for the proxy.
_USUAL = (
    *(
        b"Accept: */*",
        b"User-Agent: x/1.0 (y; z)",
        b"Cookie: a=b; c=d",
        b"Cookie: e=f",
        b"X-Request-Id: 7",
        b"X-Tier: 1",
    ),
    *(b"traceparent: 00-%b-%b-01" % (b"a" * 32, b"b" * 16), b"tracestate: v=1", b"b3: 0", b"Idempotency-Key: k"),
    *(b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"x-mesh-timeout-ms: 500", b"Content-Type: text/x"),
    *(b"X-Forwarded-Client-Cert: By=x", b"x_forwarded_client_cert: By=x", b"X-Empty:", b"X-Blank:   ", b"X-Tab:\ta\t"),
    *(
        b"Connection: keep-alive",
        b"connection: Keep-Alive",
        b"Keep-Alive: timeout=5, max=9",
        b"Proxy-Connection: close",
    ),
    *(
        b"Contribution: 1",
        b"Terror: 2",
        b"Host-Name: x",
        b"Upgrade-Insecure-Requests: 1",
        b"Expectation: 3",
        b"X-\xc3: 1",
    ),
    *(
        b"Date: Tue, 01 Dec 2026 00:00:00 GMT",
        b"Set-Cookie: a=b",
        b"Server: x",
        b'ETag: "x"',
        b"X: \x80\xff",
        b"X: a:b",
    ),
)
_FRAMES = (
    *(b"Content-Length: 3", b"Content-Length: 0", b"content-length:17", b"Transfer-Encoding: chunked"),
    *(b"transfer-encoding: Chunked", b"Content-Length: 00003", b"Connection: close", b"TE: trailers\r\nConnection: TE"),
)
# Lines that readers differ in, or that only the full path understands.
_ODD = (
    *(
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"Content-Length: 3 3",
        b"Content-Length:",
        b"Content-Length: 0x3",
    ),
    *(b"Content-Length: 12345678901234567890", b"Content-Length: 4", b"Transfer-Encoding: gzip, chunked"),
    *(
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer_Encoding: x",
    ),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b"Content-Length : 3", b"Content-Length\xa0: 3"),
    *(
        b"Connection: close, te",
        b"Connection: host",
        b"Connection: content-length",
        b"Connection: x-tier",
        b"Connection:",
    ),
    *(b"Connection: upgrade\r\nUpgrade: websocket", b"Upgrade: h2c", b"HTTP2-Settings: AA", b"Expect: 100-continue"),
    *(
        b"X: a\nY: b",
        b"X: a\nContent-Length: 3",
        b"TE: gzip",
        b"TE: trailers",
        b"Host: other",
        b"hOST: orders",
        b"Trailer: x",
        b"x-mesh-untouched: 1",
    ),
    *(
        b" folded",
        b"\tfolded",
        b"no colon",
        b": no name",
        b"X : y",
        b"X: \0",
        b"X: a\rb",
        b"X: a\nb",
        b"X: a\x0bb",
        b"X\x80y: 1",
    ),
    *(b"Keep-Alive: timeout=x", b"Keep-Alive: timeout=99999999999", b"Keep-Alive: timeout=5, timeout=6"),
)
_STATUS = (
    b"200 OK",
    b"200 OK",
    b"204 No Content",
    b"304 Not Modified",
    b"404 ",
    b"201 Created",
    b"206 Partial",
    b"301 Moved",
)
_ODD_STATUS = (
    b"200",
    b"100 Continue",
    b"101 Switching",
    b"503 Away",
    b"500 Oops",
    b"2000 OK",
    b"099 X",
    b"600 X",
    b"20 OK",
)


def a_request(rng: Random) -> bytes:
    """A request's head, mostly a usual one."""
    odd = rng.random() < 0.35
    method = rng.choice(_METHODS)
    target = rng.choice(_TARGETS if odd else _TARGETS[:6])
    version = rng.choice(_VERSIONS) if odd else b"HTTP/1.1"
    lines = [b"Host: " + (rng.choice(_HOSTS) if odd else _HOSTS[rng.randrange(4)])] if rng.random() < 0.97 else []
    return _head(rng, b"%b %b %b" % (method, target, version), lines, odd=odd)


def an_answer(rng: Random) -> bytes:
    """An answer's head, mostly a usual one."""
    odd = rng.random() < 0.35
    status = rng.choice(_ODD_STATUS) if odd and rng.random() < 0.3 else rng.choice(_STATUS)
    version = rng.choice(_VERSIONS) if odd else b"HTTP/1.1"
    length = [] if status.startswith((b"204", b"304")) or (odd and rng.random() < 0.5) else [b"Content-Length: 12"]
    return _head(rng, b"%b %b" % (version, status), length, odd=odd)


def _head(rng: Random, first: bytes, lines: list[bytes], *, odd: bool) -> bytes:
    lines += rng.sample(_USUAL, rng.randrange(6))
    if rng.random() < 0.3:
        lines.append(rng.choice(_FRAMES))
    if odd:
        lines += rng.choices(_ODD, k=rng.randrange(3))
    rng.shuffle(lines)
    made = b"\r\n".join((first, *lines)) + END_OF_HEAD
    if odd and rng.random() < 0.3:
        at = rng.randrange(len(made))
        made = made[:at] + rng.choice(WORDS) + made[at + rng.randrange(3) :]
    return made


class Checker:
    """Reads heads both ways, with tables that are kept, as a worker keeps them."""

    def __init__(self) -> None:
        self.request_acts = RequestActs(
            dropped=NOT_FROM_CLIENTS, taken=(DEADLINE_HEADER,), noted=(REQUEST_ID, b"idempotency-key")
        )
        self.response_acts = ResponseActs((UNTOUCHED,))

    def request(self, raw: bytes, *, far: bool, behind: bytes = b"") -> bool:
        """True if the fast path takes it. Raises AssertionError if it should not, or reads it otherwise."""
        plain = plain_request(raw + behind, self.request_acts, far=far)
        if not isinstance(plain, PlainRequest):
            return False
        try:
            read = request_head(plain.raw)
        except ProxyError as exc:
            raise AssertionError(f"{plain.raw!r} is refused: {exc}") from None
        said = (plain.method, plain.target, plain.authority, plain.content_length, plain.chunked, plain.keep_alive)
        assert said == (read.method, read.target, read.authority, read.content_length, read.chunked, read.keep_alive)
        assert plain.wants_trailers == (b"trailers" in nominated(read.get(b"te")))
        assert not read.upgrade
        replaced = frozenset(FORWARDED) if far else frozenset()
        kept = lines_of(plain.kept)
        assert less_framing(kept) == less_framing(values(forwarded_request(read, [], replaced).fields)), raw
        assert sum(name in FRAMING for name, _ in kept.elements()) <= 1
        assert plain.kept.startswith(b"%b %b HTTP/1.1\r\n" % (read.method, read.target))
        for name, value in plain.noted.items():
            assert read.get(name) == value or name in (b"upgrade", b"http2-settings")
        return True

    def answer(self, raw: bytes, method: bytes, behind: bytes = b"") -> bool:
        """As `request`."""
        plain = plain_response(raw + behind, self.response_acts, method)
        if not isinstance(plain, PlainResponse):
            return False
        end = (raw + behind).index(END_OF_HEAD) + 4
        head, rest = (raw + behind)[:end], (raw + behind)[end:]
        try:
            read = response_head(head, method)
        except ProxyError as exc:
            raise AssertionError(f"{head!r} is refused: {exc}") from None
        assert plain.data[plain.size :] == rest
        assert plain.data[plain.size - 4 : plain.size] == END_OF_HEAD
        length = None if read.chunked else read.content_length
        assert (plain.status, plain.content_length, plain.keep_alive) == (read.status, length, read.keep_alive), raw
        kept = lines_of(plain.data[: plain.size - 2])
        assert less_framing(kept) == less_framing(values(forwarded_response(read).fields)), raw
        assert sum(name in FRAMING for name, _ in kept.elements()) <= 1
        return True


def h11_agrees(raw: bytes) -> None:
    """h11 takes the request too, and finds the same end of it. Slower by far than the rest. Raises AssertionError."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    try:
        event = reader.next_event()
    except h11.RemoteProtocolError as exc:
        raise AssertionError(f"h11 refuses {raw!r}: {exc}") from None
    assert isinstance(event, h11.Request), f"h11 finds no request in {raw!r}"
    assert raw.startswith(b"%b %b " % (event.method, event.target))


def lines_of(kept: bytes) -> Counter[tuple[bytes, bytes]]:
    return values(fields_of(kept + b"\r\n", kept.index(b"\r\n") + 2))


def values(fields: Fields) -> Counter[tuple[bytes, bytes]]:
    return Counter((name.lower(), value) for name, value in fields)


def less_framing(fields: Counter[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], int]:
    return {field: count for field, count in fields.items() if field[0] not in FRAMING}


def check(rng: Random, count: int, checker: Checker, *, h11_every: int = 50) -> Counter[str]:
    """Check `count` heads, half of them answers; how many the fast path takes. Raises AssertionError."""
    taken = Counter(heads=count)
    for number in range(count // 2):
        raw = a_request(rng)
        if checker.request(raw, far=number % 3 == 0, behind=b"GET" if number % 4 == 0 else b""):
            taken["requests"] += 1
            if taken["requests"] % h11_every == 0:
                h11_agrees(raw)
                taken["h11"] += 1
        method = (b"GET", b"POST", b"HEAD")[number % 3]
        taken["answers"] += checker.answer(an_answer(rng), method, b"\r\n\r\nx" if number % 4 == 0 else b"")
    return taken


class FastHeads:
    """The long run, for bench/prove.py, in parts."""

    parts = tuple(f"heads {first:,}.." for first in range(0, PROVEN, PART))

    def __init__(self) -> None:
        self._checker = Checker()

    def play(self, _part: str, rng: Random) -> Counter[str]:
        """Check one part. Raises AssertionError for a head that is read otherwise."""
        return check(rng, PART, self._checker)

    def figure(self, counts: Mapping[str, int]) -> str:
        """The line for the ledger."""
        ratio = (counts["requests"] + counts["answers"]) / counts["heads"]
        assert ratio >= LEAST_ACCEPTED_RATIO, f"only {ratio:.0%} are taken"
        return (
            f"{counts['heads']:,} heads, {ratio:.0%} of them taken by the fast path, each read as head_rules reads it; "
            f"{counts['h11']:,} asked of h11 as well: 0 disagreements"
        )


@contextmanager
def prove() -> Iterator[FastHeads]:
    """The long run."""
    yield FastHeads()
