"""100,000 generated heads are read on the fast path as on the full one, and a leniency planted there would be seen."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from sidecar.codec import plain_head
from sidecar.codec.plain_head import Act, Fact
from tests.fuzz.heads import LEAST_ACCEPTED_RATIO, Checker, FastHeads, check

COUNT = 100_000
TRIED = 30_000  # heads that a planted leniency has to show in
Plant = Callable[[pytest.MonkeyPatch, Checker], None]


@pytest.mark.slow
def test_generated_heads_are_read_alike() -> None:
    taken = check(Random(17), COUNT, Checker())

    ratio = (taken["requests"] + taken["answers"]) / COUNT
    print(f"taken: {ratio:.1%}, {taken['requests']:,} requests and {taken['answers']:,} answers")
    assert ratio >= LEAST_ACCEPTED_RATIO
    assert min(taken["requests"], taken["answers"]) / (COUNT / 2) >= LEAST_ACCEPTED_RATIO
    assert taken["h11"] > 200


def test_the_long_run_can_be_cut() -> None:
    """Its parts add up, and each head of the last one is as any other's."""
    player = FastHeads()
    assert len(player.parts) == 100
    rng = Random(3)
    counts = check(rng, 2_000, Checker()) + check(rng, 2_000, Checker())
    assert "0 disagreements" in player.figure(counts)
    with pytest.raises(AssertionError, match="only"):
        player.figure({"heads": 1000, "requests": 10, "answers": 10, "h11": 1})


def _exchange(name: str, old: bytes, new: bytes) -> Plant:
    def plant(patch: pytest.MonkeyPatch, _: Checker) -> None:
        before = getattr(plain_head, name).pattern
        assert old in before
        patch.setattr(plain_head, name, re.compile(before.replace(old, new)))

    return plant


def _set(name: str, value: Any) -> Plant:
    def plant(patch: pytest.MonkeyPatch, _: Checker) -> None:
        patch.setattr(plain_head, name, value)

    return plant


def _without_spelling(plant: Plant) -> Plant:
    """The odd spellings of framing fields are left alone before their meaning matters: without that."""

    def both(patch: pytest.MonkeyPatch, checker: Checker) -> None:
        patch.setattr(plain_head, "_as_usual", lambda *_: True)
        plant(patch, checker)

    return both


def _request_act(name: bytes, act: Act | None) -> Plant:
    def plant(_: pytest.MonkeyPatch, checker: Checker) -> None:
        known = checker.request_acts._by_lower
        del known[name]
        if act is not None:
            known[name] = act

    return plant


def _answer_fact(name: bytes, fact: tuple[Fact, int] | None) -> Plant:
    def plant(patch: pytest.MonkeyPatch, _: Checker) -> None:
        real = plain_head.ResponseActs._read

        def lenient(self: Any, lower: bytes, value: bytes) -> tuple[Fact, int] | None:
            return fact if lower == name else real(self, lower, value)

        patch.setattr(plain_head.ResponseActs, "_read", lenient)

    return plant


def _any_host(patch: pytest.MonkeyPatch, _: Checker) -> None:
    patch.setattr(plain_head.RequestActs, "may_host", lambda *_: True)


def _by_first_length(patch: pytest.MonkeyPatch, _: Checker) -> None:
    real = plain_head._framed

    def lenient(request: Any, noted: dict[bytes, bytes]) -> str:
        if b"content-length" in noted:
            noted[b"content-length"] = noted[b"content-length"].split(b",")[0]
        return real(request, noted)

    patch.setattr(plain_head, "_framed", lenient)


def _length_wins(patch: pytest.MonkeyPatch, _: Checker) -> None:
    real = plain_head._framed

    def lenient(request: Any, noted: dict[bytes, bytes]) -> str:
        if b"content-length" in noted:
            noted.pop(b"transfer-encoding", None)
        return real(request, noted)

    patch.setattr(plain_head, "_framed", lenient)


_VALUE = rb"[\t -~\x80-\xff]*+"
LENIENCIES: dict[str, Plant] = {
    "a line ends with LF": _exchange("REQUEST", rb"\r\n", rb"\r?\n"),
    "control characters in values": _exchange("REQUEST", _VALUE, rb"[^\r\n]*+"),
    "control characters in an answer's values": _exchange("RESPONSE", _VALUE, rb"[^\r\n]*+"),
    "blanks before the colon": _exchange("REQUEST", rb"a-z]++:", rb"a-z]++[ \t]*+:"),
    "any target": _set("CANONICAL", re.compile(rb"[!-~]++")),
    "dot segments": _exchange("CANONICAL", rb"(?!\.)", rb""),
    "any host": _any_host,
    "a length with a sign": _without_spelling(_set("DIGITS", re.compile(rb"\+?+[0-9]++"))),
    "of several lengths the first": _without_spelling(_by_first_length),
    "length and coding": _length_wins,
    "a client sets the certificate's field": _request_act(b"x-forwarded-client-cert", None),
    "a client sets the certificate's field, with underscores": _request_act(b"x_forwarded_client_cert", None),
    "Keep-Alive goes on": _request_act(b"keep-alive", None),
    "Connection goes on": _request_act(b"connection", Act.NOTE),
    "tracestate goes on": _request_act(b"tracestate", Act.NOTE),
    "Connection names anything": _set("_OPTIONS", frozenset((b"close", b"keep-alive", b"te", b"host", b"x-tier"))),
    "an answer's Connection is nothing": _answer_fact(b"connection", (Fact.NOTHING, 0)),
    "an answer's Keep-Alive goes on": _answer_fact(b"keep-alive", None),
    "an answer's coding is nothing": _without_spelling(_answer_fact(b"transfer-encoding", (Fact.CHUNKED, 0))),
    "an answer's trailing fields": _answer_fact(b"x-mesh-untouched", None),
    "an answer's length is always three": _without_spelling(_answer_fact(b"content-length", (Fact.LENGTH, 3))),
}


@pytest.mark.slow
@pytest.mark.parametrize("leniency", LENIENCIES)
def test_a_planted_leniency_is_found(leniency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = Checker()
    LENIENCIES[leniency](monkeypatch, checker)
    with pytest.raises((AssertionError, ValueError)):
        check(Random(17), TRIED, checker)
