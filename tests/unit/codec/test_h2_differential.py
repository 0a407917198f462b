"""A machine plays any frames, good and bad, cut anyhow, and any calls, to both HTTP/2 codecs: they agree on all of it.

Where they do not, the difference is one of DIFFERENCES, each with the section of the RFC that lets either of them be
right, or says that ours is. After such a one the two go different ways, and the machine ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sidecar.codec.events import Event, Reset
from sidecar.codec.h2_frames import Cutter
from sidecar.codec.h2_frames import Frame as Cut
from sidecar.model.messages import RequestHead, ResponseHead
from tests.support.http2 import PREFACE, Header, Wire, data, frame, goaway, ping, priority, rst, window
from tests.support.http2 import settings as settings_frame
from tests.support.http2_codecs import LEAN, REFERENCE, Client, Codecs, Server
from tests.unit.codec.test_h2_bytes import ANSWERS, REQUESTS, shown

STREAMS = (1, 3, 5, 7)
NUMBERS = st.sampled_from((*STREAMS, *STREAMS, 0, 2, 9, 201))
SIZES = st.sampled_from((0, 1, 4, 63, 64, 1000, 16_384))
SETTING_CODES = st.sampled_from((*range(10), 4, 4, 4, 5, 1, 99))
SETTING_VALUES = st.sampled_from((0, 1, 2, 100, 16_384, 65_535, 2**20, 2**31 - 1, 2**31))
CALLS = ("head", "whole", "interim", "chunk", "end", "trailers", "reset", "credit", "ping", "away", "begin")
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)


@dataclass
class Side:
    """One codec, with what it said and wrote since the last step."""

    codec: Server | Client
    wire: Wire = field(default_factory=Wire)
    events: list[Event] = field(default_factory=list)
    windows: dict[int, int] = field(default_factory=dict)

    def feed(self, raw: bytes, cuts: list[int]) -> None:
        places = sorted({cut % (len(raw) + 1) for cut in cuts})
        for start, end in zip([0, *places], [*places, len(raw)], strict=True):
            if raw[start:end]:
                self.events += self.codec.feed(raw[start:end], 0.0)

    def said(self) -> dict[str, object]:
        """Everything that can be seen of it, in a form that compares."""
        codec = self.codec
        events, self.events = self.events, []
        frames = []
        for one in self.wire.read(codec.take().removeprefix(PREFACE)):
            if one.name == "WindowUpdate":
                self.windows[one.stream] = self.windows.get(one.stream, 0) + int.from_bytes(one.body, "big")
            else:
                body = one.body if one.name in ("Data", "Ping") else b""
                frames.append((one.name, one.stream, one.code, one.last, tuple(sorted(one.flags)), one.headers, body))
        return {
            "events": [_told(event) for event in shown(events)],
            "frames": frames,
            "over": bool(codec.over),
            "notes": [note.kind for note in codec.notes()],
            "streams": codec.streams,
            "draining": codec.draining,
            "pings": codec.pings_unanswered,
            "room": [codec.send_room(number) for number in STREAMS] if not codec.over else [],
            "begin": getattr(codec, "room", 0),
            "connect": not codec.over and getattr(codec, "extended_connect", False),
            "window": self.windows.get(0, 0),
        }


def _told(event: object) -> object:
    """A reset without its sentence."""
    if isinstance(event, Reset):
        return ("reset", event.stream, event.untouched, int(event.code), event.cut_off)
    return event


@dataclass
class Step:
    """What was given to both, and what came of it."""

    frames: list[Cut]
    reference: dict[str, object]
    lean: dict[str, object]
    broken: set[int]  # streams that our side or the peer's faults have reset so far

    def codes(self, side: dict[str, object]) -> set[int]:
        """Of what went out."""
        frames: Any = side["frames"]
        return {code for name, _, code, *_ in frames if name == "GoAway"}

    def without_last(self, side: dict[str, object]) -> dict[str, object]:
        """All but the last stream of a GOAWAY."""
        frames: Any = side["frames"]
        return {**side, "frames": [(name, number, code, *more) for name, number, code, _, *more in frames]}

    def has(self, kind: int, *, where: Callable[[Cut], bool] = lambda _: True) -> bool:
        """Whether such a frame was among those given."""
        return any(one.kind == kind and where(one) for one in self.frames)


@dataclass(frozen=True)
class Difference:
    """Why both may be right, or ours is."""

    section: str
    why: str
    is_it: Callable[[Step], bool]


def _settings_of(one: Cut) -> list[tuple[int, int]]:
    body = one.payload
    return [(int.from_bytes(body[i : i + 2], "big"), int.from_bytes(body[i + 2 : i + 6], "big"))
            for i in range(0, len(body) - 5, 6)]  # fmt: skip


def _twice(one: Cut) -> bool:
    said = [code for code, _ in _settings_of(one)]
    return len(said) != len(set(said))


def _both_over(step: Step) -> bool:
    return step.reference["over"] is True and step.lean["over"] is True


DIFFERENCES = (
    Difference("4.3", "a block that HPACK cannot read is COMPRESSION_ERROR; python-h2 says PROTOCOL_ERROR",
               lambda step: _both_over(step) and step.codes(step.lean) == {9} and step.codes(step.reference) == {1}),
    Difference("6.5.3", "settings take effect in their order; python-h2 sees the last one of each",
               lambda step: step.has(SETTINGS, where=_twice)),
    Difference("6.5.2", "a server must not say ENABLE_PUSH 1",
               lambda step: step.has(SETTINGS, where=lambda one: (2, 1) in _settings_of(one))),
    Difference("5.4", "a frame with two faults has either's code",
               lambda step: _both_over(step) and step.codes(step.lean) != step.codes(step.reference)
               and step.codes(step.lean) <= {1, 3, 5, 6} and step.codes(step.reference) <= {1, 3, 5, 6}),
    Difference("5.4.1", "a frame with too much padding ends the connection; the reference resets its stream before",
               lambda step: _both_over(step) and step.codes(step.lean) == step.codes(step.reference)
               and step.codes(step.lean) <= {1, 6}
               and step.has(DATA, where=lambda one: bool(one.flags & 8))),
    Difference("6.2", "padding and priority of HEADERS are looked at when they come; by the reference with the block",
               lambda step: step.lean["over"] is True and step.reference["over"] is False
               and step.codes(step.lean) <= {1, 6}
               and step.has(HEADERS, where=lambda one: not one.flags & 4 and bool(one.flags & 0x28))),
    Difference("5.1", "what comes on a stream that we have reset costs that stream; python-h2 takes some for ended",
               lambda step: step.reference["over"] is True and step.codes(step.reference) == {5}
               and step.has(HEADERS, where=lambda one: one.stream in step.broken)),
    Difference("6.8", "GOAWAY names the last stream that we may have acted on; python-h2's the last one that came",
               lambda step: _both_over(step) and step.without_last(step.lean) == step.without_last(step.reference)),
    Difference("6.9", "the reserved bit of WINDOW_UPDATE means nothing; python-h2 takes it for a part of the number",
               lambda step: step.reference["over"] is True and step.lean["over"] is False
               and step.has(WINDOW_UPDATE, where=lambda one: one.size == 4 and one.payload[0] >= 0x80)),
    Difference("6.9.2", "a change of INITIAL_WINDOW_SIZE is for open streams; python-h2 counts closed ones, too",
               lambda step: step.reference["over"] is True and step.codes(step.reference) == {3}
               and step.has(SETTINGS)),
)  # fmt: skip


class Differential(RuleBasedStateMachine):
    """See the module's text."""

    as_server: bool

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.cutter = Cutter()
        self.sides = [self._side(codecs) for codecs in (REFERENCE, LEAN)]
        assert isinstance(self.sides[1].codec, type(LEAN.server() if self.as_server else LEAN.client()))
        self.headed: set[int] = set()
        self.broken: set[int] = set()
        self.next = 9
        self.apart = False
        self.seen: set[str] = set()

    def _side(self, codecs: Codecs) -> Side:
        return Side(codecs.server() if self.as_server else codecs.client())

    @initialize(heads=st.lists(st.tuples(REQUESTS, st.booleans()), min_size=4, max_size=4))
    def open(self, heads: list[tuple[Any, bool]]) -> None:
        if self.as_server:
            opened = [self.wire.headers(n, head, end=end) for n, (head, end) in zip(STREAMS, heads, strict=True)]
            self.play(settings_frame() + b"".join(opened), [], first=PREFACE)
            return
        for method in (b"GET", b"POST", b"HEAD"):
            length = None if method == b"POST" else 0
            self._ask(RequestHead(method, b"/", b"a", [], content_length=length), end=length == 0)
        self._ask(RequestHead(b"CONNECT", b"a:1", b"a:1", []), end=False)
        self.play(settings_frame(), [])

    # What a peer may send

    @rule(
        number=NUMBERS,
        head=st.one_of(REQUESTS, ANSWERS),
        end=st.booleans(),
        cuts=st.lists(st.integers(0, 400), max_size=3),
    )
    def block(self, number: int, head: tuple[Header, ...], end: bool, cuts: list[int]) -> None:
        self.play(self.wire.headers(number, head, end=end), cuts)

    @rule(head=st.one_of(REQUESTS, ANSWERS), end=st.booleans(), skip=st.sampled_from((0, 0, 2)))
    def new(self, head: tuple[Header, ...], end: bool, skip: int) -> None:
        self.next += skip
        self.play(self.wire.headers(self.next, head, end=end), [])
        self.next += 2

    @rule(
        number=NUMBERS,
        head=ANSWERS,
        parts=st.integers(1, 4),
        flags=st.sampled_from((0, 1, 0x20, 0x28)),
        last=st.booleans(),
    )
    def parts(self, number: int, head: tuple[Header, ...], parts: int, flags: int, last: bool) -> None:
        whole = self.wire.block(head)
        size = len(whole) // parts + 1
        cut = [whole[at : at + size] for at in range(0, len(whole), size)] or [b""]
        before = (b"\x02" if flags & 8 else b"") + (b"\0\0\0\1\x10" if flags & 0x20 else b"")
        raw = frame(1, flags, number, before + cut[0] + (b"\0\0" if flags & 8 else b""))
        raw += b"".join(frame(9, 0, number, part) for part in cut[1:])
        self.play(raw + (frame(9, 4, number) if last else ping()), [])

    @rule(
        number=NUMBERS,
        size=SIZES,
        end=st.booleans(),
        pad=st.sampled_from((None, None, 0, 3)),
        cuts=st.lists(st.integers(0, 400), max_size=3),
    )
    def body(self, number: int, size: int, end: bool, pad: int | None, cuts: list[int]) -> None:
        self.play(data(number, bytes(size), end=end, pad=pad)[: 9 + 16_384], cuts)

    @rule(
        raw=st.one_of(
            st.builds(rst, NUMBERS, st.sampled_from((0, 7, 8, 99))),
            st.builds(window, NUMBERS, st.sampled_from((0, 1, 70_000, 2**31 - 1))),
            st.builds(priority, NUMBERS, NUMBERS),
            st.sampled_from(
                (ping(), ping(ack=True), ping((1).to_bytes(8, "big"), ack=True), ping(b"drained?", ack=True))
            ),
            st.sampled_from(
                (settings_frame(), settings_frame(ack=True), settings_frame((3, 1)), settings_frame((8, 1)))
            ),
            st.builds(goaway, st.sampled_from((0, 1, 3, 2**31 - 1)), st.sampled_from((0, 11))),
        )
    )
    def control(self, raw: bytes) -> None:
        self.play(raw, [])

    @rule(values=st.lists(st.tuples(SETTING_CODES, SETTING_VALUES), min_size=1, max_size=3))
    def setting(self, values: list[tuple[int, int]]) -> None:
        self.play(settings_frame(*values), [])

    @rule(kind=st.integers(0, 12), flags=st.integers(0, 255), number=NUMBERS, payload=st.binary(max_size=12))
    def odd(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.play(frame(kind, flags, number, payload), [])

    @rule(raw=st.binary(max_size=30))
    def rubbish(self, raw: bytes) -> None:
        self.play(raw, [])

    @rule()
    def leave(self) -> None:
        if self.apart:
            return
        for side in self.sides:
            side.events += side.codec.feed(b"", 0.0)
        self.compare([])

    # What an exchange may do

    @rule(what=st.sampled_from(CALLS), number=st.sampled_from(STREAMS), size=SIZES)
    def exchange(self, what: str, number: int, size: int) -> None:
        if what in ("head", "whole"):
            if self.as_server and number not in self.headed:
                self.headed.add(number)
                head = ResponseHead(200, [(b"x", b"y")], content_length=0 if what == "whole" else None, version=b"2")
                self.call(lambda codec: codec.send_head(number, head, end=what == "whole"))
        elif what == "interim" and self.as_server:
            self.call(lambda codec: codec.send_interim(number, ResponseHead(103, [])))
        elif what == "reset":
            self.call(lambda codec: codec.reset(number))
        elif what == "credit":
            self.call(lambda codec: codec.credit(number, size))
        elif what == "ping":
            self.call(lambda codec: codec.ping())
        elif what == "away":
            self.call(lambda codec: codec.go_away(**({"at_once": number == 1} if self.as_server else {})))
        elif what == "begin" and not self.as_server:
            if self.sides[0].codec.room:  # type: ignore[union-attr]
                self._ask(RequestHead(b"POST", b"/", b"a", [], content_length=None), end=size == 0)
        elif what == "begin" or (self.as_server and number not in self.headed):
            return
        elif what == "chunk":
            self.call(lambda codec: codec.send_chunk(number, bytes(size)[: codec.send_room(number)]))
        else:
            self.call(lambda codec: codec.send_end(number, [(b"t", b"u")] if what == "trailers" else ()))

    def _ask(self, head: RequestHead, *, end: bool) -> None:
        self.call(lambda codec: codec.send_request(head, end=end))

    def call(self, act: Callable[[Any], object]) -> None:
        if self.apart:
            return
        given = [act(side.codec) for side in self.sides]
        assert given[0] == given[1]
        self.compare([])

    def play(self, raw: bytes, cuts: list[int], *, first: bytes = b"") -> None:
        if self.apart:
            return
        for side in self.sides:
            side.feed(first + raw, cuts)
        self.compare(list(self._cut(raw)))

    def _cut(self, raw: bytes) -> list[Cut]:
        frames: list[Cut] = []
        try:
            frames += self.cutter.cut(raw)
        except Exception:
            self.cutter = Cutter()
        return frames

    def compare(self, frames: list[Cut]) -> None:
        reference, lean = (side.said() for side in self.sides)
        for name, number, *_ in (*lean["frames"], *reference["frames"]):  # type: ignore[misc]
            if name == "RstStream":
                self.broken.add(number)
        if reference != lean:
            step = Step(frames, reference, lean, self.broken)
            known = [each for each in DIFFERENCES if each.is_it(step)]
            assert known, {key: (reference[key], lean[key]) for key in lean if reference[key] != lean[key]}
            self.apart = True


class Servers(Differential):
    as_server = True


class Clients(Differential):
    as_server = False


for machine in (Servers, Clients):
    machine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestServers = Servers.TestCase
TestClients = Clients.TestCase
