"""Accepting when the process has no descriptor left: it pauses, does not spin, and goes on when there is one."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from sidecar.transport import listen


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    """A lower limit of open files for as long as this lasts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def always() -> None:
    """Everybody is let in."""


async def test_without_a_descriptor_accepting_pauses_and_then_goes_on() -> None:
    accepted: list[socket.socket] = []
    came = trio.Event()

    def serve(plain: socket.socket, address: object) -> None:
        accepted.append(plain)
        came.set()

    sock = listen.bind("test", "127.0.0.1", 0)
    with socket.socket() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen.accept_loop, sock, always, serve)
            await trio.testing.wait_all_tasks_blocked()
            lowest_free = os.dup(client.fileno())
            os.close(lowest_free)
            with open_files(lowest_free):
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.connect(sock.getsockname())
                used = os.times()
                with trio.move_on_after(5 * listen.PAUSE_S):
                    await came.wait()
                assert not came.is_set()
                now = os.times()
                assert now.user + now.system - used.user - used.system < 0.1
            with trio.fail_after(1):
                await came.wait()
            nursery.cancel_scope.cancel()
    (one,) = accepted
    one.close()


@pytest.mark.parametrize(
    ("soft", "wanted", "fit"), [(256, 10_000, 96), (256, 96, 96), (256, 97, 96), (256, 5, 5), (65, 9, 1)]
)
def test_clients_leave_room_for_their_endpoints_and_for_ourselves(
    monkeypatch: pytest.MonkeyPatch, soft: int, wanted: int, fit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("the limit cannot be raised above the hard one"))

    assert listen.clients_within(wanted) == fit


def test_the_limit_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [(256, 1_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: limit.append(to))

    assert listen.clients_within(200) == 200
    assert limit[-1] == (2 * 200 + listen.OWN_FILES, 1_000)
    assert listen.clients_within(10_000) == (1_000 - listen.OWN_FILES) // 2


async def test_those_whom_the_kernel_connected_before_the_end_are_served() -> None:
    accepted: list[socket.socket] = []
    sock = listen.bind("test", "127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen.accept_loop, sock, always, lambda plain, _: accepted.append(plain))
        await trio.testing.wait_all_tasks_blocked()
        clients = [socket.create_connection(sock.getsockname()) for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert len(accepted) == 3
    for one in accepted + clients:
        one.close()
