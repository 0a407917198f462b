"""The reactor in the place of trio's wait: handlers cost trio no turn, and neither ever waits on the other."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from select import EPOLLIN

import pytest
import trio

from sidecar.transport.reactor import Reactor
from sidecar.transport.trio_loop import MAX_TASKS

PATIENCE_S = 5.0
EXCHANGES = 200


class Answerer:
    """Echoes in its handler; `act` is called before."""

    def __init__(self, reactor: Reactor, act: Callable[[], None] = lambda: None) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.reactor, self.act = reactor, act
        reactor.register(self.here.fileno(), self, EPOLLIN)

    def on_ready(self, events: int) -> None:
        assert events & EPOLLIN
        data = self.here.recv(100)
        self.act()
        self.here.send(data)

    def on_crash(self) -> None:
        raise AssertionError("no handler fails here")

    def write_put(self, spoken: object) -> None:
        """Nothing was really put."""

    def ask(self, times: int = 1) -> None:
        """From a thread: exchanges one after the other, as a client on another core does."""
        self.there.settimeout(PATIENCE_S)
        for _ in range(times):
            self.there.send(b"?")
            assert self.there.recv(100) == b"?"

    def close(self) -> None:
        self.reactor.unregister(self.here.fileno())
        self.here.close()
        self.there.close()


class Waits(trio.abc.Instrument):
    """Counts how often trio was about to wait."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += timeout > 0


@asynccontextmanager
async def running(*reactors: Reactor) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for reactor in reactors:
            nursery.start_soon(reactor.run)
            await trio.testing.wait_all_tasks_blocked()  # the first is the one that is hosted
        yield
        nursery.cancel_scope.cancel()


def no_bug(exc: BaseException) -> None:
    raise exc


async def asked(one: Answerer, times: int = 1) -> int:
    """How often trio was about to wait during so many exchanges."""
    waits = Waits()
    trio.lowlevel.add_instrument(waits)
    try:
        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(one.ask, times)
    finally:
        trio.lowlevel.remove_instrument(waits)
    return waits.count


async def test_trio_hosts_one_reactor_whose_handlers_cost_it_no_turn() -> None:
    reactor = Reactor(no_bug)
    one = Answerer(reactor)
    async with running(reactor):
        assert await asked(one, EXCHANGES) < EXCHANGES / 4
        one.close()
        assert len(reactor) == 0


async def test_a_second_reactor_of_the_run_waits_in_a_task() -> None:
    reactors = Reactor(no_bug), Reactor(no_bug)
    first, second = map(Answerer, reactors)
    async with running(*reactors):
        assert await asked(first, EXCHANGES) < EXCHANGES / 4
        assert await asked(second, EXCHANGES) >= EXCHANGES
        first.close()
        second.close()


async def test_the_place_is_free_again_afterwards() -> None:
    for _ in range(2):
        reactor = Reactor(no_bug)
        async with running(reactor):
            one = Answerer(reactor)
            assert await asked(one, EXCHANGES) < EXCHANGES / 4
            one.close()


async def test_a_task_that_a_handler_wakes_runs_at_once() -> None:
    woken = trio.Event()
    reactor = Reactor(no_bug)
    one = Answerer(reactor, woken.set)
    async with running(reactor):
        one.there.send(b"?")
        with trio.fail_after(PATIENCE_S):
            await woken.wait()
        one.close()


async def test_a_handler_waits_for_some_tasks_only_however_many_are_to_run() -> None:
    ran: list[int] = []
    before: list[int] = []
    reactor = Reactor(no_bug)
    one = Answerer(reactor, lambda: before.append(len(ran)))
    start = trio.Event()

    async def task(number: int) -> None:
        await start.wait()
        ran.append(number)
        if number == 0:
            one.there.send(b"?")

    async with running(reactor):
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(task, number)
            await trio.testing.wait_all_tasks_blocked()
            start.set()
        assert sorted(ran) == list(range(1000))
        assert before[0] - ran.index(0) <= 2 * MAX_TASKS
        one.close()


async def test_tasks_that_wait_for_their_turn_when_the_reactor_ends_run_all_the_same() -> None:
    ran: list[int] = []
    reactor = Reactor(no_bug)
    start = trio.Event()

    async def task(number: int, scope: trio.CancelScope) -> None:
        await start.wait()
        ran.append(number)
        scope.cancel()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as tasks, trio.open_nursery() as others:
            others.start_soon(reactor.run)
            for number in range(1000):
                tasks.start_soon(task, number, others.cancel_scope)
            await trio.testing.wait_all_tasks_blocked()
            start.set()
    assert sorted(ran) == list(range(1000))


async def test_a_deadline_that_a_handler_brings_forward_is_met() -> None:
    scope = trio.CancelScope()

    def sooner() -> None:
        scope.deadline = trio.current_time() + 0.01

    reactor = Reactor(no_bug)
    one = Answerer(reactor, sooner)
    async with running(reactor):
        one.there.send(b"?")
        began_s = trio.current_time()
        with scope:
            await trio.sleep(PATIENCE_S)
        assert trio.current_time() - began_s < PATIENCE_S / 2
        one.close()


async def test_what_trio_has_handled_since_it_was_seen_does_not_send_it_to_sleep() -> None:
    """The look ahead at a turn's end sees trio's own event too; trio has handled it when the next turn begins."""
    token = trio.lowlevel.current_trio_token()
    woken = [trio.Event()]
    reactor = Reactor(no_bug)

    def act() -> None:
        token.run_sync_soon(lambda: None)
        reactor.put(one)
        woken[-1].set()

    one = Answerer(reactor, act)
    async with running(reactor):
        for _ in range(20):
            one.there.send(b"?")
            with trio.fail_after(PATIENCE_S):
                await woken[-1].wait()
                woken.append(trio.Event())
        one.close()


async def test_a_reactor_that_fails_ends_the_task_that_runs_it() -> None:
    class Boom(BaseException):
        pass

    def fail() -> None:
        raise Boom

    reactor = Reactor(no_bug)
    one = Answerer(reactor, fail)
    one.there.send(b"?")
    with pytest.raises(Boom), trio.fail_after(PATIENCE_S):
        await reactor.run()
    one.here.close()
    one.there.close()
