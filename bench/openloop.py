"""Open loop: `python -m bench.openloop ADDRESS FILE ...` sends requests at fixed times and says how late answers came.

Latency counts from the time at which a request was *meant* to be sent, so that a proxy that stalls pays for every
request that had to wait (what closed loops leave out). A request goes out on a connection that is free; when none is,
it waits for one. No pipelining. Prints one JSON line. It runs in a process of its own, on the load's core, and says how
late it was itself: a figure taken by a late generator is marked.
"""

import argparse
import ctypes
import gc
import json
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p99.9": 0.999}
_SEPARATOR = b"\0"  # as traffic.py writes it; this process imports as little as it can
_GRACE_S = 2.0  # for the last answers
_READ_BYTES = 262_144
_HEAD_END = b"\r\n\r\n"


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Exact, by nearest rank; empty for no values."""
    ranked = sorted(values)
    last = len(ranked) - 1
    return {name: ranked[min(last, int(share * len(ranked)))] for name, share in QUANTILES.items()} if ranked else {}


class Generator:
    """Connections, and what is under way on each.

    Attributes:
        latencies, lateness: Seconds: of answers, and of our own sending when a connection was free.
        unanswered: Requests that had no answer, or not even a connection, when the time was over.
    """

    def __init__(self, address: str, connections: int, requests: Sequence[bytes], body_bytes: int) -> None:
        self._requests, self._body_bytes = requests, body_bytes
        self._poll = select.epoll()  # first: select(2) takes no descriptor above 1023
        host, _, port = address.rpartition(":")
        self._sockets: dict[int, socket.socket] = {}
        self._address = (host, int(port))
        self._free: deque[int] = deque()
        for _ in range(connections):
            self._connect()
        self._meant: dict[int, float] = {}
        self._left: dict[int, int] = {}  # bytes that an answer still lacks; absent: its head is not there yet
        self._heads: dict[int, bytes] = {}  # first parts of heads that came in parts
        self.latencies, self.lateness = array("d"), array("d")
        self.errors = self.unanswered = 0

    def _connect(self) -> None:
        made = socket.create_connection(self._address, timeout=_GRACE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        self._sockets[made.fileno()] = made
        self._poll.register(made.fileno(), select.EPOLLIN)
        self._free.append(made.fileno())

    def settle(self) -> None:
        """One request on each connection, of which no time is taken: connecting is not what is measured."""
        for _ in range(len(self._free)):
            self._send(self._free.popleft(), self._requests[0], 0.0)
        end = time.perf_counter() + _GRACE_S
        while self._meant and time.perf_counter() < end:
            for fd, _ in self._poll.poll(0.1):
                self._receive(fd)
        for fd in list(self._meant):
            self._replace(fd)
        del self.latencies[:]

    def run(self, rate: float, seconds: float) -> float:
        """Send `rate` requests a second; return how long it took."""
        clock, free, count = time.perf_counter, self._free, len(self._requests)
        total, sent, waited = int(rate * seconds), 0, False
        gap_s = 1.0 / rate
        start = clock() + gap_s
        end = start + seconds + _GRACE_S
        while (now := clock()) < end:
            while sent < total and free and (meant := start + sent * gap_s) <= now:
                if not waited:
                    self.lateness.append(now - meant)
                self._send(free.popleft(), self._requests[sent % count], meant)
                sent += 1
                now = clock()
            due = start + sent * gap_s
            waited = not free and due <= now  # the next is late for want of a connection, not by our fault
            if sent == total and not self._meant:
                break
            until = min(end, due) if free and sent < total else end
            # epoll_wait(2) counts in milliseconds; select(2) on the epoll's descriptor in microseconds.
            if select.select((self._poll,), (), (), max(0.0, until - now))[0]:
                for fd, _ in self._poll.poll(0):
                    self._receive(fd)
        self.unanswered = total - sent + len(self._meant)
        return clock() - start

    def close(self) -> None:
        """Close every connection."""
        for one in self._sockets.values():
            one.close()
        self._poll.close()

    def _send(self, fd: int, request: bytes, meant: float) -> None:
        self._meant[fd] = meant
        try:
            whole = self._sockets[fd].send(request) == len(request)
        except OSError:
            whole = False
        if not whole:
            self._replace(fd)

    def _receive(self, fd: int) -> None:
        try:
            data = self._sockets[fd].recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._replace(fd)
            return
        left = self._left.get(fd)
        left = self._after_head(fd, data) if left is None else left - len(data)
        if left == 0:
            self.latencies.append(time.perf_counter() - self._meant.pop(fd))
            self._left.pop(fd, None)
            self._free.append(fd)
        elif left is not None:
            self._left[fd] = left

    def _after_head(self, fd: int, data: bytes) -> int | None:
        """Bytes of the body that are still to come; None while the head is not whole."""
        data = self._heads.pop(fd, b"") + data
        end = data.find(_HEAD_END)
        if end < 0:
            self._heads[fd] = data
            return None
        self.errors += not data.startswith(b"HTTP/1.1 200")
        return end + len(_HEAD_END) + self._body_bytes - len(data)

    def _replace(self, fd: int) -> None:
        """A connection is gone; what was under way on it has failed. One that was idle is only replaced."""
        self.errors += self._meant.pop(fd, None) is not None
        self._left.pop(fd, None)
        self._heads.pop(fd, None)
        if fd in self._free:
            self._free.remove(fd)
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()
        self._connect()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play one load."""
    parser = argparse.ArgumentParser(description="Open-loop HTTP/1.1 load.")
    parser.add_argument("address")
    parser.add_argument("requests", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--body-bytes", type=int, required=True)
    options = parser.parse_args(arguments)
    requests = options.requests.read_bytes().split(_SEPARATOR)
    generator = Generator(options.address, options.connections, requests, options.body_bytes)
    generator.settle()
    _be_punctual()
    took_s = generator.run(options.rate, options.seconds)
    answer = {
        "requests": len(generator.latencies),
        "errors": generator.errors,
        "unanswered": generator.unanswered,
        "seconds": took_s,
        "latency_us": {name: value * 1e6 for name, value in quantiles(generator.latencies).items()},
        "late_us": {name: value * 1e6 for name, value in quantiles(generator.lateness).items()},
    }
    print(json.dumps(answer))
    return 0


def _be_punctual() -> None:
    """No pauses for garbage, of which we make none, and timers to the microsecond (the default slack is 50)."""
    gc.collect()
    gc.freeze()
    gc.disable()
    pr_set_timerslack = 29
    ctypes.CDLL(None).prctl(pr_set_timerslack, 1000)


if __name__ == "__main__":
    sys.exit(main())
