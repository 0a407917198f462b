"""What may differ between an answer that came directly and one that came through us. Anything else is a bug.

The tables are the documentation: nothing is left out of a comparison that does not stand here with its reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.interop.record import FieldsSeen, Record

# Fields that belong to one connection, not to the message (RFC 9110 section 7.6.1). Whether connections live on is
# compared for itself, by `Record.reused`.
HOP_BY_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade"))

# Fields that every hop writes for itself, from what it checked, in a spelling of its own. Their values are compared.
SPELT_ANEW = frozenset(("content-length",))

# Fields of answers whose value depends on when or where it was made. That they are there is compared.
VALUE_VARIES = {
    "date": "the time of day",
}

# Fields of requests that we add on the way; an upstream that people run behind any proxy knows them.
ADDED_TO_REQUESTS = {
    "x-request-id": "names the request in logs",
    "traceparent": "W3C trace context",
    "tracestate": "W3C trace context",
    "x-forwarded-for": "the client's address",
    "x-forwarded-proto": "http or https, as the client spoke",
    "x-forwarded-client-cert": "the verified identity of a mesh peer",
    "x-mesh-timeout-ms": "how long the caller still waits, for the app to pass on",
}

# When what the client speaks and what the upstream speaks are not the same, the direct run is not quite the same.
IN_TRANSLATION = {
    "server": "hypercorn names its codec in it",
}

# When no direct run of the client exists, curl stands in: what it says about itself differs.
OF_A_STAND_IN = {
    "user-agent": "another program",
    "accept": "each client has its own default",
    "accept-encoding": "each client has its own default",
}


@dataclass(frozen=True)
class Compared:
    """How two runs are to be compared.

    Attributes:
        same_case: Field names keep their case all the way: HTTP/1.1 on both sides and no HTTP/2 between them.
        translated: The client's version is not the upstream's.
        stand_in: The direct run is curl's, in the upstream's version.
        closes: The client asked for an end of its connection.
    """

    same_case: bool
    translated: bool
    stand_in: bool
    closes: bool


def differences(direct: Record, through: Record, how: Compared) -> list[str]:
    """What differs and must not; empty when all is well."""
    found = []

    def same(what: str, expected: object, got: object) -> None:
        if expected != got and isinstance(expected, list) and isinstance(got, list):
            lost = [item for item in expected if item not in got]
            found.append(
                f"{what}: only directly {lost}, only through us {[item for item in got if item not in expected]}"
            )
        elif expected != got:
            found.append(f"{what}: directly {expected!r}, through us {got!r}")

    same("status", direct.status, through.status)
    same("fields", _answer_fields(direct, how), _answer_fields(through, how))
    if direct.seen is None or through.seen is None:
        same("body", (direct.body_bytes, direct.body_sha256), (through.body_bytes, through.body_sha256))
    else:
        same("method and target seen", _line_seen(direct), _line_seen(through))
        same("fields seen", _fields_seen(direct, how), _fields_seen(through, how))
    if direct.trailers is not None and through.trailers is not None:
        same("trailers", _shown(direct.trailers, how), _shown(through.trailers, how))
    if direct.interims is not None and through.interims is not None:
        same("interim answers", _interims(direct, how), _interims(through, how))
    if how.closes:
        same("connection reused", False, through.reused)
    elif direct.reused is not None and through.reused is not None:
        same("connection reused", direct.reused, through.reused)
    return found


def _shown(fields: Iterable[tuple[str, str]], how: Compared) -> list[tuple[str, str]]:
    """A multiset of fields, in the case that is to be kept."""
    varied = ((name, "(varies)" if name.lower() in VALUE_VARIES else value) for name, value in fields)
    return sorted((name if _case_kept(name, how) else name.lower(), value) for name, value in varied)


def _case_kept(name: str, how: Compared) -> bool:
    return how.same_case and name.lower() not in SPELT_ANEW


def _answer_fields(record: Record, how: Compared) -> list[tuple[str, str]]:
    left_out = set(HOP_BY_HOP)
    if how.translated:
        left_out |= IN_TRANSLATION.keys()
    if record.seen is not None:  # its body tells of fields that we add
        left_out.add("content-length")
    return _shown(((name, value) for name, value in record.fields if name.lower() not in left_out), how)


def _interims(record: Record, how: Compared) -> list[tuple[int, list[tuple[str, str]]]]:
    assert record.interims is not None
    interims = (Record(record.version, status, fields, 0, "") for status, fields in record.interims)
    return [(interim.status, _answer_fields(interim, how)) for interim in interims]


def _line_seen(record: Record) -> tuple[str, str]:
    assert record.seen is not None
    return record.seen["method"], record.seen["target"]


def _fields_seen(record: Record, how: Compared) -> list[tuple[str, str]]:
    assert record.seen is not None
    left_out = HOP_BY_HOP | ADDED_TO_REQUESTS.keys() | (OF_A_STAND_IN.keys() if how.stand_in else set())
    fields: FieldsSeen = tuple(map(tuple, record.seen["fields"]))
    one_host = {":authority": "host"}
    named = ((one_host.get(name, name), value) for name, value in fields)
    return _shown(((n, v) for n, v in named if not n.startswith(":") and n.lower() not in left_out), how)
