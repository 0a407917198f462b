"""Read and replace small files so that a crash or a second process never leaves half of one.

Below ca.py and whoever keeps keys on disk. A file is written beside its place, synced, renamed over it, and then the
folder is synced: readers see the old content or the new, also after a power cut. Nobody else may read a key, not even
for a moment, because the mode is given at creation and never widened.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY_MODE = 0o600
PUBLIC_MODE = 0o644


def replace_durably(path: Path, content: bytes, mode: int) -> None:
    """Make `content` the content of `path`, or raise OSError and leave what was there."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes that ask the same way. Raises BlockingIOError if one holds it already."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)  # closing gives the lock back
