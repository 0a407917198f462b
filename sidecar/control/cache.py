"""The disk cache: configuration, subscriptions and identity survive, so a sidecar starts and serves all by itself.

client.py loads it once at the start and hands every change to `CacheWriter`, which writes in a thread, at most once a
second. One file per node, text as cache_file.py makes it. It holds the private key: mode 0600, in a folder of 0700.

A file that cannot be used is put aside as `*.corrupt` and reported, never a crash. A disk that is full never disturbs
service: it is counted and said once, and the next change tries again.
"""

import glob
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from certs.files import replace_durably
from sidecar.control.cache_file import MAX_FILE_BYTES, CacheContent, CacheDamagedError, decode, encode
from sidecar.control.state import Parse

MIN_INTERVAL_S = 1.0
LAST_WRITE_S = 2.0  # what an ending process gives the disk
FILE_MODE, FOLDER_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` found: `content` is None when there is nothing to use; `problems` are lines for the log."""

    content: CacheContent | None
    problems: tuple[str, ...] = ()


def cache_path(folder: Path, namespace: str, node_id: str) -> Path:
    """The cache file of a node: sidecars that share a folder do not share a file."""
    return folder / f"{namespace}.{node_id}.cache"


def load(path: Path, parse: Parse) -> Loaded:
    """Read the cache file; one that cannot be used is put aside as `*.corrupt`. Never raises for what is on disk."""
    try:
        _clear_leftovers(path)
        data = _read(path)
        if data is None:
            return Loaded(None)
        content, problems = decode(data, parse)
    except OSError as failure:
        return Loaded(None, (f"{path}: the configuration cache cannot be read ({failure.strerror}); starting without",))
    except CacheDamagedError as damage:
        return Loaded(None, (f"{path}: the configuration cache is not used: {damage}; {_put_aside(path)}",))
    return Loaded(content, tuple(f"{path}: {problem}" for problem in problems))


def write(path: Path, content: CacheContent) -> None:
    """Replace the cache file durably. Raises OSError and leaves the old file."""
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    replace_durably(path, encode(content), FILE_MODE)


class CacheWriter:
    """Writes the newest content off the request path, at most once a second.

    Attributes:
        failures: Writes that failed since the start.
        problem: Why the last write failed; "" when it did not.
    """

    def __init__(self, path: Path, complain: Callable[[str], None] = lambda _: None) -> None:
        self.failures = 0
        self.problem = ""
        self._path = path
        self._complain = complain
        self._newest: CacheContent | None = None
        self._wake = trio.Event()
        self._one_at_a_time = trio.CapacityLimiter(1)

    def put(self, content: CacheContent) -> None:
        """Let `content` be written soon; what was put before and not yet written is skipped. Never blocks."""
        self._newest = content
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled; what is newest then is still written, within LAST_WRITE_S."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._write()
                await trio.sleep(MIN_INTERVAL_S)
        finally:
            with trio.move_on_after(LAST_WRITE_S, shield=True):
                await self._write()

    async def _write(self) -> None:
        content, self._newest = self._newest, None
        if content is None:
            return
        done = False
        try:
            # A disk that hangs must not hold up the end of the process: the thread may be left behind.
            await trio.to_thread.run_sync(
                write, self._path, content, limiter=self._one_at_a_time, abandon_on_cancel=True
            )
            done = True
        except OSError as failure:
            done = True
            self._failed(failure)
        else:
            self.problem = ""
        finally:
            if not done and self._newest is None:
                self._newest = content  # cancelled: `run` tries once more

    def _failed(self, failure: OSError) -> None:
        self.failures += 1
        known = bool(self.problem)
        self.problem = (
            f"{self._path}: cannot write the configuration cache ({failure.strerror}): traffic goes on, but a restart "
            "without the control plane would start from older configuration; free space, or correct the folder's mode"
        )
        if not known:
            self._complain(self.problem)


def _read(path: Path) -> bytes | None:
    """The file's bytes; None when there is none."""
    try:
        # Not blocking: a pipe in the place of a file would hold the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CacheDamagedError("it is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise CacheDamagedError(f"it is larger than {MAX_FILE_BYTES} bytes")
    return data


def _put_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}.corrupt")
    try:
        path.replace(aside)
    except OSError as failure:
        return f"it could not be put aside ({failure.strerror}); starting without it"
    return f"kept as {aside.name} for a look; starting without it"


def _clear_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote; one process at a time serves a node."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)
