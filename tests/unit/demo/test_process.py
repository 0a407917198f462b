"""Children start, stop and die under one name, and none outlives the process that started it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import trio

from demo import child
from demo.process import Process, free_ports

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
POLITE = "import time; print('up', flush=True); time.sleep(60)"


def python(folder: Path, program: str, name: str = "child") -> Process:
    return Process(name, [sys.executable, "-IS", "-c", program], folder / f"{name}.log")


async def started(process: Process) -> Process:
    process.start()
    with trio.fail_after(10):
        while True:
            if "up" in process.last_lines():
                return process
            await trio.sleep(0.005)


async def test_a_child_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    process = await started(python(tmp_path, POLITE))
    first = process.pid
    process.start()
    assert process.pid == first

    await process.stop()
    assert not process.running
    await started(process)
    assert process.pid != first
    await process.kill()
    await process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_one_that_ignores_sigterm_is_killed_in_the_end(tmp_path: Path) -> None:
    process = await started(python(tmp_path, STUBBORN))

    await process.stop(within_s=0.05)
    assert await process.wait() == -signal.SIGKILL


async def test_what_is_stopped_before_it_started_is_no_trouble(tmp_path: Path) -> None:
    process = python(tmp_path, POLITE)

    await process.stop()
    await process.kill()
    assert (process.running, process.pid, process.last_lines()) == (False, 0, "")


async def test_a_command_that_is_not_there_says_so_in_its_log(tmp_path: Path) -> None:
    process = Process("nobody", [tmp_path / "no-such-command"], tmp_path / "nobody.log")
    process.start()

    assert await process.wait() == 1
    assert "no-such-command" in process.last_lines()


async def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """The parent is killed -9 and can clean nothing up; the kernel does."""
    program = f"""
import sys, time; sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from demo.process import Process
child = Process("grandchild", [sys.executable, "-IS", "-c", {POLITE!r}], Path({str(tmp_path)!r}) / "grandchild.log")
child.start()
print("up", child.pid, flush=True)
time.sleep(60)
"""
    parent = await started(Process("parent", [sys.executable, "-c", program], tmp_path / "parent.log"))
    grandchild = int(parent.last_lines().split()[-1])
    ended = os.pidfd_open(grandchild)
    try:
        await parent.kill()
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(ended)
    finally:
        os.close(ended)


def test_a_child_whose_parent_is_gone_already_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "-IS", child.__file__, "1", sys.executable, "-c", "print('ran')"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "the parent has ended" in done.stderr


def test_free_ports_are_different_free_and_not_the_kernels_own() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    ports = free_ports(40)

    assert len(set(ports)) == 40
    assert all(port < lowest for port in ports)
    assert not {*ports} & {*free_ports(40)}  # as free as before, but they were given away
    with socket.create_server(("127.0.0.1", max(ports) + 100)) as taken:
        assert taken.getsockname()[1] not in free_ports(200)
