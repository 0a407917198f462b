"""One connection with many streams, either side of it: reading, writing, and waking whoever waits.

A `MuxLink` owns the stream and its codec, and reads it as the stream's handler, while its task sleeps in `read`: a
wake-up of the peer costs no turn of trio. It gives each event to the end of its stream. A `MuxEnd` belongs to an
exchange, which waits in it for events, or for room to send; other ends (`End`) are synchronous throughout. Used by
`mux_server.py` towards clients and by `mux_client.py` towards endpoints.

Back-pressure: what an exchange has not forwarded is not credited; an end sends no more than the peer's windows allow,
and waits while the socket is full. The peer is read meanwhile, because many a peer reads only when it has written; not
any more when it does not even take what reading makes us answer. One that takes nothing for too long is given up, and
so is one that is silent and does not answer when it is asked (PING).
"""

import math
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from typing import Protocol

import trio

from sidecar.codec.contract import CANCEL, Mux
from sidecar.codec.events import Chunk, Event, Reset
from sidecar.errors import ProxyError
from sidecar.model.bootstrap import ProcessLimits
from sidecar.proxy.downstream import linger
from sidecar.proxy.timer import Entry, Timer
from sidecar.telemetry.observer import Observer
from sidecar.transport.stream import HIGH_WATER_BYTES, Stream, StreamBroken

MERGED_BYTES = 4096  # small pieces that wait become one of this size: an object each would take more than they carry
IDLE = "idle"  # why a connection ended that nobody used

Trailing = Iterable[tuple[bytes, bytes]]


def _never() -> float:
    return math.inf


class MuxEnd:
    """One stream of a link, as its exchange sees it.

    Attributes:
        number: The stream's; 0 before it has begun.
        lost: What ended it before its message did. Never raised itself, only its like: a kept exception that was raised
            keeps the frames it went through, and they keep the stream, until the collector comes.
        owed: Flow-control bytes received and not credited yet; what is left goes back to the connection at the end.
        progress_s: How long the peer may take nothing of it. A tunnel has its idle time instead, for both directions.
    """

    __slots__ = ("_ending", "_out", "_wake", "_watch", "events", "link", "lost", "number", "owed", "progress_s")

    half_closes = True

    def __init__(self, link: "MuxLink", number: int) -> None:
        self.link = link
        self.number = number
        self.events: deque[Event] = deque()
        self.lost: ProxyError | None = None
        self.owed = 0
        self.progress_s = link.progress_s
        self._out: deque[bytes] = deque()
        self._ending: list[tuple[bytes, bytes]] | None = None
        self._wake: trio.Event | None = None
        self._watch: Callable[[], None] | None = None

    # For the link.

    def take(self, event: Event) -> None:
        """An event of this stream; `wake` follows when all of one read were taken."""
        if isinstance(event, Chunk):
            self.owed += event.credit
            last = self.events[-1] if self.events else None
            if isinstance(last, Chunk) and len(last.data) + len(event.data) <= MERGED_BYTES:
                last.data += event.data
                last.credit += event.credit
                return
        self.events.append(event)

    def wake(self) -> None:
        """Something came for this stream: events, room, or its end."""
        if self._wake is not None:
            self._wake.set()

    def lose(self, problem: ProxyError) -> None:
        """The stream is gone; what came before it can still be popped."""
        if self.lost is None:
            self.lost = problem
        watch, self._watch = self._watch, None
        if watch is not None:
            watch()
        self.wake()

    # For the exchange.

    def pop(self) -> Event | None:
        """The next event already received, or None."""
        return self.events.popleft() if self.events else None

    async def fill(self) -> None:
        """Wait for more of the peer. Raises ProxyError when the stream is gone."""
        while not self.events:
            if self.lost is not None:
                raise ProxyError(self.lost.fault)
            await self._woken()

    def credit(self, size: int) -> None:
        """Let the peer send `size` more bytes of this stream."""
        self.owed -= size
        self.link.codec.credit(self.number, size)
        self.link.write()

    def put_chunk(self, data: bytes) -> None:
        """Queue bytes of the body; `push` sends them."""
        if data:
            self._out.append(data)

    def put_end(self, trailers: Trailing = ()) -> None:
        """Queue the end of our direction."""
        self._ending = list(trailers)

    def push_now(self) -> bool:
        """Send what is queued as far as it goes without waiting; False: `push` has to go on. Raises ProxyError."""
        return self._send()

    async def push(self) -> None:
        """Send what is queued as far as the peer's windows allow; waits for the rest, as long as it makes progress."""
        while not self._send():
            if self.link.stream.queued_bytes > HIGH_WATER_BYTES:
                await self.link.flush()
            else:
                await self._room()

    def _send(self) -> bool:
        link, codec = self.link, self.link.codec
        self._begin()
        while self._out:
            if link.stream.queued_bytes > HIGH_WATER_BYTES:
                return False  # what others have queued goes first
            if self.lost is not None:
                raise ProxyError(self.lost.fault)
            room = codec.send_room(self.number)
            if room <= 0:
                return False
            data = self._out.popleft()
            if len(data) > room:
                self._out.appendleft(data[room:])
                data = data[:room]
            codec.send_chunk(self.number, data)
            if self._out:  # the end goes with the last piece, in one write
                link.write()
        if self._ending is not None:
            ending, self._ending = self._ending, None
            codec.send_end(self.number, ending)
        link.write()
        if link.stream.queued_bytes > HIGH_WATER_BYTES:
            return False
        if self.lost is not None:
            raise ProxyError(self.lost.fault)
        return True

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once if the stream is lost."""
        self._watch = callback
        if callback is not None and self.lost is not None:
            self._watch = None
            callback()

    def _begin(self) -> None:
        """Send the head, if one is due."""

    async def _room(self) -> None:
        """Wait until the peer has made room. Raises ProxyError after `progress_s` without any."""
        link = self.link
        link.write()  # a head that waits for no window must not wait for one
        link.starved[self] = None
        try:
            with trio.move_on_after(self.progress_s):
                while self.lost is None and link.codec.send_room(self.number) <= 0:
                    await self._woken()  # what the peer sends wakes us too, and is no room
                return
        finally:
            link.starved.pop(self, None)
        if self.lost is None and link.codec.send_room(self.number) <= 0:
            problem = link.stuck(f"the peer took nothing of the stream for {self.progress_s:g}s")
            link.codec.reset(self.number, CANCEL)
            link.write()
            self.lose(problem)
            raise ProxyError(problem.fault)

    async def _woken(self) -> None:
        # Two tasks may wait at once (the rest of a request goes out while its answer is awaited): one event for both.
        if self._wake is None or self._wake.is_set():
            self._wake = trio.Event()
        await self._wake.wait()


class MuxOwner(Protocol):
    """Who decides what an event of a stream that nobody has yet means; the server side and the client side."""

    def on_event(self, event: Event) -> None:
        """An event of a stream that has no end: a new request, or something late."""

    def on_fed(self) -> None:
        """All events of one read were given."""


Blame = Callable[[Reset], ProxyError]


class LinkEnd(Protocol):
    """What a link knows of a stream: a `MuxEnd`, or one that no task waits in.

    Attributes:
        number, owed: See `MuxEnd`.
    """

    number: int
    owed: int

    def take(self, event: Event) -> None:
        """An event of this stream; `wake` follows when all of one read were taken."""

    def wake(self) -> None:
        """Something came for this stream: events, or room to send."""

    def lose(self, problem: ProxyError) -> None:
        """The stream is gone."""


class MuxLink:
    """See the module's text.

    Attributes:
        ends: By stream number.
        starved: Those that wait for room to send, who waits longest first.
        blame: Makes the problem of a lost stream out of its reset, ours too: the client's fault, or the endpoint's.
        read_s: When something was read last, monotonic seconds.
        due_s: When to look again at how long the peer has been silent.
    """

    __slots__ = (
        "_answers", "_asked_at", "_asked_taken", "_entry", "_gate", "_idle_until", "_marked", "_now", "_observer",
        "_owner", "_ping_s", "_pong_s", "_quiet_s", "_reader", "_taken", "_taken_s", "_timer", "_why",
        "_written", "blame", "codec", "due_s", "ends", "progress_s", "read_s", "starved", "stream",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        codec: Mux,
        observer: Observer,
        now: Callable[[], float],
        blame: Blame,
        limits: ProcessLimits,
        timer: Timer,
    ) -> None:
        self.stream = stream
        self.progress_s = limits.write_progress_s
        self._ping_s = limits.http2_ping_s or math.inf
        self._pong_s = limits.http2_ping_timeout_s
        self.codec = codec
        self.ends: dict[int, LinkEnd] = {}
        self.starved: dict[LinkEnd, None] = {}
        self.blame = blame
        self._observer = observer
        self._now = now
        self._gate = trio.Lock()
        self._timer = timer
        self._entry: Entry | None = None
        self._owner: MuxOwner | None = None  # while it is read
        self._idle_until: Callable[[], float] = _never
        self._reader: trio.lowlevel.Task | None = None  # sleeps in `read`
        self._why = ""  # reading is over
        self._marked = False  # to be written with the end of the turn
        self._answers = 0  # bytes that reading made us write while the peer took too little
        self._written = 0  # bytes, since the connection began
        self._taken = 0  # of them, when the peer was last seen to take some while much was queued
        self._taken_s = self._quiet_s = self.read_s = now()  # quiet: since it was heard, or asked, last
        self._asked_at = 0  # `_written`, when it was asked whether it is there
        self._asked_taken = 0  # what it had taken of that, when that was last looked at
        self.due_s = math.inf

    async def read(self, owner: MuxOwner, idle_until: Callable[[], float], first: bytes = b"") -> str:
        """Read until the connection is over, or until `idle_until()` (monotonic seconds) has passed; says why it ended.

        `idle_until` is asked when its last word has passed, and after `nudge`; infinite while streams are open.
        """
        self._owner, self._idle_until, self._why = owner, idle_until, ""
        self._quiet_s = self._now()
        self._entry = self._timer.join(self)
        try:
            self.stream.handle_with(self)
            if first:
                self._came(first)
            else:
                self.write()
                self._wait()
            if not self._why:
                self._reader = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._read_no_more)
            return self._why
        finally:
            self._stop()
            self.write()
            self._lose_all(self._why or "the connection was closed")
            self._owner, self._idle_until = None, _never  # a client's would keep the link

    def _read_no_more(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _stop(self) -> None:
        """No more turns: what comes now is for whoever reads next."""
        self.stream.takeover()
        if self._entry is not None:
            self._timer.leave(self._entry)
            self._entry = None
        self.due_s = math.inf

    def _over(self, why: str) -> None:
        """Reading is over; the task does the rest."""
        if self._why or self._owner is None:
            return
        self._why = why
        self._stop()
        task, self._reader = self._reader, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    # The stream's handler.

    def on_readable(self) -> None:
        """The peer sent something, or left."""
        try:
            data = self.stream.try_read()
        except StreamBroken as exc:
            self._over(str(exc) or "the connection broke")
            return
        if data is not None:
            self._came(data)

    def on_drained(self) -> None:
        """The peer has taken what was queued."""
        if self._answers:
            self._answers = 0
            self.stream.resume()
        self._let_send()

    def on_stale(self) -> None:
        """Nothing is put on condition."""

    def on_blocked(self) -> None:
        """Nothing is put."""

    def on_crashed(self) -> None:
        """A bug ended a turn, and the connection with it."""
        self.stream.abort()
        self._over("a fault of this proxy")

    def _came(self, data: bytes) -> None:
        owner = self._owner
        assert owner is not None
        self.read_s = self._quiet_s = self._now()
        self._feed(data, owner)
        if self.codec.over or not data:
            self._over(self.codec.over or "the peer closed the connection")
            return
        if self.stream.queued_bytes > HIGH_WATER_BYTES:
            self._answers += self.write()
            if self._answers > HIGH_WATER_BYTES:
                self.stream.pause()  # until it takes some
        else:
            self._answers = 0
            self.mark()
        self._wait()

    # Writing.

    def mark(self) -> None:
        """`write` with the end of the reactor's turn, together with whatever else is to be said until then."""
        if not self._marked:
            self._marked = True  # before: the turn may end at once, when many have something to write
            if not self.stream.at_turns_end(self):
                self._marked = False
                self.write()

    def write_put(self, spoken: Container[int]) -> None:
        """See `Putter`."""
        del spoken
        self._marked = False
        self.write()

    def on_crash(self) -> None:
        """See `Putter`."""
        self.stream.crash()

    def write(self) -> int:
        """Write what the codec has to say, and return how much that was; never waits."""
        data = self.codec.take()
        if data:
            stream = self.stream
            full = stream.queued_bytes > HIGH_WATER_BYTES
            self._written += len(data)
            if not stream.write(data):
                if stream.broken:
                    self._over("the peer left")  # nobody is told of reads any more
                elif not full and stream.queued_bytes > HIGH_WATER_BYTES:
                    self._taken, self._taken_s = self._written - stream.pending_bytes, self._now()
                    self.nudge()
        return len(data)

    async def flush(self) -> None:
        """`write`, and wait while the peer is slow to take it. Raises ProxyError when the connection breaks."""
        self.write()
        if self.stream.queued_bytes > HIGH_WATER_BYTES:
            await self.settle()

    async def settle(self) -> None:
        """Wait while more than HIGH_WATER_BYTES are queued; the reader bounds how long. Raises ProxyError."""
        async with self._gate:
            try:
                await self.stream.settle()
            except StreamBroken as exc:
                raise self.blame(Reset(False, str(exc))) from None

    async def bid_farewell(self) -> None:
        """After `read`: let the last bytes arrive."""
        self.write()
        async with self._gate:
            await linger(self.stream, self.progress_s)

    def stuck(self, sentence: str) -> ProxyError:
        """The problem of a peer that takes nothing for as long as it may."""
        return ProxyError(replace(self.blame(Reset(False, sentence)).fault, limit="writeProgress"))

    def forget(self, end: LinkEnd) -> None:
        """The exchange of this stream is over."""
        if self.ends.pop(end.number, None) is not None and end.owed:
            self.codec.credit(end.number, end.owed)

    def _feed(self, data: bytes, owner: MuxOwner) -> None:
        woken: dict[int, LinkEnd] = {}
        for event in self.codec.feed(data, self.read_s):
            end = self.ends.get(event.stream)
            if end is None:
                owner.on_event(event)
            elif isinstance(event, Reset):
                end.lose(self.blame(event))
            else:
                end.take(event)
                woken[event.stream] = end
        for note in self.codec.notes():
            self._observer.codec_noted(note.kind)
        for end in woken.values():
            end.wake()
        if self.starved:
            self._let_send()
        owner.on_fed()

    def _let_send(self) -> None:
        """Wake those who waited for room that there is now."""
        for end in [each for each in self.starved if self.codec.send_room(each.number) > 0]:
            end.wake()

    # Time.

    def nudge(self) -> None:
        """Ask again how long may be waited."""
        if self._owner is not None and not self._why:
            self._wait()

    def _wait(self) -> None:
        """Look again when something may be due; what puts that off is looked at then, and not before."""
        now_s = self._now()
        due_s = min(self._idle_until(), self._asks_s())
        if self.stream.queued_bytes > HIGH_WATER_BYTES:
            due_s = min(due_s, self._taken_s + self.progress_s)
        self.due_s = due_s
        if due_s <= now_s:
            self.on_due(now_s)
        elif self._entry is not None and due_s < self._entry.check_s:
            self._timer.watch(self._entry, due_s)

    def _asks_s(self) -> float:
        """When it has been silent for too long."""
        return self._quiet_s + (self._pong_s if self.codec.pings_unanswered else self._ping_s)

    def on_due(self, now_s: float) -> None:
        """See `Timed`."""
        self.due_s = math.inf
        if why := self._unmoved(now_s):
            self._observer.limit_reached("writeProgress")
            self.stream.abort()
        elif self._idle_until() <= now_s:
            why = IDLE
        elif self._asks_s() <= now_s:
            why = self._silence()
            self._quiet_s = now_s
        if why:
            self._over(why)
        else:
            self._wait()

    def _silence(self) -> str:
        """Nothing came: why that ends the connection, or "" after asking the peer whether it is there."""
        if self.codec.pings_unanswered:
            taken, before = self._written - self.stream.pending_bytes, self._asked_taken
            if (self.stream.queued_bytes or before < self._asked_at) and taken != before:
                self._asked_taken = taken
                return ""  # our question stood in line behind what it is taking
            self._observer.limit_reached("http2.pingTimeout")
            return f"the peer did not answer a PING within {self._pong_s:g}s"
        if self.ends:
            self.codec.ping()
            self.write()
            self._asked_at, self._asked_taken = self._written, self._written - self.stream.pending_bytes
        return ""

    def _unmoved(self, now_s: float) -> str:
        """Why the peer is given up: it has taken nothing for too long, however much others wrote meanwhile."""
        if self.stream.queued_bytes <= HIGH_WATER_BYTES:
            self._taken_s = now_s
        elif (taken := self._written - self.stream.pending_bytes) != self._taken:
            self._taken, self._taken_s = taken, now_s
        elif now_s >= self._taken_s + self.progress_s:
            return f"the peer took nothing for {self.progress_s:g}s"
        return ""

    def _lose_all(self, why: str) -> None:
        for end in list(self.ends.values()):
            end.lose(self.blame(Reset(False, why)))
