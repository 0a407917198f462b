"""The contract of a byte stream: what the proxy may ask of a connection, whatever carries it.

Two implementations stand behind it, `epoll_stream` (plain and TLS, real sockets) and `memory` (virtual time); one test
class runs on all. A stream has one owner at a time: a *handler*, whose methods are called synchronously by the
reactor, or a *task* that took it over and awaits `receive` and `send`. This file holds what both implementations
share: the owner, the waiting tasks and the bounded write queue. It makes no system call.

Rules: `write` never raises; `receive` tries before it waits, unless nothing can be there; a stream that nobody reads
is disarmed, not spun on.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import outcome
import trio

from sidecar.transport.reactor import Putter

READ_BYTES = 65_536  # at most one buffer of this size a turn; then the others have theirs
HIGH_WATER_BYTES = 65_536  # `send` waits while more than this is queued
# A task that always finds data would never let another run: it checkpoints after so many reads in a row, or bytes.
READS_PER_TURN = 8
BYTES_PER_TURN = 128 * 1024  # copied in and out in 0.2 ms; 200 such tasks keep another waiting for 40


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end.

    Attributes:
        address: `host:port` as the kernel says.
        principal: The verified SPIFFE ID; empty without mutual TLS.
        server_name: The ServerName that a TLS client asked for.
        alpn: The protocol that both agreed on.
    """

    address: str
    principal: str = ""
    server_name: str = ""
    alpn: str = ""


class StreamBroken(Exception):  # noqa: N818 - an event of the network, named like trio.BrokenResourceError
    """The connection ended without the peer's orderly end: reset, cut TLS, write after close."""


class Interrupted(Exception):  # noqa: N818 - as StreamBroken
    """Whoever waited for bytes was told to wait no longer; none was lost."""


class Handler(Protocol):
    """A synchronous owner. Its methods run inside the reactor's turn: they never block and may close the stream."""

    def on_readable(self) -> None:
        """Data, an end or an error is there to be found by `try_read`."""

    def on_drained(self) -> None:
        """The write queue is empty again."""

    def on_crashed(self) -> None:
        """A bug ended a turn of this stream, which is closed now."""

    def on_stale(self) -> None:
        """What was to be `put` on a silent stream was not: the peer has spoken or left first. Nothing was written."""

    def on_blocked(self) -> None:
        """What was `put` was not taken whole: the rest is queued, or the stream is broken."""


class Stream:
    """A connection; see the module's text. Subclasses provide `_recv`, `_transmit`, `_arm`, `_release`."""

    __slots__ = (
        "_closed",
        "_emptied",
        "_eof_due",
        "_failure",
        "_handler",
        "_on_hangup",
        "_queue",
        "_reader",
        "_reads",
        "_told",
        "_writer",
        "peer",
        "queued_bytes",
        "read_bytes",
    )

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.queued_bytes = 0
        self.read_bytes = READ_BYTES
        self._queue: deque[memoryview | bytes] = deque()
        self._handler: Handler | None = None
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None
        self._on_hangup: Callable[[], None] | None = None
        # In words: a kept exception would keep its traceback, and with it the frames of whoever met it, in a cycle.
        self._failure = ""
        self._closed = False
        self._eof_due = False
        self._reads = 0
        self._told = False  # by `interrupt`, while a task is in `receive`
        self._emptied = False  # by the last `receive`, and nothing was told since: another try would find nothing

    # What an implementation provides.

    _short_is_all: ClassVar[bool] = False  # a read of less than was asked for has taken all that there was

    def _recv(self) -> bytes | None:
        """One read; b"" is the peer's orderly end, None means nothing yet. Raises OSError."""
        raise NotImplementedError

    def _transmit(self, data: bytes | memoryview) -> int:
        """One write; bytes taken, 0 means that the other side takes none now. Raises OSError."""
        raise NotImplementedError

    def _arm(self, *, read: bool | None = None, write: bool | None = None) -> None:
        """Ask to be told (or not) of readability and writability; None leaves one as it is."""
        raise NotImplementedError

    def _end_writing(self) -> None:
        """Tell the peer that no more bytes come."""
        raise NotImplementedError

    def _release(self, *, abort: bool) -> None:
        """Give the descriptor back; with `abort`, so that the peer sees a reset."""
        raise NotImplementedError

    # Owners.

    @property
    def pending_bytes(self) -> int:
        """Bytes written that the peer has not taken yet, as far as it can be known; for judging its progress.

        Not `queued_bytes`: the kernel takes more from us only once a third of its buffer is free, which for somebody
        who reads slowly, but reads, may be minutes away.
        """
        return self.queued_bytes

    @property
    def last_bytes(self) -> int | None:
        """How many bytes at most are left to be read before the peer's end, if that has come; None: not that we know.

        For somebody who does not read now, and has to know if anything can still follow. TLS counts its framing, too.
        """
        return None

    @property
    def half_closes(self) -> bool:
        """True if one direction can end while the other goes on (`send_eof`)."""
        return True

    @property
    def closed(self) -> bool:
        """True after `close` or `abort`."""
        return self._closed

    @property
    def broken(self) -> bool:
        """True once a read or write failed; what came before a failed write can still be read."""
        return bool(self._failure)

    @property
    def settled(self) -> bool:
        """True if it is open and sound, and all that was written has gone out."""
        return not (self._closed or self._failure or self._queue)

    def handle_with(self, handler: Handler) -> None:
        """Make `handler` the owner; it is called at the next readiness."""
        self._handler = handler
        self.resume()

    def takeover(self) -> None:
        """Make the calling task the owner. Data already received stays for `receive` to find."""
        self._handler = None

    def watch_hangup(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once if the peer is found gone (reset, both ways closed) while nobody reads."""
        self._on_hangup = callback
        if callback is not None and not self._closed:
            self._arm(read=True)

    def pause(self) -> None:
        """Stop being told of readability; the kernel's buffer, then the peer, fill up: back-pressure."""
        if not self._closed:
            self._arm(read=False)

    def resume(self) -> None:
        """Be told of readability again."""
        if not self._closed:
            self._arm(read=True)

    # Reading.

    def try_read(self) -> bytes | None:
        """What is there, at most one buffer; b"" at the peer's orderly end; None when nothing is there yet.

        Raises:
            StreamBroken: The connection is gone without an orderly end.
        """
        if self._failure:
            return self._read_after()
        if self._closed:
            raise StreamBroken("closed here")
        try:
            return self._recv()
        except OSError as exc:
            raise self._fail(exc) from None

    def _read_after(self) -> bytes:
        """What came before a write failed: a peer may answer, then close over what it did not read.

        Its end is no orderly one, whatever the kernel says now: the failed write has already told of the reset.
        """
        if not self._closed:
            try:
                data = self._recv()
            except OSError:
                data = None
            if data:
                return data
        raise StreamBroken(self._failure)

    async def receive(self) -> bytes:
        """Like `try_read`, but waits until something is there. Cancelling loses no data.

        Raises:
            StreamBroken: As `try_read`.
            Interrupted: By `interrupt`, while it waited.
        """
        self._reads += 1
        self._told = False
        if self._reads >= READS_PER_TURN:
            self._reads = 0
            await trio.lowlevel.checkpoint()
        data = None if self._emptied and not (self._failure or self._closed) else self.try_read()
        while data is None:
            self._reads = 0
            if self._told:  # while it was not waiting yet, or any more
                raise Interrupted
            await trio.lowlevel.wait_task_rescheduled(self._readable())
            data = self.try_read()
        self._emptied = self._short_is_all and 0 < len(data) < self.read_bytes
        self._reads += len(data) * READS_PER_TURN // BYTES_PER_TURN
        return data

    def interrupt(self) -> None:
        """End the wait of the task that waits in `receive`, if one does."""
        self._told = True
        task, self._reader = self._reader, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Error(Interrupted()))

    # Writing.

    def write(self, data: bytes) -> bool:
        """Send `data` or queue what the kernel does not take. True when nothing is left queued. Never raises.

        After a failure it returns False; the failure shows at the next read or `send`.
        """
        if self._closed or self._failure:
            return False
        if not data:
            return not self._queue
        if self._queue:
            self._queue.append(data)
            self.queued_bytes += len(data)
            return False
        try:
            taken = self._transmit(data)
        except OSError as exc:
            self._fail(exc)
            return False
        return taken == len(data) or self._keep_rest(data, taken)

    def _keep_rest(self, data: bytes, taken: int) -> bool:
        """Queue what was not taken. False, as `write` says then."""
        self._queue.append(memoryview(data)[taken:])
        self.queued_bytes = len(data) - taken
        self._arm(write=True)
        return False

    def put(self, data: bytes, *, silent: bool = False) -> None:
        """`write` with the end of this turn of the reactor, so that what goes to one peer goes together. Handlers only.

        Args:
            silent: Only if the peer has neither sent anything nor left by then; else the handler hears `on_stale`.
        """
        handler = self._handler
        assert handler is not None
        if silent and not self._is_silent():
            handler.on_stale()
        elif not self.write(data):
            handler.on_blocked()

    def hand_in(self, data: bytes, *, silent: bool = False) -> bool:
        """`write` for tasks, soon: what several of them write goes out together. What `put` is for handlers.

        A connection that breaks by it shows that at the next read. Everything that asks what is queued writes it first.

        Args:
            silent: As of `put`; else the stream is closed, and nothing was written.
        """
        if silent and not self._is_silent():
            self.close()
            return False
        return self.write(data)

    def at_turns_end(self, putter: Putter) -> bool:
        """See that `putter` is told with the end of the reactor's turn, when it may write; False: there is no turn."""
        del putter
        return False

    def _is_silent(self) -> bool:
        try:
            return self.try_read() is None
        except StreamBroken:
            return False

    async def send(self, data: bytes) -> None:
        """`write`, then wait while more than HIGH_WATER_BYTES are queued.

        Raises:
            StreamBroken: The peer is gone.
        """
        self.write(data)
        await self.settle()

    async def settle(self) -> None:
        """Wait while more than HIGH_WATER_BYTES are queued. Raises StreamBroken."""
        self.write(b"")
        while self.queued_bytes > HIGH_WATER_BYTES and not self._failure and not self._closed:
            await self._wait_drained()
        self._raise_if_broken()

    async def flush(self) -> None:
        """Wait until the queue is empty. Raises StreamBroken."""
        self.write(b"")
        while self._queue and not self._failure and not self._closed:
            await self._wait_drained()
        self._raise_if_broken()

    def send_eof(self) -> None:
        """End our direction after what is queued; the other direction stays open (plain streams only)."""
        self.write(b"")
        if self._closed or self._failure:
            return
        if self._queue:
            self._eof_due = True
            return
        try:
            self._end_writing()
        except OSError as exc:
            self._fail(exc)

    # The end.

    def close(self) -> None:
        """Close now; what is queued is lost (`flush` first). May be called twice."""
        self._shut(abort=False)

    def abort(self) -> None:
        """Close so that the peer sees a reset, never what could be taken for a complete message."""
        self._shut(abort=True)

    def _shut(self, *, abort: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.clear()
        self.queued_bytes = 0
        self._handler = None
        self._on_hangup = None
        self._release(abort=abort)
        self._wake_reader()
        self._wake_writer()

    def crash(self) -> None:
        """End it because of a bug, and let its owner clear up."""
        handler = self._handler
        self.abort()
        if handler is not None:
            handler.on_crashed()

    # Called by the reactor.

    def on_event(self, *, readable: bool, writable: bool, hangup: bool) -> None:
        """The reactor's call: readiness as the kernel (or the memory network) reports it."""
        if writable and not self._closed:
            self._drain()
        if (readable or hangup) and not self._closed:
            if self._reader is not None:
                self._wake_reader()
            elif self._handler is not None:
                self._handler.on_readable()
            else:
                self._nobody_reads(hangup=hangup)

    def _nobody_reads(self, *, hangup: bool) -> None:
        self._emptied = False
        self._arm(read=False)
        if hangup and self._on_hangup is not None:
            callback, self._on_hangup = self._on_hangup, None
            callback()

    def _drain(self) -> None:
        while self._queue:
            first = self._queue[0]
            try:
                taken = self._transmit(first)
            except OSError as exc:
                self._fail(exc)
                return
            if taken == 0:
                return
            self.queued_bytes -= taken
            if taken < len(first):
                self._queue[0] = memoryview(first)[taken:]
                return
            self._queue.popleft()
        self._arm(write=False)
        if self._eof_due:
            self._eof_due = False
            self.send_eof()
        self._wake_writer()
        if self._handler is not None:
            self._handler.on_drained()

    # Inside.

    def _fail(self, exc: OSError) -> StreamBroken:
        self._failure = exc.strerror or type(exc).__name__
        self._queue.clear()
        self.queued_bytes = 0
        if not self._closed:
            self._arm(read=False, write=False)
        self._wake_reader()
        self._wake_writer()
        return StreamBroken(self._failure)

    def _raise_if_broken(self) -> None:
        if self._failure:
            raise StreamBroken(self._failure)
        if self._closed:
            raise StreamBroken("closed here")

    def _readable(self) -> Callable[[object], trio.lowlevel.Abort]:
        """For `wait_task_rescheduled`: the calling task is woken when there is something to read.

        Not a coroutine: idle connections wait here, and each would keep a frame of it.
        """
        self._arm(read=True)
        if self._reader is not None:
            raise RuntimeError("two tasks read one stream")
        self._reader = trio.lowlevel.current_task()
        return self._read_no_more

    def _read_no_more(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _wait_drained(self) -> None:
        if self._writer is not None:
            raise RuntimeError("two tasks write one stream")
        self._writer = trio.lowlevel.current_task()

        def abort_wait(_: object) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort_wait)

    def _wake_reader(self) -> None:
        task, self._reader = self._reader, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _wake_writer(self) -> None:
        task, self._writer = self._writer, None
        if task is not None:
            trio.lowlevel.reschedule(task)
