"""What the coverage-guided fuzzer drives (guided.py): every reader of bytes that a stranger may send or write.

A target takes any bytes and raises for what must not happen. Where the input comes by the piece, it is read twice,
whole and cut, and has to mean the same; the cuts follow from the bytes, so that an input is all there is to a failure.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from sidecar.codec.client_hello import HelloReader, NotTls
from sidecar.codec.head_rules import request_head, response_head
from sidecar.codec.sniff import classify
from sidecar.codec.target import canonical_target
from sidecar.config.bootstrap import read_bootstrap
from sidecar.config.problems import Problems
from sidecar.config.resources import parse_json, parse_wire, read_documents
from sidecar.control import messages
from sidecar.control.push import Push
from sidecar.control.wire import FrameReader, WireError, encode
from sidecar.errors import ConfigError, ProxyError
from tests.fuzz import h2_agree, hpack_input
from tests.fuzz.test_codec_bytes import ASKED, REQUESTS, RESPONSES, WORDS, same
from tests.recorded import corpus
from tests.recorded.corpus import recorded
from tests.support.http1 import pieces, receive, serve
from tests.support.http2 import settings
from tests.support.http2_codecs import LEAN, REFERENCE, Codecs
from tests.unit.codec.test_chunks import WORDS as CHUNK_WORDS
from tests.unit.codec.test_chunks import of_h11, of_ours
from tests.unit.codec.test_h2_bytes import client, fed, server
from tests.unit.control.test_messages import EVERY_MESSAGE

ROOT = Path(__file__).resolve().parent.parent.parent
Seeds = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """A reader.

    Attributes:
        play: Takes an input; raises when it fails.
        seeds: Real inputs to begin with.
        words: What inputs are made of, to be put in here and there.
        minutes: Of the long run.
    """

    play: Callable[[bytes], None]
    seeds: Seeds
    words: Seeds = tuple
    minutes: int = 1


def cuts(data: bytes) -> list[int]:
    """Up to eight places in `data`, drawn from its own bytes."""
    rng = Random(zlib.crc32(data))
    return [rng.randrange(len(data)) for _ in range(rng.randint(1, 8))] if data else []


def h1_server(data: bytes) -> None:
    close = bool(len(data) & 1)
    same(serve(data, close=close), serve(data, cuts(data), close=close))


def h1_client(data: bytes) -> None:
    method, upgrade = ASKED[zlib.crc32(data) % len(ASKED)]
    whole, one = receive(data, method=method, upgrade=upgrade)
    cut, other = receive(data, cuts(data), method=method, upgrade=upgrade)
    same(whole, cut)
    assert one.reusable == other.reusable


def chunks(data: bytes) -> None:
    ours = of_ours(data, [])
    assert ours == of_ours(data, cuts(data))
    theirs = of_h11(data)
    assert theirs != "refused" or ours == "refused"
    if isinstance(ours, tuple):
        assert isinstance(theirs, tuple)
        assert (ours[0], ours[2]) == (theirs[0], theirs[2])


def heads(data: bytes) -> None:
    try:
        canonical = canonical_target(data)
        assert canonical_target(canonical) == canonical
    except ProxyError:
        pass
    try:
        head = request_head(data)
        assert head.target == canonical_target(head.target) or not head.target.startswith(b"/")
    except ProxyError:
        pass
    try:
        response_head(data, b"GET")
    except ProxyError:
        pass


def h2_server(data: bytes, codecs: Codecs = REFERENCE) -> None:
    assert fed(server(codecs), data, []) == fed(server(codecs), data, cuts(data))


def h2_client(data: bytes, codecs: Codecs = REFERENCE) -> None:
    assert fed(client(codecs), data, []) == fed(client(codecs), data, cuts(data))


def hello(data: bytes) -> None:
    assert _hello([data]) == _hello(pieces(data, cuts(data)))


def _hello(parts: Iterable[bytes]) -> object:
    reader = HelloReader()
    for part in parts:
        try:
            found = reader.feed(part)
        except NotTls:
            return "refused"
        if found is not None:
            return found
    return "more"


def sniff(data: bytes) -> None:
    known = None
    for size in sorted({*cuts(data), len(data)}):
        kind = classify(data[:size])
        assert known is None or kind is known, "it changed its mind"
        known = kind


def config(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    read_documents(text, "a.yaml", Problems())
    read_bootstrap(text, "b.yaml", {}, Problems())
    try:
        parse_json(text)
    except ConfigError:
        pass


def frames(data: bytes) -> None:
    assert _messages([data]) == _messages(pieces(data, cuts(data)))


def _messages(parts: Iterable[bytes]) -> list[object]:
    """The messages before a refusal; those that came with it in one read are lost, so only the refusal counts then."""
    reader = FrameReader()
    found: list[object] = []
    try:
        for part in parts:
            found += reader.feed(part)
    except WireError as refused:
        return [str(refused)]
    for one in found:
        assert isinstance(one, dict)
        try:
            message = messages.parse(one)
        except WireError:
            continue
        for item in message.set if isinstance(message, Push) else ():
            try:
                parse_wire(item.name, item.version, item.document)
            except ConfigError:
                pass
    return found


def planted(data: bytes) -> None:
    """Fails on purpose, for what no seed has: an escaped slash in the path. The fuzzer has to find it."""
    try:
        head = request_head(data)
    except ProxyError:
        return
    if b"%2F" in head.target.partition(b"?")[0]:
        raise RuntimeError("planted")


def _of(*kinds: str) -> Seeds:
    return lambda: (one.data for kind in kinds for one in recorded(kind))


def _words() -> Iterable[bytes]:
    return (*WORDS, b"\r\nConnection: close", b"%2F", b"/../", b"\r\nX-A: 1")


def _yaml() -> Iterator[bytes]:
    for folder in ("examples", "tests/golden"):
        for path in sorted((ROOT / folder).rglob("*.yaml")):
            yield path.read_bytes()


def _bodies() -> Iterator[bytes]:
    for one in (*recorded(corpus.REQUESTS), *recorded(corpus.RESPONSES)):
        head, _, body = one.data.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            yield body


def _keys() -> set[bytes]:
    return {word for text in _yaml() for word in re.findall(rb"[A-Za-z]{3,}:?", text)}


def _heads() -> Iterator[bytes]:
    for one in (*recorded(corpus.REQUESTS), *recorded(corpus.RESPONSES)):
        yield one.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


TARGETS = {
    "h1-server": Target(h1_server, lambda: (*REQUESTS, *_of(corpus.REQUESTS)()), _words),
    "h1-client": Target(h1_client, lambda: (*RESPONSES, *_of(corpus.RESPONSES)()), _words),
    "chunks": Target(chunks, _bodies, lambda: CHUNK_WORDS),
    "heads": Target(heads, _heads, _words),
    "h2-server": Target(h2_server, _of(corpus.H2_CLIENTS)),
    "h2-client": Target(h2_client, lambda: (settings(), *_of(corpus.H2_SERVERS)())),
    "h2-lean-server": Target(partial(h2_server, codecs=LEAN), _of(corpus.H2_CLIENTS)),
    "h2-lean-client": Target(partial(h2_client, codecs=LEAN), lambda: (settings(), *_of(corpus.H2_SERVERS)())),
    "h2-agree-server": Target(h2_agree.server, _of(corpus.H2_CLIENTS), minutes=5),
    "h2-agree-client": Target(h2_agree.client, lambda: (settings(), *_of(corpus.H2_SERVERS)()), minutes=5),
    "hpack": Target(hpack_input.play, hpack_input.seeds, minutes=10),
    "client-hello": Target(hello, _of(corpus.HELLOS)),
    "sniff": Target(sniff, _of(corpus.REQUESTS, corpus.H2_CLIENTS, corpus.HELLOS)),
    "config": Target(config, _yaml, _keys),
    "control-frames": Target(frames, lambda: (encode(messages.to_wire(each)) for each in EVERY_MESSAGE)),
}
PLANTED = Target(planted, _heads, _words)
