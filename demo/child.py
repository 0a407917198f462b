"""Become a command that dies with its parent: `python child.py PARENT-PID COMMAND [ARGUMENT...]`.

The kernel kills the command when the runner ends in whatever way, kill -9 included, so the demo leaves no process
behind. Linux keeps this wish across exec. Started by file name and with -IS: it needs nothing and costs milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, look that the parent is still there, and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"child.py: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before we asked, and nobody will tell us
        sys.exit("child.py: the parent has ended")
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming a fixed argument list is what this file is for
    except OSError as exc:
        sys.exit(f"child.py: {command[0]}: {exc.strerror}")


if __name__ == "__main__":
    main()
