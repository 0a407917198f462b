"""Buries orphans when the sidecar is process 1 of a container: nobody else does, and their entries would pile up.

Processes that we started ourselves are left to whoever waits for them.
"""

import os
from collections.abc import Callable

import trio

LEAVE_S = 0.05  # a child of our own, that ended, is waited for by a task that runs in a moment


async def bury(ours: Callable[[int], bool]) -> None:
    """Take the exit status of every orphan that has ended; call it when SIGCHLD came."""
    while (pid := _ended()) is not None:
        if ours(pid):
            await trio.sleep(LEAVE_S)
            continue
        try:
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended: nothing is waited for
        except ChildProcessError:
            pass


def is_process_one() -> bool:
    """Whether orphans come to us."""
    return os.getpid() == 1


def same_group(pid: int) -> bool:
    """Whether `pid` is of our process group, as what we start for ourselves is."""
    try:
        return os.getpgid(pid) == os.getpgid(0)
    except ProcessLookupError:
        return False


def _ended() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None
