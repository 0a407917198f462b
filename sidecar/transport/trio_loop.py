"""trio's event loop from inside: a guest takes the place of the epoll in which trio waits.

What trio asks of its epoll goes on to the real one, but for the waiting: there the guest serves, until trio has an
event, a task to run, or waits no longer. trio would then run every task that is to run before it waits again, and one
connection can make a thousand such; here a part of them has its turn, then the guest has one.

All this takes attributes of trio's runner without a promise, so they are touched here only. Where they are not what we
know (another trio, another system), or somebody else is the guest already, nobody is hosted, and the reactor waits in
a task, as any other user of trio does: slower, the same to everybody else.
"""

import select
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import trio

# Between two turns of the guest, whose connections wait meanwhile: 3 ms where a stream's task takes 100 us.
MAX_TASKS = 32

_taken: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("taken", False)


class Guest(Protocol):
    """Who serves in the place of trio's wait."""

    def serve(self, loop: "TrioLoop", wait_s: float) -> None:
        """Serve for at most `wait_s`, and return as soon as trio has something to do."""


class TrioLoop:
    """What trio takes for its epoll, while a guest is hosted.

    Attributes:
        fd: Readable when trio has an event to handle: the real epoll's descriptor.
        runnable: Tasks that are to run before the next turn of the guest.
        sleep_s: Seconds until the next deadline, 0 or less when it is over.
    """

    def __init__(self, guest: Guest, epoll: select.epoll, runnable: deque[Any], sleep_s: Callable[[], float]) -> None:
        self._guest = guest
        self.sleep_s = sleep_s
        self._error: BaseException | None = None
        self._failed = trio.Event()
        self._later: deque[Any] = deque()  # tasks that are to run, when those before them have
        self.real = epoll
        self.fd = epoll.fileno()
        self.runnable = runnable
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister
        self.close = epoll.close

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """As of `select.epoll`. What the guest raises is for `wait`: it is no fault of trio's."""
        if self._error is None:
            try:
                self._guest.serve(self, 0 if self._later else timeout)
            except BaseException as exc:
                self._error = exc
                self._failed.set()
            timeout = 0
        if self._later or len(self.runnable) > MAX_TASKS:
            self._take_turns()
            timeout = 0
        return self.real.poll(timeout, maxevents)

    def _take_turns(self) -> None:
        """The oldest tasks may run, the others later."""
        self._later.extend(self.runnable)
        self.runnable.clear()
        for _ in range(min(MAX_TASKS, len(self._later))):
            self.runnable.append(self._later.popleft())

    def leave(self) -> None:
        """What was kept for later is trio's again."""
        self.runnable.extendleft(reversed(self._later))
        self._later.clear()

    async def wait(self) -> NoReturn:
        """Until cancelled, or until the guest fails: its error."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error


@contextmanager
def hosted(guest: Guest) -> Iterator[TrioLoop | None]:
    """Let `guest` serve whenever trio waits, for the time of the block; None: this trio does not host it."""
    found = None if _taken.get() else _look(guest)
    if found is None:
        yield None
        return
    manager, loop = found
    _taken.set(True)
    manager._epoll = loop  # noqa: SLF001 - see the module's text
    try:
        yield loop
    finally:
        manager._epoll = loop.real  # noqa: SLF001
        loop.leave()
        _taken.set(False)


def _look(guest: Guest) -> tuple[Any, TrioLoop] | None:
    """What waits for trio's events, and what is to be put into it."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        runner = GLOBAL_RUN_CONTEXT.runner
        manager: Any = runner.io_manager
        epoll = manager._epoll  # noqa: SLF001
        next_deadline, sleep_s = runner.deadlines.next_deadline, runner.clock.deadline_to_sleep_time
        sleep_s(next_deadline())
        loop = TrioLoop(guest, epoll, runner.runq, lambda: sleep_s(next_deadline()))
    except (ImportError, AttributeError, TypeError):
        return None
    known = isinstance(epoll, select.epoll) and isinstance(runner.runq, deque)
    return (manager, loop) if known else None
