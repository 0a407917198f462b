"""The differential test would see a lenient parser: with each leniency planted in ours, some reader disagrees.

Planted in this process, by exchanging a pattern or a function of the codec. Only requests that the leniency makes a
difference for are asked about, so that a finding cannot be about anything else.
"""

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from sidecar.codec import chunks, grammar, h1_server, h1_write, head_rules, target
from sidecar.errors import Fault
from sidecar.model.messages import Fields
from tests.conformance.differential import QUESTIONS, all_readers, ask
from tests.conformance.generated import Accepted, accepted, request
from tests.conformance.readers.seen import Reader

INPUTS = 6_000
PATIENCE_S = 0.5  # many leniencies make a reader wait in vain
ASKED_MAX = 40  # of the requests that a leniency lets in

Plant = Callable[[pytest.MonkeyPatch], None]
_VALUE = rb"[\t -~\x80-\xff]*+"
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"


def _heads(old: bytes, new: bytes) -> Plant:
    """In the grammar of heads `new` stands where `old` stood."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for module, name in ((head_rules, "REQUEST"), (grammar, "_FIELD")):
            _exchange(patch, module, name, old, new)

    return plant


def _chunk_lines(old: bytes, new: bytes) -> Plant:
    """In the grammar of chunks' lines `new` stands where `old` stood."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for name in ("_FIRST", "_NEXT"):
            _exchange(patch, chunks, name, old, new)

    return plant


def _exchange(patch: pytest.MonkeyPatch, module: Any, name: str, old: bytes, new: bytes) -> None:
    before = getattr(module, name).pattern
    patch.setattr(module, name, re.compile(before.replace(old, new)))


def _fold(patch: pytest.MonkeyPatch) -> None:
    _heads(_VALUE, rb"(?:[\t -~\x80-\xff]|\r\n[ \t])*+")(patch)
    real = grammar.fields_of

    def unfolding(raw: bytes, start: int) -> Fields:
        return [(name, re.sub(rb"\r\n[ \t]*", b" ", value)) for name, value in real(raw, start)]

    patch.setattr(head_rules, "fields_of", unfolding)


def _one_length(which: int) -> Plant:
    """Of several lengths one counts."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = head_rules._length

        def lenient(value: bytes, blame: Fault) -> int:
            return real(value.split(b",")[which].strip(), blame)

        patch.setattr(head_rules, "_length", lenient)

    return plant


def _short_length(patch: pytest.MonkeyPatch) -> None:
    real = head_rules._length
    patch.setattr(head_rules, "_length", lambda value, blame: max(0, real(value, blame) - 1))


def _signed_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(head_rules, "DIGITS", re.compile(rb"\+?[0-9]+"))


def _coding(**known: Any) -> Plant:
    """The check of Transfer-Encoding takes some of what it is asked about for harmless."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = head_rules._check_coding

        def lenient(head: Any, coding: bytes, version: bytes, blame: Fault, has_length: bool) -> None:
            given = {"coding": coding, "version": version, "has_length": has_length, **known}
            real(head, given["coding"], given["version"], blame, given["has_length"])

        patch.setattr(head_rules, "_check_coding", lenient)

    return plant


def _no_host(patch: pytest.MonkeyPatch) -> None:
    real = head_rules._host
    patch.setattr(head_rules, "_host", lambda head: b"" if head.get(b"host") is None else real(head))


def _first_host(patch: pytest.MonkeyPatch) -> None:
    real = head_rules._checked_authority
    patch.setattr(
        head_rules, "_checked_authority", lambda value, where: real(value.partition(b",")[0].strip(b" "), where)
    )


def _any_version(patch: pytest.MonkeyPatch) -> None:
    real = head_rules.request_head
    patch.setattr(h1_server, "request_head", lambda raw: real(re.sub(rb" HTTP/\d\.\d\r", b" HTTP/1.1\r", raw, count=1)))


def _path_as_it_is(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(head_rules, "canonical_target", lambda path: path)


def _spaced_target(patch: pytest.MonkeyPatch) -> None:
    _heads(rb"([!-~]++)", rb"([!-~]++(?: [!-~]++)??)")(patch)
    patch.setattr(target, "_VISIBLE", re.compile(rb"[ -~]*+"))


def _hidden_dots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(target, "_HIDDEN_DOTS", re.compile(rb"(?!)"))


def _length_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(h1_write, "_OURS", frozenset())


LENIENCIES: dict[str, Plant] = {
    "a line of the head ends with LF": _heads(rb"\r\n", rb"\r?\n"),
    "a folded line goes on": _fold,
    "control characters in values": _heads(_VALUE, rb"[^\0\r\n]*+"),
    "white space before the colon": _heads(_TOKEN + b":", _TOKEN + rb"[ \t]*+:"),
    "white space before the colon, kept in the name": _heads(_TOKEN + b":", rb"[!-9;-~ ]++:"),
    "any byte in a name": _heads(_TOKEN + b":", rb"[^\0-\x20:]++:"),
    "a space in the target": _spaced_target,
    "any version": _any_version,
    "several lengths, the first counts": _one_length(0),
    "several lengths, the last counts": _one_length(-1),
    "a length with a sign": _signed_length,
    "a length one too short": _short_length,
    "length and coding": _coding(has_length=False),
    "HTTP/1.0 with a coding": _coding(version=b"1.1"),
    "any coding is read as chunked": _coding(coding=b"chunked"),
    "no Host": _no_host,
    "several Hosts, the first counts": _first_host,
    "dot segments stay": _path_as_it_is,
    "dot segments behind escapes and semicolons": _hidden_dots,
    "a chunk size with 0x": _chunk_lines(rb"([0-9A-Fa-f]{1,16}+)", rb"((?:0[xX])?+[0-9A-Fa-f]{1,16}+)"),
    "a chunk size with underscores": _chunk_lines(rb"([0-9A-Fa-f]{1,16}+)", rb"([0-9A-Fa-f](?:_?[0-9A-Fa-f]){0,15}+)"),
    "a chunk size with a sign": _chunk_lines(rb"([0-9A-Fa-f]{1,16}+)", rb"(\+?+[0-9A-Fa-f]{1,16}+)"),
    "a chunk's line ends with LF": _chunk_lines(rb"\r\n", rb"\r?\n"),
    "no line end after a chunk": _chunk_lines(rb"\r\n(", rb"(?:\r\n)?+("),
    "a length is written twice": _length_twice,
}


@pytest.fixture(scope="module")
def readers() -> Iterator[tuple[Reader, ...]]:
    with all_readers(PATIENCE_S) as started:
        yield started


@pytest.fixture(scope="module")
def inputs() -> list[tuple[bytes, object]]:
    """Generated requests, and the facts that our codec, as it is, finds in them."""
    rng = Random(11)
    made = [request(rng) for _ in range(INPUTS)]
    return [(one, _facts(accepted(one))) for one in made]


def _facts(one: Accepted | None) -> object:
    return one and (one.raw, one.message.facts, one.forwarded)


@pytest.mark.slow
@pytest.mark.needs("node", "nginx")
@pytest.mark.parametrize("leniency", LENIENCIES)
def test_a_planted_leniency_is_found(
    leniency: str,
    readers: tuple[Reader, ...],
    inputs: list[tuple[bytes, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    LENIENCIES[leniency](monkeypatch)
    let_in: list[Accepted] = []
    for stream, strict in inputs:
        lenient = accepted(stream)
        if lenient is not None and _facts(lenient) != strict:
            let_in.append(lenient)
        if len(let_in) == ASKED_MAX:
            break

    assert let_in, "no generated request has it"
    findings = ask(readers, let_in, QUESTIONS)
    assert findings, f"{len(let_in)} requests let in, and everybody agrees about them"
