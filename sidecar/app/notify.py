"""What systemd wants to hear of a service of `Type=notify`: a datagram of `NAME=value` lines (sd_notify(3)).

Nothing is told when NOTIFY_SOCKET is not set. A manager that does not listen costs a line that nobody reads, never
traffic.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

import trio

LOOK_S = 0.5  # how soon a change of readiness is told
MAX_STATUS = 200


class Notifier:
    """Tells the service manager. `watchdog_s`: how often it wants a sign of life; None when it wants none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # "@name" stands for a socket in the abstract namespace, whose name begins with a zero byte.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_s: float | None = None
        interval_us = environment.get("WATCHDOG_USEC", "")
        if interval_us.isdigit() and int(interval_us) and environment.get("WATCHDOG_PID", "") in ("", str(os.getpid())):
            self.watchdog_s = int(interval_us) / 1e6

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Send lines in one datagram. Never waits, never raises."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                pass  # a manager that went away, or is behind: it has its own timeouts for that

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self.tell("STOPPING=1", "STATUS=draining")

    async def keep_told(self, reasons: Callable[[], list[str]]) -> None:
        """Tell READY once `reasons` is empty, STATUS whenever it changes, and signs of life; until cancelled."""
        if not self.wanted:
            return
        pause_s = LOOK_S if self.watchdog_s is None else min(LOOK_S, self.watchdog_s / 2)
        ready, said = False, ""
        while True:
            missing = reasons()
            status = f"STATUS={'; '.join(missing) or 'serving'}"[:MAX_STATUS].replace("\n", " ")
            lines = [] if status == said else [status]
            if not missing and not ready:
                ready = True
                lines.append("READY=1")
            if self.watchdog_s is not None:
                lines.append("WATCHDOG=1")
            if lines:
                self.tell(*lines)
            said = status
            await trio.sleep(pause_s)
