"""Where a proxy is put: what it needs to know to start."""

from dataclasses import dataclass
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
