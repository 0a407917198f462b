"""The life of the process: bind, start, serve, drain, end.

A port that is taken, a file that is wrong: told before anything runs. The first SIGTERM drains: not ready at once,
accepting for the drain delay so that callers can hear of it, then the answers under way, then exit status 0. SIGINT
(Ctrl-C) drains without the delay. A second signal ends at once. SIGHUP opens the access log anew.
"""

import signal
import sys
from collections.abc import AsyncIterator, Callable

import trio

from sidecar.app.data_plane import Bound, bind_all
from sidecar.app.holder import Holder
from sidecar.model.bootstrap import Bootstrap
from sidecar.model.snapshot import Snapshot
from sidecar.transport.listen import allow_open_files, bound_address

Say = Callable[[str], None]
MAX_UNRAISABLE = 20  # lines in a process's life; more say nothing new


def to_stderr(line: str) -> None:
    """One line for the person or the log collector at the other end."""
    print(line, file=sys.stderr, flush=True)


def run(bootstrap: Bootstrap, snapshot: Snapshot | None = None, say: Say = to_stderr) -> int:
    """Run a sidecar until it is told to end; return its exit status.

    Args:
        snapshot: What to serve when there is neither a control plane nor a folder.

    Raises:
        ConfigError, UnreadableError: It cannot start; nothing was left running.
    """
    allow_open_files(2 * bootstrap.limits.connections)
    bound = bind_all(bootstrap)
    try:
        holder = Holder(bootstrap, snapshot, say)
    except BaseException:
        for one in bound:
            one.sock.close()
        raise
    sys.unraisablehook = _bounded_hook(say)
    return trio.run(_life, holder, bound, say)


async def _life(holder: Holder, bound: list[Bound], say: Say) -> int:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            holder.start(nursery)
            holder.listening += [(one.name, bound_address(one.sock)) for one in bound]
            for name, address in holder.listening:
                say(f"listening {name} {address}")
            serving = trio.Event()

            async def serve() -> None:
                await holder.data_plane.run(bound)
                serving.set()

            nursery.start_soon(serve)
            nursery.start_soon(_watch, holder, signals, nursery.cancel_scope, say)
            await holder.ending.wait()
            await _drain(holder, serving)
            nursery.cancel_scope.cancel()
    say("stopped")
    return 0


async def _watch(holder: Holder, signals: AsyncIterator[int], scope: trio.CancelScope, say: Say) -> None:
    seen = 0
    async for number in signals:
        if number == signal.SIGHUP:
            holder.log_writer.reopen()  # what logrotate sends after it moved the file away
            continue
        seen += 1
        if seen > 1:
            say("second signal: ending at once")
            scope.cancel()
            return
        say(f"{signal.Signals(number).name}: draining; once more ends at once")
        holder.end(delay=number == signal.SIGTERM)


async def _drain(holder: Holder, serving: trio.Event) -> None:
    limits = holder.bootstrap.limits
    if holder.drain_delay:
        await trio.sleep(limits.drain_delay_s)
    holder.data_plane.stop_accepting()
    holder.data_plane.worker.drain()
    with trio.move_on_after(limits.drain_timeout_s):
        await serving.wait()
    await holder.farewell()


def _bounded_hook(say: Say) -> Callable[["sys.UnraisableHookArgs"], None]:
    """Errors that Python can only print, a few of them: a client can cause one per handshake (a ServerName that is not
    ASCII fails inside the ssl module before any code of ours), and must not fill the log."""
    left = MAX_UNRAISABLE

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal left
        if left > 0:
            left -= 1
            say(f"ignored in {unraisable.object!r:.80}: {unraisable.exc_value!r:.200}")

    return hook
