"""Where a proxy is put: what it needs to know to start."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Site:
    """One proxy's place.

    Attributes:
        folder: Its own, there already.
        core: To run on.
        port: Of all the backend's endpoints.
    """

    folder: Path
    core: int
    port: int
    scenario: Scenario

    def below(self, name: str) -> "Site":
        """The place of one of several processes, with a folder of its own."""
        (self.folder / name).mkdir()
        return replace(self, folder=self.folder / name)
