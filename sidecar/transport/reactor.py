"""One persistent level-triggered epoll per worker, whose registered sources are called when something happened.

It waits where trio would wait, with trio's own epoll as one of its sources (`trio_loop`): so what needs no task costs
no turn of trio. Where trio does not host it, one task waits instead.

Why not trio's own epoll: it registers a descriptor anew for every wait; measured, that and waking a task cost more
than the whole synchronous handling of a plain request. Why level-triggered: edge-triggered gains 2 % on plain
sockets and loses on TLS, and can lose an end that was queued with data.

Rules kept here: each source gets one turn, then the others have theirs; a source with data of its own (TLS bytes
already decrypted) goes to the back of the ready queue, and while that is not empty the task checkpoints instead of
waiting; descriptors close at the end of the batch, so that a reused number never reaches an old owner; a failing
handler loses its own connection only.

What handlers `put` is written at the end of the turn. Waking a process on another core costs several microseconds, in a
virtual machine more than the rest of a send; whoever gets three requests at once is woken once. And one look at the
epoll before tells of all connections at once that their peers have not left, which would else cost a read for each.
"""

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Container
from time import perf_counter
from typing import Protocol

import trio

from sidecar.transport.trio_loop import TrioLoop, hosted

MAX_EVENTS = 256  # a batch; what is left comes with the next
# Written together. More would keep the first waiting: 16 requests take half a millisecond.
MAX_PUTS = 16


class Source(Protocol):
    """What can be registered: a stream or a listener."""

    def on_ready(self, events: int) -> None:
        """The kernel's event bits, or 0 when the turn comes from the ready queue.

        They were true when they were read: a task may have read or written since.
        """

    def on_crash(self) -> None:
        """A bug ended the turn: give everything back."""


class Putter(Protocol):
    """A stream that something was put on."""

    def write_put(self, spoken: Container[int]) -> None:
        """Write it now; `spoken` are the descriptors that something came from since it was put."""

    def on_crash(self) -> None:
        """As of `Source`."""


class _Host:
    """trio's epoll as a source: whether trio has an event to handle."""

    __slots__ = ("is_ready",)

    def on_ready(self, events: int) -> None:  # noqa: ARG002 - a Source's
        self.is_ready = True

    def on_crash(self) -> None:
        pass


class Reactor:
    """See the module's text. One per worker; `run` is its task."""

    __slots__ = (
        "_bell", "_epoll", "_events", "_graves", "_host", "_on_bug", "_puts", "_ready", "_sources", "_turning",
    )  # fmt: skip

    def __init__(self, on_bug: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._ready: deque[Source] = deque()
        self._graves: list[socket.socket] = []
        self._events: list[tuple[int, int]] = []  # known already, for the next turn
        self._puts: list[Putter] = []
        self._turning = False
        self._host: _Host | None = None
        self._on_bug = on_bug
        # Always writable: to be told of that, once, is to have a turn soon.
        self._bell: int | None = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._bell, 0)

    def __len__(self) -> int:
        return len(self._sources) - (self._host is not None)

    def register(self, fd: int, source: Source, events: int) -> None:
        """Watch `fd` for `events` until `unregister`. After the end of `run` nothing is heard any more."""
        if self._epoll.closed:
            return
        self._epoll.register(fd, events)
        self._sources[fd] = source

    def modify(self, fd: int, events: int) -> None:
        """Change what `fd` is watched for; unknown ones are fine."""
        if fd in self._sources:
            self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget `fd`; unknown ones are fine."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def again(self, source: Source) -> None:
        """Give `source` another turn after the others had theirs, without asking the kernel."""
        self._ready.append(source)

    def put(self, stream: Putter) -> bool:
        """See that `stream` is told of this turn's end; False: there is no turn now."""
        if self._turning:
            self._puts.append(stream)
        return self._turning

    def put_late(self, stream: Putter) -> bool:
        """`put` for tasks, which run between two turns: `stream` is told with the end of the next one, soon."""
        if self._bell is None:
            return False
        self._puts.append(stream)
        if len(self._puts) >= MAX_PUTS:
            self._write(self._spoken(self._epoll.poll(0, MAX_EVENTS)))
        elif len(self._puts) == 1 and self._host is None:  # a guest has its turn when the tasks have had theirs
            self._epoll.modify(self._bell, select.EPOLLOUT | select.EPOLLONESHOT)
        return True

    def bury(self, sock: socket.socket) -> None:
        """Close `sock` when no event that is known already can be meant for its number any more."""
        if self._turning or self._events:
            self._graves.append(sock)
        else:
            sock.close()

    async def run(self) -> None:
        """Serve for ever; cancel to end. Afterwards streams can still be closed, but hear nothing any more."""
        fd = self._epoll.fileno()
        try:
            with hosted(self) as hosting:
                if hosting is not None:
                    await hosting.wait()
            while True:
                if self._is_due:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(fd)
                self._turn(0)
        finally:
            self._sources.clear()
            self._host = None
            self._events.clear()
            self._close_buried()
            if self._bell is not None:
                os.close(self._bell)
                self._bell = None
            self._epoll.close()

    @property
    def _is_due(self) -> bool:
        """There is something to do without an event."""
        return bool(self._ready or self._events or self._puts)

    def serve(self, loop: TrioLoop, wait_s: float) -> None:
        """As of `Guest`: turns in the place of trio's wait."""
        host = self._host or self._watch(loop.fd)
        host.is_ready = False
        if self._events:  # it has handled its own since they were read
            self._events = [each for each in self._events if each[0] != loop.fd]
        until_s = perf_counter() + wait_s
        while True:
            self._turn(0 if self._is_due else wait_s)
            if host.is_ready or loop.runnable:
                return
            wait_s = min(until_s - perf_counter(), loop.sleep_s())
            if wait_s <= 0:
                return

    def _watch(self, fd: int) -> "_Host":
        host = self._host = _Host()
        self.register(fd, host, select.EPOLLIN)
        return host

    def _turn(self, wait_s: float) -> None:
        """Give everybody a turn who has something to do, after at most `wait_s` without."""
        events = self._events or self._epoll.poll(wait_s, MAX_EVENTS)
        self._turning = True
        sources = self._sources
        self._events = []
        waiting, self._ready = self._ready, deque()
        for fd, happened in events:
            source = sources.get(fd)
            if source is not None:
                try:
                    source.on_ready(happened)
                except Exception as exc:
                    self._crashed(source, exc)
                if len(self._puts) >= MAX_PUTS:
                    self._write(self._spoken(self._epoll.poll(0, MAX_EVENTS)))
        for source in waiting:
            try:
                source.on_ready(0)
            except Exception as exc:
                self._crashed(source, exc)
        self._close_buried()
        if self._puts:
            # What has happened since is the next turn's; it also tells which of the peers are silent still.
            self._events = self._epoll.poll(0, MAX_EVENTS)
            self._write(self._spoken(self._events))
        self._turning = False

    def _write(self, spoken: Container[int]) -> None:
        """Write what was put, in one go: a peer is woken once, and not for each piece."""
        puts, self._puts = self._puts, []
        for stream in puts:
            try:
                stream.write_put(spoken)
            except Exception as exc:
                self._crashed(stream, exc)

    def _spoken(self, events: list[tuple[int, int]]) -> Container[int]:
        """The descriptors with an event, of which `events` are all, or as many as were asked for."""
        if len(events) >= MAX_EVENTS:
            events = self._epoll.poll(0, len(self._sources) + 1)
        return {fd for fd, _ in events}

    def _close_buried(self) -> None:
        for sock in self._graves:
            sock.close()
        self._graves.clear()

    def _crashed(self, source: Source | Putter, exc: Exception) -> None:
        """A bug in one connection's handler must not stop the others; it is reported, and that connection ends."""
        self._on_bug(exc)
        try:
            source.on_crash()
        except Exception as worse:
            self._on_bug(worse)
