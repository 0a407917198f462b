"""What one connection of an attacker can make us hold: 2 MiB, whatever it sends and however long nobody forwards it."""

import tracemalloc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from sidecar.codec.events import Event, Head
from sidecar.proxy.mux import MuxEnd, MuxLink
from tests.support.http2 import GET, POST, PREFACE, Wire, data, frame, settings
from tests.support.http2_codecs import Codecs

HELD_MAX_BYTES = 2 * 1024 * 1024
NUMBERS = range(1, 201, 2)


def begun(wire: Wire) -> bytes:
    return b"".join(wire.headers(number, POST) for number in NUMBERS)


def references(wire: Wire) -> Iterator[bytes]:
    yield wire.headers(1, (*GET, ("x", "v" * 20)))
    for number in NUMBERS[1:]:
        yield wire.headers(number, (*GET, *[("x", "v" * 20)] * 96))


def crumbs(wire: Wire) -> Iterator[bytes]:
    for number in NUMBERS:
        yield wire.headers(number, (*GET, *[("cookie", "v" * 3500)] * 16))


def literals(wire: Wire) -> Iterator[bytes]:
    for number in NUMBERS:
        fields = [(f"x-{number}-{i}", str(1000 * number + i)) for i in range(96)]
        yield wire.headers(number, (*GET, *fields))


def tiny_frames(wire: Wire) -> Iterator[bytes]:
    yield begun(wire)
    for _ in range(300):
        for number in NUMBERS:
            yield data(number, b"xy")


def small_frames(wire: Wire) -> Iterator[bytes]:
    yield begun(wire)
    for _ in range(160):
        for number in NUMBERS:
            yield data(number, b"x" * 64)


def bodies_behind_heads(wire: Wire) -> Iterator[bytes]:
    yield from literals(wire)
    for _ in range(10):
        for number in NUMBERS:
            yield data(number, b"x" * 1000)


def half_a_head(wire: Wire) -> Iterator[bytes]:
    yield wire.headers(1, GET, whole=False)
    for _ in range(3):
        yield frame(9, 0, 1, b"\x82" * 16_000)
    yield frame(9, 0, 1, b"\x82" * 12_000)[:-1]


ATTACKS: dict[str, Callable[[Wire], Iterator[bytes]]] = {
    each.__name__: each
    for each in (references, crumbs, literals, tiny_frames, small_frames, bodies_behind_heads, half_a_head)
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_connection_holds_no_more_than_2_mib(codecs: Codecs, name: str) -> None:
    wire = Wire()
    raw = list(ATTACKS[name](wire))
    link = cast("MuxLink", SimpleNamespace(progress_s=30.0))
    ends: dict[int, MuxEnd] = {}
    heads: list[Event] = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        server = codecs.server()
        server.feed(PREFACE + settings(), 0.0)
        for one in raw:
            for event in server.feed(one, 0.0):
                if isinstance(event, Head):
                    heads.append(event)
                    ends[event.stream] = MuxEnd(link, event.stream)
                else:
                    ends[event.stream].take(event)
            server.take()
            server.notes()
        held = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert held <= HELD_MAX_BYTES
