"""Requests that nobody wrote: valid ones made of everything that HTTP/1.1 has, most of them then damaged in places.

Drawn from a `Random`, so that a number names an input. `accepted` says what our codec makes of one, and keeps the bytes
it took for it.
"""

import re
from dataclasses import dataclass
from random import Random

from sidecar.codec.h1_client import H1Client
from sidecar.codec.h1_server import H1Server
from sidecar.errors import ProxyError
from sidecar.model.messages import Fields, RequestHead, end_to_end, nominated
from tests.fuzz.test_codec_bytes import WORDS
from tests.support.http1 import Message, Transcript

# Node knows a list of methods, nginx takes capital letters only; we let every token pass. Of those two alike:
METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS")
_SEGMENTS = (
    *(b"a", b"B", b"", b".", b"..", b"%2e", b"%2E%2e", b"a%2Fb", b"%41", b"%c3%a9", b";v=1", b"~", b"a.b", b"..."),
    *(b"%5c", b"a+b", b"@:,=&$!*'()", b"x" * 300),
)
_QUERIES = (b"", b"", b"?", b"?a=1&b=%20", b"?/../x", b"?a?b", b"?%zz", b'?"{}|^`[]\\')
_HOSTS = (b"x", b"x:80", b"a.example.com", b"[::1]:8080", b"127.0.0.1", b"a_b", b"%41")
_NAMES = (
    *(b"X-A", b"x-b", b"Accept", b"Cookie", b"X-A", b"User-Agent", b"x_y", b"!#$%&'*+-.^_`|~", b"Content-Type"),
    *(b"Via", b"Authorization", b"Range", b"Cache-Control", b"If-None-Match", b"Origin", b"Priority"),
)
_VALUES = (
    *(b"1", b"", b"a, b", b"a;q=0.5", b'"quoted, \\" text"', b"Mixed Case", b"tab\there", b"\xc3\xa9\xff", b"a:b"),
    *(b"=?&", b"chunked", b"0", b"x" * 500),
)
_PADS = ((b" ", b""), (b"", b""), (b"\t", b" "), (b"  ", b"\t "))
_EXTENSIONS = (b"", b"", b"", b";x", b";x=y", b';x="y z"', b" ", b" ;x", b";")
# Ways to write a number, and ways that look like one.
_LENGTHS = ((b"%d", b"%d", b"0%d"), (b"+%d", b"0_%d", b"%d, 3", b"-%d", b"%d.0"))
_SIZES = ((b"%x", b"%X", b"0%x", b"%016x"), (b"0x%x", b"0X%x", b"+%x", b"0_%x", b"-%x", b"%017x", b" %x", b"%xg"))
_TRAILERS = (b"T: 1", b"x-sum: c0ffee", b"X-A:", b"Content-Type: text/plain", b"T: 2")
_OTHERS = (
    *(b"Connection: keep-alive", b"Connection: close", b"Connection: x-a", b"Connection: keep-alive, X-B"),
    *(b"TE: trailers", b"Expect: 100-continue", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive"),
    *(b"Trailer: T", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
)
_HIDDEN = b"0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"  # a body that becomes a request where somebody counts differently
_MORE_WORDS = (
    *(b"GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked"),
    *(b"\r\nHost: y", b"\r\n ", b" :", b"0x3", b"3_0", b"+3", b"chunked, chunked", b"%00", b"%0a", b"/../", b"//"),
)
_SEPARATOR = re.compile(rb"\r\n|[ :;,/]")
_DAMAGES = (0, 0, 1, 1, 2, 3)


def request(rng: Random) -> bytes:
    """A request, valid or not."""
    made = _valid(rng)
    for _ in range(rng.choice(_DAMAGES)):
        at = _place(rng, made)
        made = made[:at] + rng.choice((b"", *WORDS, *_MORE_WORDS)) + made[at + rng.randint(0, 3) :]
    return made


def _place(rng: Random, made: bytes) -> int:
    """Where to damage: half of the time before or after a byte that separates something."""
    places = list(_SEPARATOR.finditer(made)) if rng.random() < 0.5 else []
    return rng.choice(rng.choice(places).span()) if places else rng.randint(0, len(made))


def _valid(rng: Random) -> bytes:
    path = b"/" + b"/".join(rng.choices(_SEGMENTS, k=rng.randint(0, 4))) + rng.choice(_QUERIES)
    host = rng.choice(_HOSTS)
    target = b"http://" + (host or b"y") + path if rng.random() < 0.05 else path
    version = b"1.0" if rng.random() < 0.05 else b"1.1"
    lines = [_line(rng, rng.choice(_NAMES), rng.choice(_VALUES)) for _ in range(rng.randint(0, 6))]
    lines += [rng.choice(_OTHERS) for _ in range(rng.choice((0, 0, 1, 2)))]
    body = (
        rng.randbytes(rng.choice((0, 1, 3, 3, 70, 5_000)))
        if rng.random() < 0.7
        else b"0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
    )
    framed = rng.choice((b"", b"length", b"chunks"))
    if framed == b"length":
        lines.append(_line(rng, rng.choice((b"Content-Length", b"content-length")), _number(rng, _LENGTHS) % len(body)))
    elif framed:
        lines.append(_line(rng, b"Transfer-Encoding", rng.choice((b"chunked", b"Chunked"))))
        body = _chunks(rng, body)
    else:
        body = b""
    rng.shuffle(lines)
    first = rng.choice(METHODS) + b" " + target + b" HTTP/" + version
    return b"\r\n".join([first, _line(rng, b"Host", host), *lines, b"", b""]) + body


def _line(rng: Random, name: bytes, value: bytes) -> bytes:
    before, after = rng.choice(_PADS)
    return name + b":" + before + value + after


def _number(rng: Random, ways: tuple[tuple[bytes, ...], tuple[bytes, ...]]) -> bytes:
    """A way to write a number; one in 40 is none that anybody should take."""
    return rng.choice(ways[rng.random() < 0.025])


def _chunks(rng: Random, body: bytes) -> bytes:
    parts = []
    while body:
        size = rng.choice((1, 2, 16, 255, 4_096))
        part, body = body[:size], body[size:]
        digits = _number(rng, _SIZES) % len(part)
        parts.append(digits + rng.choice(_EXTENSIONS) + b"\r\n" + part + b"\r\n")
    trailers = rng.choices(_TRAILERS, k=rng.choice((0, 0, 1, 2)))
    return b"".join(parts) + b"\r\n".join([b"0" + rng.choice(_EXTENSIONS), *trailers, b"", b""])


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that we accept.

    Attributes:
        raw: The client's bytes of it, without an empty line before it (some readers forgive that one, some do not).
        message: What we read.
        forwarded: What we would write to an upstream.
    """

    raw: bytes
    message: Message
    forwarded: bytes

    @property
    def head(self) -> RequestHead:
        """The request's head."""
        head = self.message.head
        assert isinstance(head, RequestHead)
        return head


def accepted(stream: bytes) -> Accepted | None:
    """The first request of `stream`; None when we refuse it, or when there is no whole one.

    Neither are requests that no other reader could be asked about: with a method of few, or for a tunnel.
    """
    codec = H1Server()
    try:
        events = codec.feed(stream)
    except ProxyError:
        return None
    got = Transcript()
    got.take(events)
    if not got.complete:
        return None
    message = got.complete[0]
    head = message.head
    assert isinstance(head, RequestHead)
    if head.method not in METHODS or head.opens_tunnel or head.target == b"*":
        return None
    raw = stream[: len(stream) - len(codec._held)]
    return Accepted(raw.removeprefix(b"\r\n"), message, _forwarded(message, head))


def _forwarded(message: Message, head: RequestHead) -> bytes:
    codec = H1Client()
    out = RequestHead(head.method, head.target, head.authority, kept(head), content_length=head.content_length)
    written = codec.encode_request(out, wants_trailers=bool(message.trailers))
    return written + codec.encode_chunk(message.body) + codec.encode_end(message.trailers)


def kept(head: RequestHead) -> Fields:
    """The fields that a proxy hands on."""
    return end_to_end(head.fields, nominated(head.get(b"connection")))
