"""Orphans are buried, children that somebody waits for are not. A child of the test stands in for process 1."""

import os
import subprocess
import sys

SCRIPT = """
import ctypes, os, signal, sys, trio
from sidecar.app.reaper import bury, same_group
# What ends below us comes to us, as it comes to process 1 of a container.
assert ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) == 0

async def main():
    with trio.open_signal_receiver(signal.SIGCHLD) as signals:
        # A grandchild in a group of its own, whose parent ends first.
        shell = await trio.lowlevel.open_process(
            ["sh", "-c", "(sleep 0.2) & exit 3"], process_group=0
        )
        ours = [shell.pid]
        async with trio.open_nursery() as nursery:
            async def listen():
                async for _ in signals:
                    await bury(lambda pid: pid in ours or same_group(pid))
            nursery.start_soon(listen)
            assert await shell.wait() == 3
            ours.clear()
            with trio.fail_after(10):
                while True:
                    try:
                        os.kill(-shell.pid, 0)  # its group, zombies too
                    except ProcessLookupError:
                        break
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    print("nobody left")

trio.run(main)
"""


def test_orphans_are_buried_and_own_children_keep_their_status() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stdout) == (0, "nobody left\n"), done.stderr
