"""Trace context on the wire: W3C `traceparent` and `tracestate`, and B3's single header, by hand.

Runs for every request, so an unsampled one pays for reading and writing one header and nothing else. Pure: ids come
from the `rng` that is given. Never trusts what came: a malformed `traceparent` starts a new trace, a malformed
`tracestate` is dropped, an oversized one is shortened as W3C Trace Context section 3.3.1.5 says.
"""

import re
from dataclasses import dataclass
from random import Random

# Section 3.2.2. Lower-case hex only; version ff is forbidden, and so are ids of zeros. A higher version may go on
# after a further dash, and its first four fields are read as those of version 00.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*+)?+", re.DOTALL
)
_UNSAMPLED = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[02]")
_NOT_ZERO = 1 << 192 | 1 << 128  # in the trace's id and in the span's
_B3 = re.compile(rb"(?!0++-)([0-9a-f]{32}|[0-9a-f]{16})-(?!0{16})([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?+)?+")

# Section 3.3.1: at most 32 members, keys as below, values printable without comma and equals sign, 256 characters.
_MEMBER = re.compile(
    rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
MAX_MEMBERS = 32
MAX_STATE_BYTES = 512  # what a vendor has to propagate at least; more only costs every hop that follows
_LONG_MEMBER_BYTES = 128  # such members go first when something has to go
_READ_LIMIT_BYTES = 16_384  # beyond that nobody means it; not worth the time to shorten it

_SAMPLED, _RANDOM = 1, 2


@dataclass(slots=True, eq=True)
class TraceContext:
    """The trace that a request belongs to, as received or as begun here.

    Attributes:
        trace_id: 32 lower-case hex digits, not all zero.
        parent_span_id: 16 hex digits of the caller's span; "" when the trace begins here.
        sampled: True when spans are recorded. Decided once, where the trace begins, and obeyed by everybody after.
        tracestate: To be forwarded as it is; "" for none.
        random: The Level 2 flag that says that the trace id is random; passed on, never invented.
    """

    trace_id: str
    parent_span_id: str = ""
    sampled: bool = False
    tracestate: str = ""
    random: bool = False


def begin(
    traceparent: bytes | None, tracestate: bytes | None, b3: bytes | None, ratio: float, rng: Random
) -> TraceContext:
    """The context of a request with these header values (None: absent).

    W3C wins over B3. A trace that begins here is sampled with probability `ratio` (0.0 to 1.0); one that came keeps
    its caller's decision.
    """
    context = parse_traceparent(traceparent) if traceparent is not None else None
    if context is not None:
        if tracestate:
            context.tracestate = parse_tracestate(tracestate)
        return context
    said = parse_b3(b3) if b3 is not None else None
    if isinstance(said, TraceContext):
        return said
    sampled = said if said is not None else ratio > 0.0 and rng.random() < ratio
    return TraceContext(new_trace_id(rng), "", sampled)


def begin_unsampled(rng: Random) -> tuple[bytes, bytes]:
    """The `traceparent` of a trace that begins here and is not sampled, and 32 hex digits for a request's id."""
    digits = b"%080x" % (rng.getrandbits(320) | _NOT_ZERO)
    return b"00-%b-%b-00" % (digits[:32], digits[32:48]), digits[48:]


def pass_on_unsampled(traceparent: bytes, rng: Random) -> bytes | None:
    """The `traceparent` to send on, with a span id of ours, for one that came unsampled; None for any other."""
    if _UNSAMPLED.fullmatch(traceparent) is None:
        return None
    return b"%b%016x%b" % (traceparent[:36], rng.getrandbits(64) or 1, traceparent[52:])


def parse_traceparent(value: bytes) -> TraceContext | None:
    """Read a `traceparent` value; None when it is malformed, and then its `tracestate` must not be read either."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if rest is not None and version == b"00":
        return None
    bits = int(flags, 16)
    return TraceContext(
        trace_id.decode("ascii"), parent_id.decode("ascii"), bits & _SAMPLED != 0, "", bits & _RANDOM != 0
    )


def format_traceparent(context: TraceContext, span_id: str) -> bytes:
    """The header to send on: version 00, the same trace, `span_id` as the parent of what follows."""
    bits = (_SAMPLED if context.sampled else 0) | (_RANDOM if context.random else 0)
    return f"00-{context.trace_id}-{span_id}-0{bits}".encode("ascii")


def parse_tracestate(value: bytes) -> str:
    """A `tracestate` that is fit to be forwarded; "" when it is malformed as a whole.

    Several headers are expected joined by commas. Empty members are dropped, the order is kept. Above 512 bytes,
    members longer than 128 go first, then members from the end.
    """
    if len(value) > _READ_LIMIT_BYTES:
        return ""
    members = [member for raw in value.split(b",") if (member := raw.strip(b" \t"))]
    if len(members) > MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    size = sum(map(len, members)) + len(members) - 1
    if size > MAX_STATE_BYTES:
        members = [member for member in members if len(member) <= _LONG_MEMBER_BYTES]
        size = sum(map(len, members)) + len(members) - 1
    while size > MAX_STATE_BYTES:
        size -= len(members.pop()) + 1
    return b",".join(members).decode("ascii")


def parse_b3(value: bytes) -> TraceContext | bool | None:
    """Read a `b3` value (Zipkin's single header).

    Returns the context; or True or False when the caller sent its sampling decision alone (`1`, `d`, `0`); or None
    when the value is malformed. A context without a decision is not sampled: whoever began it has not decided.
    """
    if value in (b"0", b"1", b"d"):
        return value != b"0"
    match = _B3.fullmatch(value)
    if match is None:
        return None
    trace_id, span_id, decision = match.groups()
    return TraceContext(trace_id.decode("ascii").rjust(32, "0"), span_id.decode("ascii"), decision in (b"1", b"d"))


def new_trace_id(rng: Random) -> str:
    """32 hex digits, never all zero."""
    return f"{rng.getrandbits(128) or 1:032x}"


def new_span_id(rng: Random) -> str:
    """16 hex digits, never all zero."""
    return f"{rng.getrandbits(64) or 1:016x}"
