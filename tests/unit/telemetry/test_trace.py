"""Trace headers by W3C Trace Context's rules, and B3's single header."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.trace import (
    MAX_STATE_BYTES,
    TraceContext,
    begin,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_b3,
    parse_traceparent,
    parse_tracestate,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()

hexes = st.text("0123456789abcdef", min_size=1)
trace_ids = st.integers(1, 2**128 - 1).map("{:032x}".format)
span_ids = st.integers(1, 2**64 - 1).map("{:016x}".format)


@given(trace_ids, span_ids, st.integers(0, 255))
def test_valid_traceparent_is_read(trace_id: str, span_id: str, flags: int) -> None:
    context = parse_traceparent(f"00-{trace_id}-{span_id}-{flags:02x}".encode())
    assert context == TraceContext(trace_id, span_id, flags & 1 == 1, "", flags & 2 == 2)


@given(trace_ids, span_ids, span_ids, st.booleans(), st.booleans())
def test_what_is_sent_is_read_by_the_next(trace_id: str, came: str, sent: str, sampled: bool, chance: bool) -> None:
    context = TraceContext(trace_id, came, sampled, "", chance)
    assert parse_traceparent(format_traceparent(context, sent)) == TraceContext(trace_id, sent, sampled, "", chance)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"-",  # version 00 ends with its flags
        PARENT + b"-what-the-future-holds",
        PARENT + b", " + PARENT,  # the header came twice
        PARENT.replace(b"00-", b"ff-", 1),
        PARENT.replace(b"00-", b"0g-", 1),
        PARENT.replace(TRACE.encode(), b"0" * 32),
        PARENT.replace(SPAN.encode(), b"0" * 16),
        PARENT.replace(b"-", b"_"),
        b" " + PARENT,
        PARENT + b"\n",
        b"cc-" + PARENT[3:] + b".what",  # after the flags of a future version stands a dash or nothing
    ],
)
def test_malformed_traceparent_begins_a_new_trace(value: bytes) -> None:
    assert parse_traceparent(value) is None
    context = begin(value, b"vendor=1", None, 0.0, Random(1))
    assert context.parent_span_id == ""
    assert context.tracestate == ""
    assert context.trace_id != TRACE


@pytest.mark.parametrize("rest", [b"", b"-", b"-what-the-future-holds", b"-\xff\n"])
def test_future_version_is_read_by_its_first_four_fields(rest: bytes) -> None:
    context = parse_traceparent(b"cc-" + PARENT[3:] + rest)
    assert context == TraceContext(TRACE, SPAN, sampled=True)
    assert format_traceparent(context, "1" * 16) == f"00-{TRACE}-{'1' * 16}-01".encode()


@given(st.binary(max_size=80))
def test_no_bytes_break_the_readers(value: bytes) -> None:
    for context in (parse_traceparent(value), parse_b3(value)):
        if isinstance(context, TraceContext):
            assert int(context.trace_id, 16) > 0
            assert int(context.parent_span_id, 16) > 0
    assert len(parse_tracestate(value)) <= MAX_STATE_BYTES


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"foo=1", "foo=1"),
        (b"foo=1,bar=2", "foo=1,bar=2"),
        (b"foo=1 ,\t bar=2", "foo=1,bar=2"),
        (b"foo=1,,bar=2,", "foo=1,bar=2"),  # empty members are allowed, and not worth forwarding
        (b"  ,\t,", ""),
        (b"foo= 1", "foo= 1"),
        (b"t61rcwkgmzfo-_*/@sys=x", "t61rcwkgmzfo-_*/@sys=x"),
        (b"0abc@vendor=1", "0abc@vendor=1"),
        (b"a" * 256 + b"=1", "a" * 256 + "=1"),
    ],
)
def test_good_tracestate_is_passed_on(value: bytes, kept: str) -> None:
    assert parse_tracestate(value) == kept


@pytest.mark.parametrize(
    "value",
    [
        b"foo",
        b"foo =1",
        b"FOO=1",
        b"foo.bar=1",
        b"0foo=1",
        b"@foo=1",
        b"foo@=1",
        b"foo@@bar=1",
        b"foo@bar@baz=1",
        b"foo=bar=baz",
        b"foo=\x01",
        b"foo=\xc3\xa9",
        b"foo=1\r\nevil: 1",
        b"foo=",
        b"a" * 257 + b"=1",
        b"a" * 242 + b"@v=1",
        b"t@" + b"v" * 15 + b"=1",
        b"foo=" + b"x" * 257,
        b",".join(b"k%d=1" % number for number in range(33)),
    ],
)
def test_malformed_tracestate_is_dropped_and_the_trace_goes_on(value: bytes) -> None:
    assert parse_tracestate(value) == ""
    assert begin(PARENT, value, None, 0.0, Random(1)) == TraceContext(TRACE, SPAN, sampled=True)


def test_oversized_tracestate_loses_long_members_then_the_last_ones() -> None:
    short = [b"k%02d=%s" % (number, b"v" * 36) for number in range(20)]
    long = b"long=" + b"v" * 200
    kept = parse_tracestate(b",".join([short[0], long, *short[1:]])).encode().split(b",")
    assert long not in kept
    assert kept == short[: len(kept)]
    assert len(b",".join(kept)) <= MAX_STATE_BYTES < len(b",".join(short[: len(kept) + 1]))


def test_hundred_kilobytes_of_tracestate_are_not_read() -> None:
    assert parse_tracestate(b"a=1," * 25_000) == ""


@given(st.lists(st.from_regex(rb"[a-z][a-z0-9]{0,8}=[a-z]{1,150}", fullmatch=True), max_size=32))
def test_shortened_tracestate_is_valid_and_in_order(members: list[bytes]) -> None:
    kept = parse_tracestate(b",".join(members))
    assert len(kept) <= MAX_STATE_BYTES
    assert parse_tracestate(kept.encode()) == kept
    remaining = iter(members)
    assert all(any(member == other for other in remaining) for member in kept.encode().split(b",") if member)


@pytest.mark.parametrize(
    ("value", "context"),
    [
        (f"{TRACE}-{SPAN}-1", TraceContext(TRACE, SPAN, sampled=True)),
        (f"{TRACE}-{SPAN}-d", TraceContext(TRACE, SPAN, sampled=True)),
        (f"{TRACE}-{SPAN}-0", TraceContext(TRACE, SPAN, sampled=False)),
        (f"{TRACE}-{SPAN}", TraceContext(TRACE, SPAN, sampled=False)),
        (f"{TRACE}-{SPAN}-1-{SPAN}", TraceContext(TRACE, SPAN, sampled=True)),
        (f"{TRACE[16:]}-{SPAN}-1", TraceContext("0" * 16 + TRACE[16:], SPAN, sampled=True)),
        ("0", False),
        ("1", True),
        ("d", True),
        ("2", None),
        ("", None),
        (f"{'0' * 32}-{SPAN}-1", None),
        (f"{TRACE}-{'0' * 16}-1", None),
        (f"{TRACE}-{SPAN}-1-", None),
        (f"{TRACE}-{SPAN}-true", None),
    ],
)
def test_b3(value: str, context: TraceContext | bool | None) -> None:
    assert parse_b3(value.encode()) == context


def test_w3c_wins_over_b3_and_b3_over_the_dice() -> None:
    b3 = f"{TRACE[::-1]}-{SPAN}-1".encode()
    assert begin(PARENT, None, b3, 0.0, Random(1)).trace_id == TRACE
    assert begin(b"broken", None, b3, 0.0, Random(1)).trace_id == TRACE[::-1]
    assert begin(None, None, b"1", 0.0, Random(1)).sampled
    assert not begin(None, None, b"0", 1.0, Random(1)).sampled
    assert begin(None, None, b"broken", 1.0, Random(1)).sampled


def test_callers_decision_beats_the_ratio() -> None:
    assert begin(PARENT, None, None, 0.0, Random(1)).sampled
    assert not begin(PARENT[:-1] + b"0", None, None, 1.0, Random(1)).sampled


def test_root_is_sampled_by_the_ratio() -> None:
    rng = Random(7)
    sampled = sum(begin(None, None, None, 0.1, rng).sampled for _ in range(5_000))
    assert 430 < sampled < 570  # more than three standard deviations either way; the seed is fixed
    assert not any(begin(None, None, None, 0.0, rng).sampled for _ in range(100))


class Zeros(Random):
    """The unluckiest generator."""

    def getrandbits(self, k: int, /) -> int:
        return k & 0


def test_ids_are_never_zero() -> None:
    assert int(new_trace_id(Zeros()), 16) > 0
    assert int(new_span_id(Zeros()), 16) > 0
    assert len(new_trace_id(Random(1))) == 32
    assert len(new_span_id(Random(1))) == 16
