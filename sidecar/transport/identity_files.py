"""An identity in files that somebody else keeps and renews, such as csi-driver-spiffe or cert-manager: watched.

They swap files in place, hours before the old ones expire; so a look every few seconds is soon enough. Refuses to give
up an identity for a worse one.
"""

from collections.abc import Callable
from pathlib import Path

import trio

from sidecar.errors import ConfigError
from sidecar.model.bootstrap import IdentityFiles
from sidecar.transport.identity import Identity

POLL_S = 5.0


async def watch_files(
    files: IdentityFiles,
    current: Identity | None,
    changed: Callable[[Identity], None],
    complain: Callable[[str], None],
) -> None:
    """Read an identity kept by somebody else again whenever one of its files changes. Never returns.

    Files that do not fit together (half of them written) leave the old identity in place; the next look tries again,
    and each new reason is complained about once.
    """
    seen, said = None, ""
    while True:
        await trio.sleep(POLL_S)
        marks = _marks(files)
        if marks == seen and not said:
            continue
        seen = marks
        try:
            found = Identity.from_files(files.cert, files.key, files.bundle)
        except ConfigError as problem:
            if str(problem) != said:
                said = str(problem)
                complain(f"{said}; the identity in use stays")
            continue
        said = ""
        if found != current:
            current = found
            changed(found)


def _marks(files: IdentityFiles) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_mark(path) for path in (files.cert, files.key, files.bundle))


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or rewritten; follows links, as Kubernetes swaps secrets by one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
