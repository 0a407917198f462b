"""Work that takes long and can wait, in a thread that stands back for the one that serves.

Reading a thousand routes takes 0.1 s of Python. In a thread like any other it takes every second turn of the core, and
requests wait 4 ms at a time for the interpreter's lock (measured, on one core); with a lower priority it runs while the
loop has nothing to do, in the same time as long as the core is half idle, and requests wait 0.1 ms. Not the lowest
priority: under full load that would take half a minute, this one a second or two.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import trio

NICE = 10  # a tenth of a core's time, when the core is wanted

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises; when this is cancelled, it goes on and nobody hears of it."""
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()
    found: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        # A thread of its own: an unprivileged one cannot take its priority back, and trio uses threads again.
        try:
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
        except OSError:
            pass  # it is a thread like any other, then
        try:
            found.append(work())
        except BaseException as exc:
            problems.append(exc)
        try:
            token.run_sync_soon(done.set)
        except trio.RunFinishedError:
            pass

    threading.Thread(target=run, name="aside", daemon=True).start()
    await done.wait()
    for problem in problems:
        raise problem
    return found[0]
