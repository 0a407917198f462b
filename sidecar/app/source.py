"""Where configuration and identity come from: the contract, and the source that is fixed at the start.

A source tells its home of every new snapshot and identity. `folder_source.py` watches a static folder, and
`mesh_source.py` holds a control plane's stream.
"""

from collections.abc import Sequence
from typing import Protocol

import trio

from sidecar.model.bootstrap import IdentityFiles
from sidecar.model.snapshot import Snapshot
from sidecar.proxy.worker import Directory, NoDirectory
from sidecar.transport.identity import Identity
from sidecar.transport.identity_files import watch_files


class Home(Protocol):
    """Who puts in force what a source finds."""

    def switch(self, snapshot: Snapshot) -> None:
        """Serve new requests with this configuration."""

    def identify(self, identity: Identity) -> None:
        """Use this identity for new connections."""

    def say(self, line: str) -> None:
        """A line for the person who runs this."""


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

    def reloads(self) -> Sequence[tuple[str, int]]:
        """(result, how many) of the times that the configuration was read again; empty where nothing is."""

    def reread(self) -> None:
        """Somebody asks (SIGHUP) to look at once for what changed."""

    def ready_changed(self) -> None:
        """The app or the process became ready, or stopped being so."""

    async def farewell(self) -> None:
        """Say goodbye, bounded."""


class FixedSource:
    """A snapshot from flags, and an identity in files that somebody else renews.

    Raises ConfigError when the identity files cannot be used at the start; later a bad file leaves the old identity.
    """

    def __init__(self, snapshot: Snapshot, files: IdentityFiles | None, home: Home) -> None:
        self.snapshot = snapshot
        self._files = files
        self._home = home
        self._identity = Identity.from_files(files.cert, files.key, files.bundle) if files is not None else None

    @property
    def directory(self) -> Directory:
        """See `Source`."""
        return NoDirectory()

    def start(self) -> None:
        """See `Source`."""
        if self._identity is not None:
            self._home.identify(self._identity)

    async def run(self) -> None:
        """See `Source`."""
        if self._files is not None:
            await watch_files(self._files, self._identity, self._renewed, self._home.say)

    def _renewed(self, identity: Identity) -> None:
        self._home.identify(identity)
        self._home.say(f"identity renewed: {identity.spiffe_id}")

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
        return {"kind": "flags", "where": ""}

    def reloads(self) -> Sequence[tuple[str, int]]:
        """See `Source`."""
        return ()

    def reread(self) -> None:
        """See `Source`."""

    def ready_changed(self) -> None:
        """See `Source`."""

    async def farewell(self) -> None:
        """See `Source`."""
        await trio.lowlevel.checkpoint()
