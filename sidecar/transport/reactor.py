"""One persistent level-triggered epoll per worker, watched by one trio task that calls registered sources.

Why not trio's own epoll: it registers a descriptor anew for every wait; measured, that and waking a task cost more
than the whole synchronous handling of a plain request. Why level-triggered: edge-triggered gains 2 % on plain
sockets and loses on TLS, and can lose an end that was queued with data.

Rules kept here: each source gets one turn, then the others have theirs; a source with data of its own (TLS bytes
already decrypted) goes to the back of the ready queue, and while that is not empty the task checkpoints instead of
waiting; descriptors close at the end of the batch, so that a reused number never reaches an old owner; a failing
handler loses its own connection only.
"""

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

MAX_EVENTS = 256  # a batch; what is left comes with the next


class Source(Protocol):
    """What can be registered: a stream or a listener."""

    def on_ready(self, events: int) -> None:
        """The kernel's event bits, or 0 when the turn comes from the ready queue."""

    def on_crash(self) -> None:
        """A bug ended the turn: give everything back."""


class Reactor:
    """See the module's text. One per worker; `run` is its task."""

    __slots__ = ("_batch", "_epoll", "_graves", "_on_bug", "_ready", "_sources")

    def __init__(self, on_bug: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._ready: deque[Source] = deque()
        self._graves: list[socket.socket] = []
        self._batch = False
        self._on_bug = on_bug

    def __len__(self) -> int:
        return len(self._sources)

    def register(self, fd: int, source: Source, events: int) -> None:
        """Watch `fd` for `events` until `unregister`."""
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

    def bury(self, sock: socket.socket) -> None:
        """Close `sock` when no event of the present batch can be meant for its number any more."""
        if self._batch:
            self._graves.append(sock)
        else:
            sock.close()

    async def run(self) -> None:
        """Serve for ever; cancel to end. Afterwards streams can still be closed, but hear nothing any more."""
        fd = self._epoll.fileno()
        try:
            while True:
                if self._ready:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(fd)
                self._turn()
        finally:
            self._sources.clear()
            self._epoll.close()

    def _turn(self) -> None:
        self._batch = True
        sources = self._sources
        waiting, self._ready = self._ready, deque()
        for fd, events in self._epoll.poll(0, MAX_EVENTS):
            source = sources.get(fd)
            if source is not None:
                try:
                    source.on_ready(events)
                except Exception as exc:
                    self._crashed(source, exc)
        for source in waiting:
            try:
                source.on_ready(0)
            except Exception as exc:
                self._crashed(source, exc)
        self._batch = False
        for sock in self._graves:
            sock.close()
        self._graves.clear()

    def _crashed(self, source: Source, exc: Exception) -> None:
        """A bug in one connection's handler must not stop the others; it is reported, and that connection ends."""
        self._on_bug(exc)
        try:
            source.on_crash()
        except Exception as worse:
            self._on_bug(worse)
