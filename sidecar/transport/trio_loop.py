"""trio's event loop from inside: what a guest must know who waits in its place, just before it would wait itself.

trio tells an instrument that it is going to wait, and for how long; it does not tell on what, nor whether somebody was
woken meanwhile. Those are attributes of its runner without a promise, so they are read here only. Where they are not
what we know (another trio, another system), or somebody else is the guest already, `look` says so, and the reactor
waits in a task, as any other user of trio does: slower, the same to everybody else.
"""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

import trio

MAX_WAIT_S = 60.0  # epoll(7) knows no infinity of ours; waking once a minute costs nothing
_taken: trio.lowlevel.RunVar[bool] = trio.lowlevel.RunVar("taken", False)


class Guest(Protocol):
    """Who serves in the place of trio's wait."""

    def serve(self, loop: "TrioLoop", wait_s: float) -> None:
        """Serve for at most `wait_s`, and return as soon as trio has something to do."""


@dataclass(frozen=True, slots=True)
class TrioLoop:
    """The loop of this run.

    Attributes:
        fd: Readable when trio has an event to handle: its own epoll's descriptor.
        runnable: Tasks that are to run now.
        sleep_s: Seconds until the next deadline, 0 or less when it is over, at most infinity.
        wake: Make trio's next wait end at once.
    """

    fd: int
    runnable: Sized
    sleep_s: Callable[[], float]
    wake: Callable[[], None]


class Hosting(trio.abc.Instrument):
    """A guest in trio's loop."""

    def __init__(self, guest: Guest, loop: TrioLoop) -> None:
        self._guest, self._loop = guest, loop
        self._error: BaseException | None = None
        self._failed = trio.Event()

    def before_io_wait(self, timeout: float) -> None:
        """As of `trio.abc.Instrument`; what the guest raises is for `wait`, trio would only forget the guest."""
        if self._error is None:
            try:
                self._guest.serve(self._loop, timeout)
            except BaseException as exc:
                self._error = exc
                self._failed.set()
                self._loop.wake()

    async def wait(self) -> NoReturn:
        """Until cancelled, or until the guest fails: its error."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error


@contextmanager
def hosted(guest: Guest) -> Iterator[Hosting | None]:
    """Let `guest` serve whenever trio would wait, for the time of the block; None: this trio does not host it."""
    loop = None if _taken.get() else _look()
    if loop is None:
        yield None
        return
    hosting = Hosting(guest, loop)
    _taken.set(True)
    trio.lowlevel.add_instrument(hosting)
    try:
        yield hosting
    finally:
        trio.lowlevel.remove_instrument(hosting)
        _taken.set(False)


def _look() -> TrioLoop | None:
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        runner = GLOBAL_RUN_CONTEXT.runner
        fd, runnable = runner.io_manager._epoll.fileno(), runner.runq  # noqa: SLF001
        next_deadline, sleep_s = runner.deadlines.next_deadline, runner.clock.deadline_to_sleep_time
        sleep_s(next_deadline())
    except (ImportError, AttributeError, TypeError):
        return None
    token = trio.lowlevel.current_trio_token()
    return TrioLoop(
        fd=fd,
        runnable=runnable,
        sleep_s=lambda: sleep_s(next_deadline()),
        wake=lambda: token.run_sync_soon(_nothing, idempotent=True),
    )


def _nothing() -> None:
    pass
