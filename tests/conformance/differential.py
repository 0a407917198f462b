"""Do other programs read what we accept as we do? Two questions about each request that our codec accepts:

- What we forward is one request to each reader, with our method, target, host, fields, body and trailers.
- The client's own bytes mean the same to it. A reader that refuses what we accept is a finding too: either we are more
  lenient than it, or it has a limit of its own, and then it stands in `OWN_LIMITS`.

Requests go in rows on one connection, so that one whose end is misread makes those after it wrong as well. A row that
is not as it should be is asked again, one request at a time, to name the one that is to blame.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from urllib.parse import unquote_to_bytes

from sidecar.codec.target import canonical_target
from sidecar.errors import ProxyError
from sidecar.model.messages import Fields
from tests.conformance.generated import Accepted, accepted, kept, request
from tests.conformance.readers.over_h11 import H11Reader
from tests.conformance.readers.seen import Answer, Reader, Refused, Seen, in_one_stream
from tests.conformance.readers.servers import PATIENCE_S, Servers

ROW = 50  # requests on one connection; their answers have to fit into the buffers of sockets
TOLD_MAX = 3  # disagreements of one reader; there is always one for a reader that waits in vain
PART = 1_000  # generated requests
PROVEN = 100_000
LEAST_ACCEPTED_RATIO = 0.4

# What programs change on their way to the recorder, or read for themselves.
_NOT_COMPARED = frozenset(
    (
        *(b"host", b"connection", b"content-length", b"transfer-encoding", b"te", b"expect", b"keep-alive", b"upgrade"),
        *(b"proxy-connection", b"http2-settings", b"trailer", b"x-nginx-method", b"x-nginx-path"),
        *(b"x-forwarded-proto", b"x-request-id"),
    )
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A disagreement."""

    reader: str
    question: str
    what: str
    raw: bytes

    def __str__(self) -> str:
        return f"{self.reader}, {self.question}: {self.what} in {self.raw!r}"


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent to the readers, and what they should answer."""

    name: str
    bytes_of: Callable[[Accepted], bytes]
    wrong: Callable[[Accepted, Answer, str], str]


def ask(readers: Iterable[Reader], requests: Sequence[Accepted], questions: Sequence[Question]) -> list[Finding]:
    """The first disagreements about `requests`; each reader is asked in a thread of its own."""

    def of_one(reader: Reader) -> list[Finding]:
        return [found for question in questions for found in islice(_of_reader(reader, question, requests), TOLD_MAX)]

    with ThreadPoolExecutor() as pool:
        return [found for many in pool.map(of_one, readers) for found in many]


def _of_reader(reader: Reader, question: Question, requests: Sequence[Accepted]) -> Iterator[Finding]:
    for row in _rows(question, requests):
        if _wrong(question, row, reader):
            for one in row:
                if what := _wrong(question, [one], reader):
                    yield Finding(reader.name, question.name, what, question.bytes_of(one))


def _rows(question: Question, requests: Sequence[Accepted]) -> Iterator[list[Accepted]]:
    """Rows in which only the last request may end its connection."""
    row: list[Accepted] = []
    for one in requests:
        row.append(one)
        if _ends(question, one) or len(row) == ROW:
            yield row
            row = []
    if row:
        yield row


def _ends(question: Question, one: Accepted) -> bool:
    """True when a request is the last one of its connection."""
    return question is THEIRS and not (one.head.keep_alive and one.head.version == b"1.1")


def _wrong(question: Question, row: Sequence[Accepted], reader: Reader) -> str:
    """What is wrong with a reader's answers to a row; "" if nothing is."""
    answers = in_one_stream(reader, [question.bytes_of(one) for one in row], goes_on=not _ends(question, row[-1]))
    for one, answer in zip(row, answers, strict=False):
        if what := question.wrong(one, answer, reader.name):
            return what
    if len(row) == 1 and answers and isinstance(answers[0], Refused):
        return ""  # a limit of its own
    if len(answers) < len(row):
        return "it waits for more bytes" if answers or len(row) == 1 else "no answer"
    return f"it finds {len(answers) - len(row)} more" if len(answers) > len(row) else ""


def _differs(what: str, ours: object, theirs: object) -> str:
    return "" if ours == theirs else f"{what} is {theirs!r}, to us {ours!r}"


def _about_forwarded(one: Accepted, answer: Answer, reader: str) -> str:
    head = one.head
    if isinstance(answer, Refused):
        return "" if _own_limit(reader, one.forwarded) else f"it refuses ({answer.why})"
    path = None if answer.path is None else _differs("path", _plain_path(head.target), answer.path)
    return (
        _differs("target", head.target, answer.target)
        or _about_both(one, answer)
        or _differs("host", head.authority, answer.host)
        or _differs("trailers", _comparable(one.message.trailers, set()), _trailers(one, answer))
        or path
        or ""
    )


def _about_theirs(one: Accepted, answer: Answer, reader: str) -> str:
    head = one.head
    limit = _own_limit(reader, one.raw)
    if isinstance(answer, Refused):
        return "" if limit else f"it refuses ({answer.why})"
    if answer.target.startswith(b"/") and not limit:
        try:
            target: object = canonical_target(answer.target)
        except ProxyError as exc:
            target = exc
        what = _differs("target", head.target, target)
        if not what and head.version == b"1.1" and b"://" not in one.raw.split(b"\r\n", 1)[0]:
            what = _differs("host", head.authority, answer.host)
        if what:
            return what
    return _about_both(one, answer)


def _about_both(one: Accepted, answer: Seen) -> str:
    dropped = {name.lower() for name, _ in one.head.fields} - {name.lower() for name, _ in kept(one.head)}
    ours, theirs = _comparable(kept(one.head), dropped), _comparable(answer.fields, dropped)
    return (
        _differs("method", one.head.method, answer.method)
        or _differs("body", one.message.body, answer.body)
        or _differs("fields", ours, theirs)
    )


def _trailers(one: Accepted, answer: Seen) -> dict[bytes, bytes]:
    return _comparable(one.message.trailers if answer.trailers is None else answer.trailers, set())


def _comparable(fields: Fields, dropped: set[bytes]) -> dict[bytes, bytes]:
    """Values by name in lower case, joined; some readers join them themselves."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        lower = name.lower()
        if lower not in _NOT_COMPARED and lower not in dropped:
            joined[lower] = joined[lower] + b"," + value if lower in joined else value
    return {name: b",".join(_elements(value)) for name, value in joined.items()}


def _elements(value: bytes) -> Iterator[bytes]:
    """The elements of a list; empty ones do not count (RFC 9110 section 5.6.1.2)."""
    return (stripped for part in value.split(b",") if (stripped := part.strip(b" \t")))


def _plain_path(target: bytes) -> bytes:
    """What a path that has no dot segments left is to a reader that decodes it."""
    return unquote_to_bytes(target.partition(b"?")[0])


_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_ONCE = rb"authorization|if-none-match|if-modified-since|if-range|range|expect|content-type|user-agent"
_PLAIN = "an address whose host is not plain, or that has no path"
# Reader, what it refuses or simplifies although nobody could be fooled by it (a pattern for the request), and why.
OWN_LIMITS: tuple[tuple[str, re.Pattern[bytes], str], ...] = (
    (
        "llhttp",
        re.compile(rb"\r\n[0-9A-Fa-f]+(?!(?:;%b(?:=(?:%b|\"[^\r]*\"))?)*\r\n)[ \t;][^\r\n]*\r\n" % (_TOKEN, _TOKEN)),
        "blanks in the line of a chunk, and extensions without a name",
    ),
    (
        "llhttp",
        re.compile(rb"\r\n(?:content-length|transfer-encoding):[^\r]*\t[ \t]*\r", re.IGNORECASE),
        "a tab after a length or a coding",
    ),
    (
        "nginx",
        re.compile(rb"\r\n(?:host|content-length|transfer-encoding):[^\r]*\t", re.IGNORECASE),
        "a tab is a part of the value to it",
    ),
    (
        "nginx",
        re.compile(rb"\r\n(%b):(?s:.)*\r\n\1:" % _ONCE, re.IGNORECASE),
        "fields that may be there once only, whatever they say",
    ),
    ("nginx", re.compile(rb"\A[^\r]* [^?\r]*/(?:\.|%2e){2}(?:[/?]| )", re.IGNORECASE), "a path above the root"),
    ("nginx", re.compile(rb"\r\nhost: *(?:\.|[^\r]*\.\.|\r)", re.IGNORECASE), "an empty name, or part of a name"),
    (
        "nginx",
        re.compile(rb"\A[^\r]* https?://(?!(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[::1\])(?::[0-9]+)?/)", re.IGNORECASE),
        _PLAIN,
    ),
    (
        "Envoy",
        re.compile(rb"\r\nconnection:(?![ \t]*%b[ \t]*(?:,[ \t]*%b[ \t]*)*\r)" % (_TOKEN, _TOKEN), re.IGNORECASE),
        "an option of Connection that is no token",
    ),
    ("Envoy", re.compile(rb"\A[^\r]* https?://(?!(?:[a-z0-9.-]+|\[::1\])(?::[0-9]+)?/)", re.IGNORECASE), _PLAIN),
)


def _own_limit(reader: str, raw: bytes) -> str:
    for name, pattern, why in OWN_LIMITS:
        if name == reader and pattern.search(raw):
            return why
    return ""


FORWARDED = Question("what we forward", lambda one: one.forwarded, _about_forwarded)
THEIRS = Question("the client's bytes", lambda one: one.raw, _about_theirs)
QUESTIONS = (FORWARDED, THEIRS)


class Differential:
    """The long run, for bench/prove.py: `PROVEN` generated requests in parts."""

    parts = tuple(f"requests {first:,}.." for first in range(0, PROVEN, PART))

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers

    def play(self, _part: str, rng: Random) -> Counter[str]:
        """Ask about the requests of one part. Raises AssertionError for a disagreement."""
        requests = generate(rng, PART)
        findings = ask(self._readers, requests, QUESTIONS)
        assert not findings, "; ".join(map(str, findings[:3]))
        return Counter(generated=PART, accepted=len(requests))

    def figure(self, counts: Mapping[str, int]) -> str:
        """The line for the ledger."""
        ratio = counts["accepted"] / counts["generated"]
        assert ratio >= LEAST_ACCEPTED_RATIO, f"only {ratio:.0%} are accepted"
        names = ", ".join(reader.name for reader in self._readers)
        return (
            f"{counts['generated']:,} generated, {counts['accepted']:,} accepted ({ratio:.0%}); "
            f"{names} read each of them, as it came and as it is forwarded: 0 disagreements"
        )


@contextmanager
def prove() -> Iterator[Differential]:
    """The long run with its readers."""
    with all_readers() as readers:
        yield Differential(readers)


@contextmanager
def all_readers(patience_s: float = PATIENCE_S) -> Iterator[tuple[Reader, ...]]:
    """h11, llhttp, nginx and Envoy."""
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder), patience_s) as servers:
        yield (H11Reader(), *servers.readers)


def generate(rng: Random, count: int) -> list[Accepted]:
    """Those of `count` generated requests that we accept."""
    made = (accepted(request(rng)) for _ in range(count))
    return [one for one in made if one is not None]
