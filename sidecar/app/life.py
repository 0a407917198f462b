"""The life of the process: bind, start, serve, drain, end.

A port that is taken, a file that is wrong: told before anything runs. The first SIGTERM drains, in this order: not
ready at once; accepting for the drain delay, so that callers can hear of it; no new callers; the answers under way;
then the service, if we started it; and only then the outbound side, because a service that ends may still make calls.
SIGINT (Ctrl-C) drains without the delay. A second signal ends at once. SIGHUP opens the access log anew and reads the
static folder again.

With a service (`sidecar run -- COMMAND`) SIGQUIT drains as well, since that is how some servers are told to stop; the
signal that began the drain is the one that the service gets. HUP, USR1 and USR2 go straight on to it. When the service
ends by itself, so do we; the exit status is always the service's.
"""

import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random

import trio

from sidecar.app.data_plane import Bound, bind_all, bind_for_each
from sidecar.app.holder import Holder, MakePlane
from sidecar.app.notify import Notifier
from sidecar.app.one_worker import OneWorker
from sidecar.app.plane import Plane
from sidecar.app.reaper import bury, is_process_one, same_group
from sidecar.app.service import Service, check_command
from sidecar.config.capture import own_traffic_problem
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import Bootstrap, ProcessLimits
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory
from sidecar.transport.listen import OWN_FILES, bound_address, clients_within

Say = Callable[[str], None]
MAX_UNRAISABLE = 20  # lines in a process's life; more say nothing new
START_S = 60.0  # a service whose sidecar is not ready by then is not started; whoever started us tries again
LOOK_S = 0.05  # how soon the service starts once the sidecar is ready
AFTER_SERVICE_S = 2.0  # for what a service that has ended left under way: nobody waits for the answers
FAILED = 1
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_FORWARDED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def to_stderr(line: str) -> None:
    """One line for the person or the log collector at the other end."""
    print(line, file=sys.stderr, flush=True)


def run(
    bootstrap: Bootstrap, snapshot: Snapshot | None = None, say: Say = to_stderr, command: Sequence[str] = ()
) -> int:
    """Run a sidecar until it is told to end; return its exit status.

    Args:
        snapshot: What to serve when there is no control plane.
        command: The service to start once the sidecar is ready, and to end with.

    Raises:
        ConfigError, UnreadableError: It cannot start; nothing was left running.
    """
    if command:
        check_command(command)
    captured = bootstrap.outbound.capture
    problem = "" if captured is None else own_traffic_problem(captured, os.geteuid(), os.getegid())
    if problem:
        raise ConfigError([f"{bootstrap.source}: {problem}"])
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    bootstrap = _within_open_files(bootstrap, say)
    sys.unraisablehook = _bounded_hook(say)
    bound = bind_all(bootstrap)
    service = Service(command, open_files, say) if command else None
    if bootstrap.workers > 1:
        from sidecar.app import workers  # not needed by most, so not loaded by them

        by_worker = bind_for_each(bound, bootstrap.workers)
        with workers.forked(bootstrap, by_worker, say) as make_workers:
            return _run(bootstrap, snapshot, make_workers, by_worker[0], service, say)

    def make_plane(rng: Random, directory: Directory) -> Plane:
        return OneWorker(bootstrap, bound, rng, directory, say, shares_log=service is not None)

    return _run(bootstrap, snapshot, make_plane, bound, service, say)


def _within_open_files(bootstrap: Bootstrap, say: Say) -> Bootstrap:
    """The bootstrap with no more clients at once than there are descriptors for."""
    wanted = bootstrap.limits.connections
    fit = clients_within(wanted)
    if fit == wanted:
        return bootstrap
    fitted = replace(bootstrap, limits=replace(bootstrap.limits, connections=fit))
    if wanted == ProcessLimits().connections and fit >= wanted // 2:
        return fitted  # nobody asked for that number, and nearly all of it is there
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    say(
        f"warning: limits.connections: {wanted} clients at once need {2 * wanted + OWN_FILES} open files, "
        f"the process may have {soft}; it takes {fit} (raise its RLIMIT_NOFILE, or write connections: {fit})"
    )
    return fitted


def _run(
    bootstrap: Bootstrap,
    snapshot: Snapshot | None,
    make_plane: MakePlane,
    bound: list[Bound],
    service: Service | None,
    say: Say,
) -> int:
    listening = [(one.name, bound_address(one.sock)) for one in bound]
    try:
        holder = Holder(bootstrap, snapshot, make_plane, say)
    except BaseException:
        for one in bound:
            one.sock.close()
        raise
    life = _Life(holder, listening, service, say)
    return trio.run(life.live)


class _Life:
    """The tasks of the process around its holder."""

    def __init__(self, holder: Holder, listening: list[tuple[str, str]], service: Service | None, say: Say) -> None:
        self._holder = holder
        self._listening = listening
        self._service = service
        self._say = say
        self._notifier = Notifier(os.environ)
        self._status = 0
        self._stop_with = int(signal.SIGTERM)  # what the service gets

    async def live(self) -> int:
        """From the first task to the exit status."""
        holder, service = self._holder, self._service
        with trio.open_signal_receiver(*self._signals()) as signals:
            async with trio.open_nursery() as nursery:
                holder.start(nursery, self._listening)
                for name, address in holder.listening:
                    self._say(f"listening {name} {address}")
                nursery.start_soon(self._watch, signals, nursery.cancel_scope)
                if service is not None:
                    nursery.start_soon(self._run_service, service)
                nursery.start_soon(
                    self._notifier.keep_told, holder.not_ready if service is not None else holder.not_started
                )
                await holder.ending.wait()
                self._notifier.stopping()
                await self._drain()
                nursery.cancel_scope.cancel()
        self._say("stopped")
        if service is not None and service.status is not None:
            return service.status
        return self._status

    def _signals(self) -> list[signal.Signals]:
        wanted = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
        if self._service is not None:
            wanted += [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
        if is_process_one():
            wanted.append(signal.SIGCHLD)
        return wanted

    async def _watch(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        holder, seen = self._holder, 0
        async for number in signals:
            if number in _ENDING:
                seen += 1
                if seen > 1:
                    self._say("second signal: ending at once")
                    scope.cancel()
                    return
                self._say(f"{signal.Signals(number).name}: draining; once more ends at once")
                self._stop_with = number
                holder.end(delay=number != signal.SIGINT)
            elif number == signal.SIGCHLD:
                await bury(self._is_ours)
            if number == signal.SIGHUP:
                self._reload()
            if number in _FORWARDED and self._service is not None:
                self._service.tell(number)

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._holder.plane.reopen_log()  # what logrotate sends after it moved the file away
        except ConfigError as problem:
            self._say(f"{problem}; the access log goes on where it was")
        self._holder.source.reread()
        self._notifier.tell("READY=1")

    def _is_ours(self, pid: int) -> bool:
        service = self._service.pid if self._service is not None else None
        return pid == service or same_group(pid)

    async def _run_service(self, service: Service) -> None:
        """Start the service once the sidecar by itself is ready, and end with it."""
        holder = self._holder
        with trio.move_on_after(START_S) as waiting:
            while holder.not_started():  # noqa: ASYNC110 - put together from parts that tell nobody when they change
                await trio.sleep(LOOK_S)
        if waiting.cancelled_caught:
            reasons = "; ".join(holder.not_started())
            self._say(f"not ready within {START_S:g} s, so the service was not started: {reasons}")
            self._status = FAILED
        elif not holder.draining:
            await service.run()
            if not holder.draining:
                self._say(f"the service ended with status {service.status}")
        holder.end(delay=False)

    async def _drain(self) -> None:
        holder, service = self._holder, self._service
        limits, plane = holder.bootstrap.limits, holder.plane
        if holder.drain_delay:
            await self._unless_gone(trio.sleep, limits.drain_delay_s)
        until_s = trio.current_time() + limits.drain_timeout_s
        with trio.CancelScope(deadline=until_s) as inbound:
            await self._unless_gone(plane.finish_inbound)
        if inbound.cancelled_caught:
            self._say(f"drainTimeout of {limits.drain_timeout_s:g} s is over: requests still under way are cut off")
        if service is not None:
            await service.end(self._stop_with, limits.drain_timeout_s)
            until_s = trio.current_time() + AFTER_SERVICE_S
        with trio.CancelScope(deadline=until_s):
            await plane.finish()
        await holder.farewell()

    async def _unless_gone(self, wait: Callable[..., Awaitable[None]], *arguments: float) -> None:
        """Wait, but not for callers of a service that has ended."""
        async with trio.open_nursery() as nursery:
            if self._service is not None:
                nursery.start_soon(self._cancel_when_gone, self._service, nursery.cancel_scope)
            await wait(*arguments)
            nursery.cancel_scope.cancel()

    async def _cancel_when_gone(self, service: Service, scope: trio.CancelScope) -> None:
        await service.gone.wait()
        scope.cancel()


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
