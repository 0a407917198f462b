"""Who starts worker processes: a small process forked before anything runs, and the holder's end of it.

A process with an event loop cannot be forked safely, and one that is started afresh shares no memory with the others.
So the spawner is forked once, with everything imported and nothing running; it forks a worker whenever it is asked, and
says when one has ended. It holds the listening sockets, so that callers wait, and are not refused, while a worker is
started again. When the holder is gone the workers end, or are killed, and then it ends.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable

import trio

_MESSAGE_BYTES = 64
START_S = 10.0  # a fork takes milliseconds
LAST_WORDS_S = 2.0  # for a worker whose holder is gone to write its last log lines and spans, a second each

RunWorker = Callable[[int, socket.socket], None]


class SpawnerGone(Exception):  # noqa: N818 - an event in the life of a process, not a fault
    """The spawner is gone: no worker can be started any more."""


class Spawner:
    """The holder's end. `fork` makes one; `run` must run while others are called."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.gone = False
        self._sock = sock
        self._pid = pid
        self._heard = trio.Condition()
        self._started: dict[int, int] = {}  # index -> pid, until asked for
        self._ended: dict[int, int] = {}  # pid -> status, until asked for

    @classmethod
    def fork(cls, run_worker: RunWorker) -> "Spawner":
        """Fork the spawner. Nothing may run yet: no event loop, no thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                _serve(theirs, run_worker)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid)

    async def run(self) -> None:
        """Hear what it says, until cancelled or until it is gone."""
        while not self.gone:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                words = self._sock.recv(_MESSAGE_BYTES).decode("ascii").split()
            except BlockingIOError:
                continue
            except OSError:
                words = []
            async with self._heard:
                match words:
                    case ["started", index, pid]:
                        self._started[int(index)] = int(pid)
                    case ["ended", pid, status]:
                        self._ended[int(pid)] = int(status)
                    case _:
                        self.gone = True
                self._heard.notify_all()

    async def start(self, index: int, channel: socket.socket) -> int:
        """Start worker `index` with its end of a channel; its process id. Raises SpawnerGone."""
        with trio.move_on_after(START_S):
            while not self.gone:
                try:
                    socket.send_fds(self._sock, [str(index).encode("ascii")], [channel.fileno()])
                    break
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                except OSError:
                    raise SpawnerGone from None
            async with self._heard:
                while not self.gone:
                    if index in self._started:
                        return self._started.pop(index)
                    await self._heard.wait()
        raise SpawnerGone

    async def ended(self, pid: int) -> int:
        """Wait until a worker has ended; its status, negative for a signal. Raises SpawnerGone."""
        async with self._heard:
            while not self.gone:
                if pid in self._ended:
                    return self._ended.pop(pid)
                await self._heard.wait()
        raise SpawnerGone

    def close(self) -> None:
        """End it, and every worker that is left (their channels are closed by now), and wait until it has happened."""
        self._sock.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass


def _serve(sock: socket.socket, run_worker: RunWorker) -> None:
    """The spawner's own life."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        # A terminal or a service manager may send them to the whole group; our end is when the holder goes.
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    workers: dict[int, int] = {}  # what poll names -> process id
    try:
        while True:
            for fd, _ in poll.poll():
                if fd in workers:
                    poll.unregister(fd)
                    os.close(fd)
                    _bury(sock, workers.pop(fd))
                    continue
                data, fds, _, _ = socket.recv_fds(sock, _MESSAGE_BYTES, 1)
                if not data:
                    return
                pid = _fork(int(data), fds[0], [sock.fileno(), *workers], run_worker)
                os.close(fds[0])
                watched = os.pidfd_open(pid)
                workers[watched] = pid
                poll.register(watched, select.POLLIN)
                sock.send(f"started {int(data)} {pid}".encode("ascii"))
    except OSError:
        return  # the holder is gone in the middle of a sentence
    finally:
        _end(workers)


def _end(workers: dict[int, int]) -> None:
    """Wait for the workers, which end when their holder is gone; kill those that do not."""
    poll = select.poll()
    for fd in workers:
        poll.register(fd, select.POLLIN)
    until_s = time.monotonic() + LAST_WORDS_S
    while workers and (left_s := until_s - time.monotonic()) > 0:
        for fd, _ in poll.poll(left_s * 1e3):
            poll.unregister(fd)
            os.waitpid(workers.pop(fd), 0)
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _bury(sock: socket.socket, pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    sock.send(f"ended {pid} {os.waitstatus_to_exitcode(status)}".encode("ascii"))


def _fork(index: int, channel: int, not_its: list[int], run_worker: RunWorker) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for fd in not_its:
            os.close(fd)
        run_worker(index, socket.socket(fileno=channel))
        status = 0
    finally:
        os._exit(status)
