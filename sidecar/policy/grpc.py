"""What gRPC asks of a proxy: which requests are gRPC, their deadline, and how a status tells success from failure.

Asked by the exchange for requests over HTTP/2 only; a request over HTTP/1.1 costs one comparison. Answers of gRPC are
HTTP 200 whatever happened: success is `grpc-status` in the trailers, or in the head of an answer that is nothing but
trailers ("trailers-only": the application sent no message, so that nothing was begun that the client saw).

One table says what our own faults are to a gRPC caller (`status_of`), and one what an answer without `grpc-status` is
(`from_http`, gRPC's http-grpc-status-mapping). `failure_of` gives a fault the status that the caller would see, so
that `retries.on: [grpc-unavailable]` means the same to a user whether the app said so or the connection broke; gRPC's
own retries (gRFC A6) see it so too. Nothing here waits or reads a clock.
"""

import math
import re

from sidecar.errors import Fault
from sidecar.model.messages import Fields, Head, RequestHead, ResponseHead
from sidecar.policy.retry import Failure

CONTENT_TYPE = b"application/grpc"
TIMEOUT_HEADER = b"grpc-timeout"
STATUS = b"grpc-status"
MESSAGE = b"grpc-message"

OK = 0
CANCELLED = 1
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16

# Codes by which an endpoint says that it, and not the request, is what failed: those that Envoy maps to a 5xx. All but
# UNIMPLEMENTED: a method that does not exist is the caller's mistake, as 404 is, and would eject one endpoint after the
# other. UNKNOWN stays, because it is what servers answer when their handler raised.
ENDPOINT_FAILURES = frozenset((UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS))
# What log and spans call an error of the server; with UNIMPLEMENTED, as 501 is one.
SERVER_ERRORS = ENDPOINT_FAILURES | {UNIMPLEMENTED}
# Codes that a policy can name, beside those that count against the endpoint.
_WORTH_TELLING = ENDPOINT_FAILURES | {CANCELLED, RESOURCE_EXHAUSTED}

# An answer without grpc-status: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
_FROM_HTTP = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
# Our own faults by flag. Where the mapping above has a word for the fault's status this is the same word, but for:
_BY_FLAG = {
    "UH": UNAVAILABLE,
    "UF": UNAVAILABLE,
    "UC": UNAVAILABLE,
    "UR": UNAVAILABLE,
    "UPE": UNAVAILABLE,
    "UO": UNAVAILABLE,
    "URX": UNAVAILABLE,
    "UT": DEADLINE_EXCEEDED,  # 504 maps to UNAVAILABLE, which would make clients try again what has no time left
    "NR": UNIMPLEMENTED,
    "NC": UNAVAILABLE,  # GRPCRoute asks for it where a backend is not valid
    "RL": RESOURCE_EXHAUSTED,  # 429 maps to UNAVAILABLE, which would make clients try again what is over its quota
    "RBAC": PERMISSION_DENIED,
    "DC": CANCELLED,
}
# Faults of the client (DPE), by their status, where the mapping has no word but gRPC has.
_BY_STATUS = {
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,  # gRPC's word for a message or metadata above the limit
    414: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    501: UNIMPLEMENTED,
}

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_AMOUNT = 99_999_999  # eight digits; the most that gRPC's syntax can say is 11 400 years

_NOT_PLAIN = re.compile(rb"[^\x20-\x24\x26-\x7e]")
MAX_MESSAGE_BYTES = 1_024  # of a sentence before it is encoded, at most three times as long after


def is_grpc(head: RequestHead) -> bool:
    """True for a request of gRPC: over HTTP/2, `application/grpc` with or without `+proto` and parameters."""
    if head.version != b"2":
        return False
    kind = head.get(b"content-type")
    if kind is None or kind[:16].lower() != CONTENT_TYPE:
        return False
    return len(kind) == 16 or kind[16:17] in (b"+", b";", b" ", b"\t")  # not application/grpc-web


# --- The deadline ---------------------------------------------------------------------------------------------------


def timeout_s(value: bytes | None) -> float | None:
    """Seconds that a `grpc-timeout` allows; None for no limit.

    One that breaks the syntax, or says 0, is ignored and not refused, as `x-mesh-timeout-ms` is.
    """
    found = _TIMEOUT.fullmatch(value) if value is not None else None
    if found is None:
        return None
    return int(found[1]) * _UNIT_S[found[2]] or None


def timeout_header(ends_at_s: float, now_s: float) -> bytes:
    """What is left of a request as a `grpc-timeout`: rounded up, at least 1 ms, in the finest unit that can say it."""
    left_s = max(ends_at_s - now_s, 0.001)
    for unit in (b"m", b"S", b"M"):
        amount = math.ceil(round(left_s / _UNIT_S[unit], 6))  # 0.25 s is 250 ms, whatever binary fractions say
        if amount <= _MAX_AMOUNT:
            return b"%d%s" % (amount, unit)
    return b"%dH" % min(math.ceil(left_s / 3600.0), _MAX_AMOUNT)


# --- Success and failure --------------------------------------------------------------------------------------------


def status_in(head: Head) -> int | None:
    """The `grpc-status` in an answer's head; None when there is none (it comes in the trailers, or never)."""
    value = head.get(STATUS)
    return None if value is None else _code(value)


def status_at_end(trailers: Fields) -> int:
    """The `grpc-status` of an answer's trailers. UNKNOWN where there is none: so clients read it."""
    for name, value in trailers:
        if name.lower() == STATUS:
            return _code(value)
    return UNKNOWN


def judge_head(answer: ResponseHead, *, untouched: bool = False) -> Failure | None:
    """The failure that an answer's head tells; None when it tells success, nothing yet, or the caller's own mistake.

    Args:
        untouched: A verified mesh peer said that the request was not taken.

    A head that is not an answer of gRPC is judged by its status: a 503 of a gateway is UNAVAILABLE.
    """
    status = status_in(answer)
    if status is None:
        if answer.status < 500:
            return None  # not gRPC's word for a 4xx, which is INTERNAL for 400: no endpoint failed
        status = from_http(answer.status)
    return _failure(answer.status, status, untouched)


def judge_end(trailers: Fields) -> Failure | None:
    """The failure that an answer's trailers tell, as `judge_head`. For ejection: it is too late for another try."""
    return _failure(200, status_at_end(trailers), untouched=False)


def failure_of(fault: Fault, *, untouched: bool) -> Failure:
    """A try of a gRPC request that ended without an answer."""
    return Failure(fault, None, untouched, status_of(fault))


def final_status(told: int | None, fault: Fault | None, http_status: int) -> str:
    """A gRPC request's status for log and metrics: what the endpoint told, else what became of it; "0" to "16"."""
    if fault is not None and (told is None or fault.status == 0):
        return str(status_of(fault))
    return str(from_http(http_status) if told is None else told)


# --- Our own answers ------------------------------------------------------------------------------------------------


def status_of(fault: Fault) -> int:
    """The gRPC code of one of our own faults. Of several flags (`URX,UF`) the last says what happened."""
    status = _BY_FLAG.get(fault.flag.rpartition(",")[2])
    if status is None:
        status = _BY_STATUS.get(fault.status)
    return from_http(fault.status) if status is None else status


def from_http(status: int) -> int:
    """The gRPC code that clients read into an answer without `grpc-status`."""
    return _FROM_HTTP.get(status, UNKNOWN)


def message(sentence: str) -> bytes:
    """A sentence as a `grpc-message`: percent-encoded UTF-8, cut to MAX_MESSAGE_BYTES."""
    text = sentence.encode("utf-8", "replace")
    if len(text) > MAX_MESSAGE_BYTES:
        text = text[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore").encode()
    return _NOT_PLAIN.sub(lambda found: b"%%%02X" % found[0][0], text)


def _code(value: bytes) -> int:
    """0 to 16; everything else is UNKNOWN, as gRPC has it for codes of the future."""
    number = int(value) if value.isdigit() and len(value) <= 2 else UNKNOWN
    return number if number <= UNAUTHENTICATED else UNKNOWN


def _failure(http_status: int, status: int, untouched: bool) -> Failure | None:
    return Failure(None, http_status, untouched, status) if status in _WORTH_TELLING else None
