"""How long the task of a connection or request waits, one wait after the other, and what breaks a wait off.

A cancel scope for each wait costs as much as reading a head. Nearly all that a request waits for is bytes of one
stream: there a bound is a number for the worker's coarse timer, and the stream wakes the task when it is over. Anything
else that has to wait, which is rare, gets a scope of its own (`bounded`).
"""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from sidecar.proxy.timer import Timer
from sidecar.proxy.upstream import Lease
from sidecar.transport.stream import Interrupted, Stream

T = TypeVar("T")


class Patience:
    """See the module's text. One task waits at a time; give it back by `leave`.

    Attributes:
        due_s: Until when the task may wait now; `math.inf`: as long as it takes.
        over: That time is over, or somebody broke the wait off.
        ended: The request is over, whatever is waited for.
    """

    __slots__ = ("_entry", "_scope", "_stream", "_timer", "due_s", "ended", "over")

    def __init__(self, timer: Timer) -> None:
        self.due_s = math.inf
        self.over = False
        self.ended = False
        self._timer = timer
        self._entry = timer.join(self)
        self._stream: Stream | None = None  # that is waited for
        self._scope: trio.CancelScope | None = None  # of another wait

    def begin(self) -> None:
        """A new request, with nothing to bound it yet."""
        self.ended = False
        self.until(math.inf)

    def until(self, due_s: float) -> None:
        """Bound what is waited for from now on, and the wait under way."""
        self.due_s = due_s
        self.over = False
        if due_s < self._entry.check_s:
            self._timer.watch(self._entry, due_s)
        if self._scope is not None:
            self._scope.deadline = due_s

    def cancel(self) -> None:
        """Break the wait off, and each one before the next `until`."""
        self.over = True
        if self._stream is not None:
            self._stream.interrupt()
        elif self._scope is not None:
            self._scope.cancel()

    def end(self) -> None:
        """Break every wait off: the request has nobody to be answered."""
        self.ended = True
        self.cancel()

    def leave(self) -> None:
        """Nothing is waited for any more."""
        self._timer.leave(self._entry)

    # Waiting. Each raises Interrupted when the time is over or the wait was broken off.

    async def receive(self, stream: Stream) -> bytes:
        """`stream.receive`."""
        self._look()
        self._stream = stream
        try:
            return await stream.receive()
        finally:
            self._stream = None

    async def fill(self, lease: Lease) -> None:
        """`lease.fill`."""
        stream = lease.reads
        if stream is None:
            await self.bounded(lease.fill)
            return
        self._look()
        self._stream = stream
        try:
            await lease.fill()
        finally:
            self._stream = None

    async def bounded(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Whatever `wait` waits for."""
        self._look()
        try:
            with trio.CancelScope(deadline=self.due_s) as self._scope:
                return await wait()
        finally:
            self._scope = None
        raise Interrupted

    def _look(self) -> None:
        if self.over or self.ended:
            raise Interrupted

    # For the timer.

    def on_due(self, now_s: float) -> None:
        """See `Timed`."""
        del now_s
        self.due_s = math.inf
        self.cancel()

    def on_crashed(self) -> None:
        """See `Timed`."""
        self.end()
