"""Where configuration and identity come from: the contract, and the source that needs no control plane.

A source tells the holder of every new snapshot and identity through the two callbacks it is made with; `mesh_source.py`
is the one that holds a control plane's stream.
"""

from collections.abc import Callable
from typing import Protocol

import trio

from sidecar.errors import ConfigError
from sidecar.model.bootstrap import IdentityFiles
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory, NoDirectory
from sidecar.transport.identity import Identity

REREAD_S = 5.0  # csi-driver-spiffe and cert-manager swap files in place, hours before the old ones expire

NewSnapshot = Callable[[Snapshot], None]
NewIdentity = Callable[[Identity], None]


class Source(Protocol):
    """Configuration and identity, and how current they are."""

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""

    @property
    def directory(self) -> Directory:
        """Whom to ask for services that the snapshot does not know."""

    def start(self) -> None:
        """Give out what is known already, before anything is served."""

    async def run(self) -> None:
        """Keep both up to date, for ever."""

    def age_s(self) -> float:
        """Seconds since the configuration was last known to be current."""

    def not_ready(self) -> list[str]:
        """Why traffic should not come yet."""

    def rejected_total(self) -> int:
        """Resources refused since the start."""

    def rejections(self) -> list[dict[str, object]]:
        """Refusals that stand: name, version, reason."""

    def describe(self) -> dict[str, object]:
        """For `/config`: kind, and what a person wants to know of the connection."""

    def ready_changed(self) -> None:
        """The app or the process became ready, or stopped being so."""

    async def farewell(self) -> None:
        """Say goodbye, bounded."""


class FixedSource:
    """Flags or a static folder, read once at the start, and an identity in files that somebody else renews.

    `kind` and `where` say for `/config` where the snapshot came from. Raises ConfigError when the identity files cannot
    be used at the start; later a bad file leaves the old identity in place.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        kind: str,
        where: str,
        files: IdentityFiles | None,
        identify: NewIdentity,
        say: Callable[[str], None],
    ) -> None:
        self.snapshot = snapshot
        self._kind = kind
        self._where = where
        self._files = files
        self._identity = _read(files) if files is not None else None
        self._identify = identify
        self._say = say
        self._complaint = ""

    @property
    def directory(self) -> Directory:
        """See `Source`."""
        return NoDirectory()

    def start(self) -> None:
        """See `Source`."""
        if self._identity is not None:
            self._identify(self._identity)

    async def run(self) -> None:
        """Look every few seconds whether the identity files have changed; for ever."""
        while True:
            await trio.sleep(REREAD_S)
            if self._files is not None:
                await self._reread(self._files)

    async def _reread(self, files: IdentityFiles) -> None:
        try:
            identity = await trio.to_thread.run_sync(_read, files)
        except ConfigError as exc:
            line = f"identity files: {exc.problems[0]}; the identity in use stays"
            if line != self._complaint:
                self._say(line)
            self._complaint = line
            return
        self._complaint = ""
        if identity != self._identity:
            self._identity = identity
            self._identify(identity)
            self._say(f"identity renewed: {identity.spiffe_id}")

    def age_s(self) -> float:
        """Always current: nothing else decides."""
        return 0.0

    def not_ready(self) -> list[str]:
        """See `Source`."""
        return []

    def rejected_total(self) -> int:
        """See `Source`."""
        return 0

    def rejections(self) -> list[dict[str, object]]:
        """See `Source`."""
        return []

    def describe(self) -> dict[str, object]:
        """See `Source`."""
        return {"kind": self._kind, "where": self._where}

    def ready_changed(self) -> None:
        """See `Source`."""

    async def farewell(self) -> None:
        """See `Source`."""
        await trio.lowlevel.checkpoint()


def _read(files: IdentityFiles) -> Identity:
    return Identity.from_files(files.cert, files.key, files.bundle)
