"""What systemd is told, on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sidecar.app.notify import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket where the service manager listens, and its name as NOTIFY_SOCKET has it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(path if request.param == "file" else "\0" + path)
        yield sock, path if request.param == "file" else "@" + path


def told(sock: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(sock.recv(4096).decode())
        except BlockingIOError:
            return lines


async def test_ready_comes_once_and_status_when_it_changes(
    manager: tuple[socket.socket, str], autojump_clock: MockClock
) -> None:
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    reasons = ["no identity yet"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.keep_told, lambda: reasons)
        await trio.sleep(5.0)
        assert told(sock) == ["STATUS=no identity yet"]
        reasons.clear()
        await trio.sleep(5.0)
        assert told(sock) == ["STATUS=serving\nREADY=1"]
        reasons.append("the identity has expired")
        await trio.sleep(5.0)
        reasons.clear()
        await trio.sleep(5.0)
        assert told(sock) == ["STATUS=the identity has expired", "STATUS=serving"]
        nursery.cancel_scope.cancel()
    notifier.stopping()
    assert told(sock) == ["STOPPING=1\nSTATUS=draining"]
    notifier.reloading()
    [reloading] = told(sock)
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")


async def test_signs_of_life_come_twice_in_the_time_of_the_watchdog(
    manager: tuple[socket.socket, str], autojump_clock: MockClock
) -> None:
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000", "WATCHDOG_PID": str(os.getpid())})
    with trio.move_on_after(2.1):
        await notifier.keep_told(list)
    assert sum("WATCHDOG=1" in line for line in told(sock)) == 11


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_unless_it_is_meant_for_us(environment: dict[str, str]) -> None:
    assert Notifier(environment).watchdog_s is None


def test_nobody_listens(tmp_path: Path) -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")
