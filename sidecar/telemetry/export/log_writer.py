"""Writes log lines to standard output or a file without ever making the event loop wait.

Lines queue in bounded memory and are written in batches by one task. A reader that is slow makes the queue grow to its
limit; after that, lines are dropped and counted, and traffic goes on. Never sets O_NONBLOCK on a descriptor that other
processes share: the app, or the shell after us, would inherit it.
"""

import os
import stat

import trio

from sidecar.errors import ConfigError

LIMIT_BYTES = 1_048_576
GATHER_S = 0.05  # a line may be this late; in return a busy log costs twenty writes a second
FINAL_FLUSH_S = 1.0
RETRY_S = 1.0  # after a full disk or a reader that left
_BATCH_BYTES = 65_536
# What a pipe takes without blocking once poll() says that it is writable (POSIX PIPE_BUF on Linux).
_SHARED_BATCH_BYTES = 4_096


class LogWriter:
    """A `Sink`. Construct, run `run()` in a nursery; cancelling that task flushes for at most a second and closes.

    Args:
        path: `-` for standard output, else a file that is appended to.
        stdout: Descriptor that `-` means.
        shared: Other processes write there too: no write is longer than what a pipe takes whole, so that lines of
            one never land inside lines of another.

    Attributes:
        dropped: Lines that never reached the descriptor.

    Raises:
        ConfigError: The file cannot be opened.
    """

    def __init__(
        self, path: str = "-", *, limit_bytes: int = LIMIT_BYTES, stdout: int = 1, shared: bool = False
    ) -> None:
        self.dropped = 0
        self._batch_bytes = _SHARED_BATCH_BYTES if shared else _BATCH_BYTES
        self._path = path
        self._limit_bytes = limit_bytes
        self._queued = bytearray()  # whole lines
        self._wake = trio.Event()
        self._batch = memoryview(b"")  # popped from the queue and not yet written
        self._fd, self._asks_first = _open_stdout(stdout) if path == "-" else (_open_file(path), False)

    def write(self, line: bytes) -> None:
        """Queue one line, or drop and count it."""
        queued = self._queued
        if len(queued) + len(line) > self._limit_bytes:
            self.dropped += 1
            return
        if not queued:
            self._wake.set()
        queued += line

    def reopen(self) -> None:
        """Open the file anew, after it was renamed by whoever rotates it. Raises ConfigError and goes on as before."""
        if self._path == "-":
            return
        fd = _open_file(self._path)
        trio.lowlevel.notify_closing(self._fd)
        os.close(self._fd)
        self._fd = fd

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await self._wake.wait()
                await trio.sleep(GATHER_S)
                self._wake = trio.Event()
                await self._flush(RETRY_S)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + FINAL_FLUSH_S, shield=True):
                await self._flush(0.0)
            self._give_up_batch()
            self.dropped += self._queued.count(b"\n")
            self._queued.clear()
            os.close(self._fd)

    async def _flush(self, pause_s: float) -> None:
        """Write everything that is queued; a batch that fails is dropped, and the next one waits `pause_s`."""
        while self._batch or self._queued:
            if not self._batch:
                self._batch = memoryview(self._next_batch())
            try:
                await self._write_batch()
            except (OSError, trio.ClosedResourceError):
                # A full disk, a reader that left, a file swapped under a waiting write: that costs lines, which
                # are counted, and concerns no traffic.
                self._give_up_batch()
                await trio.sleep(pause_s)

    def _next_batch(self) -> bytes:
        queued, limit = self._queued, self._batch_bytes
        size = len(queued)
        if size > limit:
            size = (queued.rfind(b"\n", 0, limit) + 1) or (queued.find(b"\n", limit) + 1)
        batch = bytes(queued[:size])
        del queued[:size]
        return batch

    async def _write_batch(self) -> None:
        """Write `_batch`. What is not yet written stays there, so that a cancelled write tears no line."""
        while self._batch:
            await trio.lowlevel.checkpoint()
            if self._asks_first:
                await trio.lowlevel.wait_writable(self._fd)
            try:
                taken = os.write(self._fd, self._batch[:_SHARED_BATCH_BYTES] if self._asks_first else self._batch)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)
                continue
            self._batch = self._batch[taken:]

    def _give_up_batch(self) -> None:
        self.dropped += bytes(self._batch).count(b"\n")
        self._batch = memoryview(b"")


def check_path(path: str) -> None:
    """Raise ConfigError when a LogWriter could not write there; for who starts the processes that will."""
    if path != "-":
        os.close(_open_file(path))


def _open_file(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o640)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConfigError([f"access_log.path: cannot write {path}: {reason}; choose another path or `-`"]) from None


def _open_stdout(stdout: int) -> tuple[int, bool]:
    """A descriptor of our own for standard output, and whether to ask for room before each write.

    A pipe or terminal is opened a second time, so that O_NONBLOCK is ours alone. A regular file is not: a second
    description would have its own offset, and other writers of the first would write over our lines; it never blocks
    for long anyway. What can be neither (a socket, another user's terminal) is asked for room first.
    """
    mode = os.fstat(stdout).st_mode
    if stat.S_ISREG(mode):
        return os.dup(stdout), False
    try:
        return os.open(f"/proc/self/fd/{stdout}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), False
    except OSError:
        return os.dup(stdout), True
